//! The ladder of thresholds: the percentages at which a policy notifies, slows down or pauses.
//!
//! Usage reaches a rung at its percentage and leaves it below.

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::decimal::HUNDRED;
use super::policy::{Action, PolicyTerms, QosStrategy};

/// What happens at a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// A notice is sent.
    Notify,
    /// The account is slowed down.
    Downscale,
    /// The account is paused.
    Pause,
}

impl Effect {
    /// The verb under which it is listed.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Downscale => "downscale",
            Self::Pause => "pause",
        }
    }

    /// The actions of which a policy needs one for this effect.
    pub fn actions(self) -> &'static [Action] {
        match self {
            Self::Notify => &[Action::NotifyOrganizationOwners, Action::NotifyExternalUser],
            Self::Downscale => &[Action::RequestDownscaling],
            Self::Pause => &[Action::RequestPausing],
        }
    }

    /// Whether the policy has an action for it.
    pub fn is_wanted_by(self, terms: &PolicyTerms) -> bool {
        self.actions().iter().any(|action| terms.actions.contains(action))
    }
}

/// One rung of a ladder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rung {
    /// The percentage from which it holds.
    pub percent: Decimal,
    /// What happens.
    pub effect: Effect,
    /// A class of service of its own, for the commands, instead of the site's for the effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
}

impl Rung {
    /// Whether a percentage has come as far as this rung.
    pub fn is_reached_by(&self, percentage: Decimal) -> bool {
        percentage >= self.percent
    }
}

/// The rungs of a policy, lowest first; only those for whose effect it has an action.
pub fn ladder(terms: &PolicyTerms) -> Vec<Rung> {
    let mut rungs = all_rungs(terms);
    rungs.retain(|rung| rung.effect.is_wanted_by(terms));
    rungs.sort_by(|one, other| one.percent.cmp(&other.percent).then(one.effect.cmp(&other.effect)));
    rungs
}

/// The rungs of a policy whatever its actions: its own where it is progressive and has some, else the standard ones.
pub(super) fn all_rungs(terms: &PolicyTerms) -> Vec<Rung> {
    if terms.qos_strategy == QosStrategy::Progressive && !terms.progressive_thresholds.is_empty() {
        return terms.progressive_thresholds.clone();
    }
    let rung = |percent, effect| Rung { percent, effect, qos: None };
    let notices = terms.notification_thresholds.iter().map(|percent| rung(*percent, Effect::Notify));
    notices.chain([rung(HUNDRED, Effect::Downscale), rung(terms.grace_limit_percent(), Effect::Pause)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dec(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn terms(actions: &str) -> PolicyTerms {
        PolicyTerms { actions: Action::parse_list(actions).unwrap(), ..PolicyTerms::default() }
    }

    fn shown(terms: &PolicyTerms) -> Vec<String> {
        ladder(terms)
            .iter()
            .map(|rung| {
                format!(
                    "{} {}{}",
                    rung.percent.normalize(),
                    rung.effect.verb(),
                    rung.qos.as_deref().map(|qos| format!(" {qos}")).unwrap_or_default()
                )
            })
            .collect()
    }

    #[test]
    fn standard_rungs_follow_the_actions() {
        for (actions, expected) in [
            (
                "notify_organization_owners,request_downscaling,request_pausing",
                vec!["80 notify", "100 downscale", "120 pause"],
            ),
            ("notify_external_user", vec!["80 notify"]),
            ("request_pausing", vec!["120 pause"]),
            ("block_creation_of_new_resources", vec![]),
        ] {
            assert_eq!(shown(&terms(actions)), expected, "{actions}");
        }
    }

    #[test]
    fn several_notices_and_a_grace_of_nothing_stand_in_order() {
        let terms = PolicyTerms {
            notification_thresholds: vec![dec("95"), dec("50")],
            grace_ratio: Decimal::ZERO,
            ..terms("notify_external_user,request_downscaling,request_pausing")
        };
        assert_eq!(shown(&terms), ["50 notify", "95 notify", "100 downscale", "100 pause"]);
    }

    #[test]
    fn a_progressive_list_replaces_the_standard_rungs_and_an_empty_one_does_not() {
        let rung =
            |percent, effect, qos: Option<&str>| Rung { percent: dec(percent), effect, qos: qos.map(str::to_owned) };
        let mut terms = PolicyTerms {
            qos_strategy: QosStrategy::Progressive,
            progressive_thresholds: vec![
                rung("110", Effect::Pause, None),
                rung("60", Effect::Downscale, Some("gentle")),
                rung("50", Effect::Notify, None),
            ],
            ..terms("request_downscaling,request_pausing")
        };
        assert_eq!(shown(&terms), ["60 downscale gentle", "110 pause"]);
        terms.progressive_thresholds.clear();
        assert_eq!(shown(&terms), ["100 downscale", "120 pause"]);
        terms.progressive_thresholds = vec![rung("60", Effect::Downscale, None)];
        terms.qos_strategy = QosStrategy::Threshold;
        assert_eq!(shown(&terms), ["100 downscale", "120 pause"]);
    }

    #[test]
    fn a_rung_is_reached_at_its_percent_and_left_below() {
        let rung = Rung { percent: dec("114.0"), effect: Effect::Pause, qos: None };
        for (percentage, reached) in [("114", true), ("114.01", true), ("113.999999999999", false)] {
            assert_eq!(rung.is_reached_by(dec(percentage)), reached, "{percentage}");
        }
    }

    #[test]
    fn rungs_are_written_with_decimal_strings() {
        let rung = Rung { percent: dec("60.5"), effect: Effect::Downscale, qos: Some("gentle".into()) };
        let written = serde_json::json!({"percent": "60.5", "effect": "downscale", "qos": "gentle"});
        assert_eq!(serde_json::to_value(&rung).unwrap(), written);
        assert_eq!(serde_json::from_value::<Rung>(written).unwrap(), rung);
    }
}
