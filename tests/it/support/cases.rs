//! Worked numbers as data: `tests/golden/cases/*.json`, one list per file, amounts as decimal text.
//!
//! Hooked up in `tests/it/domain`: periods, carryover, ladders, settings, commands, previews. For the engine:
//! `percentages` (one evaluation each), `decisions` (a percentage against flags), `sequences` (steps on one resource, each
//! evaluated at its instant) and `resets` (settings syncs). `terms` are the parameters that differ from the defaults.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sluice::domain::carryover::{CarryoverBase, ComponentCarryover, Formula};
use sluice::domain::period::{Month, Period, PeriodKind};
use sluice::domain::policy::{LimitType, PolicyTerms};
use sluice::domain::preview::ProjectionStatus;
use sluice::domain::qos::QosClass;
use sluice::domain::threshold::Rung;
use sluice::domain::tres::{Amounts, TresMapping};

/// Loads every case of a file (its name without `.json`); an empty file is a mistake.
pub fn load<T: DeserializeOwned>(file: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cases").join(file).with_extension("json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases: Vec<T> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(!cases.is_empty(), "{} has no case", path.display());
    cases
}

/// The parameters of a policy that differ from the defaults.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Terms(Map<String, Value>);

impl Terms {
    /// The whole terms; a parameter that does not exist is a mistake in the case.
    pub fn whole(&self) -> PolicyTerms {
        let mut whole = serde_json::to_value(PolicyTerms::default()).expect("terms are JSON");
        for (key, value) in &self.0 {
            assert!(whole.get(key).is_some(), "there is no parameter {key}");
            whole[key] = value.clone();
        }
        serde_json::from_value(whole).expect("the overlaid terms are terms")
    }
}

/// A date and the period it falls into.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodCase {
    pub name: String,
    pub date: NaiveDate,
    pub kind: PeriodKind,
    pub period: Period,
    pub first_day: Option<NaiveDate>,
    pub last_day: Option<NaiveDate>,
    pub previous: Option<Period>,
    pub previous_first_day: Option<NaiveDate>,
    pub previous_last_day: Option<NaiveDate>,
}

/// The carryover of one component; `expect` holds the inputs base and previous usage too.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarryoverCase {
    pub name: String,
    pub formula: Formula,
    pub days: u32,
    pub expect: ComponentCarryover,
}

/// Terms and the ladder they make.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LadderCase {
    pub name: String,
    pub terms: Terms,
    pub expect: LadderExpected,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LadderExpected {
    pub rungs: Vec<Rung>,
    pub lowest_action_percent: Option<Decimal>,
    pub pause_percent: Option<Decimal>,
}

/// Settings of one policy for one resource; `expect` is the whole body on the wire.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsCase {
    pub name: String,
    pub terms: Terms,
    pub period: Period,
    pub existed_before: bool,
    pub base: Amounts,
    pub previous_usage: Amounts,
    pub components: BTreeMap<String, TresMapping>,
    pub baseline_minutes: Amounts,
    pub reset_raw_usage: bool,
    pub expect: Value,
}

