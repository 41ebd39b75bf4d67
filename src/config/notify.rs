//! Settings of notices, mail and webhooks. A setting names the environment variable that holds a secret; secrets are
//! never in the file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, Sources};
use crate::egress::{Egress, Networks};
use crate::notify::{Endpoint, MailOptions, MailTransportOptions, NotifyOptions, RetryOptions, SmtpOptions, SmtpTls};
use crate::store::address::Database;

/// The page of a resource under the public address.
const RESOURCE_PATH: &str = "/api/marketplace-provider-resources/{uuid}/";

/// What all notices have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoticesConfig {
    /// Seconds within which notices to one recipient go in one mail.
    pub digest_seconds: u32,
    /// Attempts after which a notice is given up.
    pub attempts_max: u32,
    /// Seconds before the second attempt; each later pause is twice as long.
    pub first_retry_seconds: u32,
    /// The longest pause, seconds.
    pub longest_retry_seconds: u32,
    /// Hours after which a notice that could not even be tried is given up.
    pub stale_after_hours: u32,
    /// Folder of a site's own templates.
    pub templates_dir: Option<PathBuf>,
    /// Whom to ask, at the end of each mail.
    pub contact: Option<String>,
    /// Address of a resource's page, `{uuid}` for its id.
    pub link: Option<String>,
}

/// How mail leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTransport {
    /// Into a folder.
    #[default]
    Maildir,
    /// To a server.
    Smtp,
    /// Not at all.
    None,
}

/// Mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailConfig {
    /// How it leaves.
    pub transport: MailTransport,
    /// The Maildir; none = `mail` beside the database.
    pub folder: Option<PathBuf>,
    /// Who it comes from.
    pub from: String,
    /// Where answers go.
    pub reply_to: Option<String>,
    /// The mail server.
    pub host: String,
    /// Its port; none = by `tls`.
    pub port: Option<u16>,
    /// Encryption.
    pub tls: SmtpTls,
    /// A further certificate authority, PEM.
    pub ca_file: Option<PathBuf>,
    /// Name at the server.
    pub username: Option<String>,
    /// Variable that holds the password.
    pub password_env: Option<String>,
    /// Seconds for each step.
    pub timeout_seconds: u32,
}

/// Webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksConfig {
    /// Who is called.
    pub endpoints: Vec<WebhookEndpoint>,
    /// Seconds for an answer.
    pub timeout_seconds: u32,
    /// Only these networks are called; all, if there are none.
    pub allow: Networks,
    /// These networks are never called.
    pub deny: Networks,
}

/// Who is called.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookEndpoint {
    /// Its name; events know the endpoint by it.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Variable that holds what calls are signed with.
    pub secret_env: String,
}

impl fmt::Debug for WebhookEndpoint {
    /// Without the address, which may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, secret_env, .. } = self;
        f.debug_struct("WebhookEndpoint").field("name", name).field("secret_env", secret_env).finish_non_exhaustive()
    }
}

impl Default for NoticesConfig {
    fn default() -> Self {
        Self {
            digest_seconds: 60,
            attempts_max: 24,
            first_retry_seconds: 30,
            longest_retry_seconds: 3_600,
            stale_after_hours: 72,
            templates_dir: None,
            contact: None,
            link: None,
        }
    }
}

impl Default for MailConfig {
    fn default() -> Self {
        Self {
            transport: MailTransport::Maildir,
            folder: None,
            from: MailOptions::default().from,
            reply_to: None,
            host: "localhost".to_owned(),
            port: None,
            tls: SmtpTls::Required,
            ca_file: None,
            username: None,
            password_env: None,
            timeout_seconds: 30,
        }
    }
}

impl Default for WebhooksConfig {
    fn default() -> Self {
        let Egress { allow, deny } = Egress::default();
        Self { endpoints: Vec::new(), timeout_seconds: 10, allow, deny }
    }
}

impl WebhooksConfig {
    /// Which addresses may be called.
    pub fn egress(&self) -> Egress {
        Egress { allow: self.allow.clone(), deny: self.deny.clone() }
    }
}

/// Secrets by the variable that they were read from. They are never shown.
#[derive(Debug, Clone, Default)]
pub struct Secrets(BTreeMap<String, SecretString>);

impl PartialEq for Secrets {
    /// By the variables: what they hold is compared nowhere.
    fn eq(&self, other: &Self) -> bool {
        self.0.keys().eq(other.0.keys())
    }
}

