//! The evaluation log: rows, filters, pages, kept counts, retention.

use chrono::TimeDelta;
use sluice::domain::evaluate::{Trigger, Verb};
use sluice::projections::evaluation_log::{
    ActionFilter, EvaluationFilter, EvaluationOutcome, EvaluationRow, TotalsFilter, count, list, monthly_totals,
};
use sluice::projections::{Page, Span, retention};

use super::{ALL, Models};
use crate::support::events::{
    FREE, Log, SLOW, closed, customer_of, dispatch, holds_at, instant, percent, policy, reported, resource, restricted,
};

async fn site() -> Log {
    let mut log = Log::new("2026-03-01T10:00:00Z");
    log.customers().await;
    log.policy(1, &["80"]).await;
    log.policy(2, &["50"]).await;
    log.register(1).await;
    log.register(2).await;
    log
}

async fn rows(models: &Models, filter: EvaluationFilter) -> Vec<EvaluationRow> {
    let (rows, total) = list(&models.db, &filter, ALL).await.unwrap();
    assert_eq!(i64::try_from(rows.len()).unwrap(), total, "the kept count is that of the rows");
    assert_eq!(count(&models.db, &filter).await.unwrap(), total);
    rows
}

#[tokio::test]
async fn an_evaluation_is_a_row_with_everything_that_the_wire_asks_for() {
    let mut log = site().await;
    let evaluation = log.evaluation(1, 1, 104, FREE, &["80"]);
    let settings = log.settings(1, dispatch(1), &[1], SLOW);
    let version = log.on(1, vec![evaluation, restricted(FREE, SLOW), settings]).await;
    log.advance(TimeDelta::minutes(1));
    let failure = log.failure(1, SLOW);
    log.on(1, vec![failure]).await;
    let models = Models::of(&log).await;
    let [failed, row] = <[EvaluationRow; 2]>::try_from(rows(&models, EvaluationFilter::default()).await).unwrap();

    assert_eq!(
        (row.resource, row.resource_name.as_str(), row.customer),
        (resource(1), "Resource 1", Some(customer_of(1)))
    );
    assert_eq!((row.policy, row.policy_version, row.trigger), (policy(1), 1, Trigger::UsageReported));
    assert_eq!((row.percentage, row.grace_limit_percentage), (Some(percent("104")), Some(percent("120"))));
    assert_eq!((row.period.to_string(), row.book.to_string()), ("2026-Q1".to_owned(), "2026-03".to_owned()));
    assert_eq!(
        (row.verbs.as_slice(), row.outcome),
        ([Verb::Downscale, Verb::Notify].as_slice(), EvaluationOutcome::Changed)
    );
    assert_eq!((row.before, row.after), (FREE, SLOW));
    assert_eq!((row.dispatch, row.stream_version), (Some(dispatch(1)), version - 2));
    assert_eq!((row.stomp_message_sent, row.site_agent_confirmed, row.site_agent_response), (false, None, None));
    assert!(row.explanation.starts_with("104 % = 104 of 100"), "{}", row.explanation);
    assert_eq!(row.error, None);

    assert_eq!((failed.outcome, failed.percentage, failed.dispatch), (EvaluationOutcome::Failed, None, None));
    assert_eq!(failed.grace_limit_percentage, Some(percent("120")), "known from the policy");
    assert_eq!(failed.error.as_deref(), Some("the weighted usage is out of the range of decimal arithmetic"));
    assert_eq!((failed.before, failed.after), (SLOW, SLOW));
}

