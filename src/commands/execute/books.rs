//! Folded books: a bounded cache in front of the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::super::allocation::{Book, BookError, stream_of};
use super::CommandError;
use super::read_batcher::ReadBatcher;
use crate::domain::ids::ResourceId;
use crate::domain::period::Month;
use crate::events::allocation::AllocationEvent;
use crate::events::envelope::{DecodeError, SET_ASIDE, StreamEvent, StreamName, StreamStart};
use crate::store::{EventStore, StoreError};

/// Books a chain of sealed books may lead through: a century of months.
const CHAIN_MAX: usize = 1_200;

/// Events that one read of a long book brings at most; it is bounded in bytes as well.
const PAGE: usize = 1_000;

/// A book as it stands in the log.
#[derive(Debug, Clone)]
pub enum Loaded {
    /// It takes events.
    Open(Arc<Book>),
    /// It is sealed, and the named successor does not exist yet.
    Sealed(Arc<Book>, Month),
}

impl Loaded {
    /// The book.
    pub fn book(&self) -> &Book {
        match self {
            Self::Open(book) | Self::Sealed(book, _) => book,
        }
    }
}

/// The cache.
pub(super) struct Books {
    store: Arc<dyn EventStore>,
    together: Arc<ReadBatcher>,
    cache: Mutex<LruCache<ResourceId, Arc<Book>>>,
    most: usize,
    /// Books put into the cache so far.
    changes: AtomicU64,
}

impl Books {
    pub(super) fn new(store: Arc<dyn EventStore>, most: usize) -> Self {
        Self {
            together: ReadBatcher::new(Arc::clone(&store)),
            store,
            cache: Mutex::new(LruCache::unbounded()),
            most,
            changes: AtomicU64::new(0),
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, LruCache<ResourceId, Arc<Book>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, resource: ResourceId, book: Arc<Book>) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        let mut cache = self.cache();
        let previous = cache.put(resource, book);
        // Bounded here, since a cache with a bound of its own takes room for all of it from the start.
        let oldest = if cache.len() > self.most { cache.pop_lru() } else { None };
        drop(cache);
        drop((previous, oldest)); // taking a book apart takes longer than finding it
    }

