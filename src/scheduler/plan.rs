//! Due times of jobs: cron expressions in the site's time zone, and the first instant of every month.

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
    /// Ends manual holds whose time is over; due when the next one ends.
    HoldExpiry,
    /// Works off what is still to be told, or to be tried again: a list, whatever the size of the fleet.
    SettingsSync,
    /// Evaluates everything.
    EvaluateAll,
    /// Compacts and prunes old rows.
    Retention,
    /// Makes recorded decisions again and compares.
    Replay,
    /// Signs how the log stands.
    Checkpoint,
}

impl Job {
    /// All jobs.
    pub const ALL: [Self; 7] = [
        Self::PeriodBoundary,
        Self::HoldExpiry,
        Self::SettingsSync,
        Self::EvaluateAll,
        Self::Retention,
        Self::Replay,
        Self::Checkpoint,
    ];

    /// Its name in the configuration and in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::PeriodBoundary => "period_boundary",
            Self::HoldExpiry => "hold_expiry",
            Self::SettingsSync => "settings_sync",
            Self::EvaluateAll => "evaluate_all",
            Self::Retention => "retention",
            Self::Replay => "replay",
            Self::Checkpoint => "checkpoint",
        }
    }

    /// The job of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.name() == name)
    }

    /// The jobs that it takes turns with; those of the other lane run beside it.
    pub fn lane(self) -> Lane {
        match self {
            Self::HoldExpiry | Self::SettingsSync | Self::Checkpoint => Lane::Prompt,
            Self::PeriodBoundary | Self::EvaluateAll | Self::Retention | Self::Replay => Lane::Bulk,
        }
    }
}

/// Jobs that take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Short ones that should not wait.
    Prompt,
    /// Long ones, over many resources or rows.
    Bulk,
}

impl Lane {
    /// Both lanes.
    pub const ALL: [Self; 2] = [Self::Bulk, Self::Prompt];

    /// Its jobs, in the order in which they run.
    pub fn jobs(self) -> impl Iterator<Item = Job> {
        Job::ALL.into_iter().filter(move |job| job.lane() == self)
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

/// Cron expressions (five fields, site time) of the jobs that have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CronTexts<'a> {
    /// The net under the period boundary.
    pub period_boundary: &'a str,
    /// The settings sync.
    pub settings_sync: &'a str,
    /// The nightly evaluation.
    pub evaluate_all: &'a str,
    /// Retention.
    pub retention: &'a str,
    /// The replay of recorded decisions; none: it is not done.
    pub replay: Option<&'a str>,
    /// The signing of the log; none: it is not done.
    pub checkpoint: Option<&'a str>,
}

impl Default for CronTexts<'_> {
    fn default() -> Self {
        Self {
            period_boundary: "0 1 * * *",
            settings_sync: "*/10 * * * *",
            evaluate_all: "0 2 * * *",
            retention: "0 3 * * *",
            replay: None,
            checkpoint: None,
        }
    }
}

/// When each job is due.
#[derive(Debug, Clone)]
pub struct Schedule {
    zone: Tz,
    crons: Vec<(Job, Cron)>,
}

