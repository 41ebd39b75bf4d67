//! The façade over the read models' database: values there and back, many rows at once, transactions.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sluice::limits::Limits;
use sluice::store::sql::{ReadDb, SqlError, SqlRow, SqlValue, Target, sql_for};
use uuid::Uuid;

use super::support::{Site, start};

/// Through a table with a column for each value.
async fn there_and_back(db: &ReadDb, values: &[SqlValue]) -> SqlRow {
    let table = if db.is_shared() {
        "CREATE TABLE kept (a bigint, b bigint, c text, d uuid, e bigint, f text, g bytea, h text)"
    } else {
        "CREATE TABLE kept (a INTEGER, b INTEGER, c TEXT, d BLOB, e INTEGER, f TEXT, g BLOB, h TEXT) STRICT"
    };
    let mut tx = db.begin().await.unwrap();
    tx.execute(table, &[]).await.unwrap();
    tx.execute("INSERT INTO kept (a, b, c, d, e, f, g, h) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)", values)
        .await
        .unwrap();
    let written = tx.query_one("SELECT a, b, c, d, e, f, g, h FROM kept", &[]).await.unwrap().unwrap();
    assert_eq!((written.i64(1).unwrap(), written.text(2).unwrap()), (-7, "text"), "the writer reads it too");
    tx.commit().await.unwrap();
    db.query_one("SELECT a, b, c, d, e, f, g, h, c || c FROM kept", &[]).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_value_comes_back_as_what_it_was() {
    let site = Site::new(Limits::default());
    let db = site.read_db().await;
    let id = Uuid::from_u128(0x1234);
    let amount: Decimal = "992.1875".parse().unwrap();
    let none = SqlValue::from(None::<String>);
    let values = [
        SqlValue::from(true),
        SqlValue::from(-7_i64),
        SqlValue::from("text"),
        SqlValue::from(id),
        SqlValue::from(start()),
        SqlValue::from(amount),
        SqlValue::from(vec![1_u8, 2]),
        none,
    ];
    let row = there_and_back(&db, &values).await;
    assert!(row.bool(0).unwrap());
    assert_eq!(row.i64(1).unwrap(), -7);
    assert_eq!((row.text(2).unwrap(), row.text(8).unwrap()), ("text", "texttext"));
    assert_eq!((row.uuid(3).unwrap(), row.opt_uuid(3).unwrap()), (id, Some(id)));
    assert_eq!(row.time(4).unwrap(), start());
    assert_eq!(row.decimal(5).unwrap(), amount);
    assert_eq!(row.bytes(6).unwrap(), [1, 2]);
    assert_eq!((row.opt_i64(7).unwrap(), row.opt_text(7).unwrap(), row.opt_uuid(7).unwrap()), (None, None, None));
    assert_eq!((row.opt_time(7).unwrap(), row.opt_bytes(7).unwrap()), (None::<DateTime<Utc>>, None));
    assert!(matches!(row.i64(7), Err(SqlError::Column { index: 7, .. })), "there is nothing");
    assert!(matches!(row.i64(2), Err(SqlError::Column { index: 2, .. })), "a text is no number");
    assert!(matches!(row.i64(9), Err(SqlError::Column { index: 9, .. })), "there is no such column");
}

#[tokio::test]
async fn any_number_of_rows_goes_in_and_a_suffix_may_merge_them() {
    let site = Site::new(Limits::default());
    let db = site.read_db().await;
    let mut tx = db.begin().await.unwrap();
    tx.execute("CREATE TABLE totals (number BIGINT PRIMARY KEY, times BIGINT NOT NULL)", &[]).await.unwrap();
    for count in [0, 1, 3, 4, 15, 85, 256, 700] {
        let rows = (0..count).flat_map(|number| [SqlValue::I64(number), SqlValue::I64(1)]).collect();
        let merge = "ON CONFLICT (number) DO UPDATE SET times = totals.times + excluded.times";
        let touched = tx.insert_many("INSERT INTO totals (number, times)", 2, rows, merge).await.unwrap();
        assert_eq!(i64::try_from(touched).unwrap(), count);
    }
    let row = tx.query_one("SELECT count(*), sum(times), max(times) FROM totals", &[]).await.unwrap().unwrap();
    assert_eq!((row.i64(0).unwrap(), row.i64(1).unwrap(), row.i64(2).unwrap()), (700, 1064, 7));
}

#[tokio::test]
async fn a_transaction_is_seen_when_committed_and_leaves_no_trace_when_dropped() {
    let site = Site::new(Limits::default());
    let db = site.read_db().await;
    let count = async || db.query_one("SELECT count(*) FROM other", &[]).await.unwrap().unwrap().i64(0).unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.execute("INSERT INTO other (number) VALUES ($1)", &[SqlValue::I64(1)]).await.unwrap();
    assert_eq!(count().await, 0);
    drop(tx);
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.execute("INSERT INTO other (number) VALUES ($1)", &[SqlValue::I64(2)]).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(count().await, 1);
    let refused = db.query("DELETE FROM other", &[]).await;
    assert!(matches!(refused, Err(SqlError::Database(_))), "a reader does not write");
    assert_eq!(count().await, 1);
}

#[test]
fn a_text_names_one_generation_of_tables() {
    let text = "SELECT * FROM a{g} JOIN b{g}";
    assert_eq!(sql_for(text, Target::Live), "SELECT * FROM a JOIN b");
    assert_eq!(sql_for(text, Target::Building), "SELECT * FROM a_next JOIN b_next");
    assert!(std::ptr::eq(sql_for(text, Target::Building), sql_for(text, Target::Building)), "made once");
}