#[tokio::test]
async fn a_report_shows_on_the_evaluations_of_its_dispatch_and_a_later_success_clears_a_failure() {
    let mut log = site().await;
    for (number, policies) in [(1, [1, 2]), (2, [2, 1])] {
        let one = log.evaluation(number, 1, 90, FREE, &["80"]);
        let other = log.evaluation(number, 2, 90, FREE, &["50"]);
        let settings = log.settings(number, dispatch(number), &policies, FREE);
        log.on(number, vec![one, other, settings]).await;
    }
    log.on(1, vec![reported(dispatch(1), 1, false, "no such account")]).await;
    let models = Models::of(&log).await;
    for row in rows(&models, EvaluationFilter { resource: Some(resource(1)), ..Default::default() }).await {
        let response = row.site_agent_response.unwrap();
        assert_eq!((row.dispatch, row.site_agent_confirmed), (Some(dispatch(1)), Some(false)));
        assert_eq!((response.error_message.as_str(), response.commands_executed.len()), ("no such account", 1));
    }
    log.on(1, vec![reported(dispatch(1), 1, true, "")]).await;
    models.start(&log).settle().await.unwrap();
    for row in rows(&models, EvaluationFilter::default()).await {
        assert_eq!(row.site_agent_confirmed, (row.resource == resource(1)).then_some(true));
    }
}

#[tokio::test]
async fn an_append_that_falls_into_two_batches_is_linked_like_one_that_does_not() {
    let mut log = site().await;
    // The same policy and instant in another request: not of this dispatch.
    let earlier = log.evaluation(1, 1, 50, FREE, &["80"]);
    log.on(1, vec![earlier]).await;
    let one = log.evaluation(1, 1, 104, FREE, &["80"]);
    let other = log.evaluation(1, 2, 104, FREE, &["50"]);
    let settings = log.settings(1, dispatch(1), &[1, 2], SLOW);
    log.on(1, vec![one, other, restricted(FREE, SLOW), settings]).await;
    for batch in 1..8 {
        let models = Models::new(batch).await;
        models.start(&log).settle().await.unwrap();
        let linked: Vec<_> = rows(&models, EvaluationFilter::default()).await.into_iter().map(|r| r.dispatch).collect();
        assert_eq!(linked, [Some(dispatch(1)), Some(dispatch(1)), None], "batches of {batch}");
    }
}

/// 40 days of evaluations of 4 resources by 2 policies, every 5 hours.
async fn busy() -> Log {
    let mut log = site().await;
    for number in 3..5 {
        log.register(number).await;
    }
    for step in 0..190_u32 {
        log.advance(TimeDelta::minutes(301));
        for number in 1..5 {
            let used = (step * 7 + u32::try_from(number).unwrap() * 31) % 140;
            let before = if step % 3 == 0 { holds_at(used) } else { FREE };
            let mut events = Vec::new();
            for policy in 1..3 {
                events.push(log.evaluation(number, policy, used, before, &["80"]));
            }
            if step % 50 == 7 {
                events.push(log.failure(1, before));
            }
            log.on(number, events).await;
        }
    }
    log
}

fn matches(row: &EvaluationRow, filter: &EvaluationFilter) -> bool {
    filter.policy.is_none_or(|p| p == row.policy)
        && filter.resource.is_none_or(|r| r == row.resource)
        && filter.period.is_none_or(|p| p == row.period)
        && filter.outcome.is_none_or(|o| o == row.outcome)
        && filter.span.from.is_none_or(|from| row.evaluated_at >= from)
        && filter.span.to.is_none_or(|to| row.evaluated_at < to)
        && filter.customers.as_ref().is_none_or(|c| row.customer.is_some_and(|of| c.contains(&of)))
        && filter.action.is_none_or(|action| match action {
            ActionFilter::Verb(verb) => row.verbs.contains(&verb),
            ActionFilter::None => row.verbs.is_empty(),
        })
}

