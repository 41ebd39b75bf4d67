//! One pass over an offering: reads its agent's pending work, builds messages, hands them over, and records it.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::super::broker::{BrokerError, Outgoing};
use super::super::message;
use super::super::outbox::Handed;
use super::super::queues::AgentQueue;
use super::super::rows::{FlagsRow, Row, unreadable};
use super::{DispatchError, Publisher};
use crate::clock::real_now;
use crate::commands::allocation::{AllocationCommand, Book, stream_of};
use crate::domain::evaluate::Flags;
use crate::domain::ids::{OfferingId, ResourceId};
use crate::domain::period::Month;
use crate::events::allocation::{AllocationEvent, ResourceState, SettingsCommanded};
use crate::events::dispatch::{AgentMessage, StompMessageSent};
use crate::store::is_outage;
use crate::supervise::{chain, isolated};

/// How long a message waits whose resource is not ready for it; a change of state ends that at once.
const WAITS: TimeDelta = TimeDelta::seconds(60);

/// Messages about restrictions alone that one pass hands over: each keeps an agent busy for seconds.
const RESTRICTIONS_MAX: i64 = 20;

/// Messages handed to a queue together.
const PASS_MAX: i64 = 100;

/// The message that is now due to one resource's agent.
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
        let (letters, renewed) = self.letters(offering, &queues).await?;
        if letters.is_empty() {
            return Ok(renewed);
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
        self.note(offering, unreachable.as_deref());
        Ok(renewed + self.settle(letters, taken, &refused).await?)
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

    /// The due messages: settings while the window has space, each followed by its resource's restrictions, then
    /// restrictions alone. Also returns how many settings were outdated and recomputed: those go next time.
    async fn letters(
        &self,
        offering: OfferingId,
        queues: &[AgentQueue],
    ) -> Result<(Vec<Letter>, usize), DispatchError> {
        let takes = |kind| queues.iter().any(|queue| queue.takes(kind));
        let (settings, restrictions) = (takes(AgentMessage::Settings), takes(AgentMessage::Resource));
        let (mut letters, mut renewed) = (Vec::new(), 0);
        if settings {
            let window = i64::from(self.parts.settings.current().dispatch_window);
            let room = (window - self.outbox.outstanding(offering).await?).min(PASS_MAX);
            if room > 0 {
                let rows = self.outbox.due(offering, real_now(), room).await?;
                renewed = self.settings_letters(rows, restrictions, &mut letters).await?;
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
                // Ended resources get a message too: an agent that acts on it frees the account.
                if state.is_live() && !(state.takes_settings() || state == ResourceState::Erred) {
                    self.outbox.put_off_flags(&flags, real_now() + WAITS).await?;
                    continue;
                }
                let letter = async {
                    let book = self.parts.allocations.book(resource).await?;
                    Ok::<_, DispatchError>(Letter::new(&book, &self.project(&book), None, Some(flags.clone()), true))
                };
                let failed = match isolated(letter).await {
                    Ok(Ok(letter)) => {
                        letters.push(letter);
                        continue;
                    }
                    Ok(Err(error)) if is_outage(&error) => return Err(error),
                    Ok(Err(error)) => chain(&error),
                    Err(crashed) => crashed.to_string(),
                };
                tracing::error!(%resource, reason = failed, "word of restrictions cannot be made up; the others go on");
                self.outbox.put_off_flags(&flags, self.after(real_now(), flags.attempts)).await?;
            }
        }
        Ok((letters, renewed))
    }

    async fn settings_letters(
        &self,
        rows: Vec<Row>,
        restrictions: bool,
        letters: &mut Vec<Letter>,
    ) -> Result<usize, DispatchError> {
        let (ready, early): (Vec<Row>, Vec<Row>) =
            rows.into_iter().partition(|row| self.state_of(row.resource.into()).takes_settings());
        let until = real_now() + WAITS;
        self.outbox.put_off(&early.iter().map(|row| (row.no, until, None)).collect::<Vec<_>>()).await?;
        let resources: Vec<ResourceId> = ready.iter().map(|row| row.resource.into()).collect();
        let mut outdated = Vec::new();
        let books = self.parts.allocations.readable_books_of(&resources).await?;
        for (row, book) in ready.into_iter().zip(books) {
            let Some(book) = book else {
                self.outbox.put_off(&[(row.no, until, None)]).await?;
                continue;
            };
            let (no, attempts, resource) = (row.no, row.attempts, ResourceId::from(row.resource));
            let failed = match isolated(self.settings_letter(row.clone(), &book, restrictions)).await {
                Ok(Ok(Some(letter))) => {
                    letters.push(letter);
                    continue;
                }
                Ok(Ok(None)) => {
                    outdated.push((resource, AllocationCommand::RenewSettings));
                    continue;
                }
                Ok(Err(error)) if is_outage(&error) => return Err(error),
                Ok(Err(error)) => chain(&error),
                Err(crashed) => crashed.to_string(),
            };
            tracing::error!(%resource, reason = failed, "a message to an agent cannot be made; the others go on");
            if attempts + 1 >= self.options.retry.attempts_max.into() {
                self.execute(&[Self::failed(&row, attempts + 1, &failed)]).await;
            } else {
                self.outbox.put_off(&[(no, self.after(real_now(), attempts), Some(failed))]).await?;
            }
        }
        Ok(self.execute(&outdated).await)
    }

    /// The message of a row; none if its content is outdated.
    async fn settings_letter(
        &self,
        row: Row,
        book: &Arc<Book>,
        restrictions: bool,
    ) -> Result<Option<Letter>, DispatchError> {
        if self.parts.allocations.is_outdated(book)? {
            return Ok(None);
        }
        let commanded = self.commanded(&row).await?;
        let reset = row.reset && self.reset_may_go(&row);
        let flags = if restrictions { self.outbox.flags_of(row.resource.into()).await? } else { None };
        let settings = Some((row, &*commanded, reset));
        Ok(Some(Letter::new(book, &self.project(book), settings, flags, restrictions)))
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
        let month = month.and_then(|(year, month)| Month::recorded(year, month));
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
