//! A mail on the wire: the same bytes for the same notice, whenever it is assembled.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};

use super::options::MailOptions;
use super::templates::Rendered;
use super::transport::TransportError;
use crate::domain::ids::NoticeId;
use crate::domain::text::{Address, on_one_line};

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

/// The longest name before an address, in characters.
const NAME_CHARS_MAX: usize = 100;
/// The longest subject, in characters.
const SUBJECT_CHARS_MAX: usize = 250;

fn mailbox(what: &'static str, text: &str) -> Result<Mailbox, TransportError> {
    let refused = || TransportError::Mailbox { what, text: text.to_owned() };
    let (name, address) = match text.rsplit_once('<') {
        Some((name, rest)) => (name.trim().trim_matches('"'), rest.strip_suffix('>').ok_or_else(refused)?),
        None => ("", text),
    };
    addressed(name, address).ok_or_else(refused)
}

/// Somebody at an address, whose domain is encoded: a server has to understand ASCII and no more. A name that holds what a
/// head of a mail must not, from a log that has it, is cleaned.
fn addressed(name: &str, address: &str) -> Option<Mailbox> {
    let address = Address::parse(address).ok()?;
    let name = on_one_line(name, NAME_CHARS_MAX);
    Some(Mailbox::new((!name.is_empty()).then_some(name), address.as_ascii().parse().ok()?))
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
    /// The message id derives from the notice, so that a repeat is recognised.
    pub fn mail(&self, notice: NoticeId, to: (&str, &str), rendered: &Rendered, date: DateTime<Utc>) -> Option<Mail> {
        let to = addressed(to.0, to.1)?;
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .date(SystemTime::from(date))
            .message_id(Some(format!("<{notice}@{}>", self.from.email.domain())))
            .subject(on_one_line(&rendered.subject, SUBJECT_CHARS_MAX));
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
