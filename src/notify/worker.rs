//! The worker that delivers pending notices and records the outcome.
//!
//! It starts nothing before it has folded every outcome in the log, so that a restart, or tables rebuilt from the log,
//! never resend a recorded notice. One process delivers at a time, guarded by a file lock that ends with the process.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::RngExt;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::content::{self, MailView, Names, NoticeView};
use super::message::Sender;
use super::outbox::{Backlog, NoticeCount, NoticeFilter, NoticeRow, Outbox};
use super::templates::Templates;
use super::transport::maildir::Maildir;
use super::transport::smtp::Smtp;
use super::transport::webhook::{self, Webhooks};
use super::transport::{Failed, MailTransport};
use super::{MailTransportOptions, NotifyError, NotifyOptions};
use crate::clock::{Clock, real_now};
use crate::commands::allocation::AllocationCommand;
use crate::commands::execute::{Allocations, CommandError, CommandMeta};
use crate::directory::Directory;
use crate::domain::ids::{NoticeId, PolicyId, ResourceId, UserId};
use crate::events::envelope::{Position, StreamName};
use crate::events::notice::{Notice, NoticeChannel};
use crate::events::registry::PolicyFacts;
use crate::registry::{Follower, Registry};
use crate::store::address::Database;
use crate::store::is_outage;
use crate::store::sql::{ReadDb, SqlValue};
use crate::store::{EventStore, StoreError, private};
use crate::supervise::{Worker, chain, isolated};
use crate::telemetry::metrics;

/// How long the worker rests if nobody wakes it, and after a failure.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How often to look whether the consumer has caught up, and how long at most.
const FOLDED_POLL: Duration = Duration::from_millis(20);
const FOLDED_WITHIN: Duration = Duration::from_secs(10);

/// Wishes to send again that are recorded together.
const RESEND_TOGETHER: usize = 500;

/// The longest pause after a crashed delivery; also the pause after an unrecorded outcome.
const RECORD_AGAIN: chrono::Duration = chrono::Duration::seconds(5);

/// What the worker is made of.
pub struct NotifierParts {
    /// The tables.
    pub read: ReadDb,
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// What exists.
    pub registry: Arc<Registry>,
    /// Keeps it in step.
    pub follower: Arc<Follower>,
    /// Where outcomes are recorded.
    pub allocations: Arc<Allocations>,
    /// Who the ids are.
    pub directory: Directory,
    /// The service's clock.
    pub clock: Arc<dyn Clock>,
    /// Where the database is; mail folder and lock lie beside its file.
    pub database: Database,
    /// What wakes the worker; the consumer has it too.
    pub wake: Arc<Notify>,
}

/// Delivers what is owed.
pub struct Notifier {
    parts: NotifierParts,
    options: NotifyOptions,
    outbox: Outbox,
    templates: Templates,
    sender: Sender,
    mail: MailTransport,
    webhooks: Webhooks,
    working: Mutex<()>,
    /// Why no mail gets through just now.
    unreachable: std::sync::Mutex<Option<String>>,
}

/// How an attempt came out.
enum Attempt {
    /// It ended: delivered, or given up for this reason.
    Ended(Option<String>),
    /// It should be retried.
    Again(Failed),
}

impl Notifier {
    /// Sets up transports and checks the templates. Nothing is sent yet.
    ///
    /// # Errors
    /// A template or the configuration cannot be used; a process that delivers does not know a secret.
    pub fn new(parts: NotifierParts, options: NotifyOptions) -> Result<Self, NotifyError> {
        if let Some(variable) = options.missing_secrets.first().filter(|_| options.delivers) {
            return Err(NotifyError::MissingSecret(variable.clone()));
        }
        let mail = match &options.mail.transport {
            MailTransportOptions::None => MailTransport::None,
            MailTransportOptions::Maildir(folder) => {
                let beside = || parts.database.file().map(|log| log.with_file_name("mail"));
                match folder.clone().or_else(beside) {
                    Some(folder) => MailTransport::Maildir(Maildir::new(folder)),
                    None if options.delivers => return Err(NotifyError::NoMailFolder),
                    None => MailTransport::None,
                }
            }
            MailTransportOptions::Smtp(smtp) => MailTransport::Smtp(Box::new(Smtp::new(smtp)?)),
        };
        Ok(Self {
            outbox: Outbox::new(parts.read.clone()),
            templates: Templates::load(options.mail.templates_dir.as_deref())?,
            sender: Sender::new(&options.mail)?,
            mail,
            webhooks: Webhooks::new(&options)?,
            working: Mutex::new(()),
            unreachable: std::sync::Mutex::default(),
            parts,
            options,
        })
    }

