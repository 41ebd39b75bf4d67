//! The terms of a periodic usage policy: its parameters, their defaults, valid values, and warnings.
//!
//! Terms accepted by [`PolicyTerms::validate`] keep every later computation within the range of a `Decimal`.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::carryover::{CarryoverBase, Formula, without_a_choice};
use super::decimal::{HUNDRED, MAX_AMOUNT, MAX_DECIMALS, MAX_WEIGHT, complaint};
use super::period::PeriodKind;
use super::qos::{QosClass, QosNames};
use super::threshold::{Effect, Rung, all_rungs, ladder};
use super::tres::{Amounts, TresMapping, is_slurm_tres};
use super::validation::FieldErrors;

/// The most entries a list or map of a policy may have.
pub const MAX_ENTRIES: usize = 100;
/// The longest half-life that is accepted, in days.
const MAX_HALF_LIFE: Decimal = Decimal::from_parts(1_000_000, 0, 0, false, 0);
/// The highest percent a rung may stand at.
const MAX_RUNG_PERCENT: Decimal = Decimal::from_parts(10_000, 0, 0, false, 0);
/// The least of what has to be above zero: the smallest step of anything that is entered.
const ABOVE_ZERO: Decimal = Decimal::from_parts(1, 0, 0, false, MAX_DECIMALS);

/// What a policy may do, in the order in which actions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Mail to the owners of the resource's organisation.
    #[serde(rename = "notify_organization_owners")]
    NotifyOrganizationOwners,
    /// Mail to the addresses in the policy's options.
    #[serde(rename = "notify_external_user")]
    NotifyExternalUser,
    /// No further resources while one is used up.
    #[serde(rename = "block_creation_of_new_resources")]
    BlockCreation,
    /// Slow down at 100 %.
    #[serde(rename = "request_slurm_resource_downscaling", alias = "request_downscaling")]
    RequestDownscaling,
    /// Pause at the grace limit.
    #[serde(rename = "request_slurm_resource_pausing", alias = "request_pausing")]
    RequestPausing,
}

/// A list of actions that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionListError {
    /// Nothing is listed.
    #[error("At least one action is required. Available: {}.", Action::available())]
    Empty,
    /// Something is listed that is no action.
    #[error(
        "The list {list:?} includes unavailable actions: {unknown}. Available, separated by commas without spaces: {}.",
        Action::available()
    )]
    Unavailable {
        /// The list as it was given.
        list: String,
        /// The entries that are no actions.
        unknown: String,
    },
}

impl Action {
    /// Every action, in writing order.
    pub const ALL: [Self; 5] = [
        Self::NotifyOrganizationOwners,
        Self::NotifyExternalUser,
        Self::BlockCreation,
        Self::RequestDownscaling,
        Self::RequestPausing,
    ];

    /// The name of the action on the wire.
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::NotifyOrganizationOwners => "notify_organization_owners",
            Self::NotifyExternalUser => "notify_external_user",
            Self::BlockCreation => "block_creation_of_new_resources",
            Self::RequestDownscaling => "request_slurm_resource_downscaling",
            Self::RequestPausing => "request_slurm_resource_pausing",
        }
    }

    /// The action of this name; two have a shorter second one.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "request_downscaling" => Some(Self::RequestDownscaling),
            "request_pausing" => Some(Self::RequestPausing),
            _ => Self::ALL.into_iter().find(|action| action.wire_name() == name),
        }
    }

    /// Reads names separated by commas.
    pub fn parse_list(list: &str) -> Result<BTreeSet<Self>, ActionListError> {
        if list.is_empty() {
            return Err(ActionListError::Empty);
        }
        let unknown: Vec<String> =
            list.split(',').filter(|name| Self::from_name(name).is_none()).map(|name| format!("{name:?}")).collect();
        if unknown.is_empty() {
            Ok(list.split(',').filter_map(Self::from_name).collect())
        } else {
            Err(ActionListError::Unavailable { list: list.chars().take(500).collect(), unknown: unknown.join(", ") })
        }
    }

    /// Writes names separated by commas.
    pub fn list_to_string(actions: &BTreeSet<Self>) -> String {
        actions.iter().map(|action| action.wire_name()).collect::<Vec<_>>().join(",")
    }

    fn available() -> String {
        Self::ALL.map(Self::wire_name).join(", ")
    }
}

