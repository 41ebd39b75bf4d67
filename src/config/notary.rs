//! The section `[notary]`: with which key the log is signed, and where checkpoints go besides the log.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};
use crate::notary::options::{KeySource, NotaryOptions};

/// The notary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotaryConfig {
    /// The file of the private key; none = nothing is signed, unless a command signs.
    pub key_file: Option<PathBuf>,
    /// A command that signs: it gets the text on its standard input and prints the signature in Base64.
    pub signer: Option<PathBuf>,
    /// The file of the public key that the command signs with.
    pub public_key_file: Option<PathBuf>,
    /// A file to which each checkpoint is added as a line of JSON.
    pub file: Option<PathBuf>,
    /// Checkpoints go to the log of the service.
    pub log: bool,
}

impl Default for NotaryConfig {
    fn default() -> Self {
        Self { key_file: None, signer: None, public_key_file: None, file: None, log: true }
    }
}

impl NotaryConfig {
    /// Who signs.
    fn key(&self) -> KeySource {
        match (&self.key_file, &self.signer, &self.public_key_file) {
            (Some(file), _, _) => KeySource::File(file.clone()),
            (None, Some(command), Some(public)) => {
                KeySource::Command { command: command.clone(), public: public.clone() }
            }
            _ => KeySource::None,
        }
    }

    /// What the notary is made of.
    pub fn options(&self) -> NotaryOptions {
        NotaryOptions { key: self.key(), file: self.file.clone(), log: self.log }
    }
}

impl Config {
    /// Whether the keys of the section go together.
    pub(super) fn check_notary(&self) -> Result<(), ConfigError> {
        let NotaryConfig { key_file, signer, public_key_file, .. } = &self.notary;
        let unfit = |key, problem: &str| Err(ConfigError::Unfit { key, problem: problem.to_owned() });
        match (key_file, signer, public_key_file) {
            (Some(_), Some(_), _) => {
                unfit("notary.signer", "with notary.key_file the service signs itself: one of the two")
            }
            (_, Some(_), None) => unfit("notary.signer", "notary.public_key_file must name the key that it signs with"),
            (_, None, Some(_)) => unfit("notary.public_key_file", "it goes with notary.signer, which is not set"),
            _ => Ok(()),
        }
    }
}
