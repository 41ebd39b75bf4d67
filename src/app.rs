//! The composition root: opens a database and assembles the parts.
//!
//! The server, a command beside it and a test all get the same parts; only the server runs the background tasks.
//! [`App::settle`] does their work synchronously for everybody else.

mod claim;
mod clock_kind;
mod duties;
mod event_log;
mod known;
mod listening;
mod made;
mod read_models;
mod rest;
mod shared;
pub mod soundness;
mod sweep;
mod visible;
mod wait;
mod writable;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::admission::Networks;
use crate::clock::{Clock, SimulatedClock, SystemClock};
use crate::commands::allocation::SiteRules;
use crate::commands::execute::Allocations;
use crate::commands::registry::RegistryCommands;
use crate::config::MetricsConfig;
use crate::directory::{Directory, DirectoryError};
use crate::dispatch::broker::Broker;
use crate::dispatch::builtin::{Builtin, BuiltinLimits};
use crate::dispatch::rabbitmq::RabbitOptions;
use crate::dispatch::webhooks::{WebhookStore, Webhooks};
use crate::dispatch::{DispatchError, DispatchOptions, Dispatching, Foundation, KnownQueues, Publisher};
use crate::events::Event;
use crate::events::envelope::Position;
use crate::limits::Limits;
use crate::notary::Notary;
use crate::notary::options::NotaryOptions;
use crate::notary::tables::Tables;
use crate::notify::{Notifier, NotifierParts, NotifyConsumer, NotifyError, NotifyOptions};
use crate::operations::Operations;
use crate::projections;
use crate::reactions::{ManualHoldsConsumer, ReactionConsumer, ReactionError, Reactions, UnsettledConsumer};
use crate::registry::{FollowError, Follower, Registry, Served};
use crate::replay::Verifier;
use crate::retention::Retention;
use crate::scheduler::{Run, Schedule, Scheduler, SchedulerError, SchedulerParts};
use crate::site_settings::{Settings, SiteSettings};
use crate::store::address::Database;
use crate::store::consumer::{ConsumerLoop, LoopError};
use crate::store::eventstoredb::EventStoreAddress;
use crate::store::guard::Guard;
use crate::store::lease::Leases;
use crate::store::meta::Meta;
use crate::store::postgres::PostgresStore;
use crate::store::sql::{ReadDb, SqlError};
use crate::store::sqlite::SqliteStore;
use crate::store::{EventStore, Now, StoreError, private};
use crate::supervise::{Concern, Workers};

pub use claim::ServeClaim;
pub use event_log::EventLogError;
pub use listening::reached;
pub use shared::{LEADER, Registering};

/// The key under which a database keeps its simulated time.
pub const SIMULATED_NOW: &str = "simulated_now";

/// What an [`App`] is opened with.
#[derive(Debug, Clone)]
pub struct AppOptions {
    /// Where the database is.
    pub database: Database,
    /// Where the events are, if not in that database.
    pub event_store: Option<EventStoreAddress>,
    /// Live on a simulated clock that stands at this instant, or later.
    pub simulated_clock: Option<DateTime<Utc>>,
    /// When jobs are due, and the site's time zone with it.
    pub schedule: Schedule,
    /// Defaults of the settings that may change over the API.
    pub settings: SiteSettings,
    /// How notices travel.
    pub notify: NotifyOptions,
    /// How messages to agents do.
    pub dispatch: DispatchOptions,
    /// Bounds of the built-in broker.
    pub broker: BuiltinLimits,
    /// The site's `RabbitMQ`; none = the built-in broker.
    pub rabbitmq: Option<RabbitOptions>,
    /// Bounds.
    pub limits: Limits,
    /// Proxies that name the client's address.
    pub trusted_proxies: Networks,
    /// Whether metrics are collected, and who may read them.
    pub metrics: MetricsConfig,
    /// What signs the log.
    pub notary: NotaryOptions,
    /// This process is the server: it says how far it has followed the log.
    pub serving: bool,
    /// Unusable read models are moved aside and rebuilt; otherwise they are an error.
    pub repairs: bool,
}

impl AppOptions {
    /// A database, such as the file of a log, on the real clock, with the defaults.
    pub fn at(database: impl Into<Database>) -> Self {
        Self {
            database: database.into(),
            event_store: None,
            simulated_clock: None,
            schedule: Schedule::daily(chrono_tz::Tz::UTC),
            settings: SiteSettings::default(),
            notify: NotifyOptions::default(),
            dispatch: DispatchOptions::default(),
            broker: BuiltinLimits::default(),
            rabbitmq: None,
            limits: Limits::default(),
            trusted_proxies: Networks::default(),
            metrics: MetricsConfig::default(),
            notary: NotaryOptions::default(),
            serving: false,
            repairs: true,
        }
    }
}

