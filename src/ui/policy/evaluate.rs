//! The Evaluate dialog: opens with the result of a dry run, and offers the evaluation itself. Without script it is a
//! separate page.

use askama::Template;
use axum::extract::Path;
use axum::http::Method;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::outcome::{Changed, Done, DryRun, Outcome, changed_outcome, done_outcome, dry_outcome};
use super::{COLLECTION, Policy, known};
use crate::ui::allocation::encoded;
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::visit::{Shown, Visit, page};

/// Rules that are tried in the place of the policy's: the grace in percent, and where people are told.
struct Rules {
    grace: String,
    warn: String,
    grace_now: String,
    warn_now: String,
    /// They are not the policy's.
    changed: bool,
}

/// The dialog's content.
#[derive(Template)]
#[template(path = "evaluate_part.html")]
struct Part {
    policy: String,
    href: String,
    icons: &'static str,
    csrf: String,
    resource: String,
    resource_name: String,
    rules: Rules,
    outcome: Option<Outcome>,
    problem: Option<Problem>,
    done: bool,
    in_dialog: bool,
}

/// The same as a page.
#[derive(Template)]
#[template(path = "evaluate.html")]
struct EvaluatePage {
    frame: Frame,
    part: Part,
}

impl Rules {
    /// The rules that a visit asks for, beside those in force.
    fn of(visit: &Visit, policy: &Policy) -> Self {
        let grace_now = (policy.grace_ratio * Decimal::ONE_HUNDRED).normalize().to_string();
        let warn_now = match &policy.notification_threshold {
            Value::Array(all) => all.iter().map(Value::to_string).collect::<Vec<_>>().join(", "),
            one => one.to_string(),
        };
        let asked =
            |name: &str, now: &String| visit.query.get(name).map_or_else(|| now.clone(), |text| text.trim().to_owned());
        let (grace, warn) = (asked("grace", &grace_now), asked("warn", &warn_now));
        let changed = grace != grace_now || warn != warn_now;
        Self { grace, warn, grace_now, warn_now, changed }
    }

    /// The same as the API takes them.
    fn body(&self) -> Result<Value, Problem> {
        let number = |name: &str, text: &str| {
            let read = text.trim().trim_end_matches('%').trim().parse::<Decimal>();
            read.map_err(|_| {
                let sentence = format!("{name}: {text:?} is no number. Allowed: percent, such as 80.");
                Problem::new(axum::http::StatusCode::BAD_REQUEST, sentence)
            })
        };
        let told: Vec<Value> = self
            .warn
            .split(',')
            .map(|text| Ok(crate::domain::decimal::number(number("Warn at", text)?)))
            .collect::<Result<_, Problem>>()?;
        let grace = number("Grace", &self.grace)? / Decimal::ONE_HUNDRED;
        Ok(json!({ "grace_ratio": crate::domain::decimal::number(grace), "notification_threshold": told }))
    }
}

#[derive(Deserialize)]
struct Resource {
    name: String,
}

/// The dialog for a policy, before anything was run in it.
async fn part(visit: &Visit, policy: &Policy, resource: &str) -> Result<Part, Problem> {
    let resource_name = if resource.is_empty() {
        String::new()
    } else {
        let path = format!("/api/marketplace-provider-resources/{}/", encoded(resource));
        visit.api.get::<Resource>(&path).await?.name
    };
    Ok(Part {
        policy: policy.name().to_owned(),
        href: policy.href(),
        icons: crate::ui::assets::address("icons.svg"),
        csrf: visit.csrf.clone(),
        resource: resource.to_owned(),
        resource_name,
        rules: Rules::of(visit, policy),
        outcome: None,
        problem: None,
        done: false,
        in_dialog: visit.fragment,
    })
}

fn body(resource: &str, reason: Option<&str>) -> Value {
    let mut body = json!({});
    if !resource.is_empty() {
        body["resource_uuid"] = resource.into();
    }
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    body
}

async fn shown(visit: &Visit, part: Part) -> Shown {
    if visit.fragment {
        return page(&part);
    }
    let title = format!("Evaluate {}", part.policy);
    let frame = Frame::of(visit, title, Section::Policies).await;
    let frame = frame.under("/policies", "Policies").under(&part.href, &part.policy);
    page(&EvaluatePage { frame, part })
}

/// What changed rules would come to.
async fn with_changes(visit: &Visit, policy: &Policy, rules: &Rules, resource: &str) -> Result<Outcome, Problem> {
    let of = if resource.is_empty() { String::new() } else { format!("&resource_uuid={}", encoded(resource)) };
    let path = format!("{COLLECTION}/{}/preview-changes/?page_size=100{of}", policy.uuid);
    let run: Changed = visit.api.send(Method::POST, &path, &rules.body()?).await?;
    Ok(changed_outcome(run, "With these changes:"))
}

/// The dialog, with a dry run that has run.
pub async fn show(visit: Visit, Path(key): Path<String>) -> Shown {
    if !visit.is_staff() {
        return Err(Problem::not_found());
    }
    let policy = known(&visit, &key).await?;
    let resource = visit.query.get("resource").unwrap_or_default().to_owned();
    let mut part = part(&visit, &policy, &resource).await?;
    let tried = if part.rules.changed {
        with_changes(&visit, &policy, &part.rules, &resource).await
    } else {
        let path = format!("{COLLECTION}/{}/dry-run/", policy.uuid);
        visit.api.send::<DryRun>(Method::POST, &path, &body(&resource, None)).await.map(dry_outcome)
    };
    match tried {
        Ok(outcome) => part.outcome = Some(outcome),
        Err(problem) => part.problem = Some(problem),
    }
    shown(&visit, part).await
}

/// Evaluates now, and records it.
pub async fn run(visit: Visit, Path(key): Path<String>) -> Shown {
    if !visit.is_staff() {
        return Err(Problem::not_found());
    }
    let policy = known(&visit, &key).await?;
    let resource = visit.form.get("resource").unwrap_or_default().to_owned();
    let mut part = part(&visit, &policy, &resource).await?;
    let path = format!("{COLLECTION}/{}/evaluate/", policy.uuid);
    match visit.api.send::<Done>(Method::POST, &path, &body(&resource, visit.form.get("reason"))).await {
        Ok(done) => (part.outcome, part.done) = (Some(done_outcome(done)), true),
        Err(problem) => part.problem = Some(problem),
    }
    shown(&visit, part).await
}
