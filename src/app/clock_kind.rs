//! Which clock a database lives by: the machine's, or one that moves only when told.

use chrono::{DateTime, Utc};

use super::{AppClock, AppError, SIMULATED_NOW};
use crate::clock::SimulatedClock;
use crate::store::meta::Meta;

/// The key under which a database keeps what clock it lives by.
const CLOCK_KIND: &str = "clock";

/// The clock a database lives by. A new one takes the kind asked for; an old one keeps its own.
pub(super) async fn clock_of(meta: &Meta, asked: Option<DateTime<Utc>>) -> Result<AppClock, AppError> {
    let wanted = if asked.is_some() { "simulated" } else { "real" };
    let kept = meta.get(CLOCK_KIND).await?;
    let kind = match (kept, asked) {
        (Some(kind), _) => kind,
        (None, _) => meta.get_or_set(CLOCK_KIND, wanted).await?,
    };
    match (kind.as_str(), asked) {
        ("real", None) => Ok(AppClock::Real),
        ("real", Some(_)) => {
            Err(AppError::ClockKind { kind, hint: "leave out --simulated-clock, or use another database" })
        }
        (_, asked) => {
            let kept: Option<DateTime<Utc>> = meta.get(SIMULATED_NOW).await?.and_then(|t| t.parse().ok());
            let now = kept.or(asked).unwrap_or(DateTime::UNIX_EPOCH);
            if let Some(asked) = asked.filter(|asked| *asked < now) {
                return Err(AppError::Backwards { now, asked });
            }
            if kept.is_none() {
                meta.set(SIMULATED_NOW, &now.to_rfc3339()).await?;
            }
            Ok(AppClock::Simulated(SimulatedClock::new(now)))
        }
    }
}
