//! The keys of a policy in a site file: every parameter of a periodic usage policy. Only the slug, the offering and, on
//! a new policy, its actions and its scope are required.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use super::file::Head;
use super::yaml::{At, Fields, Given, Node, Value, number_of};
use crate::domain::carryover::CarryoverBase;
use crate::domain::period::PeriodKind;
use crate::domain::policy::{Action, LimitType, PolicyTerms, QosStrategy};
use crate::domain::text::{Address, REASON};
use crate::domain::threshold::{Effect, Rung};
use crate::domain::tres::Amounts;

/// Options by action that are not addresses.
pub(super) type PlainOptions = BTreeMap<String, serde_json::Value>;

#[derive(Debug, Clone)]
pub(super) struct PolicySpec {
    pub(super) head: Head,
    pub(super) offering: Option<At<String>>,
    pub(super) apply_to_all: Given<bool>,
    pub(super) organization_groups: Given<Vec<At<String>>>,
    pub(super) period: Given<At<PeriodKind>>,
    pub(super) actions: Given<BTreeSet<Action>>,
    pub(super) component_limits: Given<Amounts>,
    pub(super) limit_type: Given<LimitType>,
    pub(super) tres_billing_enabled: Given<bool>,
    pub(super) tres_billing_weights: Given<BTreeMap<String, Decimal>>,
    pub(super) fairshare_decay_half_life: Given<Decimal>,
    pub(super) carryover_enabled: Given<bool>,
    pub(super) carryover_factor: Given<Decimal>,
    pub(super) carryover_base: Given<CarryoverBase>,
    pub(super) grace_ratio: Given<Decimal>,
    pub(super) notification_thresholds: Given<Vec<Decimal>>,
    pub(super) raw_usage_reset: Given<bool>,
    pub(super) qos_strategy: Given<QosStrategy>,
    pub(super) progressive_thresholds: Given<Vec<Rung>>,
    pub(super) enabled: Given<bool>,
    /// Addresses of `notify_external_user`.
    pub(super) recipients: Given<Vec<String>>,
    pub(super) options: Given<PlainOptions>,
    pub(super) reason: Option<String>,
    /// Lines of the keys that stand in the file, for complaints about what they hold.
    pub(super) lines: BTreeMap<&'static str, u64>,
}

impl PolicySpec {
    /// The terms: what is given, over what is, over the defaults. `period` is decided elsewhere.
    pub(super) fn terms(&self, current: Option<&PolicyTerms>, period: PeriodKind) -> PolicyTerms {
        let usual = PolicyTerms::default();
        macro_rules! over {
            ($field:ident, $given:ident) => {
                self.$given.over(current.map(|c| &c.$field), || usual.$field.clone())
            };
        }
        let carryover_factor = match &self.carryover_factor {
            Given::Absent => current.and_then(|c| c.carryover_factor),
            given => given.value().copied(),
        };
        PolicyTerms {
            actions: over!(actions, actions),
            component_limits: over!(component_limits, component_limits),
            period,
            limit_type: over!(limit_type, limit_type),
            tres_billing_enabled: over!(tres_billing_enabled, tres_billing_enabled),
            tres_billing_weights: over!(tres_billing_weights, tres_billing_weights),
            fairshare_decay_half_life: over!(fairshare_decay_half_life, fairshare_decay_half_life),
            carryover_enabled: over!(carryover_enabled, carryover_enabled),
            carryover_factor,
            carryover_base: match &self.carryover_base {
                Given::Value(base) => Some(*base),
                Given::Null => usual.carryover_base,
                // A policy that has none keeps to the base of now until the file says otherwise.
                Given::Absent => current.map_or(usual.carryover_base, |c| c.carryover_base),
            },
            grace_ratio: over!(grace_ratio, grace_ratio),
            notification_thresholds: over!(notification_thresholds, notification_thresholds),
            raw_usage_reset: over!(raw_usage_reset, raw_usage_reset),
            qos_strategy: over!(qos_strategy, qos_strategy),
            progressive_thresholds: over!(progressive_thresholds, progressive_thresholds),
            enabled: over!(enabled, enabled),
        }
        .normalized()
    }
}

pub(super) fn read_policy(fields: &mut Fields<'_>, head: Head) -> PolicySpec {
    let offering = fields.required("offering");
    PolicySpec { offering, ..read_rules(fields, head) }
}