/// Which limit of SLURM the allocation becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum LimitType {
    /// TRES-minutes of all jobs of the account together.
    #[default]
    #[serde(rename = "GrpTRESMins")]
    GrpTresMins,
    /// TRES-minutes of a single job.
    #[serde(rename = "MaxTRESMins")]
    MaxTresMins,
    /// A concurrent count of TRES; the site agent passes it over.
    #[serde(rename = "GrpTRES")]
    GrpTres,
}

impl LimitType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::GrpTresMins, Self::MaxTresMins, Self::GrpTres];

    /// The name in SLURM and on the wire.
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::GrpTresMins => "GrpTRESMins",
            Self::MaxTresMins => "MaxTRESMins",
            Self::GrpTres => "GrpTRES",
        }
    }

    /// The key under which the agent's settings hold the limits.
    pub fn settings_key(self) -> &'static str {
        match self {
            Self::GrpTresMins => "grp_tres_mins",
            Self::MaxTresMins => "max_tres_mins",
            Self::GrpTres => "grp_tres",
        }
    }

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit_type| limit_type.wire_name() == name)
    }
}

/// Where the rungs of a policy come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QosStrategy {
    /// The standard ones.
    #[default]
    Threshold,
    /// The policy's own list.
    Progressive,
}

impl QosStrategy {
    /// The name on the wire.
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::Threshold => "threshold",
            Self::Progressive => "progressive",
        }
    }

    /// The strategy of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Threshold, Self::Progressive].into_iter().find(|strategy| strategy.wire_name() == name)
    }
}

/// Everything a policy decides by. Scope, options and names are kept elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a parameter of the API that is on or off by itself")]
pub struct PolicyTerms {
    /// What it may do.
    pub actions: BTreeSet<Action>,
    /// The allocation of a component, per period, where the resource has no limit of its own.
    pub component_limits: Amounts,
    /// How long it counts.
    pub period: PeriodKind,
    /// Which SLURM limit it sets.
    pub limit_type: LimitType,
    /// Whether usage is counted in billing units.
    pub tres_billing_enabled: bool,
    /// The weights of components; empty for the customary ones.
    pub tres_billing_weights: BTreeMap<String, Decimal>,
    /// Days in which past usage loses half its weight.
    pub fairshare_decay_half_life: Decimal,
    /// Whether anything is carried over.
    pub carryover_enabled: bool,
    /// The cap of the capped formula in percent; unset for the decay formula.
    pub carryover_factor: Option<Decimal>,
    /// Which allocation past usage is compared with; none in policies older than the choice, which stay with the base of now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub carryover_base: Option<CarryoverBase>,
    /// How far above 100 % the pause limit lies, 0 to 1.
    pub grace_ratio: Decimal,
    /// The notification percentages, ascending and distinct.
    pub notification_thresholds: Vec<Decimal>,
    /// Whether SLURM's raw usage is reset at a period boundary.
    pub raw_usage_reset: bool,
    /// Where the rungs come from.
    pub qos_strategy: QosStrategy,
    /// The policy's own rungs.
    pub progressive_thresholds: Vec<Rung>,
    /// Whether it is in force.
    pub enabled: bool,
}

impl Default for PolicyTerms {
    /// The defaults of every parameter that has one; the actions have none and are empty.
    fn default() -> Self {
        Self {
            actions: BTreeSet::new(),
            component_limits: Amounts::new(),
            period: PeriodKind::Quarter,
            limit_type: LimitType::GrpTresMins,
            tres_billing_enabled: true,
            tres_billing_weights: BTreeMap::new(),
            fairshare_decay_half_life: Decimal::from(15),
            carryover_enabled: true,
            carryover_factor: None,
            carryover_base: Some(CarryoverBase::Previous),
            grace_ratio: Decimal::new(2, 1),
            notification_thresholds: vec![Decimal::from(80)],
            raw_usage_reset: true,
            qos_strategy: QosStrategy::Threshold,
            progressive_thresholds: Vec::new(),
            enabled: true,
        }
    }
}

