//! Assembles the configuration from its sources, and refuses unknown keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{File, FileFormat, ValueKind};

use super::origin::Origins;
use super::{Config, Secrets};
use crate::domain::validation::distance;

/// What every variable of the environment begins with.
pub(super) const PREFIX: &str = "SLUICE_";

/// How many letters may differ before a variable counts as somebody else's and not as a misspelt setting.
const NEAR: usize = 2;

/// The sources of settings, in increasing priority: file, environment, flags.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file named by `--config`; else `SLUICE_CONFIG` names it; else there is none.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// Settings by key, from flags.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// This process' environment and the given flags.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Self {
        let text = |text: std::ffi::OsString| text.into_string().ok();
        let environment = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
        Self { file, environment, flags }
    }

    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or is no TOML.
    #[error("the configuration file {path} cannot be read: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A key that nobody knows.
    #[error("{origin}: there is no setting {key:?}; {known}")]
    UnknownKey {
        /// The file or variable it stands in.
        origin: String,
        /// The key.
        key: String,
        /// What there is.
        known: String,
    },
    /// A value that does not fit its key.
    #[error("the configuration is not valid: {0}")]
    Value(String),
    /// A value that its key does not take, where it was given, and one that it takes.
    #[error("{given} is not valid: {problem}; {example}")]
    Refused {
        /// The flag, variable or line of the file, with the value unless that may hold a secret.
        given: String,
        /// What is wrong with it.
        problem: String,
        /// A value that would do.
        example: String,
    },
    /// The same, before it is known where it was given.
    #[error("{key}: {problem}")]
    Unfit {
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// What is wrong with a value that was given in one place.
    #[error("{origin}: {problem}")]
    Given {
        /// The flag, variable or file.
        origin: String,
        /// What is wrong.
        problem: Box<ConfigError>,
    },
    /// A number out of range.
    #[error("{key}: {value} is out of range: {allowed} is allowed")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Nobody says where data belongs.
    #[error("there is no place for the database: set --database or --data-dir (neither XDG_DATA_HOME nor HOME is set)")]
    NoDataDir,
}

/// The known keys: those of the default configuration. A section has keys of its own.
#[derive(Debug)]
enum Known {
    Value,
    Section(BTreeMap<String, Known>),
}

impl Known {
    fn keys() -> Self {
        let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
        Self::of(&defaults)
    }

    fn of(value: &serde_json::Value) -> Self {
        match value.as_object() {
            Some(keys) => Self::Section(keys.iter().map(|(key, value)| (key.clone(), Self::of(value))).collect()),
            None => Self::Value,
        }
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Self::Value => Vec::new(),
            Self::Section(keys) => keys.keys().map(String::as_str).collect(),
        }
    }

    /// The section or value of a dotted key.
    fn find(&self, key: &str) -> Option<&Self> {
        key.split('.').try_fold(self, |known, part| match known {
            Self::Value => None,
            Self::Section(keys) => keys.get(part),
        })
    }
}

pub(super) fn load(sources: &Sources) -> Result<Config, ConfigError> {
    let known = Known::keys();
    let mut builder = config::Config::builder();
    let mut origins = Origins::default();
    let file = sources.file.clone().or_else(|| sources.variable("SLUICE_CONFIG").map(PathBuf::from));
    if let Some(path) = &file {
        let read = read_file(path, &known)?;
        origins.file(&path.display().to_string(), &read.cache.kind);
        builder = builder.add_source(read);
    }
    let invalid = |error: config::ConfigError| ConfigError::Value(error.to_string());
    for (key, value) in variables(sources, &known)? {
        origins.variable(&key, &value);
        builder = builder.set_override(key, value).map_err(invalid)?;
    }
    for (key, value) in &sources.flags {
        origins.flag(key, value);
        builder = builder.set_override(*key, value.as_str()).map_err(invalid)?;
    }
    let built = builder.build().map_err(invalid)?;
    let mut config: Config = built.try_deserialize().map_err(|error| origins.refused(&error))?;
    config.check().map_err(|error| origins.located(error))?;
    config.secrets = Secrets::read(&config, sources);
    if config.data_dir.is_none() {
        config.data_dir = default_data_dir(sources);
    }
    Ok(config)
}

/// What systemd made for the service (`StateDirectory=`), else `sluice` in the user's data directory, as the XDG base
/// directory specification has it.
fn default_data_dir(sources: &Sources) -> Option<PathBuf> {
    let set = |name| sources.variable(name).map(Path::new).filter(|path| path.is_absolute());
    let state = sources.variable("STATE_DIRECTORY").and_then(|folders| folders.split(':').next()).map(Path::new);
    if let Some(state) = state.filter(|folder| folder.is_absolute()) {
        return Some(state.to_owned());
    }
    let base = set("XDG_DATA_HOME").map(Path::to_path_buf).or_else(|| Some(set("HOME")?.join(".local/share")))?;
    Some(base.join("sluice"))
}

/// Where a database of this machine may be that nobody named: the places that are taken where nothing is set, and the one
/// that a packaged service has.
pub(super) fn usual_databases(sources: &Sources) -> Vec<PathBuf> {
    let usual = default_data_dir(sources).into_iter().chain([PathBuf::from("/var/lib/sluice")]);
    usual.map(|folder| folder.join("sluice.db")).chain([PathBuf::from("sluice.db")]).collect()
}

fn read_file(path: &Path, known: &Known) -> Result<config::Config, ConfigError> {
    let wrong = |problem: String| ConfigError::File { path: path.display().to_string(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let file = config::Config::builder().add_source(File::from_str(&text, FileFormat::Toml)).build();
    let file = file.map_err(|error| wrong(error.to_string()))?;
    check_keys(&path.display().to_string(), "", &file.cache.kind, known)?;
    Ok(file)
}

fn check_keys(origin: &str, at: &str, value: &ValueKind, known: &Known) -> Result<(), ConfigError> {
    let (ValueKind::Table(table), Known::Section(keys)) = (value, known) else { return Ok(()) };
    for (key, value) in table {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        match keys.get(key) {
            Some(known) => check_keys(origin, &path, &value.kind, known)?,
            None => return Err(unknown(origin, &path, known)),
        }
    }
    Ok(())
}

fn unknown(origin: &str, key: &str, known: &Known) -> ConfigError {
    let known = format!("known here: {}", known.names().join(", "));
    ConfigError::UnknownKey { origin: origin.to_owned(), key: key.to_owned(), known }
}

/// The settings in the environment, by key. `SLUICE_LOG__LEVEL` is `log.level`.
fn variables(sources: &Sources, known: &Known) -> Result<Vec<(String, String)>, ConfigError> {
    let mut settings = Vec::new();
    for (name, value) in &sources.environment {
        let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| *rest != "CONFIG") else { continue };
        let key = rest.to_ascii_lowercase().replace("__", ".");
        match known.find(&key) {
            Some(Known::Value) => settings.push((key, value.clone())),
            Some(section) => return Err(unknown(name, &key, section)),
            None if key.contains('.') => {
                let section = key.split('.').next().and_then(|first| known.find(first)).unwrap_or(known);
                return Err(unknown(name, &key, section));
            }
            // A site may keep variables of its own, such as the keys that its site file names.
            None => {
                if let Some(near) = known.names().into_iter().find(|near| distance(near, &key) <= NEAR) {
                    let known = format!("did you mean {PREFIX}{}?", near.to_ascii_uppercase());
                    return Err(ConfigError::UnknownKey { origin: name.clone(), key, known });
                }
            }
        }
    }
    Ok(settings)
}
