//! The shared state of all handlers.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::allowances::Allowances;
use crate::app::App;

/// Bounds of the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of a request body; more is answered 413.
    pub body_bytes_max: usize,
    /// Bytes of a request body that needs no room of its own.
    pub small_body_bytes: usize,
    /// Bytes of larger bodies that are worked on at a time; further ones wait.
    pub large_bodies_bytes_max: usize,
    /// How long a request may take; longer is answered 503.
    pub request_time_max: Duration,
    /// Items of one usage report; more is refused.
    pub report_items_max: usize,
    /// Live tails of the event log at a time; one more is answered 503.
    pub tails_max: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body_bytes_max: 2 << 20,
            small_body_bytes: 64 << 10,
            large_bodies_bytes_max: 32 << 20,
            request_time_max: Duration::from_mins(2),
            report_items_max: 10_000,
            tails_max: 100,
        }
    }
}

/// Shared by all handlers; cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    /// The composed application.
    pub app: Arc<App>,
    /// Bounds.
    pub limits: Arc<HttpLimits>,
    /// How much each caller may ask for.
    pub allowances: Arc<Allowances>,
    /// Places for live tails that are free.
    pub tails: Arc<Semaphore>,
    /// Room for large bodies, KiB.
    bodies: Arc<Semaphore>,
    /// Held while metrics are read.
    pub scraping: Arc<tokio::sync::Mutex<()>>,
}

impl ApiState {
    /// The state over an application, with the usual bounds.
    pub fn new(app: Arc<App>) -> Self {
        let limits = HttpLimits::default();
        let tails = Arc::new(Semaphore::new(limits.tails_max));
        let bodies = Arc::new(Semaphore::new(limits.large_bodies_bytes_max >> 10));
        let allowances = Arc::new(Allowances::new(&app.options));
        Self { app, limits: Arc::new(limits), allowances, tails, bodies, scraping: Arc::default() }
    }

    /// Waits for room for the body of a request; none is needed for a small one.
    pub async fn room_for_body(&self, headers: &HeaderMap) -> Option<OwnedSemaphorePermit> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let unsaid = if headers.contains_key(header::TRANSFER_ENCODING) { usize::MAX } else { 0 };
        // No more of a body is ever kept.
        let bytes = length.unwrap_or(unsaid).min(self.limits.body_bytes_max);
        if bytes <= self.limits.small_body_bytes {
            return None;
        }
        // Nobody closes the semaphore.
        Arc::clone(&self.bodies).acquire_many_owned(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)).await.ok()
    }
}