fn filters() -> Vec<EvaluationFilter> {
    let any = EvaluationFilter::default;
    let span = |from: &str, to: &str| Span { from: Some(instant(from)), to: Some(instant(to)) };
    let mut filters = vec![any()];
    for action in ["pause", "downscale", "notify", "none"] {
        filters.push(EvaluationFilter { action: ActionFilter::parse(action), ..any() });
    }
    for outcome in ["changed", "unchanged", "failed"] {
        filters.push(EvaluationFilter { outcome: EvaluationOutcome::parse(outcome), ..any() });
    }
    for period in ["2026-Q1", "2026-Q2", "2025-Q4"] {
        filters.push(EvaluationFilter { period: Some(period.parse().unwrap()), ..any() });
    }
    filters.push(EvaluationFilter { span: span("2026-03-05T13:17:00Z", "2026-03-05T13:50:00Z"), ..any() });
    filters.push(EvaluationFilter { span: span("2026-03-05T13:17:00Z", "2026-04-02T00:00:00Z"), ..any() });
    filters.push(EvaluationFilter { span: Span { from: Some(instant("2026-04-01T00:00:00Z")), to: None }, ..any() });
    filters.push(EvaluationFilter { span: Span { from: None, to: Some(instant("2026-03-20T11:11:11Z")) }, ..any() });
    filters.push(EvaluationFilter { customers: Some(vec![customer_of(1)]), ..any() });
    filters.push(EvaluationFilter { customers: Some(Vec::new()), ..any() });
    let plain = filters.clone();
    for filter in plain {
        filters.push(EvaluationFilter { policy: Some(policy(2)), ..filter.clone() });
        filters.push(EvaluationFilter { resource: Some(resource(3)), ..filter.clone() });
        filters.push(EvaluationFilter {
            policy: Some(policy(1)),
            action: ActionFilter::parse("notify"),
            outcome: Some(EvaluationOutcome::Changed),
            period: Some("2026-Q1".parse().unwrap()),
            ..filter
        });
    }
    filters
}

#[tokio::test]
async fn every_filter_alone_and_combined_gives_the_rows_it_names_and_their_number() {
    let models = Models::of(&busy().await).await;
    let everything = rows(&models, EvaluationFilter::default()).await;
    assert_eq!(everything.len(), 190 * 8 + 16);
    assert!(everything.is_sorted_by_key(|row| std::cmp::Reverse(row.evaluated_at)));
    for filter in filters() {
        let expected: Vec<&EvaluationRow> = everything.iter().filter(|row| matches(row, &filter)).collect();
        let found = rows(&models, filter.clone()).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
        // A page in the middle, and one that is cut off by the end.
        for page in [Page { number: 3, size: 7 }, Page { number: 2, size: 200 }] {
            let skip = usize::try_from((page.number - 1) * page.size).unwrap();
            let expected: Vec<_> = expected.iter().copied().skip(skip).take(page.size.try_into().unwrap()).collect();
            let (some, _) = list(&models.db, &filter, page).await.unwrap();
            assert_eq!(some.iter().collect::<Vec<_>>(), expected, "{page:?} of {filter:?}");
        }
    }
}

#[tokio::test]
async fn what_is_strictly_older_than_the_horizon_becomes_totals() {
    let mut log = busy().await;
    let horizon = instant("2026-03-20T11:11:00Z");
    let models = Models::of(&log).await;
    let everything = rows(&models, EvaluationFilter::default()).await;
    let old: Vec<_> = everything.iter().filter(|row| row.evaluated_at < horizon).collect();
    assert_eq!(retention::dry_run(&models.db, horizon).await.unwrap().evaluations, i64::try_from(old.len()).unwrap());

    log.retain_from(horizon).await;
    models.start(&log).settle().await.unwrap();
    assert_eq!(rows(&models, EvaluationFilter::default()).await, everything, "the event alone prunes nothing");
    let pruned = retention::prune(&models.db, |_| {}).await.unwrap();
    assert_eq!(pruned.evaluations, i64::try_from(old.len()).unwrap());
    let left = rows(&models, EvaluationFilter::default()).await;
    assert!(left.iter().eq(everything.iter().filter(|row| row.evaluated_at >= horizon)));
    for filter in filters() {
        assert_eq!(rows(&models, filter.clone()).await.len(), left.iter().filter(|row| matches(row, &filter)).count());
    }

    let filter = TotalsFilter { resource: Some(resource(3)), ..TotalsFilter::default() };
    let (totals, number) = monthly_totals(&models.db, &filter, ALL).await.unwrap();
    let mine: Vec<_> = old.iter().filter(|row| row.resource == resource(3)).collect();
    assert_eq!((number, totals[0].month.to_string()), (1, "2026-03".to_owned()));
    let verbs = |verb| i64::try_from(mine.iter().filter(|row| row.verbs.contains(&verb)).count()).unwrap();
    assert_eq!(totals[0].evaluations, i64::try_from(mine.len()).unwrap());
    assert_eq!((totals[0].pauses, totals[0].notices), (verbs(Verb::Pause), verbs(Verb::Notify)));
    assert_eq!(totals[0].downscales, verbs(Verb::Downscale));
    assert_eq!(totals[0].peak_percentage, mine.iter().filter_map(|row| row.percentage).max());
}

