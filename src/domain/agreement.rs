//! Compares the settings intended for the agent with the commands that it reports.
//!
//! The agent omits settings that SLURM already has, so a missing command means nothing. Differences are a different
//! value, a different account, and a reset that ran unasked or not at all.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::policy::LimitType;
use super::sacctmgr::{Command, CommandType};
use super::settings::AgentSettings;
use super::small_map::SmallMap;
use super::tres::{Amounts, TresMapping};

/// Differences that are named at most; the rest is counted.
const NAMED_MAX: usize = 20;

/// One `sacctmgr modify account` as it was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Modification<'a> {
    account: &'a str,
    key: &'a str,
    value: &'a str,
}

/// Reads a reported command; none if it changes no account.
fn modification(command: &str) -> Option<Modification<'_>> {
    let (_, rest) = command.split_once(" modify account ")?;
    let (target, assignment) = rest.split_once(" set ")?;
    let account = target.split(" where ").next().unwrap_or(target).trim().trim_matches('\'');
    let assignment = assignment.split(" where ").next().unwrap_or(assignment).trim().trim_matches('\'');
    let (key, value) = assignment.split_once('=')?;
    Some(Modification { account, key, value })
}

fn limit_type(key: &str) -> bool {
    [LimitType::GrpTresMins, LimitType::MaxTresMins, LimitType::GrpTres]
        .iter()
        .any(|known| known.wire_name().eq_ignore_ascii_case(key))
}

/// What differs between settings and what an agent reports to have run for them, each in a sentence. `success` is what the
/// agent says of itself: after a failure nothing is missing that did not run.
pub fn differences(account: &str, settings: &AgentSettings, reported: &[String], success: bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut reset_ran = false;
    for change in reported.iter().filter_map(|command| modification(command)) {
        if change.account != account {
            found.push(format!("Account {:?} was changed; {account:?} was meant.", change.account));
            continue;
        }
        let key = change.key.to_ascii_lowercase();
        match key.as_str() {
            "fairshare" if change.value != settings.fairshare.to_string() => {
                found.push(format!("fairshare={} was set; {} was meant.", change.value, settings.fairshare));
            }
            "rawusage" => reset_ran = true,
            _ if limit_type(change.key) => found.extend(limit_difference(settings, &change)),
            _ => {}
        }
    }
    if reset_ran && !settings.reset_raw_usage {
        found.push("RawUsage=0 was run; no reset was meant.".to_owned());
    }
    if settings.reset_raw_usage && success && !reset_ran {
        found.push("RawUsage=0 was meant and is not among the commands that were run.".to_owned());
    }
    if found.len() > NAMED_MAX {
        let more = found.len() - NAMED_MAX;
        found.truncate(NAMED_MAX);
        found.push(format!("… and {more} more."));
    }
    found
}

/// The same for the commands that were meant, as the history keeps them: each dispatch is judged by its own.
pub fn differences_of(intended: &[Command], reported: &[String], success: bool) -> Vec<String> {
    let Some(account) = intended.first().and_then(|command| command.parameters.get("account")?.as_str()) else {
        return Vec::new();
    };
    let mut settings = AgentSettings::default();
    for command in intended {
        let value = |name: &str| command.parameters.get(name).cloned().unwrap_or_default();
        match command.command_type {
            CommandType::Fairshare => settings.fairshare = value("fairshare").as_i64().unwrap_or_default(),
            CommandType::Limits => {
                settings.limits = serde_json::from_value(value("limits")).unwrap_or_default();
                settings.limit_type = serde_json::from_value(value("limit_type")).unwrap_or_default();
            }
            CommandType::Qos => {}
            CommandType::ResetUsage => settings.reset_raw_usage = true,
        }
    }
    differences(account, &settings, reported, success)
}

fn limit_difference(settings: &AgentSettings, change: &Modification<'_>) -> Option<String> {
    let intended = settings.limit_type.wire_name();
    if !change.key.eq_ignore_ascii_case(intended) {
        return Some(format!("{}={} was set; limits are of the type {intended}.", change.key, change.value));
    }
    let (tres, value) = change.value.rsplit_once('=')?;
    match settings.limits.get(tres) {
        Some(limit) if limit.to_string() == value => None,
        Some(limit) => Some(format!("{intended}={tres}={value} was set; {limit} was meant.")),
        None => Some(format!("{intended}={tres}={value} was set; no limit on {tres} was meant.")),
    }
}

/// Whether an intended command is among the reported ones: yes, no, or (nothing reported, or a class of service, which
/// the agent sets on another occasion) not known.
pub fn was_run(intended: &Command, reported: Option<&[String]>) -> Option<bool> {
    let reported = reported?;
    if intended.command_type == CommandType::Qos {
        return None;
    }
    let changes: Vec<Modification<'_>> = reported.iter().filter_map(|command| modification(command)).collect();
    let mut wanted = intended.shell_command.split("; ").filter_map(modification).peekable();
    wanted.peek()?;
    let same = |one: &Modification<'_>, other: &Modification<'_>| {
        one.account == other.account && one.key.eq_ignore_ascii_case(other.key) && one.value == other.value
    };
    Some(wanted.all(|wanted| changes.iter().any(|change| same(change, &wanted))))
}

