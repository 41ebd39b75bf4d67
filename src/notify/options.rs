//! The options for sending notices: transport, endpoints, digests, retries. The defaults need no server.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::domain::ids::{UserId, slug_uuid};
use crate::egress::Egress;

/// How notices travel.
#[derive(Debug, Clone)]
pub struct NotifyOptions {
    /// This process delivers. A command beside the server leaves that to the server, whose settings these may not be.
    pub delivers: bool,
    /// Variables of the environment that hold secrets and are not set: a process that delivers needs them.
    pub missing_secrets: Vec<String>,
    /// Mail.
    pub mail: MailOptions,
    /// Webhook endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Which addresses may be called.
    pub egress: Egress,
    /// How long an endpoint may take to answer.
    pub webhook_timeout: Duration,
    /// How often and when a delivery is tried again.
    pub retry: RetryOptions,
    /// A notice older than this at its first attempt is given up, not sent: it is no longer news.
    pub stale_after: chrono::Duration,
}

/// Mail.
#[derive(Debug, Clone)]
pub struct MailOptions {
    /// How it leaves.
    pub transport: MailTransportOptions,
    /// Who it comes from, `Name <address>`.
    pub from: String,
    /// Where answers go, if not to `from`.
    pub reply_to: Option<String>,
    /// Whom to ask, as it stands at the end of each mail.
    pub contact: Option<String>,
    /// Address of a resource's page; `{uuid}` stands for its id.
    pub link: Option<String>,
    /// Notices to one recipient within this time go in one mail; on the service's clock.
    pub digest: chrono::Duration,
    /// A site's own templates.
    pub templates_dir: Option<PathBuf>,
}

/// How mail leaves.
#[derive(Debug, Clone)]
pub enum MailTransportOptions {
    /// Not at all: nobody is owed a mail.
    None,
    /// Into a Maildir; none = `mail` beside the database.
    Maildir(Option<PathBuf>),
    /// To a mail server.
    Smtp(SmtpOptions),
}

/// A mail server.
#[derive(Debug, Clone)]
pub struct SmtpOptions {
    /// Its name.
    pub host: String,
    /// Its port; none = 465 with [`SmtpTls::Implicit`], 587 with `Required`, else 25.
    pub port: Option<u16>,
    /// Encryption.
    pub tls: SmtpTls,
    /// PEM file of a further certificate authority that the server's certificate may come from.
    pub ca_file: Option<PathBuf>,
    /// Name and password.
    pub credentials: Option<(String, SecretString)>,
    /// For each step of the conversation.
    pub timeout: Duration,
}

/// Encryption of the connection to a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// From the first byte.
    Implicit,
    /// STARTTLS, or nothing is sent.
    #[default]
    Required,
    /// STARTTLS where the server offers it.
    Opportunistic,
    /// None.
    None,
}

/// A webhook endpoint.
#[derive(Clone)]
pub struct Endpoint {
    /// Its name, unique; stands in events through an id made from it.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// What calls are signed with; none where this process does not know it.
    pub secret: Option<SecretString>,
}

impl fmt::Debug for Endpoint {
    /// The name alone: an address may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The id under which events know the endpoint of this name.
    pub fn id_of(name: &str) -> UserId {
        slug_uuid("webhook", name).into()
    }

    /// The id under which events know it.
    pub fn id(&self) -> UserId {
        Self::id_of(&self.name)
    }
}

/// When a delivery that failed is tried again; on the machine's clock.
#[derive(Debug, Clone)]
pub struct RetryOptions {
    /// First pause; it doubles.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
    /// Attempts after which a notice is given up.
    pub attempts_max: u32,
}

impl Default for NotifyOptions {
    fn default() -> Self {
        Self {
            delivers: true,
            missing_secrets: Vec::new(),
            mail: MailOptions::default(),
            endpoints: Vec::new(),
            egress: Egress::default(),
            webhook_timeout: Duration::from_secs(10),
            retry: RetryOptions::default(),
            stale_after: chrono::Duration::hours(72),
        }
    }
}

impl Default for MailOptions {
    fn default() -> Self {
        Self {
            transport: MailTransportOptions::Maildir(None),
            from: "Sluice <sluice@localhost>".to_owned(),
            reply_to: None,
            contact: None,
            link: None,
            digest: chrono::Duration::seconds(60),
            templates_dir: None,
        }
    }
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self { first: Duration::from_secs(30), longest: Duration::from_hours(1), attempts_max: 24 }
    }
}

impl RetryOptions {
    /// The pause after this many attempts, without jitter.
    pub fn pause(&self, attempts: u32) -> Duration {
        self.first.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1).min(24))).min(self.longest)
    }
}
