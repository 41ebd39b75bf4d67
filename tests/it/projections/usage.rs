//! Usage: the last total of each month and component, with users' shares.

use chrono::TimeDelta;
use sluice::projections::usage::{UsageFilter, UserUsageFilter, get, list, list_users, usage_uuid};

use super::{ALL, Models};
use crate::support::events::{Log, customer_of, id, offering, percent, resource, usage, user_usage};

#[tokio::test]
async fn a_total_is_replaced_and_its_row_keeps_its_id() {
    let mut log = Log::new("2026-03-05T10:00:00Z");
    log.register(1).await;
    log.register(2).await;
    let first = log.now;
    log.on(1, vec![usage("2026-03", 10), usage("2026-02", 70)]).await;
    log.on(2, vec![usage("2026-03", 5)]).await;
    log.advance(TimeDelta::hours(1));
    log.on(1, vec![usage("2026-03", 12), user_usage("2026-03", 4, 8), user_usage("2026-03", 4, 9)]).await;
    for batch in [1, 1_000] {
        let models = Models::new(batch).await;
        models.start(&log).settle().await.unwrap();
        let filter =
            UsageFilter { resource: Some(resource(1)), month: "2026-03".parse().ok(), ..UsageFilter::default() };
        let (rows, total) = list(&models.db, &filter, ALL).await.unwrap();
        assert_eq!((rows.len(), total, rows[0].amount), (1, 1, percent("12")));
        assert_eq!((rows[0].created, rows[0].modified), (first, log.now));
        assert_eq!(rows[0].uuid, usage_uuid(resource(1), "2026-03".parse().unwrap(), "node_hours"));
        assert_eq!(get(&models.db, rows[0].uuid).await.unwrap().as_ref(), Some(&rows[0]));
        let shares = UserUsageFilter { usage: filter, ..UserUsageFilter::default() };
        let (shares, number) = list_users(&models.db, &shares, ALL).await.unwrap();
        assert_eq!((shares.len(), number, shares[0].usage.amount), (1, 1, percent("9")));
        assert_eq!((shares[0].user, shares[0].usage.uuid), (id(6, 4), rows[0].uuid));
        let months: Vec<_> = list(&models.db, &UsageFilter::default(), ALL).await.unwrap().0;
        let months: Vec<_> = months.iter().map(|row| (row.month.to_string(), row.resource)).collect();
        assert_eq!(
            months,
            [("2026-03".into(), resource(1)), ("2026-03".into(), resource(2)), ("2026-02".into(), resource(1))]
        );
        for (filter, n) in [
            (UsageFilter { visible: Some((vec![customer_of(2)], Vec::new())), ..UsageFilter::default() }, 1),
            (UsageFilter { visible: Some((Vec::new(), vec![id(10, 1)])), ..UsageFilter::default() }, 2),
            (UsageFilter { offering: Some(offering()), ..UsageFilter::default() }, 3),
            (UsageFilter { component: Some("gpu".into()), ..UsageFilter::default() }, 0),
        ] {
            assert_eq!(list(&models.db, &filter, ALL).await.unwrap().1, n, "{filter:?}");
        }
    }
}
