//! What every handler works with.

use std::sync::Arc;
use std::time::Duration;

use crate::app::App;

/// Bounds of the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of a request body; more is answered 413.
    pub body_bytes_max: usize,
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
    /// Places for live tails that are free.
    pub tails: Arc<tokio::sync::Semaphore>,
    /// Held while metrics are read.
    pub scraping: Arc<tokio::sync::Mutex<()>>,
}

impl ApiState {
    /// The state over an application, with the usual bounds.
    pub fn new(app: Arc<App>) -> Self {
        let limits = HttpLimits::default();
        let tails = Arc::new(tokio::sync::Semaphore::new(limits.tails_max));
        Self { app, limits: Arc::new(limits), tails, scraping: Arc::default() }
    }
}
