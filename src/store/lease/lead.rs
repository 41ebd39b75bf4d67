//! Leading: work that one process does at a time, for as long as it holds a lease.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Fence, Leases};
use crate::telemetry::metrics;

/// A lease is renewed three times before it would run out.
const RENEWALS: u32 = 3;

/// How often a waiting process checks the lease, in its own time.
const LOOKS: u32 = 4;

/// How long a renewal may take, in times of the lease, before the connection counts as dead.
const ANSWER_WITHIN: u32 = 2;

impl Leases {
    /// Does `work` whenever this process holds the lease, until told to stop. The token that `work` is given ends when
    /// the lease is lost; everything that it writes has to be in the scope of the fence.
    pub async fn lead<W: Future<Output = ()>>(
        &self,
        name: &'static str,
        stop: &CancellationToken,
        work: impl Fn(Fence, CancellationToken) -> W,
    ) {
        while !stop.is_cancelled() {
            match self.take(name).await {
                Ok(Some(fence)) => {
                    tracing::info!(lease = name, epoch = fence.epoch(), "this process takes over");
                    let inner = stop.child_token();
                    metrics::leads(true);
                    self.hold(&fence, &inner, work(fence.clone(), inner.clone())).await;
                    metrics::leads(false);
                }
                Ok(None) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, lease = name, "the lease cannot be looked at");
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(self.lasts / LOOKS) => {}
            }
        }
    }

    /// Works until the work is done, or the lease is lost; then it gets a moment to notice, and is dropped.
    async fn hold(&self, fence: &Fence, inner: &CancellationToken, work: impl Future<Output = ()>) {
        tokio::pin!(work);
        tokio::select! {
            () = &mut work => {
                if let Err(error) = self.give_back(fence).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, lease = fence.name(), "a lease is left to run out");
                }
            }
            () = self.kept(fence) => {
                tracing::warn!(lease = fence.name(), epoch = fence.epoch(), "the lease is lost; others go on");
                inner.cancel();
                // Its further writes are refused. Tasks that do not end by themselves are aborted.
                let _ = tokio::time::timeout(self.lasts, &mut work).await;
            }
        }
    }

    /// Renews the lease for as long as it is this process'.
    async fn kept(&self, fence: &Fence) {
        let mut silent = Duration::ZERO;
        loop {
            tokio::time::sleep(self.lasts / RENEWALS).await;
            let asked = tokio::time::Instant::now();
            match tokio::time::timeout(self.lasts * ANSWER_WITHIN, self.keep(fence)).await {
                Ok(Ok(true)) => silent = Duration::ZERO,
                Ok(Ok(false)) => return,
                // Unknown. Continuing does no harm, since each write is checked; but not forever.
                Ok(Err(_)) | Err(_) => {
                    silent += asked.elapsed() + self.lasts / RENEWALS;
                    if silent >= self.lasts {
                        return;
                    }
                }
            }
        }
    }
}
