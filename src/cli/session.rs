//! The context of a command: the configuration, the opened database, and the caller.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Globals, database};
use crate::app::{App, AppError};
use crate::clock::IdSource;
use crate::commands::execute::CommandMeta;
use crate::config::{Config, ConfigError, LogConfig, Sources};
use crate::domain::ids::{OfferingId, PolicyId, ResourceId, slug_uuid};
use crate::events::envelope::Actor;
use crate::site::Site;

/// How long a command waits for a running server to know what it changed.
const SERVER_KNOWS_WITHIN: Duration = Duration::from_secs(15);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration or a flag is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Arguments that do not go together, or name nothing.
    #[error("{0}")]
    Usage(String),
    /// The process cannot run.
    #[error("the runtime cannot start")]
    Runtime(#[source] std::io::Error),
    /// The database cannot be opened or brought up to date.
    #[error(transparent)]
    App(AppError),
    /// Something was not found, or not done.
    #[error("{0}")]
    Failed(String),
    /// Something failed underneath.
    #[error("{0}")]
    Because(String, #[source] Box<dyn Error + Send + Sync>),
}

impl From<AppError> for CliError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Backwards { .. } => Self::Failed(format!(
                "{error}. To go on from where it stands, leave out simulated_clock (--simulated-clock, \
                 SLUICE_SIMULATED_CLOCK): the database keeps its time"
            )),
            error => Self::App(error),
        }
    }
}

impl CliError {
    /// A failure with what lies behind it.
    pub(super) fn because(what: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Because(what.into(), Box::new(source))
    }

    /// The exit status: 2 for wrong usage, else 1.
    pub fn status(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) => 2,
            _ => 1,
        }
    }
}

/// An opened database and who asks.
pub(super) struct Session {
    pub(super) config: Config,
    pub(super) app: Arc<App>,
    served: bool,
}

/// The configuration that flags, environment and file add up to.
pub(super) fn config_of(globals: &Globals, listen: Option<&String>) -> Result<Config, ConfigError> {
    let flags = [
        ("database", globals.database.as_ref()),
        ("event_store", globals.event_store.as_ref()),
        ("data_dir", globals.data_dir.as_ref()),
        ("simulated_clock", globals.simulated_clock.as_ref()),
        ("listen", listen),
    ];
    let flags = flags.into_iter().filter_map(|(key, value)| Some((key, value?.clone()))).collect();
    Config::load(&Sources::of_process(globals.config.clone(), flags))
}

impl Session {
    /// Opens the database, which must be there: a command that is led to a wrong place makes nothing.
    pub(super) async fn open(globals: &Globals) -> Result<Self, CliError> {
        let config = config_of(globals, None)?;
        let options = config.app_options()?;
        if !App::is_made(&options).await? {
            return Err(database::missing(&config, &options.database));
        }
        Box::pin(Self::of(config)).await
    }

    /// Opens the database of a configuration, and makes it if there is none.
    pub(super) async fn of(config: Config) -> Result<Self, CliError> {
        // A command prints its results; its log is for what goes wrong, unless somebody asks for more.
        let quiet = LogConfig { level: "warn".to_owned(), ..config.log.clone() };
        let log = if config.log == LogConfig::default() { &quiet } else { &config.log };
        crate::telemetry::start(log).map_err(|error| ConfigError::Value(format!("log.level: {error}")))?;
        let mut options = config.app_options()?;
        let served = options.database.file().is_none_or(Path::exists) && App::is_served(&options.database).await;
        // Files that a server has open must not be moved.
        options.repairs = !served;
        let app = App::open(options).await?;
        if served && app.leases.is_some() {
            app.consumers.leave_to_leader();
        }
        Ok(Self { config, app, served })
    }

    /// Whether a server runs on the database.
    pub(super) fn is_served(&self) -> bool {
        self.served
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.app.clock.now()
    }

    #[expect(clippy::unused_self, reason = "who asks belongs to the session")]
    pub(super) fn meta(&self) -> CommandMeta {
        let correlation_id: Uuid = IdSource.fresh();
        CommandMeta { actor: Actor::CLI, correlation_id, causation_id: None, reason: None }
    }

    /// Brings the read side up to date. Where a server runs, re-evaluations are left to it, and it gets time to know.
    pub(super) async fn settle(&self) -> Result<(), CliError> {
        if self.served {
            self.app.consumers.settle().await.map_err(AppError::from)?;
            if !self.app.known_to_server(SERVER_KNOWS_WITHIN).await? {
                tracing::warn!("the server is still working on what this changed");
            }
            self.app.consumers.settle().await.map_err(AppError::from)?;
        } else {
            self.app.settle().await?;
        }
        Ok(())
    }

    pub(super) fn site(&self) -> Site {
        Site {
            registry: Arc::clone(&self.app.registry),
            registry_commands: Arc::clone(&self.app.registry_commands),
            allocations: Arc::clone(&self.app.allocations),
            directory: self.app.directory.clone(),
            read: self.app.read.clone(),
        }
    }

    /// The policy of an id or a slug.
    pub(super) fn policy(&self, name: &str) -> Result<PolicyId, CliError> {
        let state = self.app.registry.read();
        let by_id = name.parse().ok().filter(|id| state.policy(*id).is_some());
        let by_slug = || state.policies().find(|p| p.facts.slug == name).map(|p| p.id());
        by_id.or_else(by_slug).ok_or_else(|| CliError::Failed(format!("there is no policy {name:?} (by id or slug)")))
    }

    /// The offering of an id or a slug.
    pub(super) fn offering(&self, name: &str) -> Result<OfferingId, CliError> {
        let state = self.app.registry.read();
        let by_id = name.parse().ok().filter(|id| state.offering(*id).is_some());
        let by_slug = || state.offerings().find(|o| o.facts.facts.slug == name).map(|o| o.facts.facts.offering);
        by_id.or_else(by_slug).ok_or_else(|| {
            let mut slugs: Vec<&str> = state.offerings().map(|o| o.facts.facts.slug.as_str()).collect();
            slugs.sort_unstable();
            slugs.truncate(20);
            let there =
                if slugs.is_empty() { "there are none".to_owned() } else { format!("there are {}", slugs.join(", ")) };
            CliError::Failed(format!("there is no offering {name:?}; {there}"))
        })
    }

    /// The resource of an id or a slug.
    pub(super) async fn resource(&self, name: &str) -> Result<ResourceId, CliError> {
        let known = |id: &ResourceId| self.app.registry.read().resource(*id).is_some();
        if let Some(id) = name.parse().ok().filter(known) {
            return Ok(id);
        }
        let derived = ResourceId::from(slug_uuid("resource", name));
        if known(&derived) {
            return Ok(derived);
        }
        let filter = crate::projections::registry::ResourceFilter { slug: Some(name.to_owned()), ..Default::default() };
        let page = crate::projections::Page::first(1);
        let found = crate::projections::registry::resources(&self.app.read, &filter, page).await;
        let (rows, _) = found.map_err(|error| CliError::because("the registry's tables cannot be read", error))?;
        let row = rows.first().map(|row| row.resource);
        row.ok_or_else(|| CliError::Failed(format!("there is no resource {name:?} (by id or slug)")))
    }

    /// The slug of a resource, as far as the read models know it; else its id.
    pub(super) async fn resource_name(&self, resource: ResourceId) -> Result<String, CliError> {
        let found = crate::projections::registry::resource(&self.app.read, resource).await;
        let row = found.map_err(|error| CliError::because("the registry's tables cannot be read", error))?;
        Ok(row.map_or_else(|| resource.to_string(), |row| row.slug))
    }
}