    /// Works until told to stop; a delivery that has begun is finished first.
    pub async fn run(&self, stop: CancellationToken, worker: &Worker) {
        while !stop.is_cancelled() {
            match worker.pass(self.work(&stop)).await {
                Ok(done) => {
                    self.seen(worker);
                    if done > 0 {
                        continue;
                    }
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = self.parts.wake.notified() => {}
                        () = tokio::time::sleep(LOOK_AGAIN) => {}
                    }
                }
                // A new notice is no reason to try sooner what just failed.
                Err(pause) => tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(pause) => {} },
            }
        }
    }

    /// Lets others see whether mail gets through; each message has its own pauses.
    fn seen(&self, worker: &Worker) {
        match &*self.unreachable.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reason) => worker.hindered(reason),
            None => worker.goes_on(),
        }
    }

    fn heard(&self, unreachable: Option<String>) {
        *self.unreachable.lock().unwrap_or_else(PoisonError::into_inner) = unreachable;
    }

    /// Delivers what is due now, each message once, and says how many outcomes were recorded. Nothing if this process is not
    /// the one that delivers, or another one is at it already.
    pub async fn work(&self, stop: &CancellationToken) -> Result<usize, NotifyError> {
        if !self.options.delivers || !self.outbox.owes().await? {
            self.heard(None);
            return Ok(0);
        }
        let _alone = self.working.lock().await;
        // On a server, the process that serves the database delivers.
        let _only = match self.parts.database.file() {
            Some(log) => {
                let Some(only) = lock(log)? else { return Ok(0) };
                Some(only)
            }
            None => None,
        };
        if !self.folded().await? {
            return Ok(0);
        }
        self.parts.follower.catch_up().await?;
        self.outbox.bundle(self.parts.clock.now(), self.options.mail.digest, real_now()).await?;
        let mut recorded = 0;
        let mut reachable = true;
        for notice in self.outbox.due(real_now()).await? {
            if stop.is_cancelled() {
                break;
            }
            // What is wrong with one message, its rows or its content is that one's trouble alone.
            match isolated(self.take_up(notice, reachable)).await {
                Ok(Ok((done, answered))) => {
                    recorded += done;
                    reachable &= answered;
                }
                Ok(Err(error)) if is_outage(&error) => return Err(error),
                Ok(Err(error)) => recorded += self.set_aside(notice, &chain(&error)).await?,
                Err(crashed) => recorded += self.set_aside(notice, &crashed.to_string()).await?,
            }
        }
        if recorded > 0 {
            self.outbox.forget(self.parts.clock.now()).await?;
        }
        Ok(recorded)
    }

    /// Rows, newest first.
    pub async fn list(&self, filter: &NoticeFilter) -> Result<Vec<NoticeRow>, NotifyError> {
        self.outbox.list(filter).await
    }

    /// How many rows a filter lets through, whatever its bounds.
    pub async fn count(&self, filter: &NoticeFilter) -> Result<u64, NotifyError> {
        Ok(self.outbox.count(filter).await?)
    }

    /// The name of a webhook endpoint that is configured.
    pub fn endpoint(&self, id: UserId) -> Option<&str> {
        self.options.endpoints.iter().find(|endpoint| endpoint.id() == id).map(|endpoint| endpoint.name.as_str())
    }

    /// Has sent again what was given up: one message, or all. Says how many rows, and where the last event of it stands;
    /// they are owed once the consumer has come there, and the worker sends them.
    pub async fn resend(
        &self,
        notice: Option<NoticeId>,
        meta: &CommandMeta,
    ) -> Result<(u64, Option<Position>), NotifyError> {
        let rows = self.outbox.given_up(notice).await?;
        let (mut again, mut commands) = (0, Vec::new());
        let mut newest: Option<Position> = None;
        for rows in rows.chunk_by(|one, other| one.notice == other.notice) {
            let Some((first, notice)) = rows.first().and_then(|first| Some((first, first.notice?))) else { continue };
            for (resource, told) in by_resource(notice, rows, first.attempts) {
                again += u64::try_from(told.covers.len()).unwrap_or(u64::MAX);
                commands.push((resource, AllocationCommand::ResendNotice(Box::new(told))));
            }
        }
        for some in commands.chunks(RESEND_TOGETHER) {
            for executed in self.parts.allocations.execute_many(some, meta).await {
                newest = newest.max(executed?.position);
            }
        }
        Ok((again, newest))
    }

    /// How many notices stand how, by channel.
    pub async fn counts(&self) -> Result<Vec<NoticeCount>, NotifyError> {
        self.outbox.counts().await
    }

    /// What is owed and what was given up.
    pub async fn backlog(&self) -> Result<Backlog, NotifyError> {
        Ok(self.outbox.backlog().await?)
    }

    /// When the next digest closes, on the service's clock.
    pub async fn next_close(&self) -> Result<Option<DateTime<Utc>>, NotifyError> {
        Ok(self.outbox.next_close(self.options.mail.digest).await?)
    }

    /// Waits until the consumer has folded what stands in the log now. False: not in time.
    async fn folded(&self) -> Result<bool, NotifyError> {
        let head = self.parts.store.head().await?;
        let until = tokio::time::Instant::now() + FOLDED_WITHIN;
        while self.outbox.folded_to().await? < head {
            if tokio::time::Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(FOLDED_POLL).await;
        }
        Ok(true)
    }

    /// One attempt at one message. Says how many outcomes were recorded, and whether the other side answered.
    async fn take_up(&self, notice: NoticeId, reachable: bool) -> Result<(usize, bool), NotifyError> {
        let rows = self.outbox.rows_of(notice).await?;
        let Some(first) = rows.first() else { return Ok((0, true)) };
        // One server that does not answer is asked once per pass, not once per mail.
        if first.channel == NoticeChannel::Mail && first.outcome.is_none() && !reachable {
            return Ok((0, true));
        }
        if let Some(sent) = first.outcome {
            let error = (!sent).then(|| first.error.clone().unwrap_or_default());
            return Ok((self.record(notice, &rows, first.attempts, error.as_deref()).await?, true));
        }
        let attempts = first.attempts + 1;
        self.outbox.begin_attempt(notice, real_now()).await?;
        let attempt = self.attempt(notice, &rows).await?;
        if first.channel == NoticeChannel::Mail {
            self.heard(match &attempt {
                Attempt::Again(Failed::Unreachable(reason)) => Some(reason.clone()),
                _ => None,
            });
        }
        match attempt {
            Attempt::Ended(error) => {
                self.outbox.ended(notice, error.as_deref()).await?;
                Ok((self.record(notice, &rows, attempts, error.as_deref()).await?, true))
            }
            Attempt::Again(failed) => {
                let answered = !matches!(failed, Failed::Unreachable(_));
                let reason = failed.reason();
                tracing::warn!(%notice, channel = first.channel.as_str(), attempts, reason, "a notice was not delivered");
                if attempts >= self.options.retry.attempts_max {
                    let error = format!("given up after {attempts} attempts: {reason}");
                    self.outbox.ended(notice, Some(&error)).await?;
                    return Ok((self.record(notice, &rows, attempts, Some(&error)).await?, answered));
                }
                metrics::notice(first.channel.as_str(), "retry");
                self.outbox.put_off(notice, real_now() + self.pause(attempts), reason).await?;
                Ok((0, answered))
            }
        }
    }

    /// A message that cannot even be tried: marked with the reason, retried after a pause, and finally given up.
    async fn set_aside(&self, notice: NoticeId, reason: &str) -> Result<usize, NotifyError> {
        tracing::error!(%notice, reason, "a notice could not be worked on; the others go on");
        let rows = match self.outbox.rows_of(notice).await {
            Ok(rows) => rows,
            Err(error) if is_outage(&error) => return Err(error),
            Err(_) => Vec::new(),
        };
        let attempts = rows.first().map_or(1, |first| first.attempts.max(1));
        if attempts < self.options.retry.attempts_max {
            self.outbox.put_off(notice, real_now() + self.pause(attempts), reason).await?;
            return Ok(0);
        }
        let error = format!("given up after {attempts} attempts: {reason}");
        self.outbox.ended(notice, Some(&error)).await?;
        self.record(notice, &rows, attempts, Some(&error)).await
    }

    /// The pause before the next attempt, a quarter shorter or longer by chance, so that many do not come back at once.
    fn pause(&self, attempts: u32) -> chrono::Duration {
        let pause = self.options.retry.pause(attempts).mul_f64(rand::rng().random_range(0.75..1.25));
        chrono::Duration::from_std(pause).unwrap_or(chrono::Duration::hours(1))
    }

    async fn attempt(&self, notice: NoticeId, rows: &[NoticeRow]) -> Result<Attempt, NotifyError> {
        let Some(first) = rows.first() else { return Ok(Attempt::Ended(None)) };
        let age = self.parts.clock.now() - first.occurred_at;
        if first.attempts == 0 && !first.forced && age > self.options.stale_after {
            let hours = self.options.stale_after.num_hours();
            return Ok(Attempt::Ended(Some(format!("not sent: it was older than {hours} hours when it could be"))));
        }
        let mut views = Vec::with_capacity(rows.len());
        for row in rows {
            match self.view(row).await? {
                Some(view) => views.push(view),
                None => return Ok(Attempt::Ended(Some("not sent: the resource is not known".to_owned()))),
            }
        }
        let sent = match first.channel {
            NoticeChannel::Mail => self.send_mail(notice, first, views).await?,
            NoticeChannel::Webhook => self.call(notice, first, &views).await,
        };
        Ok(match sent {
            Ok(()) => Attempt::Ended(None),
            Err(Failed::Never(reason)) => Attempt::Ended(Some(reason)),
            Err(failed) => Attempt::Again(failed),
        })
    }

    async fn send_mail(
        &self,
        notice: NoticeId,
        first: &NoticeRow,
        views: Vec<NoticeView>,
    ) -> Result<Result<(), Failed>, NotifyError> {
        let never = |reason: &str| Ok(Err(Failed::Never(reason.to_owned())));
        if first.via == "owner" && !self.owns(first) {
            return never("undeliverable: no longer an owner");
        }
        let Some(address) = self.parts.directory.addresses(&[first.recipient]).await?.pop() else {
            return never("undeliverable: the directory has no address for the recipient");
        };
        let user = self.parts.directory.user(first.recipient).await?;
        let name = user.map(|user| user.full_name).unwrap_or_default();
        let view: Option<MailView> = content::mail(&name, views, self.options.mail.contact.clone());
        let Some(view) = view else { return never("nothing to tell") };
        let rendered = match self.templates.render(&view) {
            Ok(rendered) => rendered,
            // The templates were checked; what fails with real content may be put right and sent again.
            Err(error) => return Ok(Err(Failed::Later(error.to_string()))),
        };
        let date = first.occurred_at + self.options.mail.digest;
        match self.sender.mail(notice, (&name, &address), &rendered, date) {
            Some(mail) => Ok(self.mail.send(&mail).await),
            None => never("undeliverable: the recipient's address is not valid"),
        }
    }

    async fn call(&self, notice: NoticeId, first: &NoticeRow, views: &[NoticeView]) -> Result<(), Failed> {
        let Some(view) = views.first() else { return Err(Failed::Never("nothing to tell".to_owned())) };
        let body = webhook::body(notice, view).map_err(|error| Failed::Never(error.to_string()))?;
        self.webhooks.call(first.recipient, notice, body, real_now()).await
    }

    /// Whether the recipient still owns the customer.
    fn owns(&self, row: &NoticeRow) -> bool {
        let state = self.parts.registry.read();
        state.customer(row.customer).is_some_and(|customer| customer.facts.owners.contains(&row.recipient))
    }

    async fn view(&self, row: &NoticeRow) -> Result<Option<NoticeView>, NotifyError> {
        let resource = match self.parts.allocations.book(row.resource).await {
            Ok(book) => book.facts.clone(),
            Err(CommandError::Store(error)) => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let told = content::told(self.parts.store.as_ref(), row).await?;
        let policy = match row.policy {
            Some(policy) => self.policy(policy).await?,
            None => None,
        };
        let names = {
            let state = self.parts.registry.read();
            let offering = state.offering(resource.offering).map(|o| o.facts.facts.name.clone());
            let customer = state.customer(resource.customer).map(|c| c.facts.name.clone());
            Names { resource, offering: offering.unwrap_or_default(), customer: customer.unwrap_or_default(), policy }
        };
        let zone = self.parts.allocations.rules().zone;
        Ok(Some(content::view(row, told, names, zone, self.options.mail.link.as_deref())))
    }

    /// A policy as it is, or was when it was deleted.
    async fn policy(&self, policy: PolicyId) -> Result<Option<PolicyFacts>, NotifyError> {
        let select = "SELECT facts FROM notify_policies WHERE policy = $1";
        let row = self.parts.read.query_one(select, &[SqlValue::Uuid(policy.as_uuid())]).await?;
        let facts = row.map(|row| Ok::<_, NotifyError>(serde_json::from_str(row.text(0)?))).transpose()?;
        facts.transpose().map_err(|error| NotifyError::Unreadable(format!("policy {policy}: {error}")))
    }

    /// The event that calls for a row, as the log has it, leads to what is recorded of it.
    async fn caused_by(&self, meta: CommandMeta, row: Option<&NoticeRow>) -> Result<CommandMeta, StoreError> {
        let Some(row) = row else { return Ok(meta) };
        let Ok(stream) = StreamName::new(&row.stream) else { return Ok(meta) };
        let event = self.parts.store.read_stream(&stream, row.version.saturating_sub(1), 1).await?;
        let event = event.first().filter(|event| event.event_id == row.cause.as_uuid());
        Ok(match event {
            Some(event) => meta.caused_by(event.link()),
            None => meta,
        })
    }

    /// Records the outcome in the book of each resource that the message tells of.
    async fn record(
        &self,
        notice: NoticeId,
        rows: &[NoticeRow],
        attempt: u32,
        error: Option<&str>,
    ) -> Result<usize, NotifyError> {
        let meta = CommandMeta::system(notice.as_uuid());
        let mut recorded = 0;
        for (resource, told) in by_resource(notice, rows, attempt) {
            let cause = rows.iter().find(|row| told.covers.first() == Some(&row.cause));
            let command = AllocationCommand::RecordNotice { notice: Box::new(told), error: error.map(str::to_owned) };
            let executed = match self.caused_by(meta.clone(), cause).await {
                Ok(meta) => self.parts.allocations.execute(resource, &command, &meta).await,
                Err(error) => Err(error.into()),
            };
            match executed {
                Ok(_) => recorded += 1,
                Err(failed) => {
                    // The outcome is kept with the rows and recorded later; nothing is sent again for it.
                    tracing::error!(error = &failed as &dyn std::error::Error, %notice, "an outcome was not recorded");
                    let reason = error.unwrap_or("delivered, and not recorded yet");
                    self.outbox.put_off(notice, real_now() + RECORD_AGAIN, reason).await?;
                }
            }
        }
        let outcome = if error.is_none() { "sent" } else { "failed" };
        metrics::notice(rows.first().map_or("none", |row| row.channel.as_str()), outcome);
        tracing::info!(%notice, outcome, attempt, error, "a notice is settled");
        Ok(recorded)
    }
}

/// One record for each resource, policy and kind.
fn by_resource(notice: NoticeId, rows: &[NoticeRow], attempt: u32) -> Vec<(ResourceId, Notice)> {
    let mut records: Vec<(ResourceId, Notice)> = Vec::new();
    for row in rows {
        let same = |(resource, told): &&mut (ResourceId, Notice)| {
            (*resource, told.policy, told.template) == (row.resource, row.policy, row.template)
        };
        if let Some((_, told)) = records.iter_mut().find(same) {
            told.covers.push(row.cause);
            told.thresholds.extend(&row.thresholds);
            told.thresholds.sort_unstable();
            told.thresholds.dedup();
            continue;
        }
        let told = Notice {
            notice,
            policy: row.policy,
            template: row.template,
            thresholds: row.thresholds.clone(),
            channel: row.channel,
            recipients: vec![row.recipient],
            attempt,
            covers: vec![row.cause],
        };
        records.push((row.resource, told));
    }
    records
}

/// The right to deliver, for as long as the answer is kept; none if another process has it.
fn lock(log: &Path) -> Result<Option<File>, NotifyError> {
    let path = private::real(log).with_extension("db.notifying");
    let failed = |source| NotifyError::Lock { path: path.clone(), source };
    let file = private::file(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
