//! What an evaluation came to, or would come to: the result in a sentence, what changes first, what stays below.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde::Deserialize;

use crate::ui::allocation::{Flags, encoded, state_change};
use crate::ui::standing::{self, Tone};
use crate::ui::words;

#[derive(Deserialize)]
struct DryRow {
    resource_uuid: String,
    resource_name: String,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    usage_percentage: Decimal,
    paused: bool,
    downscaled: bool,
    would_trigger: Vec<String>,
    new_state: Flags,
    explanation: String,
    #[serde(default)]
    error: Option<String>,
}

/// What the API answers.
#[derive(Deserialize)]
pub struct DryRun {
    billing_period: String,
    resources: Vec<DryRow>,
}

#[derive(Deserialize)]
struct DoneRow {
    resource_uuid: String,
    resource_name: String,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    usage_percentage: Decimal,
    actions_taken: Vec<String>,
    previous_state: Flags,
    new_state: Flags,
    explanation: String,
    #[serde(default)]
    error: Option<String>,
}

/// What the API answers.
#[derive(Deserialize)]
pub struct Done {
    billing_period: String,
    resources: Vec<DoneRow>,
}

#[derive(Deserialize)]
struct ChangedRow {
    resource_uuid: String,
    resource_name: String,
    becomes: String,
    state_now: String,
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    usage_percentage_then: Option<Decimal>,
    actions: Vec<String>,
    mails: u64,
    explanation: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

/// What the API answers.
#[derive(Deserialize)]
pub struct Changed {
    becomes: BTreeMap<String, u64>,
    summary: String,
    allocations: Vec<ChangedRow>,
}

/// An allocation in a result.
pub struct Row {
    /// Its page.
    pub href: String,
    /// Its name.
    pub name: String,
    /// The percentage.
    pub percent: String,
    /// Its state.
    pub now: Tone,
    /// What is called for.
    pub actions: Vec<(Tone, &'static str)>,
    /// What changes, in words.
    pub change: String,
    /// The state changes, rather than only what somebody is told.
    pub strong: bool,
    /// The engine's sentence.
    pub explanation: String,
    /// Why it failed.
    pub error: String,
}

/// What was run.
pub struct Outcome {
    /// What it is about: a period, say.
    pub period: String,
    /// What would change, or did; with what failed.
    pub changes: Vec<Row>,
    /// The others.
    pub same: Vec<Row>,
    /// `1 allocation would be paused.` and so on.
    pub sentence: String,
    /// The class of the line.
    pub class: &'static str,
    /// Its icon.
    pub icon: &'static str,
    /// The head of the column of actions.
    pub acts: &'static str,
}

fn state(flags: Flags) -> Tone {
    match (flags.paused, flags.downscaled) {
        (true, _) => standing::state("paused"),
        (false, true) => standing::state("slowed_down"),
        (false, false) => standing::state("normal"),
    }
}

fn actions(words: &[String]) -> Vec<(Tone, &'static str)> {
    let one = |action: &String| match action.as_str() {
        "pause" => (standing::effect("pause"), "pause"),
        "downscale" => (standing::effect("downscale"), "slow down"),
        _ => (standing::effect("notify"), "warn"),
    };
    words.iter().map(one).collect()
}

/// The numbers of a result.
#[derive(Default)]
struct Counts {
    paused: u64,
    slowed: u64,
    restored: u64,
    failed: u64,
    same: u64,
}

impl Counts {
    fn note(&mut self, before: Flags, after: Flags, failed: bool) {
        if failed {
            self.failed += 1;
        } else if after.paused && !before.paused {
            self.paused += 1;
        } else if after.downscaled && !before.downscaled {
            self.slowed += 1;
        } else if (before.paused, before.downscaled) == (after.paused, after.downscaled) {
            self.same += 1;
        } else {
            self.restored += 1;
        }
    }

    /// The result in a sentence: what would be, or was, and that nothing was recorded where that is so.
    fn sentence(&self, dry: bool) -> String {
        let (would, stay) = if dry { ("would be", "would stay") } else { ("was", "stay") };
        let mut parts = Vec::new();
        for (n, what) in [(self.paused, "paused"), (self.slowed, "slowed down"), (self.restored, "restored")] {
            if n > 0 {
                let would = if dry || n == 1 { would } else { "were" };
                parts.push(format!("{} {would} {what}", words::count(n, "allocation")));
            }
        }
        let changes = match (parts.is_empty(), dry) {
            (false, _) => parts.join(", "),
            (true, true) => "Nothing would change".to_owned(),
            (true, false) => "Nothing changed".to_owned(),
        };
        let failed = match self.failed {
            0 => String::new(),
            n => format!(", {} could not be evaluated", words::count(n, "allocation")),
        };
        let stays = if self.same == 1 && !dry { "stays" } else { stay };
        let same =
            format!("{} {stays} as {}", words::whole(self.same), if self.same == 1 { "it is" } else { "they are" });
        let end = if dry { "Nothing has been changed or recorded." } else { "The evaluation is recorded." };
        format!("{changes}{failed}. {same}. {end}")
    }

