//! Settings that staff may change over the API: defaults from the configuration, changes as events in the site's
//! stream.

use std::sync::{Arc, PoisonError, RwLock};

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock::{Clock, IdSource};
use crate::commands::execute::CommandMeta;
use crate::domain::decimal::number;
use crate::domain::validation::FieldErrors;
use crate::events::envelope::{DecodeError, NewEvent, NotReadBack, Position, RecordedEvent, StreamName};
use crate::events::site::{SITE_STREAM, SettingChanged, SiteEvent};
use crate::store::{EventStore, ExpectedVersion, StoreError};

/// The retention setting under the name that Waldur's users know.
pub const RETENTION_DAYS: &str = "SLURM_POLICY_EVALUATION_LOG_RETENTION_DAYS";

/// Whose used-up resource blocks the creation of further ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockCreationScope {
    /// The customer's own.
    #[default]
    Customer,
    /// Anybody's of the offering.
    Offering,
}

/// The settings.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteSettings {
    /// Days that rows of the evaluation log and the command history are kept, from 1.
    pub retention_days: u32,
    /// Minutes after which an unanswered dispatch counts as unanswered.
    pub no_answer_minutes: u32,
    /// Minutes for which an unanswered raw-usage reset is resent with its dispatch.
    pub reset_resend_minutes: u32,
    /// Unanswered messages per agent at a time.
    pub dispatch_window: u32,
    /// Whose used-up resource blocks creation.
    pub block_creation_scope: BlockCreationScope,
    /// Fairshare = effective hours divided by this.
    pub fairshare_divisor: Decimal,
    /// Reset raw usage at take-over under a `total` policy too.
    pub reset_total_at_takeover: bool,
    /// How many months before the one in which a resource was created its usage is taken.
    pub usage_before_creation_months: u32,
}

impl Default for SiteSettings {
    fn default() -> Self {
        Self {
            retention_days: 90,
            no_answer_minutes: 15,
            reset_resend_minutes: 60,
            dispatch_window: 100,
            block_creation_scope: BlockCreationScope::Customer,
            fairshare_divisor: Decimal::from(3),
            reset_total_at_takeover: false,
            usage_before_creation_months: 24,
        }
    }
}

impl SiteSettings {
    /// Names and values, as the API shows them.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert(RETENTION_DAYS.into(), self.retention_days.into());
        map.insert("no_answer_minutes".into(), self.no_answer_minutes.into());
        map.insert("reset_resend_minutes".into(), self.reset_resend_minutes.into());
        map.insert("dispatch_window".into(), self.dispatch_window.into());
        map.insert("block_creation_scope".into(), json!(self.block_creation_scope));
        map.insert("fairshare_divisor".into(), number(self.fairshare_divisor));
        map.insert("reset_total_at_takeover".into(), self.reset_total_at_takeover.into());
        map.insert("usage_before_creation_months".into(), self.usage_before_creation_months.into());
        map
    }

    /// Sets one by name; the complaint names the value and what is allowed.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), String> {
        match name {
            RETENTION_DAYS => self.retention_days = whole(value, 1, 36_500)?,
            "no_answer_minutes" => self.no_answer_minutes = whole(value, 1, 10_080)?,
            "reset_resend_minutes" => self.reset_resend_minutes = whole(value, 0, 10_080)?,
            "dispatch_window" => self.dispatch_window = whole(value, 1, 10_000)?,
            "block_creation_scope" => {
                self.block_creation_scope = serde_json::from_value(value.clone())
                    .map_err(|_| format!("{value} is not allowed: \"customer\" or \"offering\"."))?;
            }
            "usage_before_creation_months" => self.usage_before_creation_months = whole(value, 0, 1_200)?,
            "fairshare_divisor" => {
                let divisor = value.to_string().trim_matches('"').parse::<Decimal>().ok();
                self.fairshare_divisor = divisor
                    .filter(|d| *d > Decimal::ZERO && d.to_f64().is_some_and(|f| f <= 1e9))
                    .ok_or_else(|| format!("{value} is not allowed: a number above 0 and up to 1000000000."))?;
            }
            "reset_total_at_takeover" => {
                self.reset_total_at_takeover =
                    value.as_bool().ok_or_else(|| format!("{value} is not allowed: true or false."))?;
            }
            _ => {
                let known: Vec<String> = self.to_json().keys().cloned().collect();
                return Err(format!("There is no such setting; there are {}.", known.join(", ")));
            }
        }
        Ok(())
    }
}

