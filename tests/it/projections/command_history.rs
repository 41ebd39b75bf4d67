//! The command history: a row per command, how its dispatch goes, and what answers nothing.

use chrono::TimeDelta;
use sluice::domain::sacctmgr::CommandType;
use sluice::projections::Page;
use sluice::projections::command_history::{
    CommandFilter, CommandRow, DispatchStatus, UnmatchedFilter, count, list, unmatched as unmatched_results,
};

use super::{ALL, Models};
use crate::support::events::{FREE, Log, SLOW, customer_of, dispatch, policy, reported, resource, unmatched};

async fn site() -> Log {
    let mut log = Log::new("2026-03-01T10:00:00Z");
    log.policy(1, &["80"]).await;
    for number in 1..4 {
        log.register(number).await;
    }
    log
}

async fn told(log: &mut Log, number: u128, dispatch_number: u128) {
    log.advance(TimeDelta::minutes(1));
    let flags = if dispatch_number.is_multiple_of(2) { SLOW } else { FREE };
    let settings = log.settings(number, dispatch(dispatch_number), &[1], flags);
    log.on(number, vec![settings]).await;
}

async fn rows(models: &Models, filter: CommandFilter) -> Vec<CommandRow> {
    let (rows, total) = list(&models.db, &filter, ALL).await.unwrap();
    assert_eq!(i64::try_from(rows.len()).unwrap(), total, "the kept count is that of the rows");
    assert_eq!(count(&models.db, &filter).await.unwrap(), total);
    rows
}

#[tokio::test]
async fn each_intended_command_is_a_row_in_the_order_of_the_dispatch() {
    let mut log = site().await;
    told(&mut log, 1, 2).await;
    let models = Models::of(&log).await;
    let rows = rows(&models, CommandFilter::default()).await;
    let types: Vec<_> = rows.iter().map(|row| row.command.command_type).collect();
    assert_eq!(types, [CommandType::Fairshare, CommandType::Limits, CommandType::Qos]);
    assert!(rows.iter().all(|row| row.success.is_none() && row.status == DispatchStatus::Queued));
    assert!(rows.iter().all(|row| row.policy == policy(1) && row.resource == resource(1) && row.queued_at == log.now));
    assert_eq!(rows[0].command.shell_command, "sacctmgr --immediate modify account hpc_1 set fairshare=33");
    assert_eq!(rows[0].period.to_string(), "2026-Q1");
    assert_ne!(rows[0].uuid, rows[1].uuid);
}

#[tokio::test]
async fn a_failure_touches_its_own_dispatch_and_a_later_success_clears_it() {
    let mut log = site().await;
    told(&mut log, 1, 1).await;
    told(&mut log, 2, 3).await;
    log.on(1, vec![reported(dispatch(1), 1, false, "sacctmgr: error")]).await;
    let models = Models::of(&log).await;
    let of = |number| CommandFilter { resource: Some(resource(number)), ..CommandFilter::default() };
    for row in rows(&models, of(1)).await {
        assert_eq!((row.status, row.success), (DispatchStatus::Failed, Some(false)));
        assert_eq!((row.error_message.as_deref(), row.answered_at), (Some("sacctmgr: error"), Some(log.now)));
        assert_eq!(row.reported.map(|reported| reported.len()), Some(1));
    }
    assert!(rows(&models, of(2)).await.iter().all(|row| row.status == DispatchStatus::Queued && row.success.is_none()));

    log.advance(TimeDelta::minutes(3));
    log.on(1, vec![reported(dispatch(1), 1, true, "")]).await;
    models.start(&log).settle().await.unwrap();
    for row in rows(&models, of(1)).await {
        assert_eq!((row.status, row.success, row.error_message), (DispatchStatus::Confirmed, Some(true), None));
        assert_eq!(row.answered_at, Some(log.now));
    }
}

#[tokio::test]
async fn a_newer_dispatch_supersedes_the_unanswered_ones_of_its_resource_only() {
    let mut log = site().await;
    told(&mut log, 1, 1).await;
    told(&mut log, 2, 3).await;
    log.on(1, vec![reported(dispatch(1), 1, false, "no")]).await;
    told(&mut log, 1, 5).await;
    told(&mut log, 1, 7).await;
    for batch in [1, 2, 1_000] {
        let models = Models::new(batch).await;
        models.start(&log).settle().await.unwrap();
        let status = async |number| {
            let rows = rows(&models, CommandFilter::default()).await;
            rows.iter().find(|row| row.dispatch == dispatch(number)).unwrap().status
        };
        assert_eq!(status(1).await, DispatchStatus::Failed);
        assert_eq!(status(3).await, DispatchStatus::Queued);
        assert_eq!(status(5).await, DispatchStatus::Superseded);
        assert_eq!(status(7).await, DispatchStatus::Queued);
    }
    // It can still be answered.
    log.on(1, vec![reported(dispatch(5), 1, true, "")]).await;
    let models = Models::of(&log).await;
    let confirmed = CommandFilter { status: Some(DispatchStatus::Confirmed), ..CommandFilter::default() };
    assert!(rows(&models, confirmed).await.iter().all(|row| row.dispatch == dispatch(5)));
}

#[tokio::test]
async fn pages_and_filters_count_commands_not_dispatches() {
    let mut log = site().await;
    for number in 1..60 {
        told(&mut log, number % 3 + 1, number).await;
    }
    let models = Models::of(&log).await;
    let everything = rows(&models, CommandFilter::default()).await;
    assert_eq!(everything.len(), 30 * 2 + 29 * 3);
    let qos = CommandFilter { command_type: Some(CommandType::Qos), ..CommandFilter::default() };
    assert_eq!(rows(&models, qos).await.len(), 29);
    let queued = CommandFilter { status: Some(DispatchStatus::Queued), ..CommandFilter::default() };
    assert_eq!(rows(&models, queued).await.iter().filter(|r| r.command.command_type == CommandType::Limits).count(), 3);
    let seen = CommandFilter { customers: Some(vec![customer_of(1)]), ..CommandFilter::default() };
    assert!(rows(&models, seen).await.iter().all(|row| row.resource != resource(2)));
    for size in [1, 4, 25] {
        let mut paged = Vec::new();
        for number in 1.. {
            let (page, _) = list(&models.db, &CommandFilter::default(), Page { number, size }).await.unwrap();
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, everything);
    }
}

#[tokio::test]
async fn a_report_that_answers_nothing_is_kept() {
    let mut log = site().await;
    log.on(2, vec![unmatched(1)]).await;
    let models = Models::of(&log).await;
    let filter = UnmatchedFilter { policy: Some(policy(1)), resource: Some(resource(2)) };
    let (found, total) = unmatched_results(&models.db, &filter, ALL).await.unwrap();
    assert_eq!((found.len(), total, found[0].at), (1, 1, log.now));
    assert_eq!(found[0].report.commands_executed.len(), 1);
    let other = UnmatchedFilter { resource: Some(resource(1)), ..filter };
    assert_eq!(unmatched_results(&models.db, &other, ALL).await.unwrap().1, 0);
}
