//! Follows the log for each webhook consumer, and calls its address: in order, at least once, with growing pauses after
//! a failure. A message has the state at the time of the call; a consumer that returns gets the messages that it
//! missed.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use reqwest::{StatusCode, Url};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{MESSAGES, Webhook, WebhookStore};
use crate::clock::Clock;
use crate::commands::execute::{Allocations, CommandError};
use crate::dispatch::{Foundation, message};
use crate::domain::ids::ResourceId;
use crate::egress::{Caller, Egress};
use crate::events::Event;
use crate::events::allocation::AllocationEvent;
use crate::events::dispatch::AgentMessage;
use crate::events::envelope::RecordedEvent;
use crate::registry::{FollowError, Follower, Registry, book_of};
use crate::store::sql::SqlError;
use crate::store::{EventStore, StoreError};
use crate::supervise::Worker;

/// Events read at a time.
const READ: usize = 500;

/// How often it looks by itself for what is due again, and where there is no consumer, whether one was registered elsewhere.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const LOOK_FOR_FIRST: Duration = Duration::from_secs(30);

/// The pause after a first failure, and the longest one.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_mins(15);

/// Failures in a row after which nothing is sent any more: about a day.
const ATTEMPTS_MAX: u32 = 100;

/// How long a call may take.
const CALL_WITHIN: Duration = Duration::from_secs(10);

/// The id of what a call is about; a repeated call has the same.
const EVENT_HEADER: &str = "sluice-event";

/// The worker's dependencies.
struct Parts {
    webhooks: WebhookStore,
    log: Arc<dyn EventStore>,
    registry: Arc<Registry>,
    follower: Arc<Follower>,
    allocations: Arc<Allocations>,
    clock: Arc<dyn Clock>,
}

