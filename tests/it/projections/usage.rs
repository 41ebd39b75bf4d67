//! Usage: the last total of each month and component, with users' shares.

use std::path::Path;

use chrono::TimeDelta;
use sluice::projections::registry::VisibilityFilter;
use sluice::projections::usage::{UsageFilter, UserUsageFilter, get, list, list_users, usage_uuid};
use sluice::store::address::Database;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use super::{ALL, Models};
use crate::support::database::{connect, database, on_postgres};
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
        let filter = UsageFilter {
            resource: Some(resource(1)),
            from: "2026-03".parse().ok(),
            to: "2026-03".parse().ok(),
            ..UsageFilter::default()
        };
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
            (
                UsageFilter {
                    visible: Some(VisibilityFilter { customers: vec![customer_of(2)], ..VisibilityFilter::default() }),
                    ..UsageFilter::default()
                },
                1,
            ),
            (
                UsageFilter {
                    visible: Some(VisibilityFilter { projects: vec![id(10, 1)], ..VisibilityFilter::default() }),
                    ..UsageFilter::default()
                },
                2,
            ),
            (
                UsageFilter {
                    visible: Some(VisibilityFilter { offerings: vec![offering()], ..VisibilityFilter::default() }),
                    ..UsageFilter::default()
                },
                3,
            ),
            (UsageFilter { visible: Some(VisibilityFilter::default()), ..UsageFilter::default() }, 0),
            (UsageFilter { offering: Some(offering()), ..UsageFilter::default() }, 3),
            (UsageFilter { customer: Some(customer_of(2)), ..UsageFilter::default() }, 1),
            (UsageFilter { project: Some(id(10, 1)), ..UsageFilter::default() }, 2),
            (UsageFilter { month_of_year: Some(11), ..UsageFilter::default() }, 0),
            (UsageFilter { from: "2026-04".parse().ok(), ..UsageFilter::default() }, 0),
            (UsageFilter { component: Some("gpu".into()), ..UsageFilter::default() }, 0),
        ] {
            assert_eq!(list(&models.db, &filter, ALL).await.unwrap().1, n, "{filter:?}");
        }
    }
}

/// Makes the tables as they were before a migration, with rows and a checkpoint at the log's end.
async fn as_before(migration: u32, file: &Path) {
    let engine = if on_postgres() { "postgres" } else { "sqlite" };
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(format!("migrations/{engine}/read")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.split('_').next().unwrap().parse::<u32>().unwrap() < migration {
            std::fs::copy(entry.path(), folder.path().join(name)).unwrap();
        }
    }
    let migrator = sqlx::migrate::Migrator::new(folder.path()).await.unwrap();
    let rows = "INSERT INTO usage_resources VALUES (1, {id});
                INSERT INTO component_usage VALUES (1, {id}, 1, 202603, 'node_hours', '7', 0, 0);
                INSERT INTO consumers (name, building, epoch, position_hi, position_lo, updated_at)
                VALUES ('usage', 0, 1, 1000000, 0, 0);
                INSERT INTO usage_mark VALUES (1, 1000000, 0, 0, NULL);";
    if let Database::Postgres(url) = database(file) {
        let mut connection = connect(&url).await;
        let anew = "DROP SCHEMA sluice_read CASCADE; CREATE SCHEMA sluice_read; SET search_path TO sluice_read";
        sqlx::raw_sql(anew).execute(&mut connection).await.unwrap();
        migrator.run(&mut connection).await.unwrap();
        let rows = AssertSqlSafe(rows.replace("{id}", "gen_random_uuid()"));
        sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
        return connection.close().await.unwrap();
    }
    let mut connection = SqliteConnectOptions::new().filename(file).create_if_missing(true).connect().await.unwrap();
    migrator.run(&mut connection).await.unwrap();
    let rows = AssertSqlSafe(rows.replace("{id}", "randomblob(16)"));
    sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn tables_of_an_earlier_form_are_filled_again_from_the_log() {
    let mut log = Log::new("2026-03-05T10:00:00Z");
    log.register(1).await;
    log.on(1, vec![usage("2026-03", 10), user_usage("2026-03", 4, 8)]).await;
    let folder = tempfile::tempdir().unwrap();
    as_before(110, &folder.path().join("read.db")).await;
    let upgraded = Models::in_folder(folder, 1_000).await;
    upgraded.start(&log).settle().await.unwrap();
    let fresh = Models::of(&log).await;
    assert_eq!(super::differences(&upgraded.dump().await, &fresh.dump().await), []);
    assert_eq!(list(&upgraded.db, &UsageFilter::default(), ALL).await.unwrap().1, 1);
}