/// Whether limits that were read back, in units of components, are the minutes that were sent. The agent names components after
/// TRES and cuts to whole units; what cannot be compared agrees.
pub fn limits_agree(echoed: &Amounts, sent: &SmallMap<String, i64>, mapping: &BTreeMap<String, TresMapping>) -> bool {
    echoed.iter().all(|(component, amount)| {
        let Some(mapped) = mapping.get(component) else { return true };
        let Some(limit) = sent.get(&mapped.tres) else { return true };
        let units = Decimal::from(*limit).checked_div(mapped.minutes_per_unit);
        units.is_none_or(|units| units.trunc() == amount.trunc())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sacctmgr::commands;

    fn settings(reset: bool) -> AgentSettings {
        AgentSettings {
            fairshare: 333,
            limits: [("node".to_owned(), 72_000), ("gres/gpu".to_owned(), 60)].into(),
            reset_raw_usage: reset,
            ..AgentSettings::default()
        }
    }

    /// As the agent writes them.
    fn reported(assignments: &[&str]) -> Vec<String> {
        let read = "/usr/bin/sacctmgr --parsable2 --noheader --immediate list account format=account,fairshare where account=a";
        let change = |assignment: &&str| {
            format!("/usr/bin/sacctmgr --parsable2 --noheader --immediate modify account a set {assignment}")
        };
        std::iter::once(read.to_owned()).chain(assignments.iter().map(change)).collect()
    }

    #[test]
    fn what_was_run_as_it_was_meant_does_not_differ() {
        let all = ["fairshare=333", "GrpTRESMins=gres/gpu=60", "GrpTRESMins=node=72000", "RawUsage=0"];
        assert_eq!(differences("a", &settings(true), &reported(&all), true), [""; 0]);
        assert_eq!(differences("a", &settings(false), &reported(&all[..3]), true), [""; 0]);
        assert_eq!(differences("a", &settings(false), &reported(&[]), true), [""; 0], "SLURM had it all");
    }

    #[test]
    fn each_difference_is_a_sentence() {
        for (run, success, sentence) in [
            ("fairshare=1", true, "fairshare=1 was set; 333 was meant."),
            ("GrpTRESMins=node=1", true, "GrpTRESMins=node=1 was set; 72000 was meant."),
            ("GrpTRESMins=cpu=1", true, "GrpTRESMins=cpu=1 was set; no limit on cpu was meant."),
            ("MaxTRESMins=node=1", true, "MaxTRESMins=node=1 was set; limits are of the type GrpTRESMins."),
            ("RawUsage=0", true, "RawUsage=0 was run; no reset was meant."),
        ] {
            assert_eq!(differences("a", &settings(false), &reported(&[run]), success), [sentence]);
        }
        let missing = "RawUsage=0 was meant and is not among the commands that were run.";
        assert_eq!(differences("a", &settings(true), &reported(&["fairshare=333"]), true), [missing]);
        assert_eq!(differences("a", &settings(true), &reported(&["fairshare=333"]), false), [""; 0], "it had failed");
        assert_eq!(
            differences("b", &settings(false), &reported(&["fairshare=333"]), true),
            ["Account \"a\" was changed; \"b\" was meant."]
        );
        let many: Vec<String> = (0..50).map(|n| format!("GrpTRESMins=x{n}=1")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let found = differences("a", &settings(false), &reported(&many), true);
        assert_eq!((found.len(), found[20].as_str()), (21, "… and 30 more."));
    }

    #[test]
    fn intended_commands_say_as_much_as_the_settings_they_were_made_of() {
        for limit_type in [LimitType::GrpTresMins, LimitType::MaxTresMins, LimitType::GrpTres] {
            for reset in [true, false] {
                let settings = AgentSettings { limit_type, ..settings(reset) };
                let intended = commands("it's a", &settings, Some(("slow", "100 %")));
                for run in
                    [&["fairshare=1"][..], &["GrpTRESMins=node=72000"], &["MaxTRESMins=cpu=1", "RawUsage=0"], &[]]
                {
                    let run = reported(run);
                    let expected = differences("it's a", &settings, &run, true);
                    assert_eq!(differences_of(&intended, &run, true), expected, "{limit_type:?} {reset} {run:?}");
                }
            }
        }
        assert_eq!(differences_of(&[], &reported(&["fairshare=1"]), true), [""; 0], "nothing was meant");
    }

    #[test]
    fn limits_read_back_are_compared_in_whole_units() {
        let mapping = BTreeMap::from([(
            "node".to_owned(),
            TresMapping { tres: "node".to_owned(), minutes_per_unit: Decimal::from(60) },
        )]);
        let sent = SmallMap::from([("node".to_owned(), 72_030)]);
        let read = |component: &str, hours: u32| Amounts::from([(component.to_owned(), Decimal::from(hours))]);
        assert!(limits_agree(&read("node", 1200), &sent, &mapping));
        assert!(!limits_agree(&read("node", 1201), &sent, &mapping));
        assert!(limits_agree(&read("cpu", 5), &sent, &mapping), "nothing is known of it");
        assert!(limits_agree(&read("node", 5), &SmallMap::new(), &mapping), "nothing was sent");
    }

    #[test]
    fn an_intended_command_is_found_among_the_reported_ones() {
        let intended = commands("a", &settings(true), Some(("slowdown", "100 % reached")));
        let run = reported(&["fairshare=333", "GrpTRESMins=gres/gpu=60", "RawUsage=0"]);
        let found: Vec<_> = intended.iter().map(|command| was_run(command, Some(&run))).collect();
        assert_eq!(found, [Some(true), Some(false), None, Some(true)]);
        assert!(intended.iter().all(|command| was_run(command, None).is_none()));
        let elsewhere = ["/bin/sacctmgr --immediate modify account a where cluster=c set fairshare=333".to_owned()];
        assert_eq!(was_run(&intended[0], Some(&elsewhere)), Some(true));
    }
}
