//! One pass over an offering: what its agent is owed is read, made into messages, handed over, and recorded.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::super::broker::{BrokerError, Outgoing};
use super::super::message;
use super::super::outbox::Handed;
use super::super::queues::AgentQueue;
use super::super::rows::{FlagsRow, Row, unreadable};
use super::{DispatchError, Publisher};
use crate::clock::real_now;
use crate::commands::allocation::{Book, stream_of};
use crate::domain::evaluate::Flags;
use crate::domain::ids::{OfferingId, ResourceId};
use crate::domain::period::Month;
use crate::events::allocation::{AllocationEvent, ResourceState, SettingsCommanded};
use crate::events::dispatch::{AgentMessage, StompMessageSent};

/// How long a message waits whose resource is not ready for it; a change of state ends that at once.
const WAITS: TimeDelta = TimeDelta::seconds(60);

/// Messages about restrictions alone that one pass hands over: each keeps an agent busy for seconds.
const RESTRICTIONS_MAX: i64 = 20;

/// Messages handed to a queue together.
const PASS_MAX: i64 = 100;

/// What one resource's agent is to be told now.
struct Letter {
    resource: ResourceId,
    row: Option<Row>,
    flags: Option<FlagsRow>,
    /// Restrictions that it tells of.
    told: Option<Flags>,
    reset: bool,
    messages: Vec<(AgentMessage, Outgoing)>,
}

impl Publisher {
    /// Hands over what is due of one offering; says how many outcomes were recorded.
    pub(super) async fn serve(&self, offering: OfferingId) -> Result<usize, DispatchError> {
        if self.is_paused(offering) {
            return Ok(0);
        }
        let queues = self.parts.queues.of_offering(offering);
        let letters = self.letters(offering, &queues).await?;
        if letters.is_empty() {
            return Ok(0);
        }
        let mut taken: Vec<Vec<uuid::Uuid>> = vec![Vec::new(); letters.len()];
        let mut refused: Vec<Option<String>> = vec![None; letters.len()];
        let mut unreachable: Option<String> = None;
        for queue in &queues {
            let wanted: Vec<(usize, Outgoing)> = letters
                .iter()
                .enumerate()
                .flat_map(|(index, letter)| {
                    let here = letter.messages.iter().filter(|(kind, _)| queue.takes(*kind));
                    here.map(move |(_, message)| (index, message.clone()))
                })
                .collect();
            let messages: Vec<Outgoing> = wanted.iter().map(|(_, message)| message.clone()).collect();
            let outcomes = self.parts.broker.publish(queue, &messages).await;
            let mut whole = vec![true; letters.len()];
            for ((index, _), outcome) in wanted.iter().zip(outcomes) {
                match outcome {
                    Ok(()) => {}
                    Err(BrokerError::Refused(reason)) => {
                        (whole[*index], refused[*index]) = (false, Some(reason));
                    }
                    Err(BrokerError::Unreachable(reason)) => {
                        (whole[*index], unreachable) = (false, Some(reason));
                    }
                }
            }
            for (index, _) in &wanted {
                if whole[*index] && !taken[*index].contains(&queue.consumer) {
                    taken[*index].push(queue.consumer);
                }
            }
        }
        if let Some(reason) = &unreachable {
            tracing::warn!(%offering, reason, "messages to an agent could not be handed over; they will be");
        }
        self.note(offering, unreachable.is_none());
        self.settle(letters, taken, &refused).await
    }

