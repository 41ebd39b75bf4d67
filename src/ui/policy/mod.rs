//! The pages of policies: the list, and one policy with its ladder, its status, its log and its rules in words.

pub mod edit;
pub mod evaluate;
mod form;
mod ladder;
mod log;
pub mod new;
mod outcome;
mod rules;
pub mod switch;
mod values;
pub mod versions;

use askama::Template;
use axum::extract::Path;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

use self::ladder::Ladder;
use self::log::Log;
use super::allocation::encoded;
use super::frame::{Frame, Section};
use super::problem::Problem;
use super::standing::{self, Tone};
use super::visit::{Shown, Visit, page};
use super::words::{self, Moment};
use crate::directory::Role;
use crate::domain::policy::{Action, PolicyTerms, QosStrategy};
use crate::domain::threshold::{Effect, Rung, ladder as domain_ladder};

/// The API's collection.
const COLLECTION: &str = "/api/marketplace-slurm-periodic-usage-policies";

/// A policy, as far as pages read it.
#[expect(clippy::struct_excessive_bools, reason = "the wire has them one by one")]
#[derive(Debug, Clone, Deserialize)]
pub struct Policy {
    uuid: String,
    slug: String,
    scope_name: String,
    scope_uuid: String,
    actions: String,
    created: DateTime<Utc>,
    created_by_full_name: Option<String>,
    affected_resources_count: u64,
    apply_to_all: bool,
    organization_groups: Vec<String>,
    component_limits_set: Vec<ComponentLimit>,
    period_name: String,
    limit_type: String,
    tres_billing_enabled: bool,
    #[serde(default, deserialize_with = "crate::ui::read::by_name")]
    tres_billing_weights: BTreeMap<String, Decimal>,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    fairshare_decay_half_life: Decimal,
    carryover_enabled: bool,
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    carryover_factor: Option<Decimal>,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    grace_ratio: Decimal,
    notification_threshold: Value,
    raw_usage_reset: bool,
    qos_strategy: String,
    progressive_thresholds: Vec<Progressive>,
    enabled: bool,
    version: u64,
    warnings: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct ComponentLimit {
    #[serde(rename = "type")]
    component: String,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    limit: Decimal,
}

#[derive(Debug, Clone, Deserialize)]
struct Progressive {
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    percent: Decimal,
    effect: String,
    #[serde(default)]
    qos: Option<String>,
}

impl Policy {
    /// What it is called, in words and addresses.
    fn name(&self) -> &str {
        if self.slug.is_empty() { &self.uuid } else { &self.slug }
    }

    /// The address of its page.
    fn href(&self) -> String {
        format!("/policies/{}", encoded(self.name()))
    }

    /// The period it counts in, in a word.
    fn period(&self) -> &str {
        match self.period_name.as_str() {
            "3 month" => "quarter",
            "12 month" => "year",
            other => other,
        }
    }

