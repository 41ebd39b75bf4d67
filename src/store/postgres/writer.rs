//! The appender: collects waiting appends and sends them in one call of `append_events`.
//!
//! A call whose connection breaks may have been committed. The appender then resends the requests whose retry it can
//! recognise, and reports the outcome of the others as unknown.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Row};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::events::envelope::{Position, to_the_microsecond};
use crate::limits::Limits;
use crate::store::lease::Fence;
use crate::store::numbers::NUMBERS;
use crate::store::prepare::Prepared;
use crate::store::sql::is_connection_loss;
use crate::store::tail::Tail;
use crate::store::{Appended, Now, StoreError};

/// One outcome per request.
pub(super) type Outcomes = Vec<Result<Appended, StoreError>>;

/// What callers ask of the appender.
pub(super) enum Job {
    Append { requests: Vec<Prepared>, events: usize, fence: Option<Fence>, reply: oneshot::Sender<Outcomes> },
    Close(oneshot::Sender<()>),
}

/// Pauses before resending a call whose connection broke; after the last one the callers get the error.
const RETRY_AFTER: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1_500)];

/// A group waits for those who were answered with the last one for at most this part of the time that one took.
const PATIENCE_PART: u32 = 4;

/// And never longer.
const PATIENCE_MAX: Duration = Duration::from_millis(2);

const APPEND: &str = "SELECT request, outcome, version, last_position FROM append_events($1, $2, $3, $4, $5, $6, $7, $8, \
     $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";

pub(super) struct Writer {
    options: PgConnectOptions,
    now: Now,
    limits: Limits,
    connection: Option<PgConnection>,
    last: LastGroup,
    names: HashMap<&'static str, Arc<str>>,
    tail: Arc<Tail>,
    head: watch::Sender<Position>,
}

/// The previous group. Its callers often ask again soon: a group sent without them would take its turn under the lock
/// for few events, and they would wait for the turn after the other processes'.
#[derive(Default)]
struct LastGroup {
    /// Calls that it answered.
    jobs: usize,
    /// How long to wait for as many.
    patience: Duration,
}

/// A request of some caller: whose, and which of that caller's.
struct Waiting {
    job: usize,
    place: usize,
    request: Prepared,
    fence: Option<Fence>,
}

/// What the server said of one request.
struct Answer {
    outcome: i32,
    version: u64,
    last: u64,
}

/// Why a call failed.
enum Failure {
    NothingWritten(sqlx::Error),
    NobodyKnows(sqlx::Error),
}

impl Writer {
    pub(super) fn new(
        options: PgConnectOptions,
        now: Now,
        limits: Limits,
        tail: Arc<Tail>,
        head: watch::Sender<Position>,
    ) -> Self {
        Self { options, now, limits, connection: None, last: LastGroup::default(), names: HashMap::new(), tail, head }
    }

