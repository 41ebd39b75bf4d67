//! The versions of a policy: who changed what, when and why, as differences.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::Path;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{COLLECTION, known, rules};
use crate::ui::frame::{Frame, Section};
use crate::ui::listing;
use crate::ui::visit::{Shown, Visit, page};
use crate::ui::words::{self, Moment};

/// Versions on a page.
const ROWS: u64 = 25;

#[derive(Deserialize)]
struct DifferenceRead {
    parameter: String,
    before: Value,
    after: Value,
}

#[derive(Deserialize)]
struct VersionRead {
    version: u64,
    created: DateTime<Utc>,
    created_by_full_name: Option<String>,
    created_by_username: Option<String>,
    reason: Option<String>,
    rules: Map<String, Value>,
    differences: Vec<DifferenceRead>,
}

/// A parameter that was changed.
struct Difference {
    name: &'static str,
    before: String,
    after: String,
}

/// A version.
struct Version {
    number: String,
    at: Moment,
    by: Option<String>,
    reason: String,
    differences: Vec<Difference>,
    /// It is the first one.
    first: bool,
    /// Every parameter.
    rules: Vec<(&'static str, String)>,
}

/// The page.
#[derive(Template)]
#[template(path = "policy_versions.html")]
struct VersionsPage {
    frame: Frame,
    versions: Vec<Version>,
    line: String,
    previous: Option<String>,
    next: Option<String>,
}

/// Parameters in the order in which they are read, with what they are called.
const NAMES: [(&str, &str); 19] = [
    ("enabled", "Enabled"),
    ("period", "Period"),
    ("apply_to_all", "Applies to all"),
    ("organization_groups", "Groups"),
    ("actions", "Acts"),
    ("options", "Options"),
    ("notification_threshold", "Warn at, %"),
    ("grace_ratio", "Grace"),
    ("qos_strategy", "Rungs"),
    ("progressive_thresholds", "Own rungs"),
    ("component_limits_set", "Limit"),
    ("carryover_enabled", "Carryover"),
    ("carryover_factor", "Carried over at most, %"),
    ("fairshare_decay_half_life", "Half-life, days"),
    ("carryover_base", "Carryover compared with"),
    ("limit_type", "SLURM limit"),
    ("raw_usage_reset", "Raw usage reset"),
    ("tres_billing_enabled", "Billing units"),
    ("tres_billing_weights", "Weights"),
];

/// A value in words.
fn told(parameter: &str, value: &Value, groups: &BTreeMap<String, String>) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let all = |value: &Value, one: &dyn Fn(&Value) -> String| {
        let list: Vec<String> = value.as_array().into_iter().flatten().map(one).collect();
        if list.is_empty() { "none".to_owned() } else { list.join(", ") }
    };
    match (parameter, value) {
        ("period", _) => match value.as_u64() {
            Some(1) => "total".to_owned(),
            Some(2) => "month".to_owned(),
            Some(4) => "year".to_owned(),
            _ => "quarter".to_owned(),
        },
        ("actions", _) => rules::acts(&text(value)),
        ("organization_groups", _) => all(value, &|url| {
            let url = text(url);
            let id = rules::id_in(&url);
            groups.get(id).cloned().unwrap_or_else(|| id.to_owned())
        }),
        ("component_limits_set", _) => {
            all(value, &|limit| format!("{} {}", text(&limit["limit"]), words::unit(&text(&limit["type"]))))
        }
        ("progressive_thresholds", _) => all(value, &|rung| {
            let qos = rung["qos"].as_str().map(|qos| format!(" ({qos})")).unwrap_or_default();
            format!("{} at {}{}%{qos}", text(&rung["effect"]), text(&rung["percent"]), words::NBSP)
        }),
        (_, Value::Bool(on)) => if *on { "yes" } else { "no" }.to_owned(),
        (_, Value::Null) => "not set".to_owned(),
        (_, Value::Array(_)) => all(value, &text),
        (_, Value::Object(map)) if map.is_empty() => "none".to_owned(),
        (_, Value::Object(map)) => map.iter().map(|(k, v)| format!("{k} {}", text(v))).collect::<Vec<_>>().join(", "),
        _ => text(value),
    }
}

fn name_of(parameter: &str) -> Option<&'static str> {
    NAMES.iter().find(|(known, _)| *known == parameter).map(|(_, name)| *name)
}

fn version(read: VersionRead, groups: &BTreeMap<String, String>) -> Version {
    let difference = |of: &DifferenceRead| {
        Some(Difference {
            name: name_of(&of.parameter)?,
            before: told(&of.parameter, &of.before, groups),
            after: told(&of.parameter, &of.after, groups),
        })
    };
    let rule = |(key, name): &(&'static str, &'static str)| Some((*name, told(key, read.rules.get(*key)?, groups)));
    let by = read.created_by_full_name.filter(|name| !name.is_empty()).or(read.created_by_username);
    Version {
        number: words::whole(read.version),
        at: Moment::of(read.created),
        by: by.filter(|name| !name.is_empty()),
        reason: read.reason.unwrap_or_default(),
        differences: read.differences.iter().filter_map(difference).collect(),
        first: read.version == 1,
        rules: NAMES.iter().filter_map(rule).collect(),
    }
}

/// The versions, newest first.
pub async fn show(visit: Visit, Path(key): Path<String>) -> Shown {
    let policy = known(&visit, &key).await?;
    let number = visit.page()?;
    let path = format!("{COLLECTION}/{}/versions/?page={number}&page_size={ROWS}", policy.uuid);
    let found = visit.api.list::<VersionRead>(&path).await?;
    let groups = visit.api.list_if_allowed::<crate::ui::read::Named>("/api/organization-groups/?page_size=100").await?;
    let groups = groups.rows.into_iter().map(|group| (group.uuid, group.name)).collect();
    let frame = Frame::of(&visit, "Versions", Section::Policies).await;
    page(&VersionsPage {
        frame: frame.under("/policies", "Policies").under(&policy.href(), policy.name()),
        line: listing::line(number, ROWS, found.rows.len() as u64, found.total),
        previous: (number > 1).then(|| visit.at_page(number - 1)),
        next: (number * ROWS < found.total).then(|| visit.at_page(number + 1)),
        versions: found.rows.into_iter().map(|read| version(read, &groups)).collect(),
    })
}
