//! Admission control: connection slots, client addresses behind proxies, and rate limits per caller.
//!
//! A caller without a token is a stranger, known only by address. Strangers share part of the slots and of the rate;
//! the rest belongs to callers with a token, so that no number of strangers keeps an agent out.

mod places;
mod proxies;
mod rates;
mod shares;

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

pub use places::{Place, PlaceBounds, Places};
pub use proxies::{Networks, NetworksError};
pub use rates::{Exhausted, Rates};
pub use shares::{Share, Shares, Taken};

/// The other end of a connection. Every request of the connection carries it.
#[derive(Clone)]
pub struct Peer {
    /// The address that the connection comes from.
    pub address: IpAddr,
    /// A proxy of the site: it speaks for others, whose addresses it names.
    pub trusted: bool,
    /// The place that the connection takes.
    pub place: Arc<Place>,
}

impl Peer {
    /// The caller has shown a token: its place is one of those that strangers cannot take. How many of them a token holds is
    /// counted, but not on a connection of a proxy, which speaks for many.
    ///
    /// # Errors
    /// The token holds as many as it may. The place is a stranger's from now on.
    pub fn known(&self, token: Uuid, shares: &Arc<Shares>) -> Result<(), Taken> {
        if self.trusted {
            self.place.keep(None);
            return Ok(());
        }
        if self.place.is_of(token) {
            return Ok(());
        }
        match shares.take(token) {
            Ok(share) => {
                self.place.keep(Some(share));
                Ok(())
            }
            Err(full) => {
                self.place.give_up(self.address);
                Err(full)
            }
        }
    }

    /// The caller has shown a token that is not good.
    pub fn unknown(&self) {
        if !self.trusted {
            self.place.give_up(self.address);
        }
    }
}

/// The addresses that count as one caller: a network is free to hand out any address of an IPv6 prefix of 64 bits.
pub fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_prefix_is_one_caller() {
        let of = |text: &str| origin(text.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
