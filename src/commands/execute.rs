//! Executes allocation commands: loads the book, decides, appends with the version of the decision, and repeats on a
//! conflict.
//!
//! Commands on one resource are serial within the process and checked by version across processes; different resources
//! run concurrently. The first command of a month seals the old book and opens the next one in the same append as its
//! events.

mod books;
mod bulk;
mod read_batcher;
mod recall;
mod seals;

pub use books::Loaded;

use std::sync::Arc;

use lockable::{LockPool, Lockable};
use rand::RngExt;
use uuid::Uuid;

use self::books::Books;
use self::seals::{Closing, Opening, opening_event};
use super::allocation::{
    AllocationCommand, Book, BookError, DecideContext, Decision, PolicyInForce, Refusal, SiteRules, decide, register,
    stream_of,
};
use crate::clock::{Clock, IdSource};
use crate::domain::ids::{CustomerId, EventId, OfferingId, ResourceId};
use crate::domain::period::Month;
use crate::events::allocation::{AllocationEvent, BooksOpened};
use crate::events::envelope::{Actor, Cause, DecodeError, Link, Metadata, NewEvent, NotReadBack, Position};
use crate::registry::{Applicable, FollowError, Follower, Registry};
use crate::store::{AppendRequest, Appended, EventStore, ExpectedVersion, StoreError};
use crate::supervise::{Crashed, isolated_now};
use crate::telemetry::metrics;

/// How often a command is decided again after somebody else wrote first. Several processes may want the same resource at
/// once, and of those that decide at the same moment one gets through.
const ATTEMPTS_MAX: usize = 8;

/// The longest pause before a command is decided for the third time, milliseconds; it doubles with every further one.
const PAUSE_MS_MAX: u64 = 4;

/// What is not recorded has no cause either.
const NOBODY: Cause = Cause { event: None, correlation: Uuid::nil() };

/// The caller, the request and the reason.
#[derive(Debug, Clone)]
pub struct CommandMeta {
    /// Who.
    pub actor: Actor,
    /// The request or job that it belongs to.
    pub correlation_id: Uuid,
    /// The event that led to it.
    pub causation_id: Option<Uuid>,
    /// The caller's reason.
    pub reason: Option<Arc<str>>,
}

impl CommandMeta {
    /// A command of Sluice itself.
    pub fn system(correlation_id: Uuid) -> Self {
        Self { actor: Actor::SYSTEM, correlation_id, causation_id: None, reason: None }
    }

    /// The same command, led to by an event.
    #[must_use]
    pub fn caused_by(self, link: Link) -> Self {
        Self { correlation_id: link.correlation, causation_id: Some(link.event), ..self }
    }

    /// What led to the command.
    pub fn cause(&self) -> Cause {
        Cause { event: self.causation_id, correlation: self.correlation_id }
    }

    pub(crate) fn metadata(&self) -> Metadata {
        self.metadata_of(self.cause())
    }

    /// The metadata of an event of the command that another one caused.
    pub(crate) fn metadata_of(&self, cause: Cause) -> Metadata {
        Metadata {
            actor: self.actor,
            correlation_id: cause.correlation,
            causation_id: cause.event,
            reason: self.reason.clone(),
        }
    }
}

/// What came of a command.
#[derive(Debug, Clone)]
pub struct Executed {
    /// The events appended; none if nothing changed.
    pub events: Vec<(EventId, AllocationEvent)>,
    /// The book after it.
    pub book: Arc<Book>,
    /// Position of the last event appended, if any.
    pub position: Option<Position>,
}

impl Executed {
    /// True if the command changed nothing and nothing was recorded.
    pub fn already_applied(&self) -> bool {
        self.events.is_empty()
    }
}

