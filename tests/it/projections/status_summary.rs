//! The status summary: lines and the counters that go with them.

use chrono::TimeDelta;
use sluice::events::allocation::ResourceState;
use sluice::projections::status_summary::{AgentStatus, StatusFilter, at_limit, list, offering_status, policy_status};

use super::{ALL, Models};
use crate::support::events::{
    BLOCKED, FREE, Log, SLOW, customer_of, dispatch, offering, percent, policy, reported, resource, restricted, state,
    withdrawn,
};

async fn site() -> Log {
    let mut log = Log::new("2026-03-01T10:00:00Z");
    log.policy(1, &["50", "80"]).await;
    log.policy(2, &["80"]).await;
    for number in 1..4 {
        log.register(number).await;
    }
    log
}

async fn evaluate(log: &mut Log, number: u128, policy: u128, used: u32) {
    log.advance(TimeDelta::minutes(1));
    let notify: &[&str] = if policy == 1 { &["50", "80"] } else { &["80"] };
    let evaluation = log.evaluation(number, policy, used, FREE, notify);
    log.on(number, vec![evaluation]).await;
}

#[tokio::test]
async fn counters_follow_each_resource_once() {
    let mut log = site().await;
    evaluate(&mut log, 1, 1, 104).await;
    evaluate(&mut log, 1, 2, 104).await;
    log.on(1, vec![restricted(FREE, SLOW)]).await;
    evaluate(&mut log, 2, 1, 60).await;
    evaluate(&mut log, 3, 1, 130).await;
    log.on(3, vec![restricted(FREE, BLOCKED)]).await;
    let models = Models::of(&log).await;
    let one = policy_status(&models.db, policy(1)).await.unwrap().unwrap();
    assert_eq!((one.resources_evaluated, one.paused, one.downscaled, one.affected_resources_count), (3, 1, 2, 2));
    assert_eq!(one.over_thresholds, [(percent("50"), 3), (percent("80"), 2)]);
    assert_eq!((one.full, one.fired_resources, one.has_fired), (2, 3, true));
    assert_eq!(one.last_evaluated_at, Some(log.now));
    let all = offering_status(&models.db, offering()).await.unwrap();
    assert_eq!((all.resources_evaluated, all.paused, all.downscaled, all.affected_resources_count), (3, 1, 2, 2));
    assert_eq!(all.over_thresholds, [(percent("50"), 3), (percent("80"), 2)]);
    for (owner, customer, n) in [
        (policy(1).as_uuid(), Some(1), 2),
        (policy(2).as_uuid(), Some(1), 1),
        (offering().as_uuid(), Some(1), 2),
        (offering().as_uuid(), Some(0), 0),
        (offering().as_uuid(), None, 2),
    ] {
        assert_eq!(at_limit(&models.db, owner, customer.map(customer_of)).await.unwrap(), n, "{owner} {customer:?}");
    }
}

#[tokio::test]
async fn fired_at_is_when_has_fired_last_became_true() {
    let mut log = site().await;
    let mut expected = Vec::new();
    // Fires with the first, goes on with the second, stops, fires again.
    for (number, used) in [(1, 90), (2, 90), (1, 10), (2, 10), (2, 95)] {
        evaluate(&mut log, number, 1, used).await;
        expected.push(log.now);
    }
    for batch in [1, 3, 1_000] {
        let models = Models::new(batch).await;
        models.start(&log).settle().await.unwrap();
        let status = policy_status(&models.db, policy(1)).await.unwrap().unwrap();
        assert_eq!((status.has_fired, status.fired_at), (true, Some(expected[4])), "batches of {batch}");
    }
}

#[tokio::test]
async fn withdrawn_policies_and_terminated_resources_leave() {
    let mut log = site().await;
    for number in 1..4 {
        evaluate(&mut log, number, 1, 104).await;
    }
    log.on(1, vec![withdrawn(1)]).await;
    log.on(2, vec![state(ResourceState::Ok, ResourceState::Terminating)]).await;
    let models = Models::of(&log).await;
    let status = policy_status(&models.db, policy(1)).await.unwrap().unwrap();
    assert_eq!((status.resources_evaluated, status.affected_resources_count, status.full), (1, 1, 1));
    let filter = StatusFilter { policy: Some(policy(1)), ..StatusFilter::default() };
    let (lines, total) = list(&models.db, &filter, ALL).await.unwrap();
    assert_eq!((lines.len(), total, lines[0].resource), (1, 1, resource(3)));
    assert_eq!((lines[0].percentage, lines[0].full, lines[0].held), (Some(percent("104")), true, SLOW));
    assert_eq!(lines[0].thresholds_reached, [percent("50"), percent("80")]);
    log.delete_policy(1).await;
    log.on(3, vec![withdrawn(1)]).await;
    models.start(&log).settle().await.unwrap();
    assert_eq!(policy_status(&models.db, policy(1)).await.unwrap(), None);
    let left = models.dump().await;
    assert!(left["status_counters"].is_empty() && left["status_at_limit"].is_empty(), "{:?}", left["status_counters"]);
}

#[tokio::test]
async fn the_agent_status_is_that_of_the_newest_dispatch() {
    let mut log = site().await;
    for number in 1..4 {
        evaluate(&mut log, number, 1, 10).await;
    }
    for (number, dispatch_number) in [(1, 1), (2, 2), (2, 3)] {
        let settings = log.settings(number, dispatch(dispatch_number), &[1], FREE);
        log.on(number, vec![settings]).await;
    }
    log.on(1, vec![reported(dispatch(1), 1, true, "")]).await;
    log.on(2, vec![reported(dispatch(2), 1, false, "too old to matter")]).await;
    let models = Models::of(&log).await;
    let status = policy_status(&models.db, policy(1)).await.unwrap().unwrap();
    let counted: Vec<_> = status.agent.iter().copied().filter(|(_, n)| *n > 0).collect();
    assert_eq!(counted, [(AgentStatus::NotNeeded, 1), (AgentStatus::Queued, 1), (AgentStatus::Confirmed, 1)]);
    assert_eq!(status.overall(), AgentStatus::Queued);
    log.on(2, vec![reported(dispatch(3), 1, false, "no")]).await;
    models.start(&log).settle().await.unwrap();
    let status = policy_status(&models.db, policy(1)).await.unwrap().unwrap();
    assert_eq!(status.overall(), AgentStatus::Failed);
    let one = StatusFilter { resource: Some(resource(2)), ..StatusFilter::default() };
    assert_eq!(list(&models.db, &one, ALL).await.unwrap().0[0].agent, AgentStatus::Failed);
}
