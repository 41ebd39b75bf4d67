//! The configuration: flags override the environment (`SLUICE_…`), which overrides a TOML file.
//!
//! Unknown keys are refused by name, wherever they occur. `docs/config/sluice.toml` has every key with its default; a
//! test compares the two. Only [`Sources`] reads anything from the machine.

mod broker;
mod check;
mod load;
mod metrics;
mod notary;
mod notify;
mod origin;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

pub use crate::store::address::{Database, DatabaseError};
pub use broker::{BrokerConfig, BrokerKind};
pub use load::{ConfigError, Sources};
pub use metrics::{MetricsAccess, MetricsConfig};
pub use notary::NotaryConfig;
pub use notify::{MailConfig, MailTransport, NoticesConfig, Secrets, WebhookEndpoint, WebhooksConfig};

use crate::admission::Networks;
use crate::app::AppOptions;
use crate::dispatch::DispatchOptions;
use crate::dispatch::builtin::BuiltinLimits;
use crate::domain::period::instant_complaint;
use crate::limits::Limits;
use crate::scheduler::{CronTexts, JobError, Schedule as DueTimes};
use crate::site_settings::{BlockCreationScope, SiteSettings};
use crate::store::eventstoredb::EventStoreAddress;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the database is; none = `sluice.db` in the data directory.
    pub database: Option<Database>,
    /// Where the events are, if not in the database: `EventStoreDB` or `KurrentDB`; none = in the database.
    pub event_store: Option<EventStoreAddress>,
    /// Folder of the database; none = what systemd made for the service (`STATE_DIRECTORY`), else `sluice` in the user's data
    /// directory (`XDG_DATA_HOME`, else `~/.local/share`).
    pub data_dir: Option<PathBuf>,
    /// Seconds that `serve` waits at its start for the database's server and the event store; 0 = not at all.
    pub store_wait: u32,
    /// Where `serve` listens; port 0 = any free one.
    pub listen: SocketAddr,
    /// Proxies in front of this service, as addresses and networks: they name the client's address.
    pub trusted_proxies: Networks,
    /// Start on a clock that stands at this instant and moves only when told.
    pub simulated_clock: Option<DateTime<Utc>>,
    /// The site's time zone: where months begin and jobs are due.
    pub time_zone: Tz,
    /// What is logged.
    pub log: LogConfig,
    /// When the scheduler does what, in the site's time.
    pub schedule: Schedule,
    /// Fairshare = effective hours divided by this.
    pub fairshare_divisor: Decimal,
    /// Reset raw usage at take-over under a policy of period `total` too.
    pub reset_total_at_takeover: bool,
    /// Rows of the evaluation log and the command history older than this many days are compacted and pruned.
    pub retention_days: u32,
    /// Whose used-up resource keeps a customer from creating another.
    pub block_creation_scope: BlockCreationScope,
    /// How many months before the one in which a resource was created its usage is taken.
    pub usage_before_creation_months: u32,
    /// Minutes without a sign of the agent after which a dispatch counts as unanswered.
    pub no_answer_minutes: u32,
    /// How often an unanswered dispatch is sent again.
    pub resends_max: u32,
    /// Minutes in which a resend still carries a reset of raw usage.
    pub reset_resend_minutes: u32,
    /// Unanswered messages per agent at a time.
    pub dispatch_window: u32,
    /// Where people and other programs reach this service; links in mails begin with it.
    pub public_url: Option<String>,
    /// Through what agents are told.
    pub broker: BrokerConfig,
    /// What all notices have in common.
    pub notices: NoticesConfig,
    /// Mail.
    pub mail: MailConfig,
    /// Webhooks.
    pub webhooks: WebhooksConfig,
    /// Metrics.
    pub metrics: MetricsConfig,
    /// What signs the log.
    pub notary: NotaryConfig,
    /// Read from the environment.
    #[serde(skip)]
    pub secrets: Secrets,
    /// Bounds that a site may want to move; all others are in [`Limits`].
    pub limits: LimitsConfig,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Lines for people or for programs.
    pub format: LogFormat,
    /// A level (`error`, `warn`, `info`, `debug`, `trace`) or directives such as `info,sluice::store=debug`.
    pub level: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// When the scheduler does what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Settings are compared with what the agents were told last.
    pub settings_sync: CronText,
    /// A period that began is taken notice of, besides at its first instant.
    pub period_boundary: CronText,
    /// All policies are evaluated.
    pub all_policies: CronText,
    /// Old rows are pruned.
    pub retention: CronText,
    /// When recorded decisions are recomputed and compared.
    pub replay: CronOrOff,
    /// The log is signed, where there is a key.
    pub checkpoint: CronOrOff,
}

/// A schedule in the form of cron: minute, hour, day of the month, month, day of the week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CronText(String);

