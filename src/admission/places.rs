//! Connection slots: how many there are, and which connection is closed when they run out.
//!
//! A connection counts as a stranger's until a request on it presents a valid token. Strangers never hold more than
//! their share of the slots, in total and per address: the oldest of their connections is closed for a new one. A
//! connection with a token keeps its slot.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Share, origin};

/// How often it is said that places run out.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// How many places there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlaceBounds {
    /// All of them.
    pub all: usize,
    /// Those that connections without a token may take.
    pub strangers: usize,
    /// Those that connections without a token from one address may take.
    pub per_address: usize,
}

/// The places.
pub struct Places {
    bounds: PlaceBounds,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    open: usize,
    /// Those among them that were shut.
    leaving: usize,
    next: u64,
    /// Connections without a token, the oldest first.
    strangers: BTreeMap<u64, Stranger>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
    said: Option<Instant>,
}

struct Stranger {
    from: IpAddr,
    shut: CancellationToken,
}

impl State {
    fn forget(&mut self, number: u64) -> Option<Stranger> {
        let stranger = self.strangers.remove(&number)?;
        if let Some(numbers) = self.by_address.get_mut(&stranger.from) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_address.remove(&stranger.from);
            }
        }
        Some(stranger)
    }

    fn shut(&mut self, number: u64) {
        if let Some(stranger) = self.forget(number) {
            stranger.shut.cancel();
            self.leaving += 1;
        }
    }

    /// Whether it is time to say something about places again.
    fn may_say(&mut self) -> bool {
        let may = self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY);
        if may {
            self.said = Some(Instant::now());
        }
        may
    }
}

impl Places {
    /// Places, all free. Strangers never get all of them where there is more than one.
    pub fn new(bounds: PlaceBounds) -> Arc<Self> {
        let strangers = bounds.strangers.min(bounds.all.saturating_sub(1)).max(1);
        let bounds = PlaceBounds { strangers, ..bounds };
        Arc::new(Self { bounds, state: Mutex::default(), changed: Notify::new() })
    }

    /// Nothing is done under the lock that could stop half way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place for a connection from an address; none: from a proxy of the site, which is no stranger. Where all
    /// places are taken, the oldest stranger makes room.
    pub async fn enter(self: &Arc<Self>, from: Option<IpAddr>) -> Arc<Place> {
        while !self.take() {
            self.changed.notified().await;
        }
        let (shut, kept) = (CancellationToken::new(), AtomicBool::new(from.is_none()));
        let place = Place { places: Arc::clone(self), number: Mutex::new(None), kept, share: Mutex::default(), shut };
        if let Some(from) = from {
            place.give_up(from);
        }
        Arc::new(place)
    }

    /// Takes a place if one is free; else sees to it that one will be, if a stranger has one.
    fn take(&self) -> bool {
        let mut state = self.state();
        if state.open < self.bounds.all {
            state.open += 1;
            return true;
        }
        // A closed connection keeps its slot for a moment.
        if state.open - state.leaving >= self.bounds.all {
            match state.strangers.keys().next().copied() {
                Some(oldest) => state.shut(oldest),
                None if state.may_say() => {
                    let connections_max = self.bounds.all;
                    tracing::warn!(connections_max, "all places are taken: further connections wait");
                }
                None => {}
            }
        }
        false
    }

    /// Adds a connection to the strangers, and closes the oldest if there are too many.
    fn stranger(&self, from: IpAddr, shut: &CancellationToken) -> u64 {
        let from = origin(from);
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let of_address = state.by_address.get(&from).filter(|numbers| numbers.len() >= self.bounds.per_address.max(1));
        let oldest = of_address.and_then(BTreeSet::first).copied();
        let oldest = oldest.or_else(|| {
            let full = state.strangers.len() >= self.bounds.strangers;
            state.strangers.keys().next().copied().filter(|_| full)
        });
        if let Some(oldest) = oldest {
            state.shut(oldest);
            if state.may_say() {
                tracing::warn!(%from, "connections without a token are too many: the oldest are closed for new ones");
            }
        }
        state.strangers.insert(number, Stranger { from, shut: shut.clone() });
        state.by_address.entry(from).or_default().insert(number);
        number
    }
}

/// The place of one connection, until it is dropped.
pub struct Place {
    places: Arc<Places>,
    /// Its number among the strangers.
    number: Mutex<Option<u64>>,
    kept: AtomicBool,
    /// What the token that keeps it counts it as.
    share: Mutex<Option<Share>>,
    shut: CancellationToken,
}