    /// Keeps and records how each letter fared.
    async fn settle(
        &self,
        letters: Vec<Letter>,
        taken: Vec<Vec<uuid::Uuid>>,
        refused: &[Option<String>],
    ) -> Result<usize, DispatchError> {
        let (now, real) = (self.parts.clock.now(), real_now());
        let (mut handed, mut later, mut given_up) = (Vec::new(), Vec::new(), Vec::new());
        for ((letter, consumers), refused) in letters.into_iter().zip(taken).zip(refused) {
            if !consumers.is_empty() {
                handed.push(letter.handed(consumers, now));
                continue;
            }
            let Some(reason) = refused else { continue };
            match (&letter.row, &letter.flags) {
                (Some(row), _) if row.attempts + 1 >= self.options.retry.attempts_max.into() => {
                    given_up.push(Self::failed(row, row.attempts + 1, reason));
                }
                (Some(row), _) => later.push((row.no, self.after(real, row.attempts), Some(reason.clone()))),
                (None, Some(flags)) => self.outbox.put_off_flags(flags, self.after(real, flags.attempts)).await?,
                (None, None) => {}
            }
        }
        self.outbox.put_off(&later).await?;
        self.outbox.handed_over(&handed).await?;
        Ok(self.record(handed).await? + self.execute(&given_up).await)
    }

    fn after(&self, real_now: DateTime<Utc>, attempts: i64) -> DateTime<Utc> {
        let failures = u32::try_from(attempts).unwrap_or(u32::MAX).saturating_add(1);
        real_now + TimeDelta::from_std(self.jittered(failures)).unwrap_or(TimeDelta::minutes(1))
    }

    /// What is due, as messages: settings while the window has room, each with its resource's restrictions after it, then
    /// restrictions alone.
    async fn letters(&self, offering: OfferingId, queues: &[AgentQueue]) -> Result<Vec<Letter>, DispatchError> {
        let takes = |kind| queues.iter().any(|queue| queue.takes(kind));
        let (settings, restrictions) = (takes(AgentMessage::Settings), takes(AgentMessage::Resource));
        let mut letters = Vec::new();
        if settings {
            let window = i64::from(self.parts.settings.current().dispatch_window);
            let room = (window - self.outbox.outstanding(offering).await?).min(PASS_MAX);
            if room > 0 {
                let rows = self.outbox.due(offering, real_now(), room).await?;
                self.settings_letters(rows, restrictions, &mut letters).await?;
            }
        }
        if restrictions {
            // Word of restrictions alone has a window of its own: who never says what class of service an account has must
            // not keep settings waiting.
            let window = i64::from(self.parts.settings.current().dispatch_window);
            let since = self.parts.clock.now() - self.patience();
            let room = (window - self.outbox.restrictions_out(offering, since).await?).clamp(0, RESTRICTIONS_MAX);
            for flags in self.outbox.due_flags(offering, real_now(), room).await? {
                let resource = ResourceId::from(flags.resource);
                let with_settings = letters.iter().any(|letter| letter.resource == resource);
                let state = self.state_of(resource);
                // Settings of the same resource go first, if they can go at all.
                let waits = settings && state.takes_settings() && self.outbox.settings_wait(resource).await?;
                if with_settings || waits {
                    continue;
                }
                if !(state.takes_settings() || state == ResourceState::Erred) {
                    self.outbox.put_off_flags(&flags, real_now() + WAITS).await?;
                    continue;
                }
                let book = self.parts.allocations.book(resource).await?;
                letters.push(Letter::new(&book, &self.project(&book), None, Some(flags), true));
            }
        }
        Ok(letters)
    }