/// Settings of which only some parts are set, and the commands they amount to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandsCase {
    pub name: String,
    pub account: String,
    pub settings: PartialSettings,
    pub qos: Option<QosChange>,
    pub expect: Vec<CommandExpected>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct PartialSettings {
    pub fairshare: i64,
    pub limit_type: LimitType,
    pub limits: BTreeMap<String, i64>,
    pub reset_raw_usage: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QosChange {
    pub name: String,
    pub reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandExpected {
    #[serde(rename = "type")]
    pub command_type: String,
    pub command: String,
    pub parameters: Value,
    pub description: Option<String>,
}

/// A preview without a resource, on 15 March 2026; what is not given has the default of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewCase {
    pub name: String,
    pub given: PreviewGiven,
    pub expect: PreviewExpected,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PreviewGiven {
    pub allocation: Decimal,
    pub previous_allocation: Option<Decimal>,
    pub grace_ratio: Decimal,
    pub carryover_base: CarryoverBase,
    pub carryover_factor: Decimal,
    pub previous_usage: Decimal,
    pub current_usage: Decimal,
    pub daily_usage_rate: Decimal,
}

impl Default for PreviewGiven {
    fn default() -> Self {
        Self {
            allocation: Decimal::ONE_THOUSAND,
            previous_allocation: None,
            carryover_base: CarryoverBase::Previous,
            grace_ratio: Decimal::new(2, 1),
            carryover_factor: Decimal::from(50),
            previous_usage: Decimal::ZERO,
            current_usage: Decimal::ZERO,
            daily_usage_rate: Decimal::ZERO,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewExpected {
    pub effective_allocation: Decimal,
    pub carryover: Option<ComponentCarryover>,
    pub notification_threshold: Decimal,
    pub slowdown_threshold: Decimal,
    pub blocked_threshold: Decimal,
    pub usage_percentage: Decimal,
    pub status: String,
    pub notification: ProjectionExpected,
    pub slowdown: ProjectionExpected,
    pub blocked: ProjectionExpected,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectionExpected {
    pub days: Option<i64>,
    pub date: Option<NaiveDate>,
    pub status: String,
}

impl ProjectionExpected {
    /// The status as the domain has it.
    pub fn projection_status(&self) -> ProjectionStatus {
        match self.status.as_str() {
            "never" => ProjectionStatus::Never,
            "exceeded" => ProjectionStatus::Exceeded,
            "projected" => ProjectionStatus::Projected,
            other => panic!("there is no projection status {other}"),
        }
    }
}

/// One evaluation: the month's totals, the limits and the date, and the percentage to six digits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PercentageCase {
    pub name: String,
    pub terms: Terms,
    pub limits: Amounts,
    pub usage: Vec<MonthlyUsage>,
    pub today: NaiveDate,
    pub existed_since: NaiveDate,
    pub expect: PercentageExpected,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonthlyUsage {
    pub month: Month,
    pub component: String,
    pub amount: Decimal,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PercentageExpected {
    pub period: Period,
    pub percentage: Decimal,
    pub effective: Amounts,
}

/// A percentage that meets the flags of a resource; actions are compared in order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionCase {
    pub name: String,
    pub percentage: Decimal,
    pub terms: Terms,
    pub before: Flags,
    /// Whether the notice of this period has been given.
    pub notified_before: bool,
    pub fired_before: bool,
    pub expect: DecisionExpected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flags {
    pub paused: bool,
    pub downscaled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionExpected {
    pub actions: Vec<String>,
    pub after: Flags,
    pub message_sent: bool,
    pub qos: QosClass,
    pub grace_limit_percent: Decimal,
    /// Whether the policy has fired, the resource being the only one in scope; not every case says.
    pub has_fired: Option<bool>,
}

/// Steps on one resource, its only component; usage is the total of the month of the step.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceCase {
    pub name: String,
    pub terms: Terms,
    pub limits: Amounts,
    pub existed_since: NaiveDate,
    pub steps: Vec<SequenceStep>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceStep {
    pub at: DateTime<Utc>,
    #[serde(default)]
    pub usage: Amounts,
    #[serde(default)]
    pub limits: Amounts,
    pub expect: StepExpected,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepExpected {
    pub period: Period,
    /// To four digits.
    pub percentage: Decimal,
    pub effective: Amounts,
    pub actions: Vec<String>,
    pub after: Flags,
    pub qos: QosClass,
    pub message_sent: bool,
    pub has_fired: bool,
}

/// Settings syncs of one resource and whether each resets raw usage; the first one takes the resource over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetCase {
    pub name: String,
    pub terms: Terms,
    pub syncs: Vec<ResetSync>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetSync {
    pub at: DateTime<Utc>,
    pub reset: bool,
}