    /// Sends groups until it is told to close or nobody can ask any more.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut closing = None;
        while closing.is_none() {
            let Some(mut job) = queue.recv().await else { break };
            let (mut waiting, mut replies, mut size) = (Vec::new(), Vec::new(), 0);
            let begun = Instant::now();
            loop {
                match job {
                    Job::Append { requests, events, fence, reply } => {
                        size += events;
                        let job = replies.len();
                        replies.push((reply, requests.len()));
                        waiting.extend(requests.into_iter().enumerate().map(|(place, request)| Waiting {
                            job,
                            place,
                            request,
                            fence: fence.clone(),
                        }));
                    }
                    Job::Close(done) => {
                        closing = Some(done);
                        break;
                    }
                }
                if size >= self.limits.group_events_max {
                    break;
                }
                let next = match queue.try_recv() {
                    Ok(next) => Some(next),
                    Err(_) if replies.len() < self.last.jobs => {
                        tokio::time::timeout_at(begun + self.last.patience, queue.recv()).await.ok().flatten()
                    }
                    Err(_) => None,
                };
                let Some(next) = next else { break };
                job = next;
            }
            let (jobs, begun) = (replies.len(), Instant::now());
            self.answer(waiting, replies).await;
            self.last = LastGroup { jobs, patience: (begun.elapsed() / PATIENCE_PART).min(PATIENCE_MAX) };
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the log was not closed cleanly");
        }
        if let Some(done) = closing {
            // The caller may have stopped waiting.
            let _ = done.send(());
        }
    }

    /// Appends a group, in as many calls as some stream stands in it, and tells the callers.
    async fn answer(&mut self, waiting: Vec<Waiting>, replies: Vec<(oneshot::Sender<Outcomes>, usize)>) {
        let none = || Err(StoreError::Corrupt("the appender gave no outcome".to_owned()));
        let mut outcomes: Vec<Outcomes> =
            replies.iter().map(|(_, count)| (0..*count).map(|_| none()).collect()).collect();
        let mut rest = waiting;
        while !rest.is_empty() {
            let mut seen = HashSet::with_capacity(rest.len());
            let (now, later) = rest.into_iter().partition(|w: &Waiting| seen.insert(w.request.stream.clone()));
            rest = later;
            for (job, place, outcome) in self.write(now).await {
                outcomes[job][place] = outcome;
            }
        }
        for ((reply, _), outcomes) in replies.into_iter().zip(outcomes) {
            // A caller that has gone away does not want to know.
            let _ = reply.send(outcomes);
        }
    }

    /// One call for requests on different streams. A broken connection is tried again as long as that is safe.
    async fn write(&mut self, mut group: Vec<Waiting>) -> Vec<(usize, usize, Result<Appended, StoreError>)> {
        let mut told = Vec::with_capacity(group.len());
        let mut attempts = RETRY_AFTER.iter();
        loop {
            let recorded_at = to_the_microsecond((self.now)());
            let begun = std::time::Instant::now();
            let failure = match self.call(&group, recorded_at).await {
                Ok(answers) => {
                    let took = begun.elapsed();
                    let appended = group.iter().zip(&answers).filter(|(_, answer)| answer.outcome == 1);
                    let events: usize = appended.map(|(waiting, _)| waiting.request.events.len()).sum();
                    if events > 0 {
                        crate::telemetry::metrics::committed(events, took);
                    }
                    told.extend(self.committed(group, &answers, recorded_at));
                    return told;
                }
                Err(failure) => failure,
            };
            self.tail.clear();
            let (error, unknown) = match failure {
                Failure::NothingWritten(error) => (error, false),
                Failure::NobodyKnows(error) => (error, true),
            };
            let again = if is_connection_loss(&error) { attempts.next() } else { None };
            let failed = |unknown| {
                let cause: crate::store::Cause = Arc::new(sqlx::Error::Protocol(error.to_string()));
                if unknown { StoreError::Unknown(cause) } else { StoreError::Unavailable(cause) }
            };
            let Some(pause) = again else {
                told.extend(group.iter().map(|w| (w.job, w.place, Err(failed(unknown)))));
                return told;
            };
            if unknown {
                // Without an expected version nobody can tell whether it is in the log already.
                let (known, any): (Vec<_>, Vec<_>) =
                    group.into_iter().partition(|w| w.request.expected.version().is_some());
                told.extend(any.iter().map(|w| (w.job, w.place, Err(failed(true)))));
                group = known;
                if group.is_empty() {
                    return told;
                }
            }
            tokio::time::sleep(*pause).await;
        }
    }

    async fn call(&mut self, group: &[Waiting], recorded_at: DateTime<Utc>) -> Result<Vec<Answer>, Failure> {
        // Taken out and put back on success only: after a failure the next call gets a new connection.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(Failure::NothingWritten)?,
        };
        let rows = bind(group, recorded_at).fetch_all(&mut connection).await.map_err(|error| {
            // What the server refuses it has rolled back.
            if is_connection_loss(&error) { Failure::NobodyKnows(error) } else { Failure::NothingWritten(error) }
        })?;
        self.connection = Some(connection);
        let mut answers: Vec<Answer> = (0..group.len()).map(|_| Answer { outcome: -1, version: 0, last: 0 }).collect();
        for row in rows {
            let read = || -> Result<(i64, Answer), sqlx::Error> {
                let version = row.try_get::<i64, _>(2)?.unsigned_abs();
                let last = row.try_get::<Option<i64>, _>(3)?.unwrap_or_default().unsigned_abs();
                Ok((row.try_get(0)?, Answer { outcome: row.try_get(1)?, version, last }))
            };
            let (request, answer) = read().map_err(Failure::NobodyKnows)?;
            let place = usize::try_from(request - 1).ok().and_then(|place| answers.get_mut(place));
            *place.ok_or_else(|| Failure::NobodyKnows(sqlx::Error::RowNotFound))? = answer;
        }
        Ok(answers)
    }

    /// Remembers what is now in the log, lets readers know, and says what became of each request.
    fn committed(
        &mut self,
        group: Vec<Waiting>,
        answers: &[Answer],
        recorded_at: DateTime<Utc>,
    ) -> Vec<(usize, usize, Result<Appended, StoreError>)> {
        let mut events = Vec::new();
        let mut told = Vec::with_capacity(group.len());
        for (Waiting { job, place, request, fence }, answer) in group.into_iter().zip(answers) {
            let Prepared { stream, expected, events: prepared } = request;
            let outcome = match answer.outcome {
                1 => {
                    let count = prepared.len() as u64;
                    for (event, index) in prepared.into_iter().zip(1..) {
                        let version = answer.version - count + index;
                        let position = NUMBERS.at(answer.last - count + index);
                        let name = self.names.entry(event.event_type).or_insert_with(|| event.event_type.into());
                        events.push(event.record(stream.clone(), version, position, Arc::clone(name), recorded_at));
                    }
                    Ok(Appended { version: answer.version, position: NUMBERS.at(answer.last), duplicate: false })
                }
                0 => Err(StoreError::Conflict { stream, expected, actual: answer.version }),
                2 => Err(StoreError::LeaseLost(fence.map_or("unknown", |fence| fence.name()))),
                other => Err(StoreError::Corrupt(format!("append_events answered {other}"))),
            };
            told.push((job, place, outcome));
        }
        if let Some(last) = events.last().map(|event| event.position) {
            self.tail.extend(events);
            self.head.send_if_modified(|head| {
                let moved = *head < last;
                *head = last.max(*head);
                moved
            });
        }
        told
    }
}