    async fn settings_letters(
        &self,
        rows: Vec<Row>,
        restrictions: bool,
        letters: &mut Vec<Letter>,
    ) -> Result<(), DispatchError> {
        let (ready, early): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| self.state_of(row.resource.into()).takes_settings());
        let until = real_now() + WAITS;
        self.outbox.put_off(&early.iter().map(|row| (row.no, until, None)).collect::<Vec<_>>()).await?;
        let resources: Vec<ResourceId> = ready.iter().map(|row| row.resource.into()).collect();
        let books = self.parts.allocations.books_of(&resources).await?;
        for (row, book) in ready.into_iter().zip(books) {
            let Some(book) = book else { continue };
            let commanded = self.commanded(&row).await?;
            let reset = row.reset && self.reset_may_go(&row);
            let flags = if restrictions { self.outbox.flags_of(row.resource.into()).await? } else { None };
            letters.push(Letter::new(&book, &self.project(&book), Some((row, &commanded, reset)), flags, restrictions));
        }
        Ok(())
    }

    /// The name of a resource's project.
    fn project(&self, book: &Book) -> String {
        let state = self.parts.registry.read();
        state.project(book.facts.project).map(|project| project.facts.name.clone()).unwrap_or_default()
    }

    fn state_of(&self, resource: ResourceId) -> ResourceState {
        self.parts.registry.read().resource(resource).map_or(ResourceState::Terminated, |entry| entry.state)
    }

    /// A reset goes out, and out again, for some time after a queue first took it.
    fn reset_may_go(&self, row: &Row) -> bool {
        let resend = TimeDelta::minutes(self.parts.settings.current().reset_resend_minutes.into());
        row.reset_since.is_none_or(|since| self.parts.clock.now() - since < resend)
    }

    /// The settings of a row, from the log.
    async fn commanded(&self, row: &Row) -> Result<Box<SettingsCommanded>, DispatchError> {
        let month = i32::try_from(row.book / 100).ok().zip(u32::try_from(row.book % 100).ok());
        let month = month.and_then(|(year, month)| Month::new(year, month));
        let month = month.ok_or_else(|| unreadable("the month of a dispatch", row.book))?;
        let stream = stream_of(row.resource.into(), month);
        let before = row.version.cast_unsigned().saturating_sub(1);
        let event = self.parts.store.read_stream(&stream, before, 1).await?.into_iter().next();
        let event =
            event.ok_or_else(|| unreadable("a dispatch", format!("{stream} has no version {}", row.version)))?;
        match AllocationEvent::decode(&event.event_type, &event.payload) {
            Some(Ok(AllocationEvent::SettingsCommanded(commanded))) => Ok(commanded),
            Some(Err(error)) => Err(unreadable("a dispatch", error)),
            _ => Err(unreadable("a dispatch", format!("version {} of {stream} is something else", row.version))),
        }
    }
}

impl Letter {
    /// A resend tells of the restrictions again too, if anybody listens to that: the agent may have died over either.
    fn new(
        book: &Book,
        project: &str,
        settings: Option<(Row, &SettingsCommanded, bool)>,
        flags: Option<FlagsRow>,
        restrictions: bool,
    ) -> Self {
        let resource = book.facts.resource;
        let mut messages = Vec::with_capacity(2);
        let (mut row, mut with_reset) = (None, false);
        let outgoing = |id: String, subject: String, body: &serde_json::Value| Outgoing {
            id,
            subject,
            body: Arc::from(body.to_string()),
        };
        if let Some((of, commanded, reset)) = settings {
            let body = message::settings(&book.facts, commanded, reset);
            // The hand-over before it: the same until this one is recorded, and another after that.
            let id = format!("{}-{}", commanded.dispatch, of.sent_no);
            messages.push((AgentMessage::Settings, outgoing(id, commanded.dispatch.to_string(), &body)));
            (row, with_reset) = (Some(of), reset);
        }
        let resent = row.as_ref().filter(|row: &&Row| row.resends > 0);
        let told = flags.as_ref().map(|row| (row.flags, row.no, row.sent_no));
        let told = told.or_else(|| resent.map(|row| (book.flags, row.no, row.sent_no))).filter(|_| restrictions);
        if let Some((flags, no, again)) = told {
            let body = message::resource(book, flags, no.unsigned_abs(), project);
            let id = format!("resource-{resource}-{no}-{again}");
            messages.push((AgentMessage::Resource, outgoing(id, format!("resource-{resource}"), &body)));
        }
        Self { resource, row, flags, told: told.map(|(flags, _, _)| flags), reset: with_reset, messages }
    }

    /// The hand-over of all of it.
    fn handed(&self, consumers: Vec<uuid::Uuid>, at: DateTime<Utc>) -> Handed {
        let sent = StompMessageSent {
            dispatch: self.row.as_ref().map(|row| row.dispatch.into()),
            messages: self.messages.iter().map(|(kind, _)| *kind).collect(),
            flags: self.told,
            reset: self.reset,
            resend: self.row.as_ref().map_or(0, |row| u32::try_from(row.resends).unwrap_or(u32::MAX)),
            consumers,
            at,
        };
        Handed { resource: self.resource, sent }
    }
}
