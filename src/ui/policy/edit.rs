//! Changing the rules of a policy: all of its parameters, and what a change comes to before it is saved.

use axum::extract::Path;
use axum::http::Method;
use serde_json::{Map, Value};

use super::form::{self, Known};
use super::new::FormPage;
use super::outcome::{Changed, Outcome, changed_outcome};
use super::values::Values;
use super::{COLLECTION, Policy, known_to_change, ladder};
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::visit::{Shown, Visit, go, page};

/// The policy as the API shows it, whole.
async fn raw(visit: &Visit, policy: &Policy) -> Result<Value, Problem> {
    visit.api.get(&format!("{COLLECTION}/{}/", policy.uuid)).await
}

/// Options of actions that the form does not have; they stay what they are.
fn other_options(policy: &Value) -> Map<String, Value> {
    let mut options = policy["options"].as_object().cloned().unwrap_or_default();
    options.remove("notify_external_user");
    options
}

/// What the form changes of the policy, as the API takes it.
fn changes(policy: &Value, values: &Values) -> Map<String, Value> {
    let others = other_options(policy);
    let before = Values::of_policy(policy).body(&others);
    let mut after = values.body(&others);
    after.retain(|name, value| before.get(name) != Some(value));
    // Who it applies to is said by two parameters together.
    if after.contains_key("apply_to_all") || after.contains_key("organization_groups") {
        let both = values.body(&others);
        for name in ["apply_to_all", "organization_groups"] {
            after.insert(name.to_owned(), both.get(name).cloned().unwrap_or_default());
        }
    }
    after
}

/// The form.
pub async fn show(visit: Visit, Path(key): Path<String>) -> Shown {
    let policy = known_to_change(&visit, &key).await?;
    let values = Values::of_policy(&raw(&visit, &policy).await?);
    shown(&visit, &policy, &values, None, None).await
}

/// Shows what the form's rules come to, or, when that is asked for, saves them.
pub async fn change(visit: Visit, Path(key): Path<String>) -> Shown {
    let policy = known_to_change(&visit, &key).await?;
    let values = Values::sent(&visit.form);
    let mut body = changes(&raw(&visit, &policy).await?, &values);
    let (mut outcome, mut problem) = (None, None);
    if visit.form.get("do") == Some("save") {
        if let Some(reason) = visit.form.get("reason") {
            body.insert("reason".to_owned(), reason.into());
        }
        let path = format!("{COLLECTION}/{}/", policy.uuid);
        match visit.api.send::<Policy>(Method::PATCH, &path, &Value::Object(body)).await {
            Ok(changed) => return Ok(go(&changed.href())),
            Err(found) => problem = Some(found),
        }
    } else {
        let path = format!("{COLLECTION}/{}/preview-changes/?page_size=100", policy.uuid);
        match visit.api.send::<Changed>(Method::POST, &path, &Value::Object(body)).await {
            Ok(run) => outcome = Some(changed_outcome(run, "With these rules:")),
            Err(found) => problem = Some(found),
        }
    }
    shown(&visit, &policy, &values, outcome, problem).await
}

async fn shown(
    visit: &Visit,
    policy: &Policy,
    values: &Values,
    outcome: Option<Outcome>,
    problem: Option<Problem>,
) -> Shown {
    let known = Known::of(visit).await?.on(&policy.scope_uuid);
    let (groups, above) = form::fields(&known, values, problem.as_ref(), false);
    let frame = Frame::of(visit, "Edit", Section::Policies).await;
    let frame = frame.under("/policies", "Policies").under(&policy.href(), policy.name());
    page(&FormPage {
        frame,
        action: format!("{}/edit", policy.href()),
        back: policy.href(),
        groups,
        above,
        ladder: ladder::alone(&super::verbs(&values.ladder())),
        outcome,
        reason: visit.form.get("reason").unwrap_or_default().to_owned(),
        act: format!("Save version {}", policy.version + 1),
        what: format!(" {}", policy.name()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_was_changed_is_sent_and_options_of_others_stay() {
        let policy = json!({
            "actions": "block_creation_of_new_resources,notify_external_user",
            "options": {"notify_external_user": "a@b.example", "block_creation_of_new_resources": {"note": 1}},
            "apply_to_all": true, "grace_ratio": 0.2, "notification_threshold": 80, "enabled": true, "period": 3,
        });
        let values = Values::of_policy(&policy);
        assert_eq!(Value::Object(changes(&policy, &values)), json!({}));
        let values = values.with("grace_ratio", "0.1").with("external", "c@d.example").with("applies", "groups");
        let options = json!({"notify_external_user": "c@d.example", "block_creation_of_new_resources": {"note": 1}});
        let expected =
            json!({"grace_ratio": "0.1", "options": options, "apply_to_all": false, "organization_groups": []});
        assert_eq!(Value::Object(changes(&policy, &values)), expected);
    }
}