    /// A number that grows with every book that is put into the cache.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    pub(super) fn forget(&self, resource: ResourceId) {
        self.cache().pop(&resource);
    }

    pub(super) fn clear(&self) {
        let books = std::mem::replace(&mut *self.cache(), LruCache::unbounded());
        drop(books);
    }

    pub(super) fn cached(&self, resource: ResourceId) -> Option<Loaded> {
        self.cache().get(&resource).map(|book| Loaded::Open(Arc::clone(book)))
    }

    pub(super) fn has(&self, resource: ResourceId) -> bool {
        self.cache().contains(&resource)
    }

    /// The newest book of a resource, from the cache or from the store starting at the book of `hint`.
    async fn load(&self, resource: ResourceId, hint: Option<Month>) -> Result<Option<Loaded>, CommandError> {
        if let Some(book) = self.cached(resource) {
            return Ok(Some(book));
        }
        let found = self.find(resource, hint).await?;
        if let Some(Loaded::Open(book)) = &found {
            self.put(resource, Arc::clone(book));
        }
        Ok(found)
    }

    /// The same before a write, and whether the book was just read. In that case it is not in the cache: the decided
    /// book goes there instead.
    pub(super) async fn load_to_decide(
        &self,
        resource: ResourceId,
        hint: Option<Month>,
    ) -> Result<(Option<Loaded>, bool), CommandError> {
        match self.cached(resource) {
            Some(book) => Ok((Some(book), false)),
            None => Ok((self.find(resource, hint).await?, true)),
        }
    }

    /// The newest book of a resource, from the store starting at the book of `hint`.
    async fn find(&self, resource: ResourceId, hint: Option<Month>) -> Result<Option<Loaded>, CommandError> {
        let Some(mut month) = hint else { return Ok(None) };
        let Some(mut book) = self.read(resource, month).await? else { return Ok(None) };
        for _ in 0..CHAIN_MAX {
            let Some(successor) = book.sealed else {
                return Ok(Some(Loaded::Open(Arc::new(book))));
            };
            match self.read(resource, successor).await? {
                Some(next) => (month, book) = (successor, next),
                None => return Ok(Some(Loaded::Sealed(Arc::new(book), successor))),
            }
        }
        Err(broken(resource, month, "the chain of books does not end", 0).into())
    }

    /// The same, but never a book to which others have appended since it was folded.
    pub(super) async fn load_newest(
        &self,
        resource: ResourceId,
        hint: Option<Month>,
    ) -> Result<Option<Loaded>, CommandError> {
        let Some(Loaded::Open(known)) = self.cached(resource) else { return self.load(resource, hint).await };
        let newer = self.store.read_stream(&stream_of(resource, known.month), known.version, 1).await?;
        if newer.is_empty() {
            return Ok(Some(Loaded::Open(known)));
        }
        self.forget(resource);
        self.load(resource, Some(known.month)).await
    }

    /// Streams from their beginning on, in few reads.
    pub(super) async fn read_streams(&self, streams: &[StreamName]) -> Result<Vec<StreamStart>, StoreError> {
        self.store.read_streams(streams).await
    }

    async fn read(&self, resource: ResourceId, month: Month) -> Result<Option<Book>, CommandError> {
        let start = self.together.read(stream_of(resource, month)).await?;
        self.folded(resource, month, start).await
    }

    /// The book that a stream comes to, of which the beginning is there; what is missing is read page by page, so that a long
    /// month takes no more memory than a short one. An event that cannot be read is named, and stands in the way of all that
    /// follow.
    pub(super) async fn folded(
        &self,
        resource: ResourceId,
        month: Month,
        start: StreamStart,
    ) -> Result<Option<Book>, CommandError> {
        let mut fold = Fold { resource, month, book: None, version: 0 };
        let StreamStart { events, mut whole } = start;
        let mut page = events;
        loop {
            match fold.take(&page) {
                Ok(()) => {}
                Err(FoldError::Book(error)) => return Err(error.into()),
                Err(FoldError::Unreadable(version, problem)) => {
                    return Err(self.unsound(resource, month, version, problem).await);
                }
            }
            if whole {
                return Ok(fold.book);
            }
            let more = self.store.read_stream(&stream_of(resource, month), fold.version, PAGE).await?;
            whole = more.is_empty();
            page = more.iter().map(StreamEvent::from).collect();
        }
    }

    /// What there is to say of an event of a book that cannot be read; those who look after the log get to know.
    async fn unsound(&self, resource: ResourceId, month: Month, version: u64, problem: String) -> CommandError {
        let stream = stream_of(resource, month);
        match self.store.read_stream(&stream, version.saturating_sub(1), 1).await {
            Err(error) => error.into(),
            Ok(events) => match events.first() {
                None => broken(resource, month, "an event that cannot be read, and then is not there", version).into(),
                Some(event) => {
                    let unsound = DecodeError::new(event, problem);
                    self.store.note(&unsound);
                    CommandError::Unsound(Box::new(unsound))
                }
            },
        }
    }

    /// The same for many resources, one outcome each, at their hinted months in few reads; those that are sealed go the long
    /// way.
    pub(super) async fn load_many(
        &self,
        wanted: &[(ResourceId, Option<Month>)],
    ) -> Result<Vec<Result<Option<Loaded>, CommandError>>, StoreError> {
        let mut found: Vec<Result<Option<Loaded>, CommandError>> =
            wanted.iter().map(|(resource, _)| Ok(self.cached(*resource))).collect();
        let missing: Vec<(usize, ResourceId, Month)> = wanted
            .iter()
            .enumerate()
            .filter(|(i, _)| matches!(found[*i], Ok(None)))
            .filter_map(|(i, (resource, hint))| Some((i, *resource, (*hint)?)))
            .collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let streams: Vec<_> = missing.iter().map(|(_, resource, month)| stream_of(*resource, *month)).collect();
        let read = self.store.read_streams(&streams).await?;
        for ((index, resource, month), start) in missing.into_iter().zip(read) {
            found[index] = match self.folded(resource, month, start).await {
                Ok(Some(book)) if book.sealed.is_none() => Ok(Some(Loaded::Open(Arc::new(book)))),
                Ok(Some(_)) => self.find(resource, Some(month)).await,
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
        }
        Ok(found)
    }
}

fn broken(resource: ResourceId, month: Month, problem: &'static str, version: u64) -> BookError {
    BookError { stream: stream_of(resource, month).to_string(), problem, version }
}

/// Why events are no book.
enum FoldError {
    Book(BookError),
    /// The event of this version cannot be read.
    Unreadable(u64, String),
}

impl From<BookError> for FoldError {
    fn from(error: BookError) -> Self {
        Self::Book(error)
    }
}

/// A book that is being folded.
struct Fold {
    resource: ResourceId,
    month: Month,
    book: Option<Book>,
    /// Up to where.
    version: u64,
}

impl Fold {
    fn take(&mut self, events: &[StreamEvent]) -> Result<(), FoldError> {
        for recorded in events {
            self.version = recorded.version;
            if &*recorded.event_type == SET_ASIDE {
                if let Some(book) = &mut self.book {
                    book.pass_over();
                }
                continue;
            }
            let event = match AllocationEvent::decode(&recorded.event_type, &recorded.payload) {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Err(FoldError::Unreadable(recorded.version, error.to_string())),
                None => {
                    let problem = "the type is none of an allocation book".to_owned();
                    return Err(FoldError::Unreadable(recorded.version, problem));
                }
            };
            match &mut self.book {
                None => {
                    let (resource, month) = (self.resource, self.month);
                    let mut begun = Book::begin(month, &event)
                        .map_err(|error| BookError { stream: stream_of(resource, month).to_string(), ..error })?;
                    begun.version = recorded.version;
                    self.book = Some(begun);
                }
                Some(book) => book.evolve(recorded.link(), &event),
            }
        }
        Ok(())
    }
}