/// A text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no schedule ({problem}): five fields are expected, as in \"*/10 * * * *\" or \"0 2 * * *\"")]
pub struct CronError {
    text: String,
    problem: String,
}

impl CronText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CronText {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let refused = |problem: String| CronError { text: text.to_owned(), problem };
        let fields = text.split_whitespace().count();
        if fields != 5 && !text.trim_start().starts_with('@') {
            return Err(refused(format!("{fields} fields")));
        }
        croner::Cron::from_str(text).map_err(|error| refused(error.to_string()))?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for CronText {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, CronError> {
        text.parse()
    }
}

impl From<CronText> for String {
    fn from(cron: CronText) -> Self {
        cron.0
    }
}

impl fmt::Display for CronText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A schedule in the form of cron, or the word `off`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CronOrOff(Option<CronText>);

impl CronOrOff {
    /// The text of the schedule; none if it is off.
    pub fn as_cron(&self) -> Option<&str> {
        self.0.as_ref().map(CronText::as_str)
    }
}

impl TryFrom<String> for CronOrOff {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, CronError> {
        let read = |text: String| match CronText::try_from(text) {
            Ok(cron) => Ok(Self(Some(cron))),
            Err(error) => Err(CronError { problem: format!("{}; \"off\" is allowed too", error.problem), ..error }),
        };
        if text == "off" { Ok(Self(None)) } else { read(text) }
    }
}

impl From<CronOrOff> for String {
    fn from(cron: CronOrOff) -> Self {
        cron.0.map_or_else(|| "off".to_owned(), String::from)
    }
}

/// Bounds that a site may want to move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Connections that read the log.
    pub log_readers_max: u32,
    /// Connections that read the read models.
    pub read_model_readers_max: u32,
    /// Page cache of one reading connection, KiB.
    pub reader_cache_kib: u32,
    /// Page cache of one writing connection, KiB.
    pub writer_cache_kib: u32,
    /// Seconds that a statement waits for another process' lock.
    pub lock_wait_seconds: u32,
    /// Milliseconds between looks for what another process appended.
    pub foreign_poll_ms: u32,
    /// Milliseconds between looks at an event store's server at most, when nothing comes; they begin at `foreign_poll_ms`.
    pub event_store_poll_max_ms: u32,
    /// Milliseconds between looks for what another process appended to a `PostgreSQL` database, should its notification
    /// be lost.
    pub shared_poll_ms: u32,
    /// Seconds after which a process on a `PostgreSQL` database that says nothing no longer leads.
    pub lease_seconds: u32,
    /// Seconds after which a `PostgreSQL` server ends an idle transaction.
    pub idle_transaction_seconds: u32,
    /// Folded allocation books kept in memory.
    pub books_max: usize,
    /// Memory for all who work through the event log at the same time, MiB.
    pub read_memory_mib: u32,
    /// HTTP connections open at a time; further ones wait.
    pub connections_max: u32,
    /// Those among them that have shown no token.
    pub stranger_connections_max: u32,
    /// Those among them that have shown no token and come from one address.
    pub address_connections_max: u32,
    /// Connections that one token may hold, but for those of a trusted proxy; 0 = any number.
    pub token_connections_max: u32,
    /// Live tails that one token may hold; 0 = any number.
    pub token_tails_max: u32,
    /// `WebSockets` of the built-in broker that one token may hold; 0 = any number.
    pub token_websockets_max: u32,
    /// Requests without a good token that one address may make in a minute; 0 = any number.
    pub address_requests_per_minute: u32,
    /// Requests that one token may make in a minute; 0 = any number.
    pub token_requests_per_minute: u32,
    /// Events that requests with one token may append in a minute; 0 = any number.
    pub token_events_per_minute: u32,
    /// MiB of events that requests with one token may append in a minute; 0 = any number.
    pub token_mib_per_minute: u32,
    /// Seconds between two looks at the token of a live stream.
    pub token_check_seconds: u32,
    /// Seconds that a client may take nothing of its answer.
    pub write_stall_seconds: u32,
    /// Seconds that a client may take to send the head of a request.
    pub request_head_seconds: u32,
    /// Seconds that a connection may rest between two requests.
    pub keep_alive_seconds: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: None,
            event_store: None,
            data_dir: None,
            store_wait: 60,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)),
            trusted_proxies: Networks::default(),
            simulated_clock: None,
            time_zone: Tz::UTC,
            log: LogConfig::default(),
            schedule: Schedule::default(),
            fairshare_divisor: Decimal::from(3),
            reset_total_at_takeover: false,
            retention_days: 90,
            block_creation_scope: BlockCreationScope::default(),
            usage_before_creation_months: 24,
            no_answer_minutes: 15,
            resends_max: 5,
            reset_resend_minutes: 60,
            dispatch_window: 100,
            public_url: None,
            broker: BrokerConfig::default(),
            notices: NoticesConfig::default(),
            mail: MailConfig::default(),
            webhooks: WebhooksConfig::default(),
            metrics: MetricsConfig::default(),
            notary: NotaryConfig::default(),
            secrets: Secrets::default(),
            limits: LimitsConfig::default(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        let text = |text: &str| CronText(text.to_owned());
        Self {
            settings_sync: text("*/10 * * * *"),
            period_boundary: text("0 1 * * *"),
            all_policies: text("0 2 * * *"),
            retention: text("0 3 * * *"),
            replay: CronOrOff::default(),
            checkpoint: CronOrOff(Some(text("*/10 * * * *"))),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            log_readers_max: limits.log_readers_max,
            read_model_readers_max: limits.read_model_readers_max,
            reader_cache_kib: limits.reader_cache_kib,
            writer_cache_kib: limits.writer_cache_kib,
            lock_wait_seconds: 10,
            foreign_poll_ms: 250,
            event_store_poll_max_ms: 2_000,
            shared_poll_ms: 1_000,
            lease_seconds: 5,
            idle_transaction_seconds: 5,
            books_max: limits.books_max,
            read_memory_mib: 64,
            connections_max: 512,
            stranger_connections_max: 256,
            address_connections_max: 128,
            token_connections_max: 128,
            token_tails_max: 10,
            token_websockets_max: 64,
            address_requests_per_minute: 1_200,
            token_requests_per_minute: 120_000,
            token_events_per_minute: 600_000,
            token_mib_per_minute: 128,
            token_check_seconds: 2,
            write_stall_seconds: 30,
            request_head_seconds: 30,
            keep_alive_seconds: 90,
        }
    }
}