impl PolicyTerms {
    /// (1 + grace) x 100: the percentage at which the standard ladder pauses, and what the hard limit in SLURM stands for.
    pub fn grace_limit_percent(&self) -> Decimal {
        ((Decimal::ONE + self.grace_ratio) * HUNDRED).normalize()
    }

    /// The percentage at which this policy pauses, if it does.
    pub fn pause_percent(&self) -> Option<Decimal> {
        ladder(self).into_iter().find(|rung| rung.effect == Effect::Pause).map(|rung| rung.percent)
    }

    /// The lowest percentage at which one of the actions takes effect; blocking creation does at 100.
    pub fn lowest_action_percent(&self) -> Option<Decimal> {
        let blocking = self.actions.contains(&Action::BlockCreation).then_some(HUNDRED);
        ladder(self).into_iter().map(|rung| rung.percent).chain(blocking).min()
    }

    /// The carryover formula with its parameter: capped where a factor is set, else decaying.
    pub fn carryover_formula(&self) -> Formula {
        match self.carryover_factor {
            Some(factor_percent) => Formula::capped(self.base_of_carryover(), factor_percent),
            None => Formula::decayed(self.base_of_carryover(), self.fairshare_decay_half_life),
        }
    }

    /// Which allocation past usage is compared with.
    pub fn base_of_carryover(&self) -> CarryoverBase {
        self.carryover_base.unwrap_or(CarryoverBase::Current)
    }

    /// The terms with their lists in order.
    #[must_use]
    pub fn normalized(mut self) -> Self {
        self.notification_thresholds.sort();
        self.progressive_thresholds
            .sort_by(|one, other| one.percent.cmp(&other.percent).then(one.effect.cmp(&other.effect)));
        self
    }

    /// Checks every parameter; the complaints name the fields as the API does.
    pub fn validate(&self) -> Result<(), FieldErrors> {
        let mut errors = FieldErrors::default();
        if self.actions.is_empty() {
            errors.add("actions", ActionListError::Empty.to_string());
        }
        check_named(&mut errors, "component_limits_set", &self.component_limits, MAX_AMOUNT);
        check_named(&mut errors, "tres_billing_weights", &self.tres_billing_weights, MAX_WEIGHT);
        let mut in_range = |field: &str, value: Decimal, low: Decimal, high: Decimal| {
            if let Some(message) = complaint(value, low, high) {
                errors.add(field, message);
            }
        };
        in_range("fairshare_decay_half_life", self.fairshare_decay_half_life, ABOVE_ZERO, MAX_HALF_LIFE);
        if let Some(factor) = self.carryover_factor {
            in_range("carryover_factor", factor, Decimal::ZERO, HUNDRED);
        }
        in_range("grace_ratio", self.grace_ratio, Decimal::ZERO, Decimal::ONE);
        for percent in &self.notification_thresholds {
            in_range("notification_threshold", *percent, Decimal::ONE, HUNDRED);
        }
        self.check_notices(&mut errors);
        self.check_rungs(&mut errors);
        errors.into_result()
    }

    fn check_notices(&self, errors: &mut FieldErrors) {
        let thresholds = &self.notification_thresholds;
        if thresholds.is_empty() || thresholds.len() > MAX_ENTRIES {
            errors.add(
                "notification_threshold",
                format!("{} numbers are given: 1 to {MAX_ENTRIES} are allowed.", thresholds.len()),
            );
        }
        let distinct: BTreeSet<_> = thresholds.iter().collect();
        for percent in
            distinct.into_iter().filter(|percent| thresholds.iter().filter(|other| other == percent).count() > 1)
        {
            errors.add(
                "notification_threshold",
                format!("{percent} is given more than once: each number is allowed once."),
            );
        }
    }