impl Place {
    /// Cancelled when the connection must close in favour of another.
    pub fn shut(&self) -> &CancellationToken {
        &self.shut
    }

    fn number(&self) -> MutexGuard<'_, Option<u64>> {
        self.number.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn share(&self) -> MutexGuard<'_, Option<Share>> {
        self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it belongs to this token already.
    pub fn is_of(&self, token: Uuid) -> bool {
        self.kept.load(Ordering::Acquire) && self.share().as_ref().is_some_and(|share| share.token() == token)
    }

    /// The place belongs to somebody with a token from now on, who holds it as one of a number; none: it is not counted.
    pub fn keep(&self, share: Option<Share>) {
        *self.share() = share;
        if !self.kept.swap(true, Ordering::AcqRel)
            && let Some(number) = self.number().take()
        {
            self.places.state().forget(number);
        }
    }

    /// The slot now belongs to a stranger from this address.
    pub fn give_up(&self, from: IpAddr) {
        *self.share() = None;
        let mut number = self.number();
        self.kept.store(false, Ordering::Release);
        if number.is_none() {
            *number = Some(self.places.stranger(from, &self.shut));
            // A waiting connection may take this slot.
            self.places.changed.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let number = self.number().take();
        let mut state = self.places.state();
        state.open -= 1;
        state.leaving -= usize::from(self.shut.is_cancelled());
        if let Some(number) = number {
            state.forget(number);
        }
        drop(state);
        self.places.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn places(all: usize, strangers: usize, per_address: usize) -> Arc<Places> {
        Places::new(PlaceBounds { all, strangers, per_address })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn is_shut(place: &Place) -> bool {
        place.shut().is_cancelled()
    }

    #[tokio::test]
    async fn the_oldest_stranger_of_an_address_makes_room_for_its_next() {
        let places = places(100, 100, 2);
        let (first, second) = (places.enter(Some(address(1))).await, places.enter(Some(address(1))).await);
        let other = places.enter(Some(address(2))).await;
        let third = places.enter(Some(address(1))).await;
        assert!(is_shut(&first) && !is_shut(&second) && !is_shut(&other) && !is_shut(&third));
        // A caller who has presented a token is no longer a stranger.
        second.keep(None);
        let fourth = places.enter(Some(address(1))).await;
        assert!(!is_shut(&second) && !is_shut(&third) && !is_shut(&fourth));
    }

    #[tokio::test]
    async fn strangers_never_take_what_belongs_to_others() {
        let places = places(100, 2, 100);
        let mut strangers = Vec::new();
        for last in 0..10 {
            strangers.push(places.enter(Some(address(last))).await);
        }
        let shut: Vec<bool> = strangers.iter().map(|place| is_shut(place)).collect();
        assert_eq!(shut, [true, true, true, true, true, true, true, true, false, false]);
    }

    #[tokio::test]
    async fn whoever_shows_no_token_makes_room_and_who_shows_one_stays() {
        let places = places(2, 2, 100);
        let known = places.enter(Some(address(1))).await;
        known.keep(None);
        let stranger = places.enter(Some(address(2))).await;
        let cx = &mut Context::from_waker(Waker::noop());
        let mut next = Box::pin(places.enter(Some(address(3))));
        assert!(next.as_mut().poll(cx).is_pending(), "the stranger has not left yet");
        assert!(is_shut(&stranger) && !is_shut(&known));
        drop(stranger);
        let next = next.await;
        next.keep(None);
        // Full of those who stay: the next one waits until one of them shows that it is a stranger, and leaves.
        let mut waits = Box::pin(places.enter(Some(address(4))));
        assert!(waits.as_mut().poll(cx).is_pending() && !is_shut(&known) && !is_shut(&next));
        known.give_up(address(1));
        assert!(waits.as_mut().poll(cx).is_pending() && is_shut(&known));
        drop(known);
        assert!(matches!(waits.as_mut().poll(cx), Poll::Ready(place) if !is_shut(&place)));
    }

    #[tokio::test]
    async fn a_proxy_is_no_stranger_until_it_speaks_for_one() {
        let places = places(10, 10, 1);
        let (one, two) = (places.enter(None).await, places.enter(None).await);
        one.give_up(address(1));
        two.give_up(address(1));
        assert!(is_shut(&one) && !is_shut(&two));
    }
}