type AppendQuery = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// As the database takes numbers; what is beyond its range is no version or count that could exist.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn bind(group: &[Waiting], recorded_at: DateTime<Utc>) -> AppendQuery {
    let small = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let mut kinds: Vec<&'static str> = Vec::new();
    let mut kind_of: HashMap<&'static str, i32> = HashMap::new();
    let events = group.iter().flat_map(|w| &w.request.events);
    for event in events.clone() {
        kind_of.entry(event.event_type).or_insert_with(|| {
            kinds.push(event.event_type);
            small(kinds.len())
        });
    }
    let numbered = || {
        let of = |(request, waiting): (usize, &Waiting)| {
            (1..=waiting.request.events.len()).map(move |offset| (small(request + 1), small(offset)))
        };
        group.iter().enumerate().flat_map(of)
    };
    let fences = || group.iter().map(|w| w.fence.as_ref());
    sqlx::query(APPEND)
        .bind(group.iter().map(|w| w.request.stream.as_str()).collect::<Vec<_>>())
        .bind(group.iter().map(|w| w.request.expected.version().map_or(-1, signed)).collect::<Vec<_>>())
        .bind(group.iter().map(|w| small(w.request.events.len())).collect::<Vec<_>>())
        .bind(fences().map(|fence| fence.map(Fence::name)).collect::<Vec<Option<&str>>>())
        .bind(fences().map(|fence| fence.map(Fence::epoch)).collect::<Vec<Option<i64>>>())
        .bind(kinds)
        .bind(recorded_at)
        .bind(numbered().map(|(request, _)| request).collect::<Vec<_>>())
        .bind(numbered().map(|(_, offset)| offset).collect::<Vec<_>>())
        .bind(events.clone().map(|e| kind_of.get(e.event_type).copied().unwrap_or_default()).collect::<Vec<_>>())
        .bind(events.clone().map(|e| e.event_id).collect::<Vec<_>>())
        .bind(events.clone().map(|e| e.occurred_at).collect::<Vec<_>>())
        .bind(events.clone().map(|e| e.metadata.actor.kind.code()).collect::<Vec<_>>())
        .bind(events.clone().map(|e| e.metadata.actor.id).collect::<Vec<Option<Uuid>>>())
        .bind(events.clone().map(|e| e.metadata.correlation_id).collect::<Vec<_>>())
        .bind(events.clone().map(|e| e.metadata.causation_id).collect::<Vec<Option<Uuid>>>())
        .bind(events.clone().map(|e| e.metadata.reason.as_deref().map(without_nul)).collect::<Vec<Option<String>>>())
        .bind(events.clone().map(|e| &*e.payload).collect::<Vec<_>>())
        .bind(events.clone().map(|e| &e.salt[..]).collect::<Vec<_>>())
        .bind(events.map(|e| &e.commitment[..]).collect::<Vec<_>>())
}

/// `PostgreSQL` has no place for the character 0. A payload, being JSON, never holds it.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
