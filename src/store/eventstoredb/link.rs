//! The connection: one client, made again when it has given up, and what an error of a call means.
//!
//! A client that could not reach any node stops for good and answers every later call with "connection closed", so somebody
//! has to make another. On "not leader" it moves to the leader by itself; the next call goes there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eventstore::{Client, ClientSettings, Error};

use super::address::EventStoreAddress;
use crate::limits::Limits;
use crate::store::StoreError;

/// What became of a call that did not succeed.
pub(super) enum Trouble {
    /// Nothing was done, and the next attempt may succeed.
    NotDone(StoreError),
    /// It may have been done.
    Unclear(StoreError),
    /// No further attempt would change it.
    Final(StoreError),
}

/// A call that did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} ms", .0.as_millis())]
struct Silence(Duration);

pub(super) struct Link {
    settings: ClientSettings,
    client: Mutex<(u64, Client)>,
    pub(super) credentials: Option<eventstore::Credentials>,
    call: Duration,
    attempts_max: u32,
    pause_first: Duration,
}

/// A client and which one it is.
pub(super) struct Current {
    pub(super) client: Client,
    number: u64,
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Arc::new(error))
}

fn connect(settings: &ClientSettings) -> Result<Client, StoreError> {
    // What fails here are the files of certificates that the address names.
    Client::new(settings.clone()).map_err(|error| unavailable(Error::InitializationError(error.to_string())))
}

impl Link {
    /// Makes the first client; nothing is sent yet.
    pub(super) fn new(address: &EventStoreAddress, limits: &Limits) -> Result<Self, StoreError> {
        let settings = address.settings().map_err(|error| StoreError::Rejected(error.to_string()))?;
        let client = connect(&settings)?;
        Ok(Self {
            settings,
            client: Mutex::new((1, client)),
            credentials: address.credentials(),
            call: limits.event_store_call,
            attempts_max: limits.event_store_attempts_max.max(1),
            pause_first: limits.event_store_pause_first,
        })
    }

    /// The client in use.
    pub(super) fn current(&self) -> Current {
        let (number, client) = &*self.client.lock().unwrap_or_else(PoisonError::into_inner);
        Current { client: client.clone(), number: *number }
    }

    /// Replaces a client that is of no use any more, unless somebody else has done so.
    fn renew(&self, used: &Current) {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.0 != used.number {
            return;
        }
        match connect(&self.settings) {
            Ok(new) => *client = (used.number + 1, new),
            Err(error) => tracing::warn!(%error, "no new connection to the event store can be made"),
        }
    }

    /// Waits for an answer, within bounds, and says what a failure means.
    pub(super) async fn answer<T>(
        &self,
        used: &Current,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, Trouble> {
        match tokio::time::timeout(self.call, call).await {
            Ok(Ok(done)) => Ok(Ok(done)),
            Ok(Err(error)) => match self.trouble(used, error) {
                Ok(trouble) => Err(trouble),
                Err(answer) => Ok(Err(answer)),
            },
            Err(_) => {
                // Whatever hangs there, a new connection has a better chance.
                self.renew(used);
                Err(Trouble::Unclear(unavailable(Silence(self.call))))
            }
        }
    }

    /// What an error means; an error that is an answer of the server's comes back as it is.
    fn trouble(&self, used: &Current, error: Error) -> Result<Trouble, Error> {
        Ok(match error {
            Error::WrongExpectedVersion { .. } => return Err(error),
            Error::NotLeaderException(_) => Trouble::NotDone(unavailable(error)),
            Error::ConnectionClosed | Error::GrpcConnectionError(_) | Error::InitializationError(_) => {
                self.renew(used);
                Trouble::NotDone(unavailable(error))
            }
            // The event is as good as it was; somebody has to see to the rights first.
            Error::AccessDenied => Trouble::Final(unavailable(error)),
            Error::ResourceDeleted => {
                Trouble::Final(StoreError::Corrupt("the stream was deleted in the event store".to_owned()))
            }
            Error::UnsupportedFeature => Trouble::Final(StoreError::Rejected(error.to_string())),
            Error::Grpc { code, ref message } if refuses_for_good(i32::from(code)) => {
                Trouble::Final(StoreError::Rejected(message.clone()))
            }
            _ => Trouble::Unclear(unavailable(error)),
        })
    }

    /// Reads until it succeeds, as often as the limits allow: reading twice does no harm.
    pub(super) async fn read<T, F>(&self, what: &'static str, call: impl Fn(Arc<Current>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match call(Arc::new(self.current())).await {
                Ok(done) => return Ok(done),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::NotDone(error) | Trouble::Unclear(error)) => error,
            };
            if attempt >= self.attempts_max {
                return Err(error);
            }
            self.pause(what, attempt, &error).await;
        }
    }

    /// How often a call is tried.
    pub(super) fn attempts_max(&self) -> u32 {
        self.attempts_max
    }

    /// The pause before the next attempt; it doubles.
    pub(super) async fn pause(&self, what: &'static str, attempt: u32, error: &StoreError) {
        let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(%error, %reason, what, attempt, "the event store did not do it; trying again");
        tokio::time::sleep(self.pause_first.saturating_mul(2_u32.saturating_pow((attempt - 1).min(16)))).await;
    }
}

/// Codes of gRPC for a request that is wrong by itself: invalid argument (3), out of range (11), unimplemented (12).
fn refuses_for_good(code: i32) -> bool {
    matches!(code, 3 | 11 | 12)
}