    fn tone(&self) -> (&'static str, &'static str) {
        if self.failed > 0 {
            ("error", "triangle-alert")
        } else if self.paused + self.slowed > 0 {
            ("warning", if self.paused > 0 { "pause" } else { "chevrons-down" })
        } else {
            ("", "circle-check")
        }
    }
}

fn acts(dry: bool) -> &'static str {
    if dry { "Would trigger" } else { "Actions taken" }
}

fn outcome(period: String, rows: Vec<(Row, bool)>, counts: &Counts, dry: bool) -> Outcome {
    let (changes, same): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, changes)| *changes);
    let rows = |rows: Vec<(Row, bool)>| rows.into_iter().map(|(row, _)| row).collect();
    let (class, icon) = counts.tone();
    Outcome {
        period,
        changes: rows(changes),
        same: rows(same),
        sentence: counts.sentence(dry),
        class,
        icon,
        acts: acts(dry),
    }
}

/// Of a dry run.
pub fn dry_outcome(run: DryRun) -> Outcome {
    let mut counts = Counts::default();
    let row = |of: DryRow| {
        let before = Flags { paused: of.paused, downscaled: of.downscaled };
        counts.note(before, of.new_state, of.error.is_some());
        let change = state_change(before, of.new_state);
        let changes = change != "No change" || of.error.is_some();
        let row = Row {
            href: format!("/allocations/{}", encoded(&of.resource_uuid)),
            name: of.resource_name,
            percent: words::percent(of.usage_percentage),
            now: state(before),
            actions: actions(&of.would_trigger),
            strong: changes,
            change,
            explanation: of.explanation,
            error: of.error.unwrap_or_default(),
        };
        (row, changes)
    };
    let rows = run.resources.into_iter().map(row).collect();
    outcome(run.billing_period, rows, &counts, true)
}

/// Of an evaluation that is recorded.
pub fn done_outcome(done: Done) -> Outcome {
    let mut counts = Counts::default();
    let row = |of: DoneRow| {
        counts.note(of.previous_state, of.new_state, of.error.is_some());
        let change = state_change(of.previous_state, of.new_state);
        let changes = change != "No change" || of.error.is_some();
        let row = Row {
            href: format!("/allocations/{}", encoded(&of.resource_uuid)),
            name: of.resource_name,
            percent: words::percent(of.usage_percentage),
            now: state(of.new_state),
            actions: actions(&of.actions_taken),
            strong: changes,
            change,
            explanation: of.explanation,
            error: of.error.unwrap_or_default(),
        };
        (row, changes)
    };
    let rows = done.resources.into_iter().map(row).collect();
    outcome(done.billing_period, rows, &counts, false)
}

/// Of changed rules.
pub fn changed_outcome(run: Changed, period: &str) -> Outcome {
    let row = |of: ChangedRow| {
        let told = if of.mails > 0 { ", owners told" } else { "" };
        let change = match of.becomes.as_str() {
            "paused" => "Paused",
            "slowed_down" => "Downscaled",
            "restored" => "Restored",
            "released" => "The policy applies no more",
            "failed" => "Failed",
            _ => "No change",
        };
        let row = Row {
            href: format!("/allocations/{}", encoded(&of.resource_uuid)),
            name: of.resource_name,
            percent: of.usage_percentage_then.map(words::percent).unwrap_or_default(),
            now: standing::state(&of.state_now),
            actions: actions(&of.actions),
            change: format!("{change}{told}"),
            strong: change != "No change",
            explanation: of.explanation.unwrap_or_default(),
            error: of.error.unwrap_or_default(),
        };
        (row, of.becomes != "unchanged")
    };
    let n = |key: &str| run.becomes.get(key).copied().unwrap_or_default();
    let counts = Counts { paused: n("paused"), slowed: n("slowed_down"), failed: n("failed"), ..Counts::default() };
    let (class, icon) = counts.tone();
    let (changes, same): (Vec<_>, Vec<_>) = run.allocations.into_iter().map(row).partition(|(_, changes)| *changes);
    let rows = |rows: Vec<(Row, bool)>| rows.into_iter().map(|(row, _)| row).collect();
    let period = period.to_owned();
    Outcome { period, changes: rows(changes), same: rows(same), sentence: run.summary, class, icon, acts: acts(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_comes_first_and_says_whether_anything_was_recorded() {
        let mut counts = Counts::default();
        let (normal, paused) = (Flags { paused: false, downscaled: false }, Flags { paused: true, downscaled: false });
        assert_eq!(
            Counts { same: 3, ..Counts::default() }.sentence(true).replace(words::NBSP, " "),
            "Nothing would change. 3 would stay as they are. Nothing has been changed or recorded."
        );
        counts.note(normal, paused, false);
        counts.note(normal, normal, false);
        assert_eq!(
            counts.sentence(true).replace(words::NBSP, " "),
            "1 allocation would be paused. 1 would stay as it is. Nothing has been changed or recorded."
        );
        counts.note(paused, normal, false);
        assert_eq!(
            counts.sentence(false).replace(words::NBSP, " "),
            "1 allocation was paused, 1 allocation was restored. 1 stays as it is. The evaluation is recorded."
        );
    }
}