    fn check_rungs(&self, errors: &mut FieldErrors) {
        const FIELD: &str = "progressive_thresholds";
        let rungs = &self.progressive_thresholds;
        if rungs.len() > MAX_ENTRIES {
            errors.add(FIELD, format!("{} rungs are given: at most {MAX_ENTRIES} are allowed.", rungs.len()));
        }
        for (index, rung) in rungs.iter().enumerate() {
            let (percent, verb) = (rung.percent, rung.effect.verb());
            if let Some(message) = complaint(percent, ABOVE_ZERO, MAX_RUNG_PERCENT) {
                errors.add(FIELD, message);
            }
            if rungs[..index].iter().any(|earlier| earlier.percent == percent && earlier.effect == rung.effect) {
                errors.add(
                    FIELD,
                    format!("{verb} at {percent} is given more than once: each effect is allowed once per percent."),
                );
            }
            match rung.qos.as_deref() {
                Some(qos) if rung.effect == Effect::Notify => {
                    errors.add(FIELD, format!("{qos:?} is the QoS of a rung that only notifies: downscale and pause may have one."));
                }
                Some(qos) if !is_qos_name(qos) => errors.add(
                    FIELD,
                    format!("{qos:?} is no name of a QoS: 1 to 64 letters, digits, dots, dashes and underscores are allowed."),
                ),
                _ => {}
            }
        }
    }

    /// What would change if a policy that is older than the choice of a base, counted in `period`, looked at the previous one.
    pub fn base_warning(&self, period: PeriodKind) -> Option<String> {
        let chosen = self.carryover_base.is_some() || !self.carryover_enabled;
        if chosen { None } else { without_a_choice(&self.carryover_formula(), period.nominal_days()?) }
    }

    /// What is allowed but probably not meant, given how the offering's components and classes of service appear in SLURM.
    pub fn warnings(&self, components: &BTreeMap<String, TresMapping>, qos: &QosNames) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.limit_type == LimitType::GrpTres {
            warnings.push(
                "The site agent ignores GrpTRES: no limit is set in SLURM, only the class of service changes."
                    .to_owned(),
            );
        }
        if !self.raw_usage_reset {
            warnings.push(
                "Raw usage is not reset at the start of a period: SLURM's own PriorityUsageResetPeriod decides from when it counts.".to_owned(),
            );
        }
        for (component, mapping) in components.iter().filter(|(_, mapping)| !is_slurm_tres(&mapping.tres)) {
            warnings.push(format!(
                "Component {component} goes to SLURM as {:?}, which is no TRES of a cluster: set slurm_tres on the offering's component.",
                mapping.tres
            ));
        }
        self.warn_about_rungs(qos, &mut warnings);
        warnings
    }

    fn warn_about_rungs(&self, qos: &QosNames, warnings: &mut Vec<String>) {
        let own_list = self.qos_strategy == QosStrategy::Progressive && !self.progressive_thresholds.is_empty();
        if !own_list {
            if !self.progressive_thresholds.is_empty() {
                warnings.push("The progressive thresholds have no effect while qos_strategy is threshold.".to_owned());
            }
            return;
        }
        for rung in all_rungs(self) {
            let (percent, verb) = (rung.percent.normalize(), rung.effect.verb());
            if !rung.effect.is_wanted_by(self) {
                let needed: Vec<_> = rung.effect.actions().iter().map(|action| action.wire_name()).collect();
                warnings.push(format!(
                    "The rung at {percent} % has no effect: {verb} needs the action {}.",
                    needed.join(" or ")
                ));
            }
            let class = if rung.effect == Effect::Pause { QosClass::Paused } else { QosClass::Downscaled };
            if let Some(name) = rung.qos.as_deref().filter(|name| *name != qos.of(class)) {
                warnings.push(format!(
                    "The QoS {name} at {percent} % appears in the recorded commands only: the site agent knows three QoS and sets {}.",
                    qos.of(class)
                ));
            }
        }
    }
}

/// Checks a map of named numbers from 0 to `high`.
fn check_named<'v>(
    errors: &mut FieldErrors,
    field: &str,
    values: impl IntoIterator<Item = (&'v String, &'v Decimal), IntoIter: ExactSizeIterator>,
    high: Decimal,
) {
    let values = values.into_iter();
    if values.len() > MAX_ENTRIES {
        errors.add(field, format!("{} entries are given: at most {MAX_ENTRIES} are allowed.", values.len()));
    }
    for (name, value) in values {
        if name.trim().is_empty() || name.len() > 255 {
            errors.add(field, format!("{name:?} is no type of a component: 1 to 255 characters are allowed."));
        }
        if let Some(message) = complaint(*value, Decimal::ZERO, high) {
            errors.add(field, format!("{name}: {message}"));
        }
    }
}

fn is_qos_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
