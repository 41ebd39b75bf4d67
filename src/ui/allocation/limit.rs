//! Changing the limits of an allocation: the page shows the effect of new limits, term by term, before they are saved.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::Path;
use axum::http::{Method, StatusCode};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Flags, encoded, state_change};
use crate::ui::assets;
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::visit::{Shown, Visit, done, page};
use crate::ui::words;

/// The prefix of the fields that hold limits.
const FIELD: &str = "limit-";

#[derive(Deserialize)]
struct Resource {
    uuid: String,
    name: String,
    slug: String,
    #[serde(default, deserialize_with = "crate::ui::read::by_name")]
    limits: BTreeMap<String, Decimal>,
}

#[derive(Deserialize)]
struct TermsRead {
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    base: Decimal,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    carried_over: Decimal,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    may_use: Decimal,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    usage_percentage: Decimal,
}

#[derive(Deserialize)]
struct Under {
    policy_slug: String,
    billing_period: String,
    now: TermsRead,
    then: TermsRead,
    #[serde(deserialize_with = "crate::ui::read::many")]
    notified: Vec<Decimal>,
}

#[derive(Deserialize)]
struct Command {
    shell_command: String,
}

#[derive(Deserialize)]
struct Preview {
    now: Flags,
    then: Flags,
    policies: Vec<Under>,
    commands: Vec<Command>,
}

/// A term now and then.
struct Row {
    name: &'static str,
    now: String,
    then: String,
    sum: bool,
}

/// What new limits come to under a policy.
struct UnderView {
    policy: String,
    period: String,
    rows: Vec<Row>,
    notified: Vec<String>,
}

/// A limit that can be changed.
struct Field {
    name: String,
    label: String,
    now: String,
    value: String,
}

/// The dialog's content.
#[derive(Template)]
#[template(path = "limit_part.html")]
struct Part {
    href: String,
    name: String,
    icons: &'static str,
    csrf: String,
    fields: Vec<Field>,
    reason: String,
    previews: Vec<UnderView>,
    change: Option<String>,
    commands: Vec<String>,
    problem: Option<Problem>,
    in_dialog: bool,
}

/// The same as a page.
#[derive(Template)]
#[template(path = "limit.html")]
struct LimitPage {
    frame: Frame,
    part: Part,
}

async fn known(visit: &Visit, key: &str) -> Result<Resource, Problem> {
    let found = super::resource(visit, key).await?;
    visit.api.get(&format!("/api/marketplace-provider-resources/{}/", found.uuid)).await
}

fn part(visit: &Visit, of: &Resource) -> Part {
    let key = if of.slug.is_empty() { &of.uuid } else { &of.slug };
    let field = |(component, limit): (&String, &Decimal)| {
        let name = format!("{FIELD}{component}");
        let now = limit.normalize().to_string();
        let value = visit.form.get(&name).map_or_else(|| now.clone(), str::to_owned);
        Field {
            label: crate::ui::rows::capitalized(&words::unit(component)),
            now: words::amount(*limit, 2),
            value,
            name,
        }
    };
    Part {
        href: format!("/allocations/{}", encoded(key)),
        name: of.name.clone(),
        icons: assets::address("icons.svg"),
        csrf: visit.csrf.clone(),
        fields: of.limits.iter().map(field).collect(),
        reason: visit.form.get("reason").unwrap_or_default().to_owned(),
        previews: Vec::new(),
        change: None,
        commands: Vec::new(),
        problem: None,
        in_dialog: visit.fragment,
    }
}

/// The limits that a form has; those that it does not name stay as they are.
fn limits(visit: &Visit, of: &Resource) -> Result<Map<String, Value>, Problem> {
    let mut limits = Map::new();
    for (component, limit) in &of.limits {
        let given = visit.form.get(&format!("{FIELD}{component}"));
        let text = given.map(|text| text.replace([',', ' ', words::NBSP], ""));
        let value = match text {
            None => *limit,
            Some(text) => text.parse::<Decimal>().map_err(|_| {
                let sentence =
                    format!("{}: {text:?} is no number. Allowed: a number such as 1500.", words::unit(component));
                Problem::new(StatusCode::BAD_REQUEST, sentence)
            })?,
        };
        limits.insert(component.clone(), crate::domain::decimal::number(value));
    }
    Ok(limits)
}

fn under(of: &Under) -> UnderView {
    let row = |name, now: String, then: String, sum| Row { name, now, then, sum };
    let both = |name, now: Decimal, then: Decimal, sum| row(name, words::exact(now), words::exact(then), sum);
    let (now, then) = (&of.now, &of.then);
    UnderView {
        policy: of.policy_slug.clone(),
        period: of.billing_period.clone(),
        rows: vec![
            both("Limit", now.base, then.base, false),
            both("Carried over", now.carried_over, then.carried_over, false),
            both("May use", now.may_use, then.may_use, true),
            row("Percentage", words::percent(now.usage_percentage), words::percent(then.usage_percentage), true),
        ],
        notified: of.notified.iter().map(|percent| words::rung(*percent)).collect(),
    }
}

async fn preview(visit: &Visit, of: &Resource, part: &mut Part) -> Result<(), Problem> {
    let path = format!("/api/marketplace-provider-resources/{}/preview-limits/", of.uuid);
    let body = json!({ "limits": limits(visit, of)? });
    let found: Preview = visit.api.send(Method::POST, &path, &body).await?;
    part.previews = found.policies.iter().map(under).collect();
    part.change = Some(state_change(found.now, found.then));
    part.commands = found.commands.into_iter().map(|command| command.shell_command).collect();
    Ok(())
}

async fn shown(visit: &Visit, part: Part) -> Shown {
    if visit.fragment {
        return page(&part);
    }
    let frame = Frame::of(visit, "Change limit", Section::Allocations).await;
    let frame = frame.under("/allocations", "Allocations").under(&part.href, &part.name);
    page(&LimitPage { frame, part })
}

/// The form.
pub async fn show(visit: Visit, Path(key): Path<String>) -> Shown {
    let of = known(&visit, &key).await?;
    let mut part = part(&visit, &of);
    // Users who may not change the limit do not see the effect of a change.
    preview(&visit, &of, &mut part).await.map_err(|problem| match problem.status {
        StatusCode::FORBIDDEN => Problem::not_found(),
        _ => problem,
    })?;
    shown(&visit, part).await
}

/// Shows what the form's limits come to, or, when that is asked for, saves them.
pub async fn change(visit: Visit, Path(key): Path<String>) -> Shown {
    let of = known(&visit, &key).await?;
    let mut part = part(&visit, &of);
    if visit.form.get("do") == Some("save") {
        let path = format!("/api/marketplace-provider-resources/{}/", of.uuid);
        let saved = match limits(&visit, &of) {
            Ok(limits) => {
                let body = json!({ "limits": limits, "reason": part.reason });
                visit.api.send::<Value>(Method::PATCH, &path, &body).await
            }
            Err(problem) => Err(problem),
        };
        match saved {
            Ok(_) => return Ok(done(&visit, &part.href)),
            Err(problem) => part.problem = Some(problem),
        }
    } else if let Err(problem) = preview(&visit, &of, &mut part).await {
        part.problem = Some(problem);
    }
    shown(&visit, part).await
}
