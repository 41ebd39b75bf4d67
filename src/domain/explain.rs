//! The sentence that explains an evaluation, with its numbers.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use rust_decimal::{Decimal, RoundingStrategy};

use super::evaluate::{EvaluationInputs, Outcome, Verb};
use super::threshold::Effect;
use super::tres::OVER_NOTHING_PERCENT;

/// At most `places` decimals, no trailing zeros.
pub fn short(amount: Decimal, places: u32) -> String {
    amount.round_dp_with_strategy(places, RoundingStrategy::MidpointAwayFromZero).normalize().to_string()
}

/// `104.3 % = 1043.2 of 1000 node_hours (700 base + 300 carried over); 100 % reached -> downscale`.
///
/// The percentage is cut, not rounded, so that the sentence never shows a threshold that was not reached.
pub fn sentence(inputs: &EvaluationInputs<'_>, outcome: &Outcome) -> String {
    let mut text = String::with_capacity(128);
    arithmetic(&mut text, inputs, outcome);
    text.push_str("; ");
    consequence(&mut text, inputs, outcome);
    text
}

/// Something was used of an explicit nothing; the same percentage may also come about by plain overuse.
fn is_over_nothing(outcome: &Outcome) -> bool {
    outcome.percentage == OVER_NOTHING_PERCENT && outcome.weighted_allocation.is_zero()
}

fn arithmetic(text: &mut String, inputs: &EvaluationInputs<'_>, outcome: &Outcome) {
    let basis = inputs.basis;
    let cut = outcome.percentage.round_dp_with_strategy(1, RoundingStrategy::ToZero).normalize();
    let unit = unit(inputs);
    let used = short(outcome.weighted_usage, 2);
    if is_over_nothing(outcome) {
        let _ = write!(
            text,
            "{used} {unit} used where the allocation is explicitly zero: counted as over the pause limit (9999.99 %)"
        );
        return;
    }
    if basis.base.is_empty() {
        let _ = write!(text, "{cut} %: {used} {unit} used, no limit is set");
        return;
    }
    let _ = write!(text, "{cut} % = {used} of {} {unit}", short(outcome.weighted_allocation, 2));
    if inputs.allocation.carryover.carryover_applied {
        let base = basis.base.iter().fold(Decimal::ZERO, |sum, (c, b)| sum + basis.terms.weights.of(c) * b.amount);
        let carried = outcome.weighted_allocation - base;
        let _ = write!(text, " ({} base + {} carried over)", short(base, 2), short(carried, 2));
    }
}

/// The names of components that stand for what is counted; of more than these it says "units".
const NAMED_MAX: usize = 3;

/// The component's name where just one counts and counts once. Of several: "billing units" where those are counted, else
/// their names, since their amounts are added up as they are.
fn unit<'a>(inputs: &'a EvaluationInputs<'_>) -> Cow<'a, str> {
    let basis = inputs.basis;
    let names = basis.base.keys().chain(inputs.usage.keys()).chain(basis.earlier.values().flat_map(|m| m.keys()));
    let counted: BTreeSet<&str> = names.filter(|c| !basis.terms.weights.of(c).is_zero()).map(AsRef::as_ref).collect();
    match counted.first() {
        None => "units".into(),
        Some(one) if counted.len() == 1 && basis.terms.weights.of(one) == Decimal::ONE => (*one).into(),
        Some(_) if !basis.terms.weights.are_none() => "billing units".into(),
        Some(_) if counted.len() > NAMED_MAX => "units".into(),
        Some(_) => counted.into_iter().collect::<Vec<_>>().join(" + ").into(),
    }
}

fn consequence(text: &mut String, inputs: &EvaluationInputs<'_>, outcome: &Outcome) {
    let ladder = &inputs.basis.terms.ladder;
    let at_or_above = |percent: Decimal| outcome.percentage >= percent || is_over_nothing(outcome);
    let highest = ladder
        .iter()
        .filter(|r| r.effect != Effect::Notify || !outcome.notified.is_empty())
        .filter(|r| at_or_above(r.percent))
        .max_by_key(|r| r.percent);
    if outcome.verbs.is_empty() {
        match (inputs.held.any(), ladder.iter().map(|r| r.percent).find(|p| !at_or_above(*p))) {
            (true, _) if ladder.iter().all(|r| r.effect == Effect::Notify) => {
                text.push_str("the policy restricts no more -> released");
            }
            (true, _) => text.push_str("below the threshold -> released"),
            (false, Some(next)) => {
                let _ = write!(text, "below {} %: nothing to do", short(next, 2));
            }
            (false, None) => text.push_str("nothing to do"),
        }
        return;
    }
    if let Some(rung) = highest {
        let _ = write!(text, "{} % reached -> ", short(rung.percent, 2));
    }
    let verbs: Vec<&str> = outcome.verbs.iter().map(|v: &Verb| v.as_str()).collect();
    text.push_str(&verbs.join(", "));
    if (inputs.held.paused && !outcome.holds.paused) || (inputs.held.downscaled && !outcome.holds.downscaled) {
        text.push_str("; earlier restriction released");
    }
}
