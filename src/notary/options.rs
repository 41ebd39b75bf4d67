//! What a notary is made of: its key, and where its checkpoints go.

use std::path::PathBuf;
use std::sync::Arc;

use super::key::{Key, KeyError};
use super::sink::{File, ServiceLog, Sink};

/// Who signs. A key is read when it is needed: commands that sign nothing need not be able to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KeySource {
    /// Nobody.
    #[default]
    None,
    /// The key in a file.
    File(PathBuf),
    /// A command.
    Command {
        /// What is run.
        command: PathBuf,
        /// The file of the public key.
        public: PathBuf,
    },
}

impl KeySource {
    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        *self != Self::None
    }

    /// The key; none where nobody signs.
    ///
    /// # Errors
    /// A file cannot be read, or holds no key.
    pub fn key(&self) -> Result<Option<Key>, KeyError> {
        match self {
            Self::None => Ok(None),
            Self::File(path) => Key::of_file(path).map(Some),
            Self::Command { command, public } => Key::of_command(command, public).map(Some),
        }
    }
}

/// What a notary is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotaryOptions {
    /// Who signs.
    pub key: KeySource,
    /// A file to which checkpoints are added.
    pub file: Option<PathBuf>,
    /// Checkpoints go to the log of the service.
    pub log: bool,
}

impl NotaryOptions {
    /// Where checkpoints go.
    pub fn sinks(&self) -> Vec<Arc<dyn Sink>> {
        let file = self.file.clone().map(|path| Arc::new(File { path }) as Arc<dyn Sink>);
        let log = self.log.then(|| Arc::new(ServiceLog) as Arc<dyn Sink>);
        file.into_iter().chain(log).collect()
    }
}
