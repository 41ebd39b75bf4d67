//! What each token holds at a time of what there is only so much of: connections, live tails, `WebSockets`.
//!
//! A token that works holds a few of them. Without a bound one token, by mistake or on purpose, would hold all, and every
//! other caller would wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

/// How many of a kind a token may hold.
pub struct Shares {
    /// The setting that says how many.
    setting: &'static str,
    each: usize,
    held: Mutex<HashMap<Uuid, usize>>,
}

/// A token holds as many as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The setting that says how many.
    pub setting: &'static str,
    /// So many.
    pub each: usize,
}

/// One that a token holds, until it is dropped.
pub struct Share {
    of: Arc<Shares>,
    token: Uuid,
}

impl Shares {
    /// So many for each token; 0 is any number.
    pub fn new(setting: &'static str, each: usize) -> Arc<Self> {
        Arc::new(Self { setting, each, held: Mutex::default() })
    }

    /// Takes one for a token.
    ///
    /// # Errors
    /// It holds as many as it may.
    pub fn take(self: &Arc<Self>, token: Uuid) -> Result<Share, Taken> {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = all.entry(token).or_default();
        if self.each > 0 && *held >= self.each {
            return Err(Taken { setting: self.setting, each: self.each });
        }
        *held += 1;
        Ok(Share { of: Arc::clone(self), token })
    }
}

impl Share {
    /// Whose it is.
    pub fn token(&self) -> Uuid {
        self.token
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = all.get_mut(&self.token) {
            *held -= 1;
            if *held == 0 {
                all.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_so_many_and_others_theirs() {
        let shares = Shares::new("x", 2);
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let held = [shares.take(one).ok(), shares.take(one).ok()];
        assert!(held.iter().all(Option::is_some));
        assert_eq!(shares.take(one).err(), Some(Taken { setting: "x", each: 2 }));
        assert!(shares.take(other).is_ok());
        drop(held);
        assert!(shares.take(one).is_ok());
        assert!(shares.held.lock().unwrap().is_empty(), "nobody is remembered who holds nothing");
    }

    #[test]
    fn nobody_is_refused_where_there_is_no_bound() {
        let shares = Shares::new("x", 0);
        let token = Uuid::from_u128(1);
        let held: Vec<_> = (0..1_000).map(|_| shares.take(token)).collect();
        assert!(held.iter().all(Result::is_ok));
    }
}