/// The same without the offering that it is on.
pub(super) fn read_rules(fields: &mut Fields<'_>, head: Head) -> PolicySpec {
    let mut lines = BTreeMap::new();
    let (recipients, options) = read_options(fields, &mut lines);
    let period = fields.word("period", period_of, "1 total, 2 month, 3 quarter or 4 year (number or word) is allowed");
    let limit_type =
        fields.word("limit_type", LimitType::from_name, "one of GrpTRESMins, MaxTRESMins, GrpTRES is allowed");
    let qos_strategy = fields.word("qos_strategy", QosStrategy::from_name, "threshold or progressive is allowed");
    let carryover_base = fields.word("carryover_base", CarryoverBase::from_name, "previous or current is allowed");
    let mut plain = |key| {
        let number = fields.decimal(key);
        if let Some(at) = number.value() {
            lines.insert(key, at.line);
        }
        number.map(|at| at.value.normalize())
    };
    let fairshare_decay_half_life = plain("fairshare_decay_half_life");
    let carryover_factor = plain("carryover_factor");
    let grace_ratio = plain("grace_ratio");
    PolicySpec {
        head,
        offering: None,
        apply_to_all: fields.boolean("apply_to_all"),
        organization_groups: fields.texts("organization_groups"),
        period,
        actions: read_actions(fields, &mut lines),
        component_limits: read_limits(fields, &mut lines),
        limit_type: limit_type.map(|at| at.value),
        tres_billing_enabled: fields.boolean("tres_billing_enabled"),
        tres_billing_weights: named(fields, "tres_billing_weights", &mut lines),
        fairshare_decay_half_life,
        carryover_enabled: fields.boolean("carryover_enabled"),
        carryover_factor,
        carryover_base: carryover_base.map(|at| at.value),
        grace_ratio,
        notification_thresholds: read_thresholds(fields, &mut lines),
        raw_usage_reset: fields.boolean("raw_usage_reset"),
        qos_strategy: qos_strategy.map(|at| at.value),
        progressive_thresholds: read_rungs(fields, &mut lines),
        enabled: fields.boolean("enabled"),
        recipients,
        options,
        reason: fields.text_of(REASON, "reason").value().map(|at| at.value.clone()),
        lines,
    }
}

/// A period by its code or its name.
fn period_of(text: &str) -> Option<PeriodKind> {
    let by_code = text.parse().ok().and_then(PeriodKind::from_code);
    by_code.or_else(|| PeriodKind::from_name(text)).or_else(|| PeriodKind::from_limit_period(text))
}

type Lines = BTreeMap<&'static str, u64>;

fn read_actions(fields: &mut Fields<'_>, lines: &mut Lines) -> Given<BTreeSet<Action>> {
    let Some(node) = fields.take("actions") else { return Given::Absent };
    let path = fields.path_of("actions");
    lines.insert("actions", node.line);
    let names: Vec<String> = match &node.value {
        Value::Scalar { text, .. } => vec![text.clone()],
        Value::List(items) => items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| super::yaml::text_of(item, format!("{path}[{i}]"), fields.problems))
            .map(|at| at.value)
            .collect(),
        Value::Null | Value::Map(_) => {
            fields.problems.add(node.line, path, "a list of actions, or one text with commas, is expected");
            return Given::Absent;
        }
    };
    match Action::parse_list(&names.join(",")) {
        Ok(actions) => Given::Value(actions),
        Err(error) => {
            fields.problems.add(node.line, path, error.to_string());
            Given::Absent
        }
    }
}

fn named<M>(fields: &mut Fields<'_>, key: &'static str, lines: &mut Lines) -> Given<M>
where
    M: FromIterator<(String, Decimal)>,
{
    if let Some(node) = fields.take(key) {
        lines.insert(key, node.line);
    }
    fields.numbers(key).map(|list| list.into_iter().map(|(name, at)| (name, at.value.normalize())).collect())
}

/// `component_limits: {type: limit}`, or `component_limits_set: [{type, limit}]` as the API has it.
fn read_limits(fields: &mut Fields<'_>, lines: &mut Lines) -> Given<Amounts> {
    let mapping = named(fields, "component_limits", lines);
    let problems = fields.problems;
    let Given::Value(items) = fields.list("component_limits_set") else { return mapping };
    if mapping.value().is_some() {
        problems.add(
            fields.line,
            &*fields.path,
            "component_limits and component_limits_set are both given: one is allowed",
        );
    }
    let mut limits = Amounts::new();
    for (node, path) in items {
        lines.insert("component_limits", node.line);
        let Some(mut entry) = Fields::of(node, path, problems) else { continue };
        let (component, limit) = (entry.required("type"), entry.decimal("limit"));
        if limit.value().is_none() {
            problems.add(entry.line, entry.path_of("limit"), "is required: a number");
        }
        entry.finish();
        if let (Some(component), Some(limit)) = (component, limit.value())
            && limits.insert(component.value.clone(), limit.value.normalize()).is_some()
        {
            problems.at(&component, format!("{:?} is given twice", component.value));
        }
    }
    Given::Value(limits)
}

