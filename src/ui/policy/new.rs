//! A new policy: from a preset, or from nothing. What it would come to is shown before it is made.

use askama::Template;
use axum::http::{Method, StatusCode};
use serde_json::{Map, Value};

use super::form::{self, Group, Kind, Known};
use super::ladder::{self, Ladder};
use super::outcome::{Changed, Outcome, changed_outcome};
use super::values::Values;
use super::{COLLECTION, Policy};
use crate::ui::frame::{Frame, Section};
use crate::ui::problem::Problem;
use crate::ui::standing::{self, Tone};
use crate::ui::visit::{Shown, Visit, go, page};
use crate::ui::words;

/// What a policy begins with.
struct Preset {
    word: &'static str,
    name: &'static str,
    what: &'static str,
    values: &'static [(&'static str, &'static str)],
}

const OWNERS: (&str, &str) = ("actions", "notify_organization_owners");
const SLOWS: (&str, &str) = ("actions", "request_slurm_resource_downscaling");
const PAUSES: (&str, &str) = ("actions", "request_slurm_resource_pausing");
const QUARTER: (&str, &str) = ("period", "3");
const MONTH: (&str, &str) = ("period", "2");
const YEAR: (&str, &str) = ("period", "4");

/// What every new policy has unless somebody says otherwise.
const ALWAYS: [(&str, &str); 9] = [
    ("applies", "all"),
    ("enabled", "yes"),
    ("limit_type", "GrpTRESMins"),
    ("fairshare_decay_half_life", "15"),
    ("carryover_base", "previous"),
    ("qos_strategy", "threshold"),
    ("raw_usage_reset", "yes"),
    ("tres_billing_enabled", "yes"),
    ("grace_ratio", "0.2"),
];

const PRESETS: [Preset; 5] = [
    Preset {
        word: "quarterly-research",
        name: "Quarterly research",
        what: "Slows down at the allocation, pauses a fifth above it. Up to half of the base is carried into the next quarter.",
        values: &[
            QUARTER,
            OWNERS,
            SLOWS,
            PAUSES,
            ("notification_threshold", "80"),
            ("carryover_enabled", "yes"),
            ("carryover_factor", "50"),
        ],
    },
    Preset {
        word: "monthly-strict",
        name: "Monthly strict",
        what: "Little above the allocation, and nothing from one month to the next.",
        values: &[MONTH, OWNERS, SLOWS, PAUSES, ("notification_threshold", "75, 90"), ("grace_ratio", "0.05")],
    },
    Preset {
        word: "annual-grant",
        name: "Annual grant",
        what: "Tells people in time; what is left at the end of the year ends with it.",
        values: &[YEAR, OWNERS, SLOWS, PAUSES, ("notification_threshold", "50, 80, 95"), ("grace_ratio", "0.1")],
    },
    Preset {
        word: "tracking-only",
        name: "Tracking only",
        what: "Counts usage and tells owners. Nobody is slowed down or paused.",
        values: &[QUARTER, OWNERS, ("notification_threshold", "50, 80, 100"), ("grace_ratio", "0.2")],
    },
    Preset {
        word: "none",
        name: "Without a preset",
        what: "A quarter, and nothing chosen yet.",
        values: &[("notification_threshold", "80"), ("carryover_enabled", "yes")],
    },
];

impl Preset {
    /// Its values, over what every new policy has.
    fn values(&self) -> Values {
        let mut all: Vec<(&str, &str)> = self.values.to_vec();
        all.extend(ALWAYS.iter().filter(|(name, _)| !self.values.iter().any(|(known, _)| known == name)));
        Values::of(&all)
    }
}

/// A preset to choose.
struct Card {
    href: String,
    name: &'static str,
    what: &'static str,
    period: &'static str,
    rungs: Vec<(Tone, String)>,
    ladder: Ladder,
}

/// The presets.
#[derive(Template)]
#[template(path = "policy_presets.html")]
struct PresetsPage {
    frame: Frame,
    cards: Vec<Card>,
}

/// The form.
#[derive(Template)]
#[template(path = "policy_form.html")]
pub struct FormPage {
    /// What surrounds it.
    pub frame: Frame,
    /// Where it is sent to.
    pub action: String,
    /// Where one comes from.
    pub back: String,
    /// The fields.
    pub groups: Vec<Group>,
    /// Complaints about none of them.
    pub above: Vec<String>,
    /// The ladder of what is entered.
    pub ladder: Ladder,
    /// What it would come to.
    pub outcome: Option<Outcome>,
    /// Why, as it was entered.
    pub reason: String,
    /// The name of the act.
    pub act: String,
    /// What stands behind the title: which policy.
    pub what: String,
}

fn period_of(preset: &Preset) -> &'static str {
    match preset.values().get("period") {
        "1" => "total",
        "2" => "month",
        "4" => "year",
        "3" => "quarter",
        _ => "the offering's period",
    }
}

