//! The reasons for an allocation's standing: every term of the decision, from the engine itself.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::Deserialize;

use crate::ui::problem::Problem;
use crate::ui::read::AllocationState;
use crate::ui::standing::{self, Tone};
use crate::ui::visit::Visit;
use crate::ui::words;

#[derive(Deserialize)]
struct UsedInMonth {
    month: String,
    #[serde(rename = "type")]
    component: String,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    usage: Decimal,
}

#[derive(Deserialize)]
struct Component {
    #[serde(rename = "type")]
    component: String,
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    base: Option<Decimal>,
    base_source: Option<String>,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    weight: Decimal,
}

#[derive(Deserialize)]
struct Carried {
    #[serde(rename = "type")]
    component: String,
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    previous_base: Option<Decimal>,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    previous_usage: Decimal,
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    unused: Option<Decimal>,
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    carryover_cap: Option<Decimal>,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    carryover: Decimal,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    base: Decimal,
}

#[derive(Deserialize)]
struct Carryover {
    applied: bool,
    reason: Option<String>,
    formula: String,
    previous_period: Option<String>,
    components: Vec<Carried>,
    note: Option<String>,
}

#[derive(Deserialize)]
struct Threshold {
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    percent: Decimal,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    amount: Decimal,
    effect: String,
    reached: bool,
}

#[derive(Deserialize)]
struct Policy {
    policy_uuid: String,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    usage_percentage: Decimal,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    used: Decimal,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    may_use: Decimal,
    components: Vec<Component>,
    carryover: Option<Carryover>,
    thresholds: Vec<Threshold>,
    explanation: String,
}

#[derive(Deserialize)]
struct Explained {
    usage: Vec<UsedInMonth>,
    policies: Vec<Policy>,
}

/// A term and its amount.
pub struct Term {
    /// What it is.
    pub name: String,
    /// How it came about.
    pub how: String,
    /// The amount.
    pub amount: String,
    /// A sum of the terms above it.
    pub sum: bool,
}

/// A rung of the ladder.
pub struct Rung {
    /// What happens there.
    pub tone: Tone,
    /// `80 % = 1,200`.
    pub at: String,
    /// Whether it is reached, in words.
    pub says: String,
    /// It is the highest that is reached.
    pub current: bool,
}

/// Why.
pub struct Why {
    /// `Why it is slowed down`.
    pub title: String,
    /// It in words, up to who decides.
    pub sentence: String,
    /// Who decides: the policy's name and page.
    pub policy: Option<(String, String)>,
    /// What is done, and by whom else.
    pub does: String,
    /// Every term.
    pub terms: Vec<Term>,
    /// The ladder, lowest rung first.
    pub rungs: Vec<Rung>,
    /// The engine's own sentence.
    pub engine: String,
    /// The formula of the carryover.
    pub formula: Option<String>,
    /// Words of the engine where the numbers alone would surprise.
    pub note: Option<String>,
    /// The terms come to what was recorded last; none where nothing was recorded.
    pub same: Option<bool>,
}

/// The first day of a month such as `2026-03`.
fn month(text: &str) -> Option<NaiveDate> {
    NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok()
}

fn in_period(text: &str, of: &AllocationState) -> bool {
    let Some(first) = month(text) else { return true };
    of.period_start.is_none_or(|start| first >= start) && of.period_end.is_none_or(|end| first <= end)
}

fn usage(explained: &Explained, policy: &Policy, of: &AllocationState) -> Vec<Term> {
    let several = policy.components.len() > 1;
    let mut terms: Vec<Term> = explained
        .usage
        .iter()
        .filter(|used| in_period(&used.month, of))
        .map(|used| {
            let name = month(&used.month).map_or_else(|| used.month.clone(), |first| first.format("%B").to_string());
            let weight = policy.components.iter().find(|c| c.component == used.component).map(|c| c.weight);
            let weighed = weight.filter(|weight| *weight != Decimal::ONE);
            let how = weighed.map(|weight| format!("weight {}", weight.normalize())).unwrap_or_default();
            let name = if several { format!("{name}, {}", words::unit(&used.component)) } else { name };
            Term { name, how, amount: words::exact(used.usage), sum: false }
        })
        .collect();
    terms.push(Term { name: "Used".into(), how: String::new(), amount: words::exact(policy.used), sum: true });
    terms
}

fn limits(policy: &Policy) -> Vec<Term> {
    let several = policy.components.len() > 1;
    let limit = |component: &Component| {
        let base = component.base?;
        let name = match component.base_source.as_deref() {
            Some("policy") => "Limit of the policy",
            _ => "Own limit",
        };
        let name = if several { format!("{name}, {}", words::unit(&component.component)) } else { name.to_owned() };
        Some(Term { name, how: String::new(), amount: words::exact(base), sum: false })
    };
    policy.components.iter().filter_map(limit).collect()
}

/// Why nothing is carried over.
fn reason(word: Option<&str>) -> String {
    match word {
        Some("disabled") => "the policy carries nothing over",
        Some("total_period") => "a total has no period before it",
        Some("not_in_previous_period") => "new in this period",
        Some("no_allocation") => "there was no allocation",
        _ => "nothing was left",
    }
    .to_owned()
}

