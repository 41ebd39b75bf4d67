//! Counters and timers of the running service, under their Prometheus names.
//!
//! Labels are words from short lists: no ids, no names, no paths with ids. Until [`start`] is called, by a server whose
//! metrics are readable, every function here does nothing. States in tables (lags, depths) are read on request; see
//! `http::metrics`.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::domain::evaluate::{Outcome, Verb};
use crate::events::allocation::AllocationEvent;

/// Upper bounds of durations, seconds.
const SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Upper bounds of events in one commit.
const EVENTS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 2_048.0, 4_096.0];

/// How often samples that nobody has asked for yet are summed up, so that they do not pile up.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(10);

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Begins to count, for the rest of the process.
pub fn start() {
    HANDLE.get_or_init(|| match install() {
        Ok(handle) => Some(handle),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "metrics cannot be collected");
            None
        }
    });
}

fn install() -> Result<PrometheusHandle, BuildError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_events".to_owned()), &EVENTS)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    describe();
    metrics::gauge!("sluice_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

fn handle() -> Option<&'static PrometheusHandle> {
    HANDLE.get().and_then(Option::as_ref)
}

/// Everything collected so far, in Prometheus' text format; none if nothing is collected.
pub fn render() -> Option<String> {
    handle().map(PrometheusHandle::render)
}

/// Sums up samples.
pub fn upkeep() {
    if let Some(handle) = handle() {
        handle.run_upkeep();
    }
}

fn describe() {
    for (name, what) in [
        ("sluice_evaluations_total", "Evaluations recorded by this process, by the strictest thing they called for"),
        ("sluice_append_conflicts_total", "Appends refused because somebody else wrote first; each was decided again"),
        ("sluice_commands_contended_total", "Commands given up after repeated conflicts"),
        ("sluice_http_requests_total", "Requests answered"),
        ("sluice_notice_attempts_total", "Attempts to deliver a notice, by channel and how they ended"),
        ("sluice_scheduler_runs_total", "Runs of scheduled jobs"),
        ("sluice_scrape_failures_total", "Times that something which stands in tables could not be read for metrics"),
    ] {
        describe_counter!(name, what);
    }
    for (name, what) in [
        ("sluice_command_seconds", "Time from a command on an allocation to its place in the log, waiting included"),
        ("sluice_store_commit_seconds", "Time of one commit of the log"),
        ("sluice_http_request_seconds", "Time to answer a request"),
        ("sluice_scheduler_run_seconds", "Time of a scheduled job's run"),
    ] {
        describe_histogram!(name, Unit::Seconds, what);
    }
    describe_histogram!("sluice_store_commit_events", "Events in one commit of the log");
    for (name, what) in [
        ("sluice_build_info", "The version that runs"),
        (
            "sluice_leader",
            "1 if this process, of several on one database, feeds the consumers, publishes and keeps the schedule",
        ),
        ("sluice_log_position", "Number of the newest event, where the log numbers its events"),
        ("sluice_log_newest_event_timestamp_seconds", "When the newest event was recorded"),
        ("sluice_consumer_lag_events", "Events that a consumer of the log is behind; NaN if the log does not say"),
        ("sluice_consumer_lag_estimated", "1 if how far the consumer is behind is an estimate"),
        ("sluice_consumer_stalled", "1 if a consumer cannot go on; why is in the log"),
        (
            "sluice_resources",
            "Resources by how they stand: paused, downscaled, full (100 % reached), and their agents' state",
        ),
        ("sluice_reactions_pending", "Re-evaluations after a change that are still to be done"),
        (
            "sluice_outbox",
            "Messages to site agents: queued, unanswered, given_up, and restrictions that are still to be told",
        ),
        (
            "sluice_accounts_left_restricted",
            "Accounts that SLURM may still restrict though their resource ended or has another account",
        ),
        ("sluice_outbox_oldest_seconds", "Age of the oldest message that no queue has taken"),
        ("sluice_notices", "Notices by state: owed, failed"),
        ("sluice_notices_oldest_seconds", "Age of the oldest notice that is owed"),
        ("sluice_replay_verified_position", "Position up to which recorded decisions were made again and compared"),
        ("sluice_replay_decisions", "Recorded decisions that were made again: same, different, not_recomputed"),
        ("sluice_scheduler_last_run_timestamp_seconds", "When a scheduled job last ended well"),
    ] {
        describe_gauge!(name, what);
    }
}

/// Evaluations among events that were just recorded.
pub fn recorded<'a>(events: impl Iterator<Item = &'a AllocationEvent>) {
    for event in events {
        let outcome = match event {
            AllocationEvent::PolicyEvaluated(evaluated) => outcome(&evaluated.outcome),
            AllocationEvent::EvaluationFailed(_) => "error",
            _ => continue,
        };
        counter!("sluice_evaluations_total", "outcome" => outcome).increment(1);
    }
}

fn outcome(outcome: &Outcome) -> &'static str {
    let calls_for = |verb| outcome.verbs.contains(&verb);
    match () {
        () if calls_for(Verb::Pause) => "pause",
        () if calls_for(Verb::Downscale) => "downscale",
        () if calls_for(Verb::Notify) => "notify",
        () => "normal",
    }
}

/// A command on an allocation has ended.
pub fn command(name: &'static str, took: Duration) {
    histogram!("sluice_command_seconds", "command" => name).record(took);
}

/// Somebody else wrote first.
pub fn conflict() {
    counter!("sluice_append_conflicts_total").increment(1);
}

/// Somebody else kept writing first.
pub fn contended() {
    counter!("sluice_commands_contended_total").increment(1);
}

/// The log was committed.
pub fn committed(events: usize, took: Duration) {
    histogram!("sluice_store_commit_seconds").record(took);
    histogram!("sluice_store_commit_events").record(f64::from(u32::try_from(events).unwrap_or(u32::MAX)));
}

/// Whether this process does the duties of the whole service.
pub fn leads(leads: bool) {
    metrics::gauge!("sluice_leader").set(f64::from(u8::from(leads)));
}

/// A request was answered. `route` is the path as it is registered, with its placeholders.
pub fn request(method: &'static str, route: String, status: u16, took: Duration) {
    let labels = [("method", method.to_owned()), ("route", route)];
    histogram!("sluice_http_request_seconds", &labels).record(took);
    let [method, route] = labels;
    let labels = [method, route, ("status", status.to_string())];
    counter!("sluice_http_requests_total", &labels).increment(1);
}

/// An attempt to deliver a notice ended: `sent`, `retry` or `failed`.
pub fn notice(channel: &'static str, outcome: &'static str) {
    counter!("sluice_notice_attempts_total", "channel" => channel, "outcome" => outcome).increment(1);
}

/// A scheduled job ended; `at` is the service's time, seconds since 1970.
pub fn job(name: &'static str, well: bool, took: Duration, at: i64) {
    let outcome = if well { "ok" } else { "failed" };
    counter!("sluice_scheduler_runs_total", "job" => name, "outcome" => outcome).increment(1);
    histogram!("sluice_scheduler_run_seconds", "job" => name).record(took);
    if well {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact in a double")]
        let at = at as f64;
        metrics::gauge!("sluice_scheduler_last_run_timestamp_seconds", "job" => name).set(at);
    }
}