#[tokio::test]
async fn what_is_reported_while_rows_are_pruned_is_written_between_two_batches() {
    const BATCH: i64 = 10;
    let mut log = busy().await;
    let models = Models::of(&log).await;
    let old = i64::try_from(rows(&models, EvaluationFilter::default()).await.len()).unwrap();
    log.advance(TimeDelta::hours(1));
    let horizon = log.now;
    log.retain_from(horizon).await;
    let feed = models.start(&log);
    feed.settle().await.unwrap();
    let evaluation = log.evaluation(1, 1, 10, FREE, &["80"]);
    log.on(1, vec![evaluation]).await;

    let begun = tokio::sync::Notify::new();
    let mut so_far = vec![0];
    let prune = retention::prune_in_batches(&models.db, BATCH, |pruned| {
        so_far.push(pruned.evaluations);
        begun.notify_one();
    });
    let write = async {
        begun.notified().await;
        feed.settle().await.unwrap();
        retention::dry_run(&models.db, horizon).await.unwrap().evaluations
    };
    let (pruned, left) = tokio::join!(prune, write);
    assert_eq!(pruned.unwrap().evaluations, old);
    assert!(so_far.windows(2).all(|two| two[1] - two[0] <= BATCH), "{so_far:?}");
    assert!(left > 0, "the report was written after the whole: nothing was left to prune");
    assert_eq!(rows(&models, EvaluationFilter::default()).await.len(), 1);
}

#[tokio::test]
async fn a_row_at_the_horizon_stays() {
    let mut log = site().await;
    let evaluation = log.evaluation(1, 1, 10, FREE, &["80"]);
    log.on(1, vec![evaluation]).await;
    let at = log.now;
    log.retain_from(at).await;
    let models = Models::of(&log).await;
    retention::prune(&models.db, |_| {}).await.unwrap();
    assert_eq!(rows(&models, EvaluationFilter::default()).await.len(), 1);
    log.retain_from(at + TimeDelta::microseconds(1)).await;
    models.start(&log).settle().await.unwrap();
    retention::prune(&models.db, |_| {}).await.unwrap();
    assert_eq!(rows(&models, EvaluationFilter::default()).await.len(), 0);
}

#[tokio::test]
async fn minutes_restricted_are_split_where_the_books_are() {
    let mut log = site().await;
    log.advance(TimeDelta::days(30));
    log.on(1, vec![restricted(FREE, SLOW)]).await;
    log.advance(TimeDelta::hours(14));
    let next = "2026-04".parse().unwrap();
    log.append(
        &format!("allocation-{}-2026-03", resource(1)),
        vec![(closed(next).event_type(), closed(next).payload())],
    )
    .await;
    let opened = log.opened(1, SLOW);
    log.on(1, vec![opened]).await;
    log.advance(TimeDelta::minutes(90));
    log.on(1, vec![restricted(SLOW, FREE)]).await;
    let models = Models::of(&log).await;
    let (totals, _) = monthly_totals(&models.db, &TotalsFilter::default(), ALL).await.unwrap();
    let minutes: Vec<_> = totals.iter().map(|t| (t.month.to_string(), t.minutes_restricted)).collect();
    assert_eq!(minutes, [("2026-04".to_owned(), 90), ("2026-03".to_owned(), 14 * 60)]);
}