impl Secrets {
    /// Reads what the configuration names, as far as it is set.
    pub(super) fn read(config: &Config, sources: &Sources) -> Self {
        let endpoints = config.webhooks.endpoints.iter().map(|endpoint| &endpoint.secret_env);
        let names = config.mail.password_env.iter().chain(&config.broker.password_env).chain(endpoints);
        let set = names.filter_map(|name| Some((name.clone(), sources.variable(name)?.to_owned().into())));
        Self(set.collect())
    }

    pub(super) fn get(&self, name: &str, missing: &mut Vec<String>) -> Option<SecretString> {
        let found = self.0.get(name).cloned();
        if found.is_none() {
            missing.push(name.to_owned());
        }
        found
    }
}

impl Config {
    /// How notices travel. The process that delivers says so itself.
    pub(crate) fn notify_options(&self) -> NotifyOptions {
        let mut missing = Vec::new();
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let endpoint = |e: &WebhookEndpoint, missing: &mut Vec<String>| Endpoint {
            name: e.name.clone(),
            url: e.url.clone(),
            secret: self.secrets.get(&e.secret_env, missing),
        };
        let endpoints = self.webhooks.endpoints.iter().map(|e| endpoint(e, &mut missing)).collect();
        let notices = &self.notices;
        let page = |base: &String| format!("{}{RESOURCE_PATH}", base.trim_end_matches('/'));
        NotifyOptions {
            delivers: false,
            mail: MailOptions {
                transport: self.mail_transport(&mut missing),
                from: self.mail.from.clone(),
                reply_to: self.mail.reply_to.clone(),
                contact: notices.contact.clone(),
                link: notices.link.clone().or_else(|| self.public_url.as_ref().map(page)),
                digest: chrono::Duration::seconds(notices.digest_seconds.into()),
                templates_dir: notices.templates_dir.clone(),
            },
            endpoints,
            egress: self.webhooks.egress(),
            webhook_timeout: seconds(self.webhooks.timeout_seconds),
            retry: RetryOptions {
                first: seconds(notices.first_retry_seconds),
                longest: seconds(notices.longest_retry_seconds),
                attempts_max: notices.attempts_max,
            },
            stale_after: chrono::Duration::hours(notices.stale_after_hours.into()),
            missing_secrets: missing,
        }
    }

    /// Where mail goes that nobody names a folder for; none if it stands beside the file of the database.
    fn mail_folder(&self) -> Option<PathBuf> {
        let on_a_server = matches!(self.database, Some(Database::Postgres(_)));
        self.data_dir.as_ref().filter(|_| on_a_server).map(|folder| folder.join("mail"))
    }

    fn mail_transport(&self, missing: &mut Vec<String>) -> MailTransportOptions {
        let mail = &self.mail;
        match mail.transport {
            MailTransport::None => MailTransportOptions::None,
            MailTransport::Maildir => MailTransportOptions::Maildir(mail.folder.clone().or_else(|| self.mail_folder())),
            MailTransport::Smtp => MailTransportOptions::Smtp(SmtpOptions {
                host: mail.host.clone(),
                port: mail.port,
                tls: mail.tls,
                ca_file: mail.ca_file.clone(),
                credentials: mail.username.clone().and_then(|name| {
                    let password = self.secrets.get(mail.password_env.as_deref()?, missing)?;
                    Some((name, password))
                }),
                timeout: Duration::from_secs(mail.timeout_seconds.into()),
            }),
        }
    }

    /// Checks that no type makes.
    pub(super) fn check_notify(&self) -> Result<(), ConfigError> {
        let at_least_one = [
            ("notices.attempts_max", self.notices.attempts_max),
            ("notices.stale_after_hours", self.notices.stale_after_hours),
            ("mail.timeout_seconds", self.mail.timeout_seconds),
            ("webhooks.timeout_seconds", self.webhooks.timeout_seconds),
        ];
        for (key, value) in at_least_one {
            if !(1..=100_000).contains(&value) {
                return Err(ConfigError::OutOfRange { key, value: value.to_string(), allowed: "1 to 100000" });
            }
        }
        let at_most = [
            ("notices.digest_seconds", self.notices.digest_seconds),
            ("notices.first_retry_seconds", self.notices.first_retry_seconds),
            ("notices.longest_retry_seconds", self.notices.longest_retry_seconds),
        ];
        for (key, value) in at_most {
            if value > 100_000 {
                return Err(ConfigError::OutOfRange { key, value: value.to_string(), allowed: "0 to 100000" });
            }
        }
        if self.mail.username.is_some() != self.mail.password_env.is_some() {
            return Err(ConfigError::Value("mail.username and mail.password_env go together".to_owned()));
        }
        Ok(())
    }
}