impl Config {
    /// The configuration that these sources add up to.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        load::load(sources)
    }

    /// Where a database may be that nobody named.
    pub fn usual_databases(sources: &Sources) -> Vec<PathBuf> {
        load::usual_databases(sources)
    }

    /// Where the database is.
    ///
    /// # Errors
    /// Neither a database nor a data directory is set, and the machine does not say where data belongs.
    pub fn database(&self) -> Result<Database, ConfigError> {
        match (&self.database, &self.data_dir) {
            (Some(database), _) => Ok(database.clone()),
            (None, Some(folder)) => Ok(Database::Sqlite(folder.join("sluice.db"))),
            (None, None) => Err(ConfigError::NoDataDir),
        }
    }

    /// The bounds in force.
    pub fn limits(&self) -> Limits {
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Limits {
            log_readers_max: self.limits.log_readers_max,
            read_model_readers_max: self.limits.read_model_readers_max,
            reader_cache_kib: self.limits.reader_cache_kib,
            writer_cache_kib: self.limits.writer_cache_kib,
            lock_wait: Duration::from_secs(self.limits.lock_wait_seconds.into()),
            foreign_poll: Duration::from_millis(self.limits.foreign_poll_ms.into()),
            event_store_poll_max: Duration::from_millis(self.limits.event_store_poll_max_ms.into()),
            shared_poll: Duration::from_millis(self.limits.shared_poll_ms.into()),
            lease: Duration::from_secs(self.limits.lease_seconds.into()),
            idle_transaction_max: Duration::from_secs(self.limits.idle_transaction_seconds.into()),
            books_max: self.limits.books_max,
            read_memory: count(self.limits.read_memory_mib) << 20,
            connections_max: count(self.limits.connections_max),
            stranger_connections_max: count(self.limits.stranger_connections_max),
            address_connections_max: count(self.limits.address_connections_max),
            token_connections_max: count(self.limits.token_connections_max),
            token_tails_max: count(self.limits.token_tails_max),
            token_websockets_max: count(self.limits.token_websockets_max),
            address_requests_per_minute: self.limits.address_requests_per_minute.into(),
            token_requests_per_minute: self.limits.token_requests_per_minute.into(),
            token_events_per_minute: self.limits.token_events_per_minute.into(),
            token_bytes_per_minute: u64::from(self.limits.token_mib_per_minute) << 20,
            token_check: Duration::from_secs(self.limits.token_check_seconds.into()),
            write_stall: Duration::from_secs(self.limits.write_stall_seconds.into()),
            request_head: Duration::from_secs(self.limits.request_head_seconds.into()),
            keep_alive: Duration::from_secs(self.limits.keep_alive_seconds.into()),
            ..Limits::default()
        }
    }

    /// Defaults of the settings that may change over the API.
    pub fn settings(&self) -> SiteSettings {
        SiteSettings {
            retention_days: self.retention_days,
            no_answer_minutes: self.no_answer_minutes,
            reset_resend_minutes: self.reset_resend_minutes,
            dispatch_window: self.dispatch_window,
            block_creation_scope: self.block_creation_scope,
            fairshare_divisor: self.fairshare_divisor,
            reset_total_at_takeover: self.reset_total_at_takeover,
            usage_before_creation_months: self.usage_before_creation_months,
        }
    }

    /// When jobs are due, in the site's time.
    fn due_times(&self) -> Result<DueTimes, JobError> {
        let texts = CronTexts {
            period_boundary: self.schedule.period_boundary.as_str(),
            settings_sync: self.schedule.settings_sync.as_str(),
            evaluate_all: self.schedule.all_policies.as_str(),
            retention: self.schedule.retention.as_str(),
            replay: self.schedule.replay.as_cron(),
            checkpoint: self.schedule.checkpoint.as_cron().filter(|_| self.notary.options().key.is_some()),
        };
        DueTimes::new(self.time_zone, texts)
    }

    /// What the application is opened with.
    ///
    /// # Errors
    /// There is no place for the database.
    pub fn app_options(&self) -> Result<AppOptions, ConfigError> {
        let database = self.database()?;
        let schedule = self.due_times().map_err(|error| ConfigError::Value(error.to_string()))?;
        let (rabbitmq, missing_secret) = self.rabbit_options();
        Ok(AppOptions {
            database,
            event_store: self.event_store.clone(),
            simulated_clock: self.simulated_clock,
            schedule,
            settings: self.settings(),
            notify: self.notify_options(),
            dispatch: DispatchOptions { missing_secret, resends_max: self.resends_max, ..DispatchOptions::default() },
            rabbitmq,
            broker: BuiltinLimits {
                token_check: self.limits().token_check,
                token_connections_max: self.limits().token_websockets_max,
                ..BuiltinLimits::default()
            },
            limits: self.limits(),
            trusted_proxies: self.trusted_proxies.clone(),
            metrics: self.metrics.clone(),
            notary: self.notary.options(),
            serving: false,
            repairs: true,
        })
    }

    /// Checks that no type makes: numbers out of range.
    fn check(&self) -> Result<(), ConfigError> {
        let at_least_one = [
            ("retention_days", self.retention_days),
            ("no_answer_minutes", self.no_answer_minutes),
            ("dispatch_window", self.dispatch_window),
            ("limits.log_readers_max", self.limits.log_readers_max),
            ("limits.read_model_readers_max", self.limits.read_model_readers_max),
            ("limits.foreign_poll_ms", self.limits.foreign_poll_ms),
            ("limits.event_store_poll_max_ms", self.limits.event_store_poll_max_ms),
            ("limits.shared_poll_ms", self.limits.shared_poll_ms),
            ("limits.lease_seconds", self.limits.lease_seconds),
            ("limits.idle_transaction_seconds", self.limits.idle_transaction_seconds),
            ("limits.connections_max", self.limits.connections_max),
            ("limits.stranger_connections_max", self.limits.stranger_connections_max),
            ("limits.address_connections_max", self.limits.address_connections_max),
            ("limits.token_check_seconds", self.limits.token_check_seconds),
            ("limits.write_stall_seconds", self.limits.write_stall_seconds),
            ("limits.request_head_seconds", self.limits.request_head_seconds),
            ("limits.keep_alive_seconds", self.limits.keep_alive_seconds),
        ];
        for (key, value) in at_least_one {
            if !(1..=1_000_000).contains(&value) {
                return Err(ConfigError::OutOfRange { key, value: value.to_string(), allowed: "1 to 1000000" });
            }
        }
        if !(40..=1_048_576).contains(&self.limits.read_memory_mib) {
            return Err(ConfigError::OutOfRange {
                key: "limits.read_memory_mib",
                value: self.limits.read_memory_mib.to_string(),
                allowed: "40 to 1048576",
            });
        }
        if self.usage_before_creation_months > 1_200 {
            return Err(ConfigError::OutOfRange {
                key: "usage_before_creation_months",
                value: self.usage_before_creation_months.to_string(),
                allowed: "0 to 1200",
            });
        }
        if self.store_wait > 3_600 {
            return Err(ConfigError::OutOfRange {
                key: "store_wait",
                value: self.store_wait.to_string(),
                allowed: "0 to 3600 (seconds)",
            });
        }
        if let Some(at) = self.simulated_clock.filter(|at| instant_complaint(at).is_some()) {
            return Err(ConfigError::OutOfRange {
                key: "simulated_clock",
                value: at.to_rfc3339(),
                allowed: "1970-01-01T00:00:00Z to 9998-12-31T23:59:59Z",
            });
        }
        if self.fairshare_divisor <= Decimal::ZERO {
            return Err(ConfigError::OutOfRange {
                key: "fairshare_divisor",
                value: self.fairshare_divisor.to_string(),
                allowed: "a number above 0",
            });
        }
        self.check_log()?;
        self.check_addresses()?;
        self.check_broker()?;
        self.check_notary()?;
        self.check_notify()
    }
}