/// Why a consumer did not get on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The address did not take a message.
    #[error("{reason}")]
    Refused { reason: String, for_good: bool },
    /// The tables failed.
    #[error("the tables failed")]
    Sql(#[from] SqlError),
    /// The log failed.
    #[error("the event store failed")]
    Store(#[from] StoreError),
    /// A resource cannot be read.
    #[error("a resource cannot be read")]
    Book(#[from] CommandError),
    /// The registry cannot follow the log.
    #[error("the registry cannot follow the event log")]
    Registry(#[from] FollowError),
}

/// Calls the addresses of webhook consumers.
pub struct Webhooks {
    on: Parts,
    caller: Caller,
    wake: Notify,
    /// When a consumer whose last call failed is tried again, on the machine's clock.
    due: Mutex<HashMap<Uuid, Instant>>,
}

/// The kind of message that an event leads to, if it leads to one.
fn kind(event_type: &str) -> Option<AgentMessage> {
    match event_type.rsplit_once('.').map_or(event_type, |(bare, _)| bare) {
        "settings_commanded" => Some(AgentMessage::Settings),
        "resource_registered"
        | "limits_changed"
        | "resource_details_changed"
        | "resource_state_changed"
        | "restriction_changed" => Some(AgentMessage::Resource),
        _ => None,
    }
}

impl Webhooks {
    /// A worker; nothing is called yet.
    ///
    /// # Errors
    /// The client for calls cannot be set up.
    pub fn new(on: &Foundation, webhooks: WebhookStore, egress: Egress) -> Result<Self, reqwest::Error> {
        let caller = Caller::new(egress, CALL_WITHIN)?;
        let on = Parts {
            webhooks,
            log: Arc::clone(&on.store),
            registry: Arc::clone(&on.registry),
            follower: Arc::clone(&on.follower),
            allocations: Arc::clone(&on.allocations),
            clock: Arc::clone(&on.clock),
        };
        Ok(Self { on, caller, wake: Notify::new(), due: Mutex::default() })
    }

    /// Which addresses may be called.
    pub fn egress(&self) -> &Egress {
        self.caller.egress()
    }

    /// The consumers.
    pub fn consumers(&self) -> &WebhookStore {
        &self.on.webhooks
    }

    /// Something about a consumer changed: it is looked at again at once.
    pub fn wake(&self, id: Uuid) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.wake.notify_one();
    }

    /// Works until told to stop. Consumers run concurrently: a slow one delays no other.
    pub async fn run(&self, stop: CancellationToken, worker: &Worker) {
        let mut running = FuturesUnordered::new();
        let mut busy: BTreeSet<Uuid> = BTreeSet::new();
        while !stop.is_cancelled() {
            let head = self.on.log.head().await.ok();
            let webhooks = match worker.pass(self.on.webhooks.all()).await {
                Ok(webhooks) => webhooks,
                Err(pause) => {
                    tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(pause) => {} }
                    continue;
                }
            };
            worker.goes_on();
            let any = !webhooks.is_empty();
            for webhook in webhooks.into_iter().filter(|webhook| self.is_due(webhook)) {
                if busy.insert(webhook.id) {
                    running.push(self.serve(webhook, &stop));
                }
            }
            let news = async {
                match head.filter(|_| any) {
                    Some(head) => self.on.log.wait_beyond(head, LOOK_AGAIN).await,
                    None => tokio::time::sleep(LOOK_FOR_FIRST).await,
                }
            };
            tokio::pin!(news);
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = self.wake.notified() => break,
                    () = &mut news => break,
                    Some(served) = running.next(), if !running.is_empty() => busy.remove(&served),
                };
            }
        }
    }

    fn is_due(&self, webhook: &Webhook) -> bool {
        let due = self.due.lock().unwrap_or_else(PoisonError::into_inner).get(&webhook.id).copied();
        webhook.blocked.is_none() && due.is_none_or(|due| due <= Instant::now())
    }

    /// Tells one consumer what it has not heard yet.
    async fn serve(&self, webhook: Webhook, stop: &CancellationToken) -> Uuid {
        if let Err(failure) = self.feed(&webhook, stop).await
            && let Err(error) = self.failed(&webhook, &failure).await
        {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, webhook = %webhook.id, "the failure of a webhook consumer was not kept");
        }
        webhook.id
    }

    async fn failed(&self, webhook: &Webhook, failure: &Failure) -> Result<(), SqlError> {
        let pause = PAUSE.saturating_mul(1 << webhook.attempts.min(16)).min(PAUSE_MAX);
        self.due.lock().unwrap_or_else(PoisonError::into_inner).insert(webhook.id, Instant::now() + pause);
        let Failure::Refused { reason, for_good } = failure else {
            tracing::error!(error = failure as &dyn std::error::Error, webhook = %webhook.id, "a webhook consumer waits");
            return Ok(());
        };
        tracing::warn!(reason, webhook = %webhook.id, "a webhook consumer did not take a message");
        let blocked = (*for_good || webhook.attempts + 1 >= ATTEMPTS_MAX).then(|| {
            format!("{reason}; change the webhook, or ask for a resync, and it begins again where it stopped")
        });
        self.on.webhooks.failed(webhook.id, reason, self.on.clock.now(), blocked.as_deref()).await
    }

    async fn feed(&self, webhook: &Webhook, stop: &CancellationToken) -> Result<(), Failure> {
        if let Some(types) = &webhook.resync {
            self.replay(webhook, types, stop).await?;
        }
        let mut position = webhook.position;
        loop {
            let room = self.on.log.room().await;
            let mut events = self.on.log.read_all(position, READ).await?;
            let Some(last) = events.last().map(|event| event.position) else { return Ok(()) };
            // What is kept while others answer is what they may be told, and no more.
            events.retain(|event| kind(&event.event_type).is_some_and(|kind| webhook.wishes.takes(kind)));
            drop(room);
            self.on.follower.catch_up().await?;
            for event in &events {
                if stop.is_cancelled() {
                    return Ok(());
                }
                if let Some(body) = self.message(webhook, event).await? {
                    self.call(webhook, event.event_id, &body).await?;
                    self.on.webhooks.heard(webhook.id, event.position).await?;
                }
            }
            self.on.webhooks.heard(webhook.id, last).await?;
            position = last;
        }
    }

    /// The present state of every resource that is wanted.
    async fn replay(
        &self,
        webhook: &Webhook,
        types: &BTreeSet<String>,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let wanted: Vec<ResourceId> = {
            let state = self.on.registry.read();
            let concerned = state.resources().filter(|(_, entry)| webhook.wishes.concerns(entry));
            concerned.map(|(resource, _)| resource).collect()
        };
        for resource in wanted {
            let book = self.on.allocations.book(resource).await?;
            for kind in MESSAGES.into_iter().filter(|kind| types.contains(kind.as_str())) {
                if stop.is_cancelled() {
                    return Ok(());
                }
                let body = match (kind, &book.commanded) {
                    (AgentMessage::Resource, _) => Some(self.resource(&book, book.version)),
                    (AgentMessage::Settings, Some(told)) => {
                        Some(message::settings_now(&book.facts, told, self.on.clock.now()))
                    }
                    (AgentMessage::Settings, None) => None,
                };
                if let Some(body) = body.filter(|body| webhook.wishes.passes(body)) {
                    self.call(webhook, resource.as_uuid(), &body).await?;
                }
            }
        }
        self.on.webhooks.resynced(webhook.id, types).await?;
        Ok(())
    }

    fn resource(&self, book: &crate::commands::allocation::Book, sequence: u64) -> Value {
        let state = self.on.registry.read();
        let project = state.project(book.facts.project).map(|p| p.facts.name.as_str()).unwrap_or_default();
        message::resource(book, book.flags, sequence, project)
    }

    /// The message that an event leads to for a consumer, if it leads to one.
    async fn message(&self, webhook: &Webhook, event: &RecordedEvent) -> Result<Option<Value>, Failure> {
        let Some(kind) = kind(&event.event_type).filter(|kind| webhook.wishes.takes(*kind)) else { return Ok(None) };
        let Some((resource, _)) = book_of(event.stream.as_str()) else { return Ok(None) };
        let concerned = {
            let state = self.on.registry.read();
            state.resource(resource).is_some_and(|entry| webhook.wishes.concerns(entry))
        };
        if !concerned {
            return Ok(None);
        }
        let book = self.on.allocations.book(resource).await?;
        let body = match (kind, Event::decode(event)) {
            (AgentMessage::Settings, Ok(Event::Allocation(AllocationEvent::SettingsCommanded(commanded)))) => {
                message::settings(&book.facts, &commanded, commanded.settings.reset_raw_usage)
            }
            (AgentMessage::Resource, Ok(_)) => self.resource(&book, event.version),
            // What was disposed of, or is of a later release, says nothing.
            _ => return Ok(None),
        };
        Ok(Some(body).filter(|body| webhook.wishes.passes(body)))
    }

    async fn call(&self, webhook: &Webhook, id: Uuid, body: &Value) -> Result<(), Failure> {
        let refused = |reason: String, for_good: bool| Failure::Refused { reason, for_good };
        let address = Url::parse(&webhook.wishes.url).map_err(|error| refused(error.to_string(), false))?;
        let request = self.caller.post(address).map_err(|denied| refused(denied.to_string(), false))?;
        match request.header(EVENT_HEADER, id.as_simple().to_string()).json(body).send().await {
            Ok(answer) if answer.status().is_success() => {
                Ok(self.on.webhooks.delivered(webhook.id, self.on.clock.now()).await?)
            }
            Ok(answer) => {
                let gone = answer.status() == StatusCode::GONE;
                Err(refused(format!("the address answered {}", answer.status()), gone))
            }
            // The address may hold a key; it stays out of what is said.
            Err(error) => Err(refused(plainly(&error.without_url()), false)),
        }
    }
}

/// An error with its causes in one line.
fn plainly(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