/// One number, or a list of them.
fn read_thresholds(fields: &mut Fields<'_>, lines: &mut Lines) -> Given<Vec<Decimal>> {
    let Some(node) = fields.take("notification_threshold") else { return Given::Absent };
    let path = fields.path_of("notification_threshold");
    lines.insert("notification_threshold", node.line);
    let items: Vec<(&Node, String)> = match &node.value {
        Value::Null => return Given::Null,
        Value::List(items) => items.iter().enumerate().map(|(i, item)| (item, format!("{path}[{i}]"))).collect(),
        _ => vec![(node, path)],
    };
    let numbers = items.into_iter().filter_map(|(node, path)| number_of(node, path, fields.problems));
    Given::Value(numbers.map(|at| at.value.normalize()).collect())
}

fn read_rungs(fields: &mut Fields<'_>, lines: &mut Lines) -> Given<Vec<Rung>> {
    let problems = fields.problems;
    if let Some(node) = fields.take("progressive_thresholds") {
        lines.insert("progressive_thresholds", node.line);
    }
    fields.list("progressive_thresholds").map(|items| {
        let read = |(node, path): (&Node, String)| {
            let mut entry = Fields::of(node, path, problems)?;
            let percent = entry.decimal("percent");
            let effect = |word: &str| serde_json::from_value::<Effect>(word.into()).ok();
            let effect = entry.word("effect", effect, "notify, downscale or pause is allowed");
            let qos = entry.text("qos").value().map(|at| at.value.clone());
            for (key, missing) in [("percent", percent.value().is_none()), ("effect", effect.value().is_none())] {
                if missing {
                    problems.add(entry.line, entry.path_of(key), "is required");
                }
            }
            entry.finish();
            Some(Rung { percent: percent.value()?.value.normalize(), effect: effect.value()?.value, qos })
        };
        items.into_iter().filter_map(read).collect()
    })
}

/// Options are by action; those of `notify_external_user` are addresses and go to the directory.
fn read_options(fields: &mut Fields<'_>, lines: &mut Lines) -> (Given<Vec<String>>, Given<PlainOptions>) {
    let Some(node) = fields.take("options") else { return (Given::Absent, Given::Absent) };
    lines.insert("options", node.line);
    if matches!(node.value, Value::Null) {
        return (Given::Null, Given::Null);
    }
    let Some(mut options) = Fields::of(node, fields.path_of("options"), fields.problems) else {
        return (Given::Absent, Given::Absent);
    };
    let recipients = read_recipients(&mut options);
    let mut plain = PlainOptions::new();
    for action in Action::ALL.into_iter().filter(|action| *action != Action::NotifyExternalUser) {
        if let Given::Value(text) = options.text(action.wire_name()) {
            plain.insert(action.wire_name().to_owned(), text.value.into());
        }
    }
    options.finish();
    // The options stand in the file as a whole: what they leave out is gone.
    (Given::Value(recipients), Given::Value(plain))
}

/// One text with commas, or a list.
fn read_recipients(options: &mut Fields<'_>) -> Vec<String> {
    const KEY: &str = "notify_external_user";
    let Some(node) = options.take(KEY) else { return Vec::new() };
    let path = options.path_of(KEY);
    let texts: Vec<&str> = match &node.value {
        Value::Scalar { text, .. } => text.split(',').collect(),
        Value::List(items) => items
            .iter()
            .filter_map(|item| match &item.value {
                Value::Scalar { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect(),
        Value::Null => Vec::new(),
        Value::Map(_) => {
            options.problems.add(node.line, path, "mail addresses, separated by commas, are expected");
            return Vec::new();
        }
    };
    let mut found: Vec<String> = Vec::with_capacity(texts.len());
    for text in texts.into_iter().map(str::trim) {
        if let Err(problem) = Address::parse(text) {
            options.problems.add(node.line, path.clone(), problem.to_string());
        } else if !found.iter().any(|known| known.eq_ignore_ascii_case(text)) {
            found.push(text.to_owned());
        }
    }
    found
}
