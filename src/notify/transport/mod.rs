//! Transports of notices: to a mail server, into a Maildir, to a webhook endpoint. Each says whether a retry may help.

pub mod maildir;
pub mod smtp;
pub mod webhook;

use std::fmt::Write as _;
use std::path::PathBuf;

use super::message::Mail;

/// A transport that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The sender is no mailbox.
    #[error("{what} {text:?} is no mailbox; write Name <user@site.example>")]
    Mailbox {
        /// from or `reply_to`.
        what: &'static str,
        /// What was given.
        text: String,
    },
    /// The certificate authority.
    #[error("the certificate authority in {} cannot be used", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Encryption or the client as a whole.
    #[error("the client for {what} cannot be set up")]
    Client {
        /// The mail server or webhooks.
        what: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An endpoint's address.
    #[error("webhook {name}: {problem}")]
    Endpoint {
        /// The endpoint.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// A delivery that did not come about. The text is free of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// The other side cannot be reached, or says nothing: others will fare no better just now.
    Unreachable(String),
    /// It may work later.
    Later(String),
    /// It will not work: this recipient, or this message, is refused.
    Never(String),
}

impl Failed {
    /// What went wrong.
    pub fn reason(&self) -> &str {
        let (Self::Unreachable(reason) | Self::Later(reason) | Self::Never(reason)) = self;
        reason
    }
}

/// Where mail goes.
pub enum MailTransport {
    /// Nowhere.
    None,
    /// Into files.
    Maildir(maildir::Maildir),
    /// To a server.
    Smtp(Box<smtp::Smtp>),
}

impl MailTransport {
    /// Hands a mail over.
    pub async fn send(&self, mail: &Mail) -> Result<(), Failed> {
        match self {
            Self::None => Err(Failed::Never("mail is switched off".to_owned())),
            Self::Maildir(maildir) => maildir.deliver(mail).await,
            Self::Smtp(smtp) => smtp.send(mail).await,
        }
    }
}

/// An error with its causes in one line, without anything that looks like a mail address.
pub(super) fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // Writing to a String does not fail; a cause that the text has already is not repeated.
        let cause = error.to_string();
        if !text.contains(&cause) {
            let _ = write!(text, ": {cause}");
        }
        source = error.source();
    }
    without_addresses(&text)
}

/// The longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 500;

/// Servers like to repeat the address that they refuse; it must not come into the log.
pub(super) fn without_addresses(text: &str) -> String {
    let one_line = text.split_whitespace();
    let words: Vec<&str> = one_line.map(|word| if word.contains('@') { "[address]" } else { word }).collect();
    words.join(" ").chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::without_addresses;

    #[test]
    fn a_reason_keeps_no_address() {
        assert_eq!(
            without_addresses("550 5.1.1 <alice@uni-a.example>: Recipient\r\n address rejected: \"b\"@x"),
            "550 5.1.1 [address] Recipient address rejected: [address]"
        );
    }
}