fn card(preset: &Preset) -> Card {
    let rungs = super::verbs(&preset.values().ladder());
    Card {
        href: format!("/policies/new?preset={}", preset.word),
        name: preset.name,
        what: preset.what,
        period: period_of(preset),
        rungs: rungs.iter().map(|(at, effect)| (standing::effect(effect), words::rung(*at))).collect(),
        ladder: ladder::alone(&rungs),
    }
}

/// Whether the caller may make policies at all.
pub fn may_create(visit: &Visit) -> bool {
    visit.is_staff() || visit.provides
}

/// The values that a preset gives, on the offering that is asked for, or the only one.
fn begun(visit: &Visit, known: &Known, preset: &Preset) -> Values {
    let asked = visit.query.get("offering");
    let offering = known.offerings.iter().find(|o| asked.is_none_or(|asked| o.uuid == asked || o.slug == asked));
    let Some(offering) = offering else { return preset.values() };
    let slug = if preset.word == "none" { String::new() } else { format!("{}-{}", offering.slug, preset.word) };
    preset.values().with("scope", &offering.uuid).with("slug", &slug)
}

/// The presets; with one chosen, the form.
pub async fn show(visit: Visit) -> Shown {
    if !may_create(&visit) {
        return Err(Problem::not_found());
    }
    let Some(word) = visit.query.get("preset") else {
        let frame = Frame::of(&visit, "New policy", Section::Policies).await.under("/policies", "Policies");
        return page(&PresetsPage { frame, cards: PRESETS.iter().map(card).collect() });
    };
    let Some(preset) = PRESETS.iter().find(|preset| preset.word == word) else {
        let allowed: Vec<&str> = PRESETS.iter().map(|preset| preset.word).collect();
        let sentence = format!("preset: {word:?} is not valid. Allowed: {}.", allowed.join(", "));
        return Err(Problem::new(StatusCode::BAD_REQUEST, sentence));
    };
    let known = Known::of(&visit).await?;
    let values = begun(&visit, &known, preset);
    shown(&visit, &known, &values, None, None).await
}

fn body(visit: &Visit, values: &Values) -> Value {
    let mut body = values.body(&Map::new());
    for name in ["slug", "scope"] {
        if !values.get(name).is_empty() {
            body.insert(name.to_owned(), values.get(name).into());
        }
    }
    if let Some(reason) = visit.form.get("reason") {
        body.insert("reason".to_owned(), reason.into());
    }
    Value::Object(body)
}

/// Shows what the form comes to, or makes the policy.
pub async fn make(visit: Visit) -> Shown {
    if !may_create(&visit) {
        return Err(Problem::not_found());
    }
    let values = Values::sent(&visit.form);
    let body = body(&visit, &values);
    let (mut outcome, mut problem) = (None, None);
    if visit.form.get("do") == Some("save") {
        match visit.api.send::<Policy>(Method::POST, &format!("{COLLECTION}/"), &body).await {
            Ok(made) => return Ok(go(&made.href())),
            Err(found) => problem = Some(found),
        }
    } else {
        match visit.api.send::<Changed>(Method::POST, &format!("{COLLECTION}/preview-new/?page_size=100"), &body).await
        {
            Ok(run) => outcome = Some(changed_outcome(run, "With this policy:")),
            Err(found) => problem = Some(found),
        }
    }
    let known = Known::of(&visit).await?;
    shown(&visit, &known, &values, outcome, problem).await
}

async fn shown(
    visit: &Visit,
    known: &Known,
    values: &Values,
    outcome: Option<Outcome>,
    problem: Option<Problem>,
) -> Shown {
    let (groups, above) = form::fields(known, values, problem.as_ref(), true);
    let frame = Frame::of(visit, "New policy", Section::Policies).await.under("/policies", "Policies");
    page(&FormPage {
        frame,
        action: "/policies/new".to_owned(),
        back: "/policies/new".to_owned(),
        groups,
        above,
        ladder: ladder::alone(&super::verbs(&values.ladder())),
        outcome,
        reason: visit.form.get("reason").unwrap_or_default().to_owned(),
        act: "Create the policy".to_owned(),
        what: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_preset_has_the_period_of_its_name_and_its_own_ladder() {
        let periods: Vec<(&str, &str)> = PRESETS.iter().map(|preset| (preset.word, period_of(preset))).collect();
        let expected = [
            ("quarterly-research", "quarter"),
            ("monthly-strict", "month"),
            ("annual-grant", "year"),
            ("tracking-only", "quarter"),
            ("none", "the offering's period"),
        ];
        assert_eq!(periods, expected);
        let ladder = |at: usize| {
            let rungs = super::super::verbs(&PRESETS[at].values().ladder());
            rungs
                .iter()
                .map(|(percent, effect)| format!("{effect} {}", percent.normalize()))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(ladder(0), "notify 80 downscale 100 pause 120");
        assert_eq!(ladder(1), "notify 75 notify 90 downscale 100 pause 105");
        assert_eq!(ladder(2), "notify 50 notify 80 notify 95 downscale 100 pause 110");
        assert_eq!(ladder(3), "notify 50 notify 80 notify 100");
        assert_eq!(ladder(4), "");
    }
}
