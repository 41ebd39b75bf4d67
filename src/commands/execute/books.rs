//! Folded books: a bounded cache in front of the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::super::allocation::{Book, BookError, stream_of};
use super::CommandError;
use super::together::Together;
use crate::domain::ids::{EventId, ResourceId};
use crate::domain::period::Month;
use crate::events::allocation::AllocationEvent;
use crate::events::envelope::StreamEvent;
use crate::store::{EventStore, StoreError};

/// Books a chain of sealed books may lead through: a century of months.
const CHAIN_MAX: usize = 1_200;

/// A book as it stands in the log.
#[derive(Debug, Clone)]
pub enum Loaded {
    /// It takes events.
    Open(Arc<Book>),
    /// It is sealed, and the named successor does not exist yet.
    Sealed(Arc<Book>, Month),
}

/// The cache.
pub(super) struct Books {
    store: Arc<dyn EventStore>,
    together: Arc<Together>,
    cache: Mutex<LruCache<ResourceId, Arc<Book>>>,
    most: usize,
    /// Books put into the cache so far.
    changes: AtomicU64,
}

impl Books {
    pub(super) fn new(store: Arc<dyn EventStore>, most: usize) -> Self {
        Self {
            together: Together::new(Arc::clone(&store)),
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

    /// The same for whoever is about to write, and whether it was read just now. Then it is not in the cache: what is
    /// decided on it goes there instead.
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

    async fn read(&self, resource: ResourceId, month: Month) -> Result<Option<Book>, CommandError> {
        let events = self.together.read(stream_of(resource, month)).await?;
        let mut book = None;
        fold(&mut book, resource, month, &events)?;
        Ok(book)
    }

    /// The same for many resources, at their hinted months in few reads; those that are sealed go the long way.
    pub(super) async fn load_many(
        &self,
        wanted: &[(ResourceId, Option<Month>)],
    ) -> Result<Vec<Option<Loaded>>, CommandError> {
        let mut found: Vec<Option<Loaded>> = wanted.iter().map(|(resource, _)| self.cached(*resource)).collect();
        let missing: Vec<(usize, ResourceId, Month)> = wanted
            .iter()
            .enumerate()
            .filter(|(i, _)| found[*i].is_none())
            .filter_map(|(i, (resource, hint))| Some((i, *resource, (*hint)?)))
            .collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let streams: Vec<_> = missing.iter().map(|(_, resource, month)| stream_of(*resource, *month)).collect();
        let read = self.store.read_streams(&streams).await?;
        for ((index, resource, month), events) in missing.into_iter().zip(read) {
            let mut book = None;
            fold(&mut book, resource, month, &events)?;
            found[index] = match book {
                Some(book) if book.sealed.is_none() => Some(Loaded::Open(Arc::new(book))),
                Some(_) => self.find(resource, Some(month)).await?,
                None => None,
            };
        }
        Ok(found)
    }
}

fn broken(resource: ResourceId, month: Month, problem: &'static str, version: u64) -> BookError {
    BookError { stream: stream_of(resource, month).to_string(), problem, version }
}

fn fold(
    book: &mut Option<Book>,
    resource: ResourceId,
    month: Month,
    events: &[StreamEvent],
) -> Result<(), CommandError> {
    for recorded in events {
        let decoded = AllocationEvent::decode(&recorded.event_type, &recorded.payload);
        let event = match decoded {
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                return Err(StoreError::Corrupt(format!(
                    "{} in {}: {error}",
                    recorded.event_type,
                    stream_of(resource, month)
                ))
                .into());
            }
            None => return Err(broken(resource, month, "an event of another family", recorded.version).into()),
        };
        match book {
            None => *book = Some(Book::begin(month, &event)?),
            Some(book) => book.evolve(EventId::from(recorded.event_id), &event),
        }
    }
    Ok(())
}
