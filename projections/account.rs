//! The site's view of an account compared with the intended one; a sentence describes each difference.

use super::site_answers::SiteAnswer;
use super::status_summary::AgentStatus;
use crate::domain::evaluate::Flags;
use crate::domain::qos::{QosClass, QosNames};

/// How the message that tells the agent of an account's restrictions stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// `queued`, `sent`, or `no_answer`: it is not sent again by itself.
    pub state: &'static str,
    /// How often it was sent again.
    pub resends: u64,
}

/// Intended and actual state of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The class of service that the restrictions call for, by the site's name.
    pub qos_expected: String,
    /// `confirmed`, `differs`, `unknown`; or, while the agent is being told, `queued`, `sent`, `no_answer`.
    pub qos_status: &'static str,
    /// Where the account is not as it should be; empty where all agrees or nothing is known.
    pub differences: Vec<String>,
}

impl Account {
    /// Compares. `agent` is how the newest settings stand; `told` is none where nothing is left to be told.
    pub fn of(
        flags: Flags,
        agent: AgentStatus,
        answer: Option<&SiteAnswer>,
        told: Option<Told>,
        names: &QosNames,
    ) -> Self {
        let expected = names.of(QosClass::of(flags.paused, flags.downscaled)).to_owned();
        let mut differences = answer.map(|answer| answer.differences.clone()).unwrap_or_default();
        let qos = answer.and_then(|answer| answer.qos.as_ref()).map(|(qos, _)| qos.as_str());
        match qos {
            Some(qos) if qos != expected => {
                differences.push(format!("The account has the QoS {qos:?}; {expected:?} is meant."));
            }
            None if agent == AgentStatus::Confirmed => differences.push(
                "The settings are confirmed, the class of service never was: does SLURM know the account, and does the agent \
                 synchronise memberships (membership_sync_backend)?"
                    .to_owned(),
            ),
            _ => {}
        }
        if let Some(told) = told.filter(|told| told.state == "no_answer") {
            let times = told.resends + 1;
            differences.push(format!(
                "The agent was told of the restrictions {times} times, and did not say since that the account has the QoS \
                 {expected:?}."
            ));
        }
        if let Some((limits, false, _)) = answer.and_then(|answer| answer.limits.as_ref()) {
            let limits: Vec<String> = limits.iter().map(|(c, n)| format!("{c}={}", n.normalize())).collect();
            differences.push(format!("The limits read back are not those that were sent: {}.", limits.join(", ")));
        }
        let settled = match qos {
            None => "unknown",
            Some(qos) if qos == expected => "confirmed",
            Some(_) => "differs",
        };
        Self { qos_status: told.map_or(settled, |told| told.state), qos_expected: expected, differences }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> QosNames {
        QosNames { default: "normal".into(), downscaled: "slow".into(), paused: "blocked".into() }
    }

    fn said(qos: &str) -> SiteAnswer {
        SiteAnswer { qos: Some((qos.to_owned(), chrono::DateTime::UNIX_EPOCH)), ..SiteAnswer::default() }
    }

    fn of(paused: bool, answer: Option<&SiteAnswer>, told: Option<Told>) -> Account {
        Account::of(Flags { paused, downscaled: false }, AgentStatus::Confirmed, answer, told, &names())
    }

    #[test]
    fn an_account_with_the_class_that_is_meant_does_not_differ() {
        let account = of(true, Some(&said("blocked")), None);
        assert_eq!((account.qos_status, account.qos_expected.as_str()), ("confirmed", "blocked"));
        assert_eq!(account.differences, [""; 0]);
    }

    #[test]
    fn another_class_none_at_all_and_a_message_that_nobody_confirmed_are_said_in_words() {
        let other = of(true, Some(&said("normal")), None);
        assert_eq!(
            (other.qos_status, other.differences),
            ("differs", vec!["The account has the QoS \"normal\"; \"blocked\" is meant.".to_owned()])
        );
        let none = of(false, None, None);
        assert_eq!((none.qos_status, none.differences.len()), ("unknown", 1), "success alone proves nothing");
        let told = Told { state: "no_answer", resends: 5 };
        let lost = of(true, Some(&said("normal")), Some(told));
        assert_eq!((lost.qos_status, lost.differences.len()), ("no_answer", 2));
        assert!(lost.differences[1].contains("6 times"), "{:?}", lost.differences);
        let on_its_way = of(true, Some(&said("blocked")), Some(Told { state: "sent", resends: 0 }));
        assert_eq!((on_its_way.qos_status, on_its_way.differences.len()), ("sent", 0));
    }
}