impl Schedule {
    /// From cron expressions.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn new(zone: Tz, texts: CronTexts<'_>) -> Result<Self, JobError> {
        let cron = |job: Job, text: &str| match Cron::from_str(text) {
            Ok(cron) => Ok((job, cron)),
            Err(problem) => Err(JobError { job: job.name(), text: text.to_owned(), problem: problem.to_string() }),
        };
        let mut crons = vec![
            cron(Job::PeriodBoundary, texts.period_boundary)?,
            cron(Job::SettingsSync, texts.settings_sync)?,
            cron(Job::EvaluateAll, texts.evaluate_all)?,
            cron(Job::Retention, texts.retention)?,
        ];
        for (job, text) in [(Job::Replay, texts.replay), (Job::Checkpoint, texts.checkpoint)] {
            if let Some(text) = text {
                crons.push(cron(job, text)?);
            }
        }
        Ok(Self { zone, crons })
    }

    /// The defaults: a sync every ten minutes, and 01:00, 02:00 and 03:00 every day; no replay, and nothing is signed.
    ///
    /// # Panics
    /// Never: the expressions are constants.
    pub fn daily(zone: Tz) -> Self {
        Self::new(zone, CronTexts::default()).expect("constant cron expressions are valid")
    }

    /// The site's time zone.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    fn cron(&self, job: Job) -> Option<&Cron> {
        self.crons.iter().find(|(of, _)| *of == job).map(|(_, cron)| cron)
    }

    /// The cron expression of a job; none where it is no matter of the calendar, or switched off.
    pub fn cron_text(&self, job: Job) -> Option<String> {
        self.cron(job).map(|cron| cron.pattern.to_string())
    }

    /// The first instant after `last` at which a job is due by the calendar. The period boundary is due at the boundary
    /// itself too; the end of holds is no matter of the calendar.
    pub fn next_after(&self, job: Job, last: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = last.with_timezone(&self.zone);
        let by_cron = self.cron(job)?.find_next_occurrence(&local, false).ok().map(|next| next.with_timezone(&Utc));
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

    /// The latest instant after `last` and not after `now` at which a job was due: of several that were missed, the one
    /// that the one run to come stands for.
    pub fn latest_due(&self, job: Job, last: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = now.with_timezone(&self.zone);
        let by_cron = self.cron(job)?.find_previous_occurrence(&local, true).ok().map(|due| due.with_timezone(&Utc));
        let boundary = (job == Job::PeriodBoundary).then(|| Month::of_instant(now, self.zone).starts_at(self.zone));
        by_cron.max(boundary).filter(|due| *due > last && *due <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn berlin(evaluate_all: &str) -> Schedule {
        Schedule::new(chrono_tz::Europe::Berlin, CronTexts { evaluate_all, ..CronTexts::default() }).unwrap()
    }

    /// All instants at which the nightly job is due between two others.
    fn nights(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
        let (mut last, to) = (at(from), at(to));
        let mut found = Vec::new();
        while let Some(next) = schedule.next_after(Job::EvaluateAll, last).filter(|next| *next < to) {
            found.push(next.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
            last = next;
        }
        found
    }

    #[test]
    fn a_nightly_job_keeps_to_the_sites_clock_over_both_changes_of_it() {
        let schedule = berlin("0 4 * * *");
        assert_eq!(
            nights(&schedule, "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z"),
            ["2026-03-28T03:00:00Z", "2026-03-29T02:00:00Z", "2026-03-30T02:00:00Z"]
        );
        assert_eq!(
            nights(&schedule, "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z"),
            ["2026-10-24T02:00:00Z", "2026-10-25T03:00:00Z", "2026-10-26T03:00:00Z"]
        );
    }

    #[test]
    fn a_time_that_a_night_leaves_out_or_has_twice_is_due_once_that_night() {
        let schedule = berlin("30 2 * * *");
        let spring = nights(&schedule, "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z");
        assert_eq!(spring.len(), 1, "half past two does not exist on that night: {spring:?}");
        let autumn = nights(&schedule, "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z");
        assert_eq!(autumn.len(), 1, "half past two comes twice on that night: {autumn:?}");
    }

    #[test]
    fn of_several_missed_instants_the_latest_is_due() {
        let schedule = Schedule::daily(Tz::UTC);
        let due = |job, last, now| schedule.latest_due(job, at(last), at(now)).map(|due| due.to_rfc3339());
        let nights = due(Job::EvaluateAll, "2026-03-10T12:00:00Z", "2026-03-15T12:00:00Z");
        assert_eq!(nights.as_deref(), Some("2026-03-15T02:00:00+00:00"));
        assert_eq!(due(Job::EvaluateAll, "2026-03-15T02:00:00Z", "2026-03-15T12:00:00Z"), None);
        assert_eq!(due(Job::EvaluateAll, "2026-03-15T01:00:00Z", "2026-03-15T01:59:59Z"), None);
        let exactly = due(Job::EvaluateAll, "2026-03-15T01:00:00Z", "2026-03-15T02:00:00Z");
        assert_eq!(exactly.as_deref(), Some("2026-03-15T02:00:00+00:00"));
        let boundary = due(Job::PeriodBoundary, "2026-03-31T12:00:00Z", "2026-04-01T00:30:00Z");
        assert_eq!(boundary.as_deref(), Some("2026-04-01T00:00:00+00:00"));
        let net = due(Job::PeriodBoundary, "2026-03-31T12:00:00Z", "2026-04-01T01:30:00Z");
        assert_eq!(net.as_deref(), Some("2026-04-01T01:00:00+00:00"));
        let sync = due(Job::SettingsSync, "2026-03-15T01:00:00Z", "2026-03-15T01:59:59Z");
        assert_eq!(sync.as_deref(), Some("2026-03-15T01:50:00+00:00"));
        assert_eq!(due(Job::HoldExpiry, "2026-03-15T01:00:00Z", "2026-03-16T01:59:59Z"), None);
    }

    proptest::proptest! {
        /// What was due last is what is found by walking from one due instant to the next, in a zone with odd changes.
        #[test]
        fn the_latest_due_instant_is_the_last_on_the_way(start in 0_i64..63_000_000, minutes in 1_i64..6_000) {
            let schedule = Schedule::daily(chrono_tz::Australia::Lord_Howe);
            let last = DateTime::from_timestamp(1_767_225_600 + start, 0).unwrap();
            let now = last + chrono::TimeDelta::minutes(minutes);
            for job in Job::ALL {
                let mut walked = None;
                let mut from = last;
                while let Some(next) = schedule.next_after(job, from).filter(|next| *next <= now) {
                    (walked, from) = (Some(next), next);
                }
                proptest::prop_assert_eq!(schedule.latest_due(job, last, now), walked, "{:?}", job);
            }
        }
    }
}
