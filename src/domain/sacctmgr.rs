//! The `sacctmgr` commands for given settings, as text: what the site agent should run.
//!
//! Sluice records and shows them, and compares them with the agent's report; it never runs them itself.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::settings::AgentSettings;

/// What a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandType {
    /// The fairshare weight.
    Fairshare,
    /// TRES limits.
    Limits,
    /// The class of service.
    Qos,
    /// Raw usage back to zero.
    ResetUsage,
}

impl CommandType {
    /// The name on the wire.
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::Fairshare => "fairshare",
            Self::Limits => "limits",
            Self::Qos => "qos",
            Self::ResetUsage => "reset_usage",
        }
    }
}

/// One command, or several of one kind joined with `; `.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// What it is about.
    pub command_type: CommandType,
    /// The same in words.
    pub description: String,
    /// The exact text.
    pub shell_command: String,
    /// The account and the values that are set.
    pub parameters: Value,
}

/// The commands for an account in the order in which they run.
///
/// A fairshare of zero, no limits and no reset give no command, as the agent skips them too. `qos` is the site's name of
/// the new class of service and why it changed.
pub fn commands(account: &str, settings: &AgentSettings, qos: Option<(&str, &str)>) -> Vec<Command> {
    let command = |command_type, description, shell_command, parameters| Command {
        command_type,
        description,
        shell_command,
        parameters,
    };
    let mut commands = Vec::new();
    let fairshare = settings.fairshare;
    if fairshare != 0 {
        commands.push(command(
            CommandType::Fairshare,
            format!("Set fairshare weight to {fairshare} for allocation priority"),
            modify(account, &format!("fairshare={fairshare}")),
            json!({"account": account, "fairshare": fairshare}),
        ));
    }
    if !settings.limits.is_empty() {
        let limit_type = settings.limit_type.wire_name();
        let each = |between: &str, write: &dyn Fn(&str, i64) -> String| {
            settings.limits.iter().map(|(tres, limit)| write(tres, *limit)).collect::<Vec<_>>().join(between)
        };
        commands.push(command(
            CommandType::Limits,
            format!("Set {limit_type} limits: {}", each(", ", &|tres, limit| format!("{tres}={limit}"))),
            each("; ", &|tres, limit| modify(account, &format!("{limit_type}={tres}={limit}"))),
            json!({"account": account, "limit_type": limit_type, "limits": settings.limits}),
        ));
    }
    if let Some((name, reason)) = qos {
        commands.push(command(
            CommandType::Qos,
            format!("Set QoS to {name}: {reason}"),
            modify(account, &format!("qos={name}")),
            json!({"account": account, "qos": name, "reason": reason}),
        ));
    }
    if settings.reset_raw_usage {
        commands.push(command(
            CommandType::ResetUsage,
            "Reset raw usage counter for new billing period".to_owned(),
            modify(account, "RawUsage=0"),
            json!({"account": account}),
        ));
    }
    commands
}

/// The command that gives an account a class of service.
pub fn set_qos(account: &str, qos: &str) -> String {
    modify(account, &format!("qos={qos}"))
}

fn modify(account: &str, assignment: &str) -> String {
    format!("sacctmgr --immediate modify account {} set {}", quoted(account, "_.@-"), quoted(assignment, "_.@-=/:,+"))
}

/// The word as a shell reads it back: bare where it has ASCII letters, digits and `bare` only, else in single quotes.
fn quoted<'a>(word: &'a str, bare: &str) -> Cow<'a, str> {
    let plain = |character: char| character.is_ascii_alphanumeric() || bare.contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::LimitType;

    fn settings() -> AgentSettings {
        AgentSettings {
            fairshare: 333,
            limits: [("node".to_owned(), 72_000), ("gres/gpu".to_owned(), 60)].into(),
            reset_raw_usage: true,
            ..AgentSettings::default()
        }
    }

    #[test]
    fn commands_come_in_order_with_their_parameters() {
        let commands = commands("hpc_climate", &settings(), Some(("slowdown", "100 % reached")));
        let shown: Vec<_> =
            commands.iter().map(|command| (command.command_type.wire_name(), command.shell_command.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("fairshare", "sacctmgr --immediate modify account hpc_climate set fairshare=333"),
                (
                    "limits",
                    "sacctmgr --immediate modify account hpc_climate set GrpTRESMins=gres/gpu=60; \
                     sacctmgr --immediate modify account hpc_climate set GrpTRESMins=node=72000"
                ),
                ("qos", "sacctmgr --immediate modify account hpc_climate set qos=slowdown"),
                ("reset_usage", "sacctmgr --immediate modify account hpc_climate set RawUsage=0"),
            ]
        );
        assert_eq!(
            commands[1].parameters,
            json!({"account": "hpc_climate", "limit_type": "GrpTRESMins", "limits": {"gres/gpu": 60, "node": 72000}})
        );
        assert_eq!(commands[1].description, "Set GrpTRESMins limits: gres/gpu=60, node=72000");
        assert_eq!(
            commands[2].parameters,
            json!({"account": "hpc_climate", "qos": "slowdown", "reason": "100 % reached"})
        );
        assert_eq!(commands[2].description, "Set QoS to slowdown: 100 % reached");
        assert_eq!(serde_json::to_value(CommandType::ResetUsage).unwrap(), "reset_usage");
    }

    #[test]
    fn nothing_to_set_gives_no_command() {
        assert_eq!(commands("a", &AgentSettings::default(), None), []);
    }

    #[test]
    fn unusual_accounts_are_quoted_and_usual_ones_are_not() {
        for (account, written) in [
            ("hpc_climate", "hpc_climate"),
            ("a.b@c-d", "a.b@c-d"),
            ("two words", "'two words'"),
            ("it's", r"'it'\''s'"),
            ("$(reboot)", "'$(reboot)'"),
            ("æ", "'æ'"),
            ("", "''"),
        ] {
            let commands = commands(account, &AgentSettings { fairshare: 1, ..AgentSettings::default() }, None);
            assert_eq!(
                commands[0].shell_command,
                format!("sacctmgr --immediate modify account {written} set fairshare=1")
            );
            assert_eq!(commands[0].parameters["account"], account);
        }
    }

    #[test]
    fn the_type_of_limit_is_named() {
        let settings = AgentSettings {
            limit_type: LimitType::MaxTresMins,
            limits: [("odd; name".to_owned(), 1)].into(),
            ..AgentSettings::default()
        };
        assert_eq!(
            commands("a", &settings, None)[0].shell_command,
            "sacctmgr --immediate modify account a set 'MaxTRESMins=odd; name=1'"
        );
    }
}