fn whole(value: &Value, low: u32, high: u32) -> Result<u32, String> {
    let given = value.as_u64().or_else(|| value.as_str()?.parse().ok()).and_then(|n| u32::try_from(n).ok());
    given
        .filter(|n| (low..=high).contains(n))
        .ok_or_else(|| format!("{value} is not allowed: a whole number from {low} to {high}."))
}

/// Why settings could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Something is not allowed, by name.
    #[error("the settings are not valid")]
    Invalid(FieldErrors),
    /// The store failed.
    #[error("the event store failed")]
    Store(#[from] StoreError),
}

/// The settings in force.
pub struct Settings {
    store: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    defaults: SiteSettings,
    current: RwLock<Arc<SiteSettings>>,
}

impl Settings {
    /// Settings with these defaults; [`Self::load`] brings in what was changed.
    pub fn new(store: Arc<dyn EventStore>, clock: Arc<dyn Clock>, defaults: SiteSettings) -> Self {
        let current = RwLock::new(Arc::new(defaults.clone()));
        Self { store, clock, defaults, current }
    }

    /// What is in force.
    pub fn current(&self) -> Arc<SiteSettings> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the site stream; answers with its version.
    pub async fn load(&self) -> Result<u64, StoreError> {
        let events = site_events(&*self.store).await?;
        let mut settings = self.defaults.clone();
        for recorded in &events {
            let changed = match SiteEvent::decode(&recorded.event_type, &recorded.payload) {
                Some(Ok(SiteEvent::SettingChanged(changed))) => changed,
                Some(Err(problem)) => {
                    let unsound = DecodeError::new(recorded, problem);
                    self.store.note(&unsound);
                    return Err(StoreError::Unsound(Box::new(unsound)));
                }
                _ => continue,
            };
            if let Err(complaint) = settings.set(&changed.name, &changed.to) {
                tracing::warn!(name = changed.name, %complaint, "a recorded setting is passed over");
            }
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        Ok(events.last().map_or(0, |e| e.version))
    }

    /// Changes settings, all or none; what is the same already is not recorded.
    pub async fn change(
        &self,
        wanted: &Map<String, Value>,
        meta: &CommandMeta,
    ) -> Result<Option<Position>, SettingsError> {
        let version = self.load().await?;
        let before = self.current().to_json();
        let mut settings = (*self.current()).clone();
        let mut errors = FieldErrors::default();
        for (name, value) in wanted {
            if let Err(complaint) = settings.set(name, value) {
                errors.add(name, complaint);
            }
        }
        errors.into_result().map_err(SettingsError::Invalid)?;
        let after = settings.to_json();
        let changed = after.into_iter().filter(|(name, to)| before.get(name) != Some(to)).map(|(name, to)| {
            let from = before.get(&name).cloned().unwrap_or_default();
            SiteEvent::SettingChanged(SettingChanged { name, from, to })
        });
        let now = self.clock.now();
        let events = changed.map(|event| site_event(&event, now, meta)).collect::<Result<Vec<_>, _>>();
        let events = events.map_err(StoreError::from)?;
        if events.is_empty() {
            return Ok(None);
        }
        let appended = self.store.append(&site_stream(), ExpectedVersion::Exact(version), events).await?;
        self.load().await?;
        Ok(Some(appended.position))
    }
}

/// The stream of site events.
///
/// # Panics
/// Never: the name is a word.
pub fn site_stream() -> StreamName {
    StreamName::new(SITE_STREAM).expect("a word is a stream name")
}

/// An event of the site stream, ready to append.
pub fn site_event(
    event: &SiteEvent,
    now: chrono::DateTime<chrono::Utc>,
    meta: &CommandMeta,
) -> Result<NewEvent, NotReadBack> {
    Ok(NewEvent {
        event_id: IdSource.fresh(),
        event_type: event.event_type(),
        occurred_at: now,
        metadata: meta.metadata(),
        payload: event.to_append()?,
    })
}

/// The whole site stream.
pub async fn site_events(store: &dyn EventStore) -> Result<Vec<RecordedEvent>, StoreError> {
    const PAGE: usize = 1_000;
    let mut events: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = events.last().map_or(0, |e| e.version);
        let page = store.read_stream(&site_stream(), after, PAGE).await?;
        let done = page.is_empty();
        events.extend(page);
        if done {
            return Ok(events);
        }
    }
}
