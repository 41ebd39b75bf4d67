//! The origin of each setting, so that an error names the flag, variable or file, and an example of a valid value.

use std::collections::BTreeMap;

use config::ValueKind;

use super::load::PREFIX;
use super::{Config, ConfigError};

/// Keys whose values may hold a password or a key: they are never shown.
const SECRET: [&str; 3] = ["database", "event_store", "webhooks.endpoints"];

/// What a key expects, and an example, where neither the error nor the default says it well.
const EXPECTED: [(&str, &str, &str); 12] = [
    ("listen", "an IP address with a port is expected, and no host name", "127.0.0.1:8000"),
    ("metrics.listen", "an IP address with a port is expected, and no host name", "127.0.0.1:9090"),
    ("trusted_proxies", "IP addresses and networks are expected, and no host names", "127.0.0.1"),
    ("simulated_clock", "an instant is expected", "2026-03-01T00:00:00Z"),
    ("time_zone", "the name of a time zone in the IANA database is expected", "Europe/Berlin"),
    ("database", "", "sqlite:///var/lib/sluice/sluice.db"),
    ("event_store", "", "esdb://user:password@host:2113"),
    ("public_url", "", "https://sluice.site.example"),
    ("notices.link", "", "https://portal.site.example/resources/{uuid}"),
    ("webhooks.allow", "", "10.0.0.0/8"),
    ("webhooks.deny", "", "169.254.0.0/16"),
    ("webhooks.endpoints", "", "https://chat.site.example/hooks/sluice"),
];

#[derive(Debug, Clone)]
enum Origin {
    Flag,
    Variable,
    File(String),
}

/// The settings that were given, by key, each with the place that counts and what stands there.
#[derive(Debug, Default)]
pub(super) struct Origins(BTreeMap<String, (Origin, String)>);

impl Origins {
    /// Every value of a file.
    pub(super) fn file(&mut self, path: &str, root: &ValueKind) {
        self.table(path, "", root);
    }

    fn table(&mut self, path: &str, at: &str, value: &ValueKind) {
        let ValueKind::Table(table) = value else {
            let shown = match value {
                ValueKind::String(text) => format!("{text:?}"),
                other => other.to_string(),
            };
            self.0.insert(at.to_owned(), (Origin::File(path.to_owned()), shown));
            return;
        };
        for (key, value) in table {
            let key = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            self.table(path, &key, &value.kind);
        }
    }

    /// A variable of the environment, over the file.
    pub(super) fn variable(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), (Origin::Variable, value.to_owned()));
    }

    /// A flag, over the rest.
    pub(super) fn flag(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), (Origin::Flag, value.to_owned()));
    }

    /// A value that could not be read.
    pub(super) fn refused(&self, error: &config::ConfigError) -> ConfigError {
        let (key, problem) = taken_apart(error);
        match key {
            Some(key) => self.given(&key, problem),
            None => ConfigError::Value(problem),
        }
    }

    /// A value that was read and does not do, with the place where it was given.
    pub(super) fn located(&self, error: ConfigError) -> ConfigError {
        match error {
            ConfigError::Unfit { key, problem } => self.given(key, problem),
            ConfigError::OutOfRange { key, .. } => match self.origin(key) {
                Some((_, (origin, _))) => ConfigError::Given { origin: place(origin, key), problem: Box::new(error) },
                None => error,
            },
            other => other,
        }
    }

    /// The entry of a key, or of the list that it lies in.
    fn origin(&self, key: &str) -> Option<(&str, &(Origin, String))> {
        let list = key.split('[').next().unwrap_or(key);
        let list = list.trim_end_matches('.');
        self.0.get_key_value(key).or_else(|| self.0.get_key_value(list)).map(|(key, given)| (key.as_str(), given))
    }

    fn given(&self, key: &str, problem: String) -> ConfigError {
        let Some((top, (origin, value))) = self.origin(key) else {
            return ConfigError::Refused { given: key.to_owned(), problem, example: example(key, &Origin::Variable) };
        };
        let secret = SECRET
            .iter()
            .any(|secret| key == *secret || key.strip_prefix(secret).is_some_and(|rest| rest.starts_with(['.', '['])));
        let given = match origin {
            _ if secret => place(origin, key),
            Origin::Flag => format!("{} {value:?}", flag(top)),
            Origin::Variable => format!("{}={value:?}", variable(top)),
            Origin::File(path) => format!("{path}: {top} = {value}"),
        };
        let expected = EXPECTED.iter().find(|(known, says, _)| *known == key && !says.is_empty());
        let problem = expected.map_or(problem, |(_, says, _)| (*says).to_owned());
        ConfigError::Refused { given, problem, example: example(key, origin) }
    }
}

/// A flag, a variable or a file with the key in it.
fn place(origin: &Origin, key: &str) -> String {
    match origin {
        Origin::Flag => flag(key),
        Origin::Variable => variable(key),
        Origin::File(path) => format!("{path}: {key}"),
    }
}

fn flag(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// A value that would do, in the form of the place where the other was given.
fn example(key: &str, origin: &Origin) -> String {
    let known = EXPECTED.iter().find(|(known, _, _)| key.starts_with(known)).map(|(_, _, value)| (*value).to_owned());
    let default = || {
        let defaults = serde_json::to_value(Config::default()).ok()?;
        let value = defaults.pointer(&format!("/{}", key.replace('.', "/")))?;
        match value {
            serde_json::Value::String(text) => Some(text.clone()),
            serde_json::Value::Number(_) | serde_json::Value::Bool(_) => Some(value.to_string()),
            _ => None,
        }
    };
    let Some(value) = known.or_else(default) else {
        return "docs/config/sluice.toml has every setting".to_owned();
    };
    let bare = value.parse::<f64>().is_ok() || value == "true" || value == "false";
    match origin {
        _ if key.contains('[') => format!("write for example {value}"),
        Origin::Flag => format!("write for example {} {value}", flag(key)),
        Origin::Variable => format!("write for example {}={value}", variable(key)),
        Origin::File(_) if bare => format!("write for example {} = {value}", last(key)),
        Origin::File(_) => format!("write for example {} = {value:?}", last(key)),
    }
}

/// A key as it stands in its section.
fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// The key that an error is about, and the error without it.
fn taken_apart(error: &config::ConfigError) -> (Option<String>, String) {
    match error {
        config::ConfigError::At { error, key, .. } => {
            let (inner, problem) = taken_apart(error);
            (key.clone().or(inner), problem)
        }
        config::ConfigError::Type { unexpected, expected, key, .. } => {
            (key.clone(), format!("{expected} is expected, not {unexpected}"))
        }
        other => (None, other.to_string()),
    }
}
