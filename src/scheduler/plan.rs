//! When jobs are due: cron expressions in the site's time zone, and the first instant of every month.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;

use crate::domain::period::Month;

/// A job. The order is that in which jobs due at the same instant run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Job {
    /// Begins new periods.
    PeriodBoundary,
    /// Evaluates everything.
    EvaluateAll,
    /// Compacts and prunes old rows.
    Retention,
    /// Ends manual holds whose time is over; due when the next one ends.
    HoldExpiry,
}

impl Job {
    /// All jobs.
    pub const ALL: [Self; 4] = [Self::PeriodBoundary, Self::EvaluateAll, Self::Retention, Self::HoldExpiry];

    /// Its name in the configuration and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::PeriodBoundary => "period_boundary",
            Self::EvaluateAll => "evaluate_all",
            Self::Retention => "retention",
            Self::HoldExpiry => "hold_expiry",
        }
    }
}

/// A cron expression that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{job}: {text:?} is no cron expression: {problem}")]
pub struct JobError {
    /// The job.
    pub job: &'static str,
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

/// When each job is due.
#[derive(Debug, Clone)]
pub struct Schedule {
    zone: Tz,
    crons: [Cron; 3],
}

impl Schedule {
    /// From cron expressions (five fields, site time) for the net under the period boundary, the nightly evaluation and
    /// retention.
    pub fn new(zone: Tz, boundary: &str, evaluate_all: &str, retention: &str) -> Result<Self, JobError> {
        let cron = |job: Job, text: &str| {
            Cron::from_str(text).map_err(|problem| JobError {
                job: job.name(),
                text: text.to_owned(),
                problem: problem.to_string(),
            })
        };
        let crons = [
            cron(Job::PeriodBoundary, boundary)?,
            cron(Job::EvaluateAll, evaluate_all)?,
            cron(Job::Retention, retention)?,
        ];
        Ok(Self { zone, crons })
    }

    /// The defaults: 01:00, 02:00 and 03:00 every day.
    ///
    /// # Panics
    /// Never: the expressions are constants.
    pub fn daily(zone: Tz) -> Self {
        Self::new(zone, "0 1 * * *", "0 2 * * *", "0 3 * * *").expect("constant cron expressions are valid")
    }

    /// The site's time zone.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first instant after `last` at which a job is due by the calendar. The period boundary is due at the boundary
    /// itself too; the end of holds is no matter of the calendar.
    pub fn next_after(&self, job: Job, last: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let cron = self.crons.get(job as usize)?;
        let local = last.with_timezone(&self.zone);
        let by_cron = cron.find_next_occurrence(&local, false).ok().map(|next| next.with_timezone(&Utc));
        if job != Job::PeriodBoundary {
            return by_cron;
        }
        let mut month = Month::of_instant(last, self.zone);
        while month.starts_at(self.zone) <= last {
            month = month.next();
        }
        let boundary = month.starts_at(self.zone);
        Some(by_cron.map_or(boundary, |next| next.min(boundary)))
    }
}