/// Why a database could not be opened or brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The folder or a file in it.
    #[error("{} cannot be opened", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The event store.
    #[error("the event store failed")]
    Store(#[from] StoreError),
    /// A store that did not answer for as long as the server waits.
    #[error("{store} did not answer within {seconds} s (store_wait)")]
    NoAnswer {
        /// Which.
        store: String,
        /// How long it was waited for.
        seconds: u64,
        /// What is in the way.
        source: StoreError,
    },
    /// A store that no waiting makes usable.
    #[error("{store} cannot be used")]
    Unusable {
        /// Which.
        store: String,
        /// What is in the way.
        source: StoreError,
    },
    /// The read models do not go with the log, or cannot be used.
    #[error("{0}")]
    ReadModels(String),
    /// The read models.
    #[error("the read models failed")]
    Sql(#[from] SqlError),
    /// The directory.
    #[error("the directory failed")]
    Directory(#[from] DirectoryError),
    /// The consumers.
    #[error("the read models cannot be brought up to date")]
    Loop(#[from] LoopError),
    /// The registry.
    #[error("the registry cannot follow the event log")]
    Follow(#[from] FollowError),
    /// A re-evaluation.
    #[error("a re-evaluation failed")]
    Reaction(#[from] ReactionError),
    /// A scheduled job.
    #[error("a scheduled job failed")]
    Scheduler(#[from] SchedulerError),
    /// Notices.
    #[error("notices cannot be sent")]
    Notify(#[from] NotifyError),
    /// The log is not the one that the database goes with, or does not answer.
    #[error(transparent)]
    EventLog(#[from] EventLogError),
    /// Messages to agents.
    #[error("messages to agents cannot be worked on")]
    Dispatch(#[from] DispatchError),
    /// Webhooks.
    #[error("the client for webhooks cannot be set up")]
    Webhooks(#[from] reqwest::Error),
    /// Another server runs on this database.
    #[error("another sluice serves {} already; one at a time", .0.display())]
    Served(PathBuf),
    /// The clock asked for is not the one the database lives by.
    #[error("this database lives by the {kind} clock: {hint}")]
    ClockKind {
        /// real or simulated.
        kind: String,
        /// What to do.
        hint: &'static str,
    },
    /// The simulated clock would go backwards.
    #[error("the simulated clock stands at {now}; {asked} is earlier, and it never goes backwards")]
    Backwards {
        /// Where it stands.
        now: DateTime<Utc>,
        /// What was asked for.
        asked: DateTime<Utc>,
    },
}

/// The clock of a database.
#[derive(Clone)]
pub enum AppClock {
    /// The machine's.
    Real,
    /// One that moves only when told.
    Simulated(Arc<SimulatedClock>),
}

/// What a database is, once it is open.
struct Opened {
    clock: Arc<dyn Clock>,
    clock_kind: AppClock,
    guard: Arc<Guard>,
    known: (Arc<Registry>, Arc<Follower>),
    read: ReadDb,
    beside: ReadDb,
    leases: Option<Leases>,
    now: Now,
}

/// All parts, put together.
pub struct App {
    /// What it was opened with.
    pub options: AppOptions,
    /// The present instant.
    pub clock: Arc<dyn Clock>,
    /// The same clock, by kind.
    pub clock_kind: AppClock,
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// The same with what was set aside, for those who look after it.
    pub guard: Arc<Guard>,
    /// The read models.
    pub read: ReadDb,
    /// Small facts beside the log.
    pub meta: Meta,
    /// What exists.
    pub registry: Arc<Registry>,
    /// Keeps the registry in step.
    pub follower: Arc<Follower>,
    /// Commands on allocations.
    pub allocations: Arc<Allocations>,
    /// Commands on the registry.
    pub registry_commands: Arc<RegistryCommands>,
    /// Evaluate, dry run, preview and the like.
    pub operations: Arc<Operations>,
    /// What feeds the read models.
    pub consumers: Arc<ConsumerLoop<Event>>,
    /// Persons, addresses, tokens.
    pub directory: Directory,
    /// Re-evaluations after a change of the registry.
    pub reactions: Arc<Reactions>,
    /// Compaction and pruning of old rows.
    pub retention: Arc<Retention>,
    /// Makes recorded decisions again and records whether they come out the same.
    pub verifier: Arc<Verifier>,
    /// Signs the log.
    pub notary: Arc<Notary>,
    /// Mail and webhooks.
    pub notifier: Arc<Notifier>,
    /// Messages to agents.
    pub publisher: Arc<Publisher>,
    /// Other systems that hear of resources.
    pub webhooks: Arc<Webhooks>,
    /// What agents log.
    pub agent_logs: crate::agent_logs::AgentLogs,
    /// The queues that agents registered.
    pub agent_queues: Arc<KnownQueues>,
    /// Where the queues of agents are.
    pub broker: Arc<dyn Broker>,
    /// The broker of this process, if the site has no other.
    pub builtin_broker: Option<Arc<Builtin>>,
    /// Jobs.
    pub scheduler: Arc<Scheduler>,
    /// Settings changed over the API.
    pub settings: Arc<Settings>,
    /// Who of several processes on the database does what alone; none where there is one process.
    pub leases: Option<Leases>,
    registering: tokio::sync::Mutex<()>,
    written: writable::Written,
    /// Changes of settings that this process has applied, from any process.
    settings_taken: std::sync::atomic::AtomicU64,
    /// The background workers, and their state.
    pub workers: Workers,
    /// Cancelled when the server shuts down, to end endless answers.
    pub stopping: CancellationToken,
}

impl App {
    /// Opens the log alone, as it is stored: for those who look after it, even where nothing else can be opened.
    ///
    /// # Errors
    /// The database or the event store does not answer, or the two do not go together.
    pub async fn open_log(options: &AppOptions) -> Result<Arc<dyn EventStore>, AppError> {
        let now: Now = Arc::new(crate::clock::real_now);
        let store = own_log(options, &now).await?;
        let meta = Meta::new(ReadDb::open_beside_log(&options.database, &options.limits).await?);
        let (address, limits) = (options.event_store.as_ref(), &options.limits);
        Ok(Box::pin(event_log::choose(store, address, &meta, &now, limits)).await?)
    }

    /// Opens a database, making it if it is new, and puts the parts together. Nothing runs yet.
    pub async fn open(options: AppOptions) -> Result<Arc<Self>, AppError> {
        let folder = options.database.file().and_then(Path::parent).filter(|f| !f.as_os_str().is_empty());
        if let Some(folder) = folder {
            private::folder(folder).map_err(|source| AppError::File { path: folder.to_owned(), source })?;
        }
        // The clock that stamps `recorded_at` is known only once the database says which one it lives by.
        let late: Arc<std::sync::OnceLock<Arc<dyn Clock>>> = Arc::default();
        let now: Now = {
            let late = Arc::clone(&late);
            Arc::new(move || late.get().map_or_else(crate::clock::real_now, |clock| clock.now()))
        };
        let store = own_log(&options, &now).await?;
        let beside = ReadDb::open_beside_log(&options.database, &options.limits).await?;
        let meta = Meta::new(beside.clone());
        let clock_kind = clock_kind::clock_of(&meta, options.simulated_clock).await?;
        let clock: Arc<dyn Clock> = match &clock_kind {
            AppClock::Real => Arc::new(SystemClock),
            AppClock::Simulated(clock) => Arc::clone(clock) as Arc<dyn Clock>,
        };
        // Set once, right here.
        let _ = late.set(Arc::clone(&clock));
        let log =
            Box::pin(event_log::choose(store, options.event_store.as_ref(), &meta, &now, &options.limits)).await?;
        let guard = soundness::guard(log, &meta, &options.limits).await?;
        let (read, known) = Box::pin(known::opened(&options, &guard, &meta)).await?;
        let leases = shared::leases(&options)?;
        let parts = Opened { clock, clock_kind, guard, known, read, beside, leases, now };
        Box::pin(Self::assemble(options, parts)).await
    }

    #[expect(clippy::too_many_lines, reason = "one list of all parts, in the order in which they need each other")]
    async fn assemble(options: AppOptions, opened: Opened) -> Result<Arc<Self>, AppError> {
        let Opened { clock, clock_kind, guard, known, read, beside, leases, now } = opened;
        let store: Arc<dyn EventStore> = Arc::clone(&guard) as Arc<dyn EventStore>;
        let (meta, directory) = (Meta::new(beside.clone()), Directory::new(beside.clone()));
        let (registry, follower) = known;
        let settings = known::settings((&store, &follower), &clock, &options).await?;
        let rules = rules(&options, &settings.current());
        let allocations = Arc::new(Allocations::new(
            Arc::clone(&store),
            Arc::clone(&registry),
            Arc::clone(&follower),
            Arc::clone(&clock),
            rules,
            options.limits.books_max,
        ));
        let registry_commands =
            Arc::new(RegistryCommands::new(Arc::clone(&store), Arc::clone(&registry), Arc::clone(&clock)));
        let operations = Arc::new(Operations::new(
            Arc::clone(&allocations),
            Arc::clone(&registry),
            Arc::clone(&follower),
            Arc::clone(&clock),
        ));
        let reactions = Arc::new(Reactions::new(
            read.clone(),
            (Arc::clone(&store), Arc::clone(&clock)),
            Arc::clone(&registry),
            Arc::clone(&follower),
            Arc::clone(&allocations),
        ));
        let (known, told, site) = (Arc::clone(&settings), Arc::clone(&allocations), Arc::new(options.clone()));
        reactions.reload_with(Box::new(move || {
            let (known, told, site) = (Arc::clone(&known), Arc::clone(&told), Arc::clone(&site));
            Box::pin(async move {
                known.load().await?;
                told.set_rules(self::rules(&site, &known.current()));
                Ok(())
            })
        }));
        let hold_placed = Arc::new(tokio::sync::Notify::new());
        let feed = ConsumerLoop::new(Arc::clone(&store), read.clone(), Event::decode, now, options.limits.clone());
        let consumers = projections::consumers(feed)
            .with(ReactionConsumer::new(&reactions))
            .with(ManualHoldsConsumer::new(Arc::clone(&hold_placed)))
            .with(UnsettledConsumer::default());
        let consumers = if options.serving { consumers.with(Served::new(Arc::clone(&follower))) } else { consumers };
        let notify = NotifyOptions { delivers: options.notify.delivers || options.serving, ..options.notify.clone() };
        let wake = Arc::new(tokio::sync::Notify::new());
        // Pending notices depend on the endpoints and the transport: the delivering process records them.
        let consumers =
            if notify.delivers { consumers.with(NotifyConsumer::new(&notify, Arc::clone(&wake))) } else { consumers };
        let foundation = Foundation {
            read: read.clone(),
            store: Arc::clone(&store),
            registry: Arc::clone(&registry),
            follower: Arc::clone(&follower),
            allocations: Arc::clone(&allocations),
            settings: Arc::clone(&settings),
            clock: Arc::clone(&clock),
            directory: directory.clone(),
            database: options.database.clone(),
        };
        let dispatching = dispatching(&foundation, &options)?;
        let consumers = Arc::new(consumers.with(dispatching.consumer(&foundation)));
        if options.serving && leases.is_some() {
            consumers.leave_to_leader();
        }
        let parts = NotifierParts {
            read: read.clone(),
            store: Arc::clone(&store),
            registry: Arc::clone(&registry),
            follower: Arc::clone(&follower),
            allocations: Arc::clone(&allocations),
            directory: directory.clone(),
            clock: Arc::clone(&clock),
            database: options.database.clone(),
            wake,
        };
        let notifier = Arc::new(Notifier::new(parts, notify)?);
        let webhooks = Arc::new(Webhooks::new(&foundation, WebhookStore::new(beside), options.notify.egress.clone())?);
        let retention = Arc::new(Retention::new(
            Arc::clone(&store),
            Arc::clone(&consumers),
            read.clone(),
            Arc::clone(&settings),
            Arc::clone(&clock),
        ));
        let (log, books_max) = (Arc::clone(guard.log()), options.limits.books_max);
        let verifier = Arc::new(Verifier::new(Arc::clone(&store), log, Arc::clone(&clock), books_max));
        let logs = (Arc::clone(&store), Arc::clone(guard.log()));
        let tables = Tables::new(meta.tables().clone());
        let notary = Arc::new(Notary::new(logs, tables, Arc::clone(&clock), &options.notary));
        let scheduler = Arc::new(Scheduler::new(SchedulerParts {
            schedule: options.schedule.clone(),
            operations: Arc::clone(&operations),
            retention: Arc::clone(&retention),
            verifier: Arc::clone(&verifier),
            notary: Arc::clone(&notary),
            meta: meta.clone(),
            read: read.clone(),
            clock: Arc::clone(&clock),
            wake: hold_placed,
        }));
        sweep::sweep(&scheduler, &dispatching.publisher, &options.dispatch);
        Ok(Arc::new(Self {
            options,
            clock,
            clock_kind,
            store,
            webhooks,
            agent_logs: crate::agent_logs::AgentLogs::new(read.clone()),
            guard,
            read,
            meta,
            registry,
            follower,
            allocations,
            registry_commands,
            operations,
            consumers,
            directory,
            reactions,
            retention,
            verifier,
            notary,
            notifier,
            publisher: dispatching.publisher,
            agent_queues: dispatching.queues,
            broker: dispatching.broker,
            builtin_broker: dispatching.builtin,
            scheduler,
            settings,
            leases,
            registering: tokio::sync::Mutex::new(()),
            written: writable::Written::default(),
            settings_taken: std::sync::atomic::AtomicU64::default(),
            workers: Workers::default(),
            stopping: CancellationToken::new(),
        }))
    }

    /// Does the work of the background here and now: read models, re-evaluations, notices that are due if this process
    /// delivers, until nothing is left to do.
    pub async fn settle(&self) -> Result<Position, AppError> {
        let never = CancellationToken::new();
        loop {
            self.follower.catch_up().await?;
            let position = self.consumers.settle().await?;
            // Notices wait for what stands in the log to be folded, which a re-evaluation has just added to.
            if self.reactions.work(&never).await? > 0
                || self.publisher.work(&never).await? > 0
                || self.notifier.work(&never).await? > 0
            {
                continue;
            }
            return Ok(position);
        }
    }

    /// The same, but a failing worker blocks no other, and a stalled consumer only those that need it: `workers` and
    /// the consumers show the state of each.
    pub async fn settle_what_goes_on(&self) -> Result<(), AppError> {
        let never = CancellationToken::new();
        let worker = |name| self.workers.get(name, Concern::Delivery);
        loop {
            known::as_far_as_known(self.follower.catch_up().await)?;
            self.consumers.settle().await?;
            let (reactions, messages, notices) = (worker("re_evaluations"), worker("messages"), worker("notices"));
            let done = [
                reactions.pass(self.reactions.work(&never)).await.unwrap_or(0),
                messages.pass(self.publisher.work(&never)).await.unwrap_or(0),
                notices.pass(self.notifier.work(&never)).await.unwrap_or(0),
            ];
            if done == [0, 0, 0] {
                return Ok(());
            }
        }
    }

    /// Moves a simulated clock forward, with everything that is due on the way, and waits until all consumers are there.
    /// Nothing on a real clock.
    pub async fn advance_clock(&self, to: DateTime<Utc>) -> Result<Vec<Run>, AppError> {
        let AppClock::Simulated(clock) = &self.clock_kind else { return Ok(Vec::new()) };
        let now = clock.now();
        if to < now {
            return Err(AppError::Backwards { now, asked: to });
        }
        let settle =
            || async { self.settle().await.map(drop).map_err(|error| format!("the read side stands still: {error}")) };
        if to == now {
            self.settle().await?;
            return Ok(Vec::new());
        }
        Ok(self.scheduler.advance(clock, to, settle).await?)
    }

    /// Takes over settings that were changed.
    pub async fn reload_settings(&self) -> Result<(), AppError> {
        self.settings.load().await?;
        self.allocations.set_rules(rules(&self.options, &self.settings.current()));
        Ok(())
    }
}

/// The log in the database itself.
async fn own_log(options: &AppOptions, now: &Now) -> Result<Arc<dyn EventStore>, StoreError> {
    let (now, limits) = (Arc::clone(now), options.limits.clone());
    Ok(match &options.database {
        Database::Sqlite(log) => Arc::new(SqliteStore::open(log, now, limits).await?),
        Database::Postgres(url) => Arc::new(Box::pin(PostgresStore::open(url, now, limits)).await?),
    })
}

fn dispatching(foundation: &Foundation, options: &AppOptions) -> Result<Dispatching, DispatchError> {
    let mut dispatch = options.dispatch.clone();
    dispatch.publishes |= options.serving;
    Dispatching::new(foundation, dispatch, options.broker.clone(), options.rabbitmq.clone())
}

fn rules(options: &AppOptions, settings: &SiteSettings) -> SiteRules {
    SiteRules {
        zone: options.schedule.zone(),
        fairshare_divisor: settings.fairshare_divisor,
        reset_total_at_takeover: settings.reset_total_at_takeover,
        usage_before_creation_months: settings.usage_before_creation_months,
        reset_resend: chrono::TimeDelta::minutes(settings.reset_resend_minutes.into()),
    }
}