    /// Its rungs, lowest first: percent and effect.
    fn rungs(&self) -> Vec<(Decimal, &'static str)> {
        let told = match &self.notification_threshold {
            Value::Array(all) => all.clone(),
            one => vec![one.clone()],
        };
        let effect =
            |word: &str| [Effect::Notify, Effect::Downscale, Effect::Pause].into_iter().find(|e| e.verb() == word);
        let own = |rung: &Progressive| {
            Some(Rung { percent: rung.percent, effect: effect(&rung.effect)?, qos: rung.qos.clone() })
        };
        let terms = PolicyTerms {
            actions: self.actions.split(',').filter_map(Action::from_name).collect(),
            grace_ratio: self.grace_ratio,
            notification_thresholds: told.iter().filter_map(|value| value.to_string().parse().ok()).collect(),
            qos_strategy: QosStrategy::from_name(&self.qos_strategy).unwrap_or_default(),
            progressive_thresholds: self.progressive_thresholds.iter().filter_map(own).collect(),
            ..PolicyTerms::default()
        };
        verbs(&domain_ladder(&terms))
    }
}

/// Rungs as percent and effect.
fn verbs(rungs: &[Rung]) -> Vec<(Decimal, &'static str)> {
    rungs.iter().map(|rung| (rung.percent, rung.effect.verb())).collect()
}

#[derive(Deserialize)]
struct OfferingRead {
    customer_uuid: String,
}

#[derive(Deserialize)]
struct Provider {
    owners: Vec<OwnerRead>,
}

#[derive(Deserialize)]
struct OwnerRead {
    uuid: String,
}

/// Whether the caller may change a policy: staff, and owners of the organisation that offers what it is on.
async fn may_change(visit: &Visit, policy: &Policy) -> Result<bool, Problem> {
    if visit.is_staff() || visit.session.role != Role::Owner {
        return Ok(visit.is_staff());
    }
    let path = format!("/api/marketplace-provider-offerings/{}/", policy.scope_uuid);
    let Some(offering) = visit.api.find::<OfferingRead>(&path).await? else { return Ok(false) };
    let path = format!("/api/customers/{}/", encoded(&offering.customer_uuid));
    let provider = visit.api.find::<Provider>(&path).await?;
    let me = visit.session.user.to_string();
    Ok(provider.is_some_and(|provider| provider.owners.iter().any(|owner| owner.uuid == me)))
}

/// The policy, for those who may change it; for everybody else there is no such page.
async fn known_to_change(visit: &Visit, key: &str) -> Result<Policy, Problem> {
    let policy = known(visit, key).await?;
    if may_change(visit, &policy).await? { Ok(policy) } else { Err(Problem::not_found()) }
}

/// The policy of a short name or an id, as the API shows it to the caller.
async fn known(visit: &Visit, key: &str) -> Result<Policy, Problem> {
    if key.len() >= 32
        && let Some(found) = visit.api.find::<Policy>(&format!("{COLLECTION}/{}/", encoded(key))).await?
    {
        return Ok(found);
    }
    for number in 1.. {
        let found = visit.api.list::<Policy>(&format!("{COLLECTION}/?page={number}&page_size=100")).await?;
        let last = number * 100 >= found.total;
        if let Some(policy) = found.rows.into_iter().find(|policy| policy.slug == key) {
            return Ok(policy);
        }
        if last {
            break;
        }
    }
    Err(Problem::not_found())
}

/// A row of the list.
struct Row {
    href: String,
    name: String,
    offering: String,
    period: String,
    rungs: Vec<(Tone, String)>,
    restricted: String,
    enabled: bool,
    version: u64,
    warnings: usize,
}

/// The list.
#[derive(Template)]
#[template(path = "policies.html")]
struct PoliciesPage {
    frame: Frame,
    rows: Vec<Row>,
    line: String,
    previous: Option<String>,
    next: Option<String>,
    may_create: bool,
}

/// Rows of a page.
const ROWS: u64 = 50;

/// The list of policies.
pub async fn list(visit: Visit) -> Shown {
    let number = visit.page()?;
    let found = visit.api.list::<Policy>(&format!("{COLLECTION}/?page={number}&page_size={ROWS}")).await?;
    let row = |policy: &Policy| Row {
        href: policy.href(),
        name: policy.name().to_owned(),
        offering: policy.scope_name.clone(),
        period: policy.period().to_owned(),
        rungs: policy.rungs().into_iter().map(|(p, effect)| (standing::effect(effect), words::rung(p))).collect(),
        restricted: words::whole(policy.affected_resources_count),
        enabled: policy.enabled,
        version: policy.version,
        warnings: policy.warnings.len(),
    };
    let frame = Frame::of(&visit, "Policies", Section::Policies).await;
    page(&PoliciesPage {
        frame,
        line: super::listing::line(number, ROWS, found.rows.len() as u64, found.total),
        previous: (number > 1).then(|| visit.at_page(number - 1)),
        next: (number * ROWS < found.total).then(|| visit.at_page(number + 1)),
        rows: found.rows.iter().map(row).collect(),
        may_create: new::may_create(&visit),
    })
}

#[derive(Deserialize)]
struct Status {
    billing_period: String,
    resources_evaluated: Option<u64>,
    paused: Option<u64>,
    downscaled: Option<u64>,
    #[serde(default)]
    over_thresholds: BTreeMap<String, u64>,
    at_or_above_100: Option<u64>,
    #[serde(default)]
    agent: BTreeMap<String, u64>,
    last_evaluated_at: Option<DateTime<Utc>>,
    qos_differs: Option<u64>,
    qos_unknown: Option<u64>,
}

/// The status of a policy.
struct StatusView {
    period: String,
    last: Option<Moment>,
    evaluated: String,
    paused: String,
    downscaled: String,
    paused_href: String,
    downscaled_href: String,
    reached: Vec<(String, String)>,
    agents: Vec<(Tone, String)>,
    qos: String,
}

impl StatusView {
    fn of(status: &Status, policy: &Policy) -> Self {
        let n = |count: Option<u64>| count.unwrap_or_default();
        let mut reached: Vec<(Decimal, u64)> =
            status.over_thresholds.iter().filter_map(|(p, n)| Some((p.parse().ok()?, *n))).collect();
        if let Some(full) = status.at_or_above_100.filter(|_| !reached.iter().any(|(p, _)| *p == Decimal::ONE_HUNDRED))
        {
            reached.push((Decimal::ONE_HUNDRED, full));
        }
        reached.sort_unstable();
        let order = ["failed", "no_answer", "queued", "sent", "confirmed", "not_needed"];
        let agents = order.iter().filter_map(|key| Some((standing::agent(key), *status.agent.get(*key)?)));
        let differ = n(status.qos_differs) + n(status.qos_unknown);
        let all = n(status.resources_evaluated);
        let listed = |state: &str| format!("/allocations?policy={}&state={state}", policy.uuid);
        Self {
            period: status.billing_period.clone(),
            last: status.last_evaluated_at.map(Moment::of),
            evaluated: words::whole(all),
            paused: words::whole(n(status.paused)),
            downscaled: words::whole(n(status.downscaled)),
            paused_href: listed("paused"),
            downscaled_href: listed("slowed_down"),
            reached: reached.into_iter().map(|(p, n)| (words::rung(p), words::whole(n))).collect(),
            agents: agents.filter(|(_, n)| *n > 0).map(|(tone, n)| (tone, words::whole(n))).collect(),
            qos: if differ == 0 {
                "as meant".to_owned()
            } else {
                format!("{} not as meant, or not known", words::whole(differ))
            },
        }
    }
}

/// The page of a policy.
#[derive(Template)]
#[template(path = "policy.html")]
struct PolicyPage {
    frame: Frame,
    enabled: bool,
    offering: String,
    created: Moment,
    by: Option<String>,
    warnings: Vec<String>,
    ladder: Ladder,
    status: StatusView,
    rules: Vec<(&'static str, String)>,
    version: u64,
    log: Log,
    href: String,
    may_evaluate: bool,
    may_change: bool,
    /// Words, icons and names of what else can be done with it.
    switches: [(&'static str, &'static str, &'static str); 2],
}

/// The page of a policy.
pub async fn show(visit: Visit, Path(key): Path<String>) -> Shown {
    let policy = known(&visit, &key).await?;
    let log = log::of(&visit, &policy).await?;
    if visit.fragment {
        return page(&log);
    }
    let status = visit.api.get::<Status>(&format!("{COLLECTION}/{}/status/?page_size=1", policy.uuid)).await?;
    let frame = Frame::of(&visit, policy.name(), Section::Policies).await.under("/policies", "Policies");
    page(&PolicyPage {
        frame,
        ladder: ladder::of(&visit, &policy, &status.billing_period).await?,
        may_change: may_change(&visit, &policy).await?,
        switches: switch::offered(policy.enabled),
        enabled: policy.enabled,
        offering: policy.scope_name.clone(),
        created: Moment::of(policy.created),
        by: policy.created_by_full_name.clone().filter(|name| !name.is_empty()),
        warnings: policy.warnings.clone(),
        status: StatusView::of(&status, &policy),
        rules: rules::of(&visit, &policy).await?,
        version: policy.version,
        href: policy.href(),
        log,
        may_evaluate: visit.is_staff(),
    })
}