fn carried(terms: &Carried) -> String {
    let compared = terms.previous_base.unwrap_or(terms.base);
    let left = terms.unused.unwrap_or_else(|| (compared - terms.previous_usage).max(Decimal::ZERO));
    let cap = terms.carryover_cap.map(|cap| format!(", at most {}", words::amount(cap, 2))).unwrap_or_default();
    let (compared, used) = (words::amount(compared, 2), words::amount(terms.previous_usage, 2));
    format!("{compared} \u{2212} {used} used = {} left{cap}", words::amount(left, 2))
}

fn carryover(of: &Carryover, several: bool) -> Vec<Term> {
    if !of.applied {
        let how = reason(of.reason.as_deref());
        return vec![Term { name: "Carried over".into(), how, amount: words::exact(Decimal::ZERO), sum: false }];
    }
    let from = of.previous_period.as_ref().map(|period| format!(" from {period}")).unwrap_or_default();
    let term = |terms: &Carried| {
        let component = if several { format!(", {}", words::unit(&terms.component)) } else { String::new() };
        let name = format!("Carried over{from}{component}");
        Term { name, how: carried(terms), amount: words::exact(terms.carryover), sum: false }
    };
    of.components.iter().map(term).collect()
}

fn rungs(policy: &Policy) -> Vec<Rung> {
    let highest = policy.thresholds.iter().rposition(|threshold| threshold.reached);
    let rung = |(index, threshold): (usize, &Threshold)| {
        let current = highest == Some(index);
        let says = match (threshold.reached, current) {
            (false, _) => "not reached".to_owned(),
            (true, false) => "reached".to_owned(),
            (true, true) => format!("reached, {}", super::done(&threshold.effect)),
        };
        let at = format!("{} = {}", words::rung(threshold.percent), words::amount(threshold.amount, 1));
        Rung { tone: standing::effect(&threshold.effect), at, says, current }
    };
    policy.thresholds.iter().enumerate().map(rung).collect()
}

/// Two parts: between them stands the name of the policy, where it may be seen.
fn sentence(policy: &Policy, of: &AllocationState) -> (String, String) {
    let unit = of.unit.as_deref().map(words::unit).unwrap_or_default();
    let (used, may) = (words::amount(policy.used, 1), words::amount(policy.may_use, 1));
    let sum = format!("{used} of {may} {unit} is {}.", words::percent(policy.usage_percentage));
    let reached = policy.thresholds.iter().rfind(|threshold| threshold.reached);
    let held = match of.state.as_str() {
        "on_hold" => " An operator holds it, whatever was used.",
        "exempt" => " An operator exempts it from every restriction.",
        _ => "",
    };
    let does = reached.map(|threshold| {
        let does = match threshold.effect.as_str() {
            "pause" => "pauses",
            "downscale" => "slows down",
            _ => "tells the owners",
        };
        (format!("{sum} At {} the policy", words::rung(threshold.percent)), format!("{does}.{held}"))
    });
    does.unwrap_or_else(|| (format!("{sum} No rung is reached."), held.trim_start().to_owned()))
}

/// Why an allocation stands as it does under the policy of its row; nothing where none applies.
pub async fn of(visit: &Visit, of: &AllocationState) -> Result<Option<Why>, Problem> {
    let Some(uuid) = &of.policy_uuid else { return Ok(None) };
    let path = format!("/api/marketplace-provider-resources/{}/explain/", of.resource_uuid);
    let explained = visit.api.get::<Explained>(&path).await?;
    let Some(policy) = explained.policies.iter().find(|policy| policy.policy_uuid == *uuid) else { return Ok(None) };
    let mut terms = usage(&explained, policy, of);
    terms.extend(limits(policy));
    if let Some(details) = &policy.carryover {
        terms.extend(carryover(details, policy.components.len() > 1));
    }
    let sum = |name: &str, amount: String| Term { name: name.to_owned(), how: String::new(), amount, sum: true };
    terms.push(sum("May use", words::exact(policy.may_use)));
    terms.push(sum(
        "Percentage",
        format!("{}{}%", words::exact(policy.usage_percentage.trunc_with_scale(2)), words::NBSP),
    ));
    let name = of.policy_slug.clone().filter(|slug| !slug.is_empty()).unwrap_or_else(|| uuid.clone());
    let outside = visit.is_user();
    let (sentence, does) = sentence(policy, of);
    let decided = policy.thresholds.iter().any(|threshold| threshold.reached);
    Ok(Some(Why {
        title: format!("Why it is {}", standing::state(&of.state).word.to_lowercase()),
        sentence,
        does,
        policy: (!outside && decided).then(|| (name.clone(), format!("/policies/{}", super::encoded(&name)))),
        rungs: rungs(policy),
        engine: policy.explanation.replace("->", "\u{2192}"),
        formula: policy.carryover.as_ref().map(|details| details.formula.clone()),
        note: policy.carryover.as_ref().and_then(|details| details.note.clone()),
        same: of.used.zip(of.may_use).map(|recorded| recorded == (policy.used, policy.may_use)),
        terms,
    }))
}
