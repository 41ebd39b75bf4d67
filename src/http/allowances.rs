//! Applies rate limits: to a token by the cost of its requests, to callers without one by address.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::http::HeaderMap;

use super::error::ApiError;
use crate::admission::{Exhausted, Networks, Peer, Rates, Share, Shares, origin};
use crate::app::AppOptions;
use crate::domain::ids::TokenId;
use crate::store::spent::Spent;

/// The settings that bound what a token costs, in the order in which it is counted.
const TOKEN_SETTINGS: [&str; 3] = ["token_requests_per_minute", "token_events_per_minute", "token_mib_per_minute"];

/// The names of the headers by which a proxy says for whom it speaks.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// How much each caller may ask for.
pub struct Allowances {
    strangers: Rates<std::net::IpAddr, 1>,
    /// Requests, events, bytes.
    tokens: Rates<TokenId, 3>,
    /// Connections that tokens hold.
    connections: Arc<Shares>,
    /// Live tails that they hold.
    tails: Arc<Shares>,
    proxies: Networks,
}

impl Allowances {
    /// As the options have it; nobody has asked for anything yet.
    pub fn new(options: &AppOptions) -> Self {
        let limits = &options.limits;
        Self {
            strangers: Rates::new([limits.address_requests_per_minute]),
            tokens: Rates::new([
                limits.token_requests_per_minute,
                limits.token_events_per_minute,
                limits.token_bytes_per_minute,
            ]),
            connections: Shares::new("token_connections_max", limits.token_connections_max),
            tails: Shares::new("token_tails_max", limits.token_tails_max),
            proxies: options.trusted_proxies.clone(),
        }
    }

    /// The address that a request comes from; none for a proxy of the site that speaks for itself.
    pub fn address(&self, peer: &Peer, headers: &HeaderMap) -> Option<std::net::IpAddr> {
        if !peer.trusted {
            return Some(peer.address);
        }
        self.proxies
            .forwarded(headers.get_all(FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or("unreadable")))
    }

    /// Counts a request without a good token, for the address that it comes from.
    ///
    /// # Errors
    /// The address has made as many as it may.
    pub fn stranger(&self, request: &Request) -> Result<(), ApiError> {
        let peer = request.extensions().get::<Peer>();
        let Some(address) = peer.and_then(|peer| self.address(peer, request.headers())) else { return Ok(()) };
        let (address, now) = (origin(address), Instant::now());
        let admitted = self.strangers.admit(address, now);
        admitted.map_err(|exhausted| ApiError::TooMany { what: "address_requests_per_minute", exhausted })?;
        self.strangers.charge(address, [1], now);
        Ok(())
    }

    /// Counts a request with a good token. One that is exempt is counted and never refused.
    ///
    /// # Errors
    /// The token has used up what a minute allows.
    pub fn known(&self, token: TokenId, exempt: bool) -> Result<(), ApiError> {
        let now = Instant::now();
        let used_up = |exhausted: Exhausted| ApiError::TooMany { what: TOKEN_SETTINGS[exhausted.kind], exhausted };
        if !exempt {
            self.tokens.admit(token, now).map_err(used_up)?;
        }
        self.tokens.charge(token, [1, 0, 0], now);
        Ok(())
    }

    /// The connection of a request with a good token is the token's from now on.
    ///
    /// # Errors
    /// The token holds as many as it may.
    pub fn place(&self, peer: Option<&Peer>, token: TokenId) -> Result<(), ApiError> {
        let kept = peer.map_or(Ok(()), |peer| peer.known(token.as_uuid(), &self.connections));
        kept.map_err(ApiError::TooManyHeld)
    }

    /// One of the live tails that a token may hold.
    ///
    /// # Errors
    /// It holds as many as it may.
    pub fn tail(&self, token: TokenId) -> Result<Share, ApiError> {
        self.tails.take(token.as_uuid()).map_err(ApiError::TooManyHeld)
    }

    /// Counts what a request appends from now on; it is taken from what the token may do once the bill is dropped, however the
    /// request ends.
    pub fn bill(self: &Arc<Self>, token: TokenId) -> Bill {
        Bill { allowances: Arc::clone(self), token, spent: Arc::default() }
    }
}

/// What one request appends.
pub struct Bill {
    allowances: Arc<Allowances>,
    token: TokenId,
    spent: Arc<Spent>,
}

impl Bill {
    /// Where it is counted.
    pub fn spent(&self) -> Arc<Spent> {
        Arc::clone(&self.spent)
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        let (events, bytes) = (self.spent.events(), self.spent.bytes());
        if events > 0 {
            self.allowances.tokens.charge(self.token, [0, events, bytes], Instant::now());
        }
    }
}