/// Why a command was not carried out. Nothing of it was recorded, unless the store said `Unknown`.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no such resource.
    #[error("there is no resource {0}")]
    NoSuchResource(ResourceId),
    /// Others kept writing first.
    #[error("the allocation of resource {0} kept changing; try again")]
    Contended(ResourceId),
    /// The store failed.
    #[error("the event store failed")]
    Store(#[from] StoreError),
    /// A stored book cannot be read.
    #[error("a stored allocation book cannot be read")]
    Book(#[from] BookError),
    /// An event of a book cannot be read, and was not set aside.
    #[error("an allocation book cannot be read")]
    Unsound(#[source] Box<DecodeError>),
    /// The registry cannot follow the log.
    #[error("the registry cannot follow the event log")]
    Registry(#[from] FollowError),
    /// The decision panicked, which is an error of the program. Nothing was written.
    #[error("the decision could not be made")]
    Crashed(#[from] Crashed),
}

impl From<NotReadBack> for CommandError {
    fn from(error: NotReadBack) -> Self {
        Self::Store(error.into())
    }
}

/// Lets the others write: for a time that chance decides, so that two who met do not meet again.
async fn give_way(attempt: usize) {
    if attempt > 0 {
        let most = PAUSE_MS_MAX << attempt.min(4);
        let pause = rand::rng().random_range(0..=most);
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
    }
}

/// Executes commands on allocations.
pub struct Allocations {
    store: Arc<dyn EventStore>,
    registry: Arc<Registry>,
    follower: Arc<Follower>,
    books: Books,
    /// Commands on one resource follow each other. Each resource has a lock of its own: two batches of hundreds would meet
    /// in any number of shared ones.
    locks: LockPool<ResourceId>,
    clock: Arc<dyn Clock>,
    ids: IdSource,
    rules: std::sync::RwLock<Arc<SiteRules>>,
}

impl Allocations {
    /// Executes on `store` with the registry's facts; keeps at most `books_max` folded books in memory.
    pub fn new(
        store: Arc<dyn EventStore>,
        registry: Arc<Registry>,
        follower: Arc<Follower>,
        clock: Arc<dyn Clock>,
        rules: SiteRules,
        books_max: usize,
    ) -> Self {
        Self {
            books: Books::new(Arc::clone(&store), books_max),
            store,
            registry,
            follower,
            locks: LockPool::new(),
            clock,
            ids: IdSource,
            rules: std::sync::RwLock::new(Arc::new(rules)),
        }
    }

    /// Site settings in force.
    pub fn rules(&self) -> Arc<SiteRules> {
        Arc::clone(&self.rules.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Replaces the site settings.
    pub fn set_rules(&self, rules: SiteRules) {
        *self.rules.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(rules);
    }

    /// Drops the folded books; each comes back from the log when it is wanted.
    pub fn forget_books(&self) {
        self.books.clear();
    }

    /// A number that grows with every command that is carried out.
    pub fn activity(&self) -> u64 {
        self.books.changes()
    }

    async fn lock(&self, resource: ResourceId) -> <LockPool<ResourceId> as Lockable<ResourceId, ()>>::Guard<'_> {
        self.locks.async_lock(resource).await
    }

    /// Executes one command.
    pub async fn execute(
        &self,
        resource: ResourceId,
        command: &AllocationCommand,
        meta: &CommandMeta,
    ) -> Result<Executed, CommandError> {
        let begun = std::time::Instant::now();
        let _serial = self.lock(resource).await;
        let executed = self.execute_locked(resource, command, meta).await;
        metrics::command(command.name(), begun.elapsed());
        executed
    }

    async fn execute_locked(
        &self,
        resource: ResourceId,
        command: &AllocationCommand,
        meta: &CommandMeta,
    ) -> Result<Executed, CommandError> {
        self.may_be_decided(command)?;
        let mut newest = false;
        for attempt in 0..=ATTEMPTS_MAX {
            let hint = self.registry.book_hint(resource);
            let (loaded, fresh) = if newest {
                (self.books.load_newest(resource, hint).await?, true)
            } else {
                self.books.load_to_decide(resource, hint).await?
            };
            let loaded = self.recall(resource, loaded, &[]).await?;
            match self.plan(resource, loaded, command, meta) {
                // No append will say whether the book was the newest, so it has to be looked up.
                Ok(plan) if plan.append.is_none() && !fresh => newest = true,
                Ok(plan) => match self.carry_out(resource, plan).await {
                    Err(CommandError::Store(StoreError::Conflict { .. })) => {
                        metrics::conflict();
                        self.books.forget(resource);
                        match self.follower.catch_up().await {
                            Err(FollowError::Event(_)) if command.is_record() => {}
                            followed => followed?,
                        }
                        give_way(attempt).await;
                    }
                    other => return other,
                },
                Err(CommandError::Refused(Refusal::StaleRegistry { .. })) => self.follower.catch_up().await?,
                Err(CommandError::NoSuchResource(_)) if self.registry.book_hint(resource).is_none() => {
                    self.follower.catch_up().await?;
                    if self.registry.book_hint(resource).is_none() {
                        return Err(CommandError::NoSuchResource(resource));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        metrics::contended();
        Err(CommandError::Contended(resource))
    }

    /// Policies, offerings and settings of which a part cannot be read decide nothing.
    fn may_be_decided(&self, command: &AllocationCommand) -> Result<(), CommandError> {
        if command.is_record() { Ok(()) } else { Ok(self.follower.is_known()?) }
    }

    /// Decides without recording anything: what a command would do now.
    pub async fn dry_run(&self, resource: ResourceId, command: &AllocationCommand) -> Result<Decision, CommandError> {
        let loaded = self.books.load_newest(resource, self.registry.book_hint(resource)).await?;
        let loaded = self.recall(resource, loaded, &[]).await?;
        let (_, base) = self.base(resource, loaded)?;
        self.decide(base, command, NOBODY)
    }

    /// The same with these policies in place of those that apply.
    pub async fn dry_run_with(
        &self,
        resource: ResourceId,
        command: &AllocationCommand,
        policies: &[Arc<PolicyInForce>],
    ) -> Result<Decision, CommandError> {
        let loaded = self.books.load_newest(resource, self.registry.book_hint(resource)).await?;
        let loaded = self.recall(resource, loaded, policies).await?;
        let (_, base) = self.base(resource, loaded)?;
        let mut base = Arc::unwrap_or_clone(base);
        // The versions are not compared: the policies stand for what somebody has in mind.
        for policy in policies {
            if let Some(page) = base.policies.get_mut(&policy.id()) {
                page.version = 0;
            }
        }
        self.with_context(base.facts.offering, base.facts.customer, NOBODY, |ctx| {
            decide(base, command, &DecideContext { policies, ..*ctx })
        })
    }

    /// Whether the newest message of a book, which is about to be handed over, is outdated.
    pub fn is_outdated(&self, book: &Arc<Book>) -> Result<bool, CommandError> {
        let (_, base) = self.base(book.facts.resource, Some(Loaded::Open(Arc::clone(book))))?;
        Ok(!self.decide(base, &AllocationCommand::RenewSettings, NOBODY)?.events.is_empty())
    }

    /// The folded book as of now, in the running month.
    pub async fn book(&self, resource: ResourceId) -> Result<Arc<Book>, CommandError> {
        match self.books.load_newest(resource, self.registry.book_hint(resource)).await? {
            Some(Loaded::Open(book) | Loaded::Sealed(book, _)) => Ok(book),
            None => Err(CommandError::NoSuchResource(resource)),
        }
    }

    fn with_context<T>(
        &self,
        offering: OfferingId,
        customer: CustomerId,
        origin: Cause,
        decide: impl FnOnce(&DecideContext<'_>) -> Result<T, Refusal>,
    ) -> Result<T, CommandError> {
        let Some(Applicable { offering, policies }) = self.registry.applicable(offering, customer) else {
            return Err(CommandError::Refused(Refusal::Missing));
        };
        let rules = self.rules();
        let withdrawn = |policy| self.registry.withdraw_reason(policy);
        let ctx = DecideContext {
            now: self.clock.now(),
            offering: &offering,
            policies: &policies,
            withdrawn: &withdrawn,
            rules: &rules,
            ids: self.ids,
            origin,
        };
        Ok(decide(&ctx)?)
    }

    /// A book that nobody else has is written on; of one in the cache it is a copy.
    fn decide(&self, base: Arc<Book>, command: &AllocationCommand, origin: Cause) -> Result<Decision, CommandError> {
        let (offering, customer) = (base.facts.offering, base.facts.customer);
        self.with_context(offering, customer, origin, |ctx| decide(Arc::unwrap_or_clone(base), command, ctx))
    }

    fn month(&self) -> Month {
        Month::of_instant(self.clock.now(), self.rules().zone)
    }

    /// The book that a decision is made on, and how it comes to stand in the log.
    fn base(&self, resource: ResourceId, loaded: Option<Loaded>) -> Result<(Opening, Arc<Book>), CommandError> {
        let month = self.month();
        match loaded {
            None => Err(CommandError::NoSuchResource(resource)),
            Some(Loaded::Open(book)) if book.month >= month => Ok((Opening::None, book)),
            Some(Loaded::Open(book)) => {
                let opened = BooksOpened { previous: book.month, carried: book.carried() };
                let next = Book::begin(month, &AllocationEvent::BooksOpened(Box::new(opened.clone())))?;
                let close = Closing::of(resource, &book, month);
                let cause = Some(close.link());
                Ok((Opening::Next { close: Some(close), cause, opened: Box::new(opened) }, Arc::new(next)))
            }
            Some(Loaded::Sealed(book, successor)) => {
                let opened = BooksOpened { previous: book.month, carried: book.carried() };
                let next = Book::begin(successor, &AllocationEvent::BooksOpened(Box::new(opened.clone())))?;
                Ok((Opening::Next { close: None, cause: book.sealed_by, opened: Box::new(opened) }, Arc::new(next)))
            }
        }
    }

    fn plan(
        &self,
        resource: ResourceId,
        loaded: Option<Loaded>,
        command: &AllocationCommand,
        meta: &CommandMeta,
    ) -> Result<Plan, CommandError> {
        // Nothing of a decision is shared before it is appended: one that panics fails alone.
        isolated_now(|| self.planned(resource, loaded, command, meta))?
    }

    fn planned(
        &self,
        resource: ResourceId,
        loaded: Option<Loaded>,
        command: &AllocationCommand,
        meta: &CommandMeta,
    ) -> Result<Plan, CommandError> {
        let now = self.clock.now();
        if let AllocationCommand::Register(facts) = command {
            if loaded.is_some() {
                return Err(Refusal::Exists.into());
            }
            let decision = self
                .with_context(facts.offering, facts.customer, meta.cause(), |ctx| register(facts, ctx.month(), ctx))?;
            let append = Self::request(resource, &decision, ExpectedVersion::NoStream, None, meta, now)?;
            return Ok(Plan { close: None, append, decision, stands: true });
        }
        let (opening, base) = self.base(resource, loaded)?;
        let version = base.version;
        let decision = self.decide(base, command, meta.cause())?;
        if decision.events.is_empty() {
            // What changes nothing begins no month either.
            let stands = matches!(opening, Opening::None);
            return Ok(Plan { close: None, append: None, decision, stands });
        }
        let (expected, opened, close) = match opening {
            Opening::None => (ExpectedVersion::Exact(version), None, None),
            Opening::Next { close, cause, opened } => (ExpectedVersion::NoStream, Some((opened, cause)), close),
        };
        let append = Self::request(resource, &decision, expected, opened, meta, now)?;
        let close = close.map(|close| close.request(now)).transpose()?;
        Ok(Plan { close, append, decision, stands: true })
    }

    fn request(
        resource: ResourceId,
        decision: &Decision,
        expected: ExpectedVersion,
        opened: Option<(Box<BooksOpened>, Option<Link>)>,
        meta: &CommandMeta,
        now: chrono::DateTime<chrono::Utc>,
    ) -> Result<Option<AppendRequest>, NotReadBack> {
        let stream = stream_of(resource, decision.book.month);
        let mut events = Vec::with_capacity(decision.events.len() + 1);
        if let Some((opened, cause)) = opened {
            events.push(opening_event(&stream, opened, cause, now)?);
        }
        for ((id, event), cause) in decision.events.iter().zip(&decision.causes) {
            events.push(NewEvent {
                event_id: id.as_uuid(),
                event_type: event.event_type(),
                occurred_at: now,
                metadata: meta.metadata_of(*cause),
                payload: event.to_append()?,
            });
        }
        Ok((!events.is_empty()).then_some(AppendRequest { stream, expected, events }))
    }

    async fn carry_out(&self, resource: ResourceId, plan: Plan) -> Result<Executed, CommandError> {
        if let Some(close) = plan.close {
            self.append(close).await?;
        }
        let position = match plan.append {
            Some(append) => Some(self.append(append).await?.position),
            None => None,
        };
        Ok(self.done(resource, plan.decision, plan.stands, position))
    }

    fn done(&self, resource: ResourceId, decision: Decision, stands: bool, position: Option<Position>) -> Executed {
        let book = Arc::new(decision.book);
        if position.is_some() {
            metrics::recorded(decision.events.iter().map(|(_, event)| event));
            self.observe(resource, book.month, &decision.events);
        }
        if position.is_some() || (stands && !self.books.has(resource)) {
            self.books.put(resource, Arc::clone(&book));
        }
        Executed { events: decision.events, book, position }
    }

    /// Lets the registry see what this process appended, before the log brings it round.
    fn observe(&self, resource: ResourceId, month: Month, events: &[(EventId, AllocationEvent)]) {
        let concerns = |e: &AllocationEvent| {
            matches!(e, AllocationEvent::ResourceRegistered(_) | AllocationEvent::ResourceStateChanged(_))
        };
        let newer = self.registry.book_hint(resource).is_none_or(|known| known < month);
        if newer || events.iter().any(|(_, e)| concerns(e)) {
            let mut state = self.registry.write();
            for (_, event) in events.iter().filter(|(_, e)| concerns(e)) {
                state.apply_allocation(resource, month, event);
            }
            state.opened(resource, month);
        }
    }

    /// Appends; where the store cannot say whether it did, asks again with the same ids.
    async fn append(&self, request: AppendRequest) -> Result<Appended, StoreError> {
        match self.store.append(&request.stream, request.expected, request.events.clone()).await {
            Err(StoreError::Unknown(_)) => self.store.append(&request.stream, request.expected, request.events).await,
            other => other,
        }
    }
}

/// The events to append for one command.
struct Plan {
    close: Option<AppendRequest>,
    append: Option<AppendRequest>,
    decision: Decision,
    /// The book stands in the log as it is in the decision, or will once that is appended.
    stands: bool,
}
