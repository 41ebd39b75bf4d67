//! The settings sync's sweep: messages to agents that nobody answered.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::commands::execute::CommandMeta;
use crate::dispatch::{DispatchOptions, Publisher};
use crate::scheduler::{Scheduler, Sweep, SweepError};

struct Unanswered(Arc<Publisher>);

#[async_trait]
impl Sweep for Unanswered {
    fn name(&self) -> &'static str {
        "sent_again"
    }

    async fn next_due(&self) -> Result<Option<DateTime<Utc>>, SweepError> {
        Ok(self.0.next_sweep().await?)
    }

    async fn sweep(&self, _: DateTime<Utc>, _: &CommandMeta) -> Result<u64, SweepError> {
        Ok(self.0.sweep().await?.again)
    }
}

/// Has the settings sync look after what agents were told.
pub(super) fn sweep(scheduler: &Scheduler, publisher: &Arc<Publisher>, options: &DispatchOptions) {
    if options.sweeps {
        scheduler.sweep_with(Arc::new(Unanswered(Arc::clone(publisher))));
    }
}
