//! Notices: who is notified that a threshold was reached, an account slowed down, paused or restored, or a command
//! failed.
//!
//! A consumer records pending notices with the causing event; a worker delivers them later, at least once, and records
//! the outcome in the resource's book. Nothing is sent while an event is being applied, and recorded notices are never
//! resent.

mod consumer;
mod content;
mod known;
mod message;
mod options;
mod outbox;
mod templates;
mod transport;
mod worker;

pub use consumer::NotifyConsumer;
pub use options::{Endpoint, MailOptions, MailTransportOptions, NotifyOptions, RetryOptions, SmtpOptions, SmtpTls};
pub use outbox::{Backlog, NoticeCount, NoticeFilter, NoticeRow, NoticeState};
pub use templates::TemplateError;
pub use transport::TransportError;
pub use transport::smtp::greet;
pub use transport::webhook::{SIGNATURE_HEADER, TIMESTAMP_HEADER, sign};
pub use worker::{Notifier, NotifierParts};

use crate::commands::execute::CommandError;
use crate::directory::DirectoryError;
use crate::registry::FollowError;
use crate::store::StoreError;
use crate::store::sql::SqlError;

/// The name of the consumer's checkpoint.
pub const CONSUMER: &str = "notify";

/// Why notices cannot be prepared or worked on. What is owed stays written down.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The tables.
    #[error("the list of notices failed")]
    Sql(#[from] SqlError),
    /// The log.
    #[error("the worker for notices cannot read the log")]
    Store(#[from] StoreError),
    /// The registry.
    #[error("the registry cannot follow the log")]
    Follow(#[from] FollowError),
    /// A wish could not be recorded.
    #[error("it cannot be recorded")]
    Command(#[from] CommandError),
    /// The directory.
    #[error("the directory failed")]
    Directory(#[from] DirectoryError),
    /// A template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A transport.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Mail goes to a folder, and nothing says which.
    #[error("mail goes to a folder: say which (notify.mail.maildir), since the database is no file to put it beside")]
    NoMailFolder,
    /// The file that keeps two processes from delivering at once.
    #[error("{} cannot be locked", path.display())]
    Lock {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A secret that the configuration names.
    #[error("the variable {0} is not set; the configuration says that it holds a secret")]
    MissingSecret(String),
    /// A stored row or event that makes no sense.
    #[error("a notice cannot be read: {0}")]
    Unreadable(String),
}
