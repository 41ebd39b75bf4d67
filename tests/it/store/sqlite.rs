//! What is particular to `SQLite`: restarts, two processes on one file, the guard of the log, and uncommitted writes.

use std::time::Duration;

use sluice::events::envelope::{Position, commitment};
use sluice::limits::Limits;
use sluice::store::sqlite::DatabaseFiles;
use sluice::store::{EventStore, ExpectedVersion, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::support::{Site, event, events, ids, small_limits, stream};
use crate::support::positions::{at, number};

async fn raw(site: &Site) -> SqliteConnection {
    SqliteConnectOptions::new().filename(site.log_path()).connect().await.unwrap()
}

#[tokio::test]
async fn a_restart_goes_on_where_the_log_ends() {
    let site = Site::new(Limits::default());
    let before = site.log().await;
    before.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..3)).await.unwrap();
    before.close().await;
    let gone = before.append(&stream("a-1"), ExpectedVersion::Exact(3), events(3..4)).await;
    assert!(matches!(gone, Err(StoreError::Unavailable(_))), "{gone:?}");

    let after = site.log().await;
    assert_eq!(after.head().await.unwrap(), at(3));
    let appended = after.append(&stream("a-1"), ExpectedVersion::Exact(3), events(3..4)).await.unwrap();
    assert_eq!((appended.version, appended.position), (4, at(4)));
    let other = after.append(&stream("b-1"), ExpectedVersion::NoStream, events(4..5)).await.unwrap();
    assert_eq!(other.position, at(5));
    assert_eq!(ids(&after.read_all(Position::START, 10).await.unwrap()), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn two_processes_append_to_one_file_without_losing_or_repeating() {
    let site = Site::new(small_limits());
    let (one, two) = (site.log().await, site.log().await);
    for number in 0..40 {
        let (mine, other) = if number % 3 == 0 { (&one, &two) } else { (&two, &one) };
        let version = u64::try_from(number).unwrap();
        mine.append(&stream("a-1"), ExpectedVersion::Exact(version), events(number..number + 1)).await.unwrap();
        // The other one remembers an older version, and must not trust it.
        let stale = other.append(&stream("a-1"), ExpectedVersion::Exact(version), events(99..100)).await;
        assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
        let fresh = stream(&format!("new-{number}"));
        other.append(&fresh, ExpectedVersion::NoStream, events(1000 + number..1001 + number)).await.unwrap();
    }
    for store in [&one, &two] {
        let log = store.read_all(Position::START, 1000).await.unwrap();
        let positions: Vec<u64> = log.iter().map(|event| number(event.position)).collect();
        assert_eq!(positions, (1..=80).collect::<Vec<_>>());
        assert_eq!(ids(&store.read_stream(&stream("a-1"), 0, 100).await.unwrap()), (0..40).collect::<Vec<_>>());
        // The end of the log may come from memory; it must be the same end.
        assert_eq!(store.read_all(at(75), 10).await.unwrap(), log[75..]);
    }
}

#[tokio::test]
async fn an_append_of_another_process_is_noticed() {
    let site = Site::new(small_limits());
    let (one, two) = (site.log().await, site.log().await);
    let waiter = async { one.wait_beyond(Position::START, Duration::from_hours(1)).await };
    let append = async { two.append(&stream("a-1"), ExpectedVersion::Any, events(0..1)).await.unwrap() };
    tokio::join!(waiter, append);
    // A type that only the other process has used so far is known by its name all the same.
    two.append(&stream("a-1"), ExpectedVersion::Any, events(1..2)).await.unwrap();
    assert_eq!(&*one.read_all(at(1), 1).await.unwrap()[0].event_type, "odd.v1");
}

#[tokio::test]
async fn an_uncommitted_position_is_never_passed() {
    let site = Site::new(small_limits());
    let store = site.log().await;
    store.append(&stream("a-1"), ExpectedVersion::Any, events(0..1)).await.unwrap();
    let mut other = raw(&site).await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let copy = "INSERT INTO events SELECT 2, stream_id, 2, kind_id, event_id, occurred_at, recorded_at, actor_kind, \
                actor_id, correlation_id, causation_id, reason, payload, salt, commitment FROM events";
    sqlx::raw_sql(copy).execute(&mut other).await.unwrap();
    let rollback = async {
        assert_eq!(store.head().await.unwrap(), at(1), "position 2 is taken, and nobody may see it");
        assert_eq!(store.read_all(Position::START, 10).await.unwrap().len(), 1);
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    };
    let name = stream("b-1");
    let append = store.append(&name, ExpectedVersion::NoStream, events(1..2));
    let (appended, ()) = tokio::join!(append, rollback);
    assert_eq!(appended.unwrap().position, at(2));
    assert_eq!(ids(&store.read_all(Position::START, 10).await.unwrap()), [0, 1]);
}

#[tokio::test]
async fn nothing_but_disposal_gets_past_the_guard_of_the_log() {
    let site = Site::new(Limits::default());
    let store = site.log().await;
    store.append(&stream("a-1"), ExpectedVersion::Any, vec![event(10), event(11)]).await.unwrap();
    let mut raw = raw(&site).await;
    for forbidden in [
        "UPDATE events SET payload = '{}' WHERE position = 1",
        "UPDATE events SET payload = NULL WHERE position = 1",
        "UPDATE events SET salt = NULL WHERE position = 1",
        "UPDATE events SET payload = NULL, salt = NULL, reason = 'x' WHERE position = 1",
        "UPDATE events SET payload = NULL, salt = NULL, commitment = x'00' WHERE position = 1",
        "UPDATE events SET position = 7 WHERE position = 1",
        "DELETE FROM events WHERE position = 1",
        "REPLACE INTO events SELECT 1, stream_id, 1, kind_id, event_id, 0, 0, 6, NULL, correlation_id, NULL, NULL, '1', \
         salt, commitment FROM events WHERE position = 2",
        "REPLACE INTO events SELECT 9, stream_id, 1, kind_id, event_id, 0, 0, 6, NULL, correlation_id, NULL, NULL, '1', \
         salt, commitment FROM events WHERE position = 2",
        "UPDATE streams SET name = 'b-1'",
        "DELETE FROM streams",
        "REPLACE INTO streams VALUES (1, 'b-1')",
        "UPDATE event_kinds SET name = 'x'",
        "DELETE FROM event_kinds",
        "REPLACE INTO event_kinds VALUES (1, 'x')",
    ] {
        let outcome = sqlx::query(AssertSqlSafe(forbidden)).execute(&mut raw).await;
        let message = outcome.expect_err(forbidden).to_string();
        assert!(message.contains("append-only"), "{forbidden}: {message}");
    }
    let dispose = "UPDATE events SET payload = NULL, salt = NULL WHERE position = 1";
    sqlx::query(dispose).execute(&mut raw).await.unwrap();
    store.close().await;

    let read = site.log().await.read_all(Position::START, 10).await.unwrap();
    assert!(read[0].is_disposed() && !read[1].is_disposed());
    assert_eq!((read[0].event_id, read[0].version), (event(10).event_id, 1), "the envelope stays");
    assert!(read.iter().all(sluice::events::envelope::RecordedEvent::commitment_holds));
    assert_eq!(read[1].commitment, commitment(&read[1].salt, "11"));
}

#[test]
fn what_can_be_made_again_lives_beside_the_log() {
    let files = DatabaseFiles::of("/var/lib/sluice/site.db".as_ref());
    assert_eq!(files.read, std::path::Path::new("/var/lib/sluice/site-read.db"));
    assert_eq!(DatabaseFiles::of("site".as_ref()).read, std::path::Path::new("site-read.db"));
}
