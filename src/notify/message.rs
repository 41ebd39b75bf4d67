//! A mail as it goes over the wire: the same bytes for the same notice, whenever it is put together.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};

use super::options::MailOptions;
use super::templates::Rendered;
use super::transport::TransportError;
use crate::domain::ids::NoticeId;

/// Who mails come from.
#[derive(Debug, Clone)]
pub struct Sender {
    from: Mailbox,
    reply_to: Option<Mailbox>,
}

/// A mail, ready to be sent.
#[derive(Debug)]
pub struct Mail {
    notice: NoticeId,
    message: Message,
}

fn mailbox(what: &'static str, text: &str) -> Result<Mailbox, TransportError> {
    text.parse().map_err(|_| TransportError::Mailbox { what, text: text.to_owned() })
}

impl Sender {
    /// Reads the sender from the options.
    pub fn new(options: &MailOptions) -> Result<Self, TransportError> {
        let from = mailbox("from", &options.from)?;
        let reply_to = options.reply_to.as_deref().map(|text| mailbox("reply_to", text)).transpose()?;
        Ok(Self { from, reply_to })
    }

    /// Puts a mail together. None: the recipient's address is no address, or the text cannot be sent.
    ///
    /// The message id is made from the notice, so that a repeat is known as one.
    pub fn mail(&self, notice: NoticeId, to: (&str, &str), rendered: &Rendered, date: DateTime<Utc>) -> Option<Mail> {
        let (name, address) = to;
        let to = Mailbox::new((!name.is_empty()).then(|| name.to_owned()), address.parse().ok()?);
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .date(SystemTime::from(date))
            .message_id(Some(format!("<{notice}@{}>", self.from.email.domain())))
            .subject(rendered.subject.as_str());
        if let Some(reply_to) = &self.reply_to {
            message = message.reply_to(reply_to.clone());
        }
        // RFC 3834: no holiday replies to a program.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        message = message.raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()));
        let body = MultiPart::alternative()
            .boundary(format!("sluice-{notice}"))
            .singlepart(SinglePart::plain(rendered.text.clone()))
            .singlepart(SinglePart::html(rendered.html.clone()));
        let message = message.multipart(body).ok()?;
        Some(Mail { notice, message })
    }
}

impl Mail {
    /// From whom to whom.
    pub fn envelope(&self) -> &Envelope {
        self.message.envelope()
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        self.message.formatted()
    }

    /// The name of its file, for transports that keep files.
    pub fn file_name(&self) -> String {
        format!("{}.sluice", self.notice)
    }
}
