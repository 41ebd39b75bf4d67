//! The archive: old months leave the database, nobody who reads the log notices, and a crash at any step loses nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sluice::events::envelope::{NewEvent, Position, RecordedEvent, StreamEvent};
use sluice::store::address::Database;
use sluice::store::archive::{Archive, ArchiveError, ArchiveStep, Archived};
use sluice::store::consumer::ConsumerLoop;
use sluice::store::copy::copy;
use sluice::store::postgres::PostgresStore;
use sluice::store::sqlite::SqliteStore;
use sluice::store::{EventStore, ExpectedVersion, StoreError};
use sqlx::Row;

use super::old_log::{Old, instant, month_of, stop_at};
use super::support::{Ledger, decode, event, expected_ledger, ids, ledger, start, stream, ticking, whole_streams};
use crate::support::database::{connect, on_postgres, postgres, server};
use crate::support::positions::{at, number};

/// Everything that can be read, in every way.
async fn everything(store: &dyn EventStore) -> (Vec<RecordedEvent>, Vec<Vec<RecordedEvent>>, Vec<Vec<StreamEvent>>) {
    let mut log = Vec::new();
    loop {
        let after = log.last().map_or(Position::START, |event: &RecordedEvent| event.position);
        let page = store.read_all(after, 37).await.unwrap();
        if page.is_empty() {
            break;
        }
        log.extend(page);
    }
    let names: BTreeSet<_> = log.iter().map(|event| event.stream.clone()).collect();
    let names: Vec<_> = names.into_iter().collect();
    let mut streams = Vec::new();
    for name in &names {
        let mut whole: Vec<RecordedEvent> = Vec::new();
        loop {
            let page = store.read_stream(name, whole.len() as u64, 11).await.unwrap();
            if page.is_empty() {
                break;
            }
            whole.extend(page);
        }
        streams.push(whole);
    }
    let folds = whole_streams(store, &names).await;
    (log, streams, folds)
}

#[tokio::test]
async fn old_months_leave_the_database_and_no_reader_notices() {
    let old = Old::new().await;
    let before = everything(&*old.store).await;
    let rows = old.rows().await;
    assert_eq!(rows, i64::try_from(before.0.len()).unwrap());

    let archive = old.archive().await;
    let planned = archive.plan(instant("2025-01-01T00:00:00Z"), &month_of).await.unwrap();
    let months: Vec<&str> = planned.iter().map(|piece| piece.month.as_str()).collect();
    assert_eq!(months, ["2024-11", "2024-11", "2024-11", "2024-12", "2024-12"], "by month, and of bounded size");
    assert_eq!(planned[0].first, 1);
    assert!(planned.windows(2).all(|two| two[0].last + 1 == two[1].first));
    assert_eq!((old.rows().await, old.files().await.len()), (rows, 0), "a plan changes nothing");

    let archived = archive.run(&planned, &ticking(), |_| ()).await.unwrap();
    let gone: u64 = planned.iter().map(|piece| piece.events).sum();
    // Of the archived events, only `early-1` has its newest here, which stays in a file; the others go on.
    let stays = u64::from(!on_postgres());
    assert_eq!(archived.removed, gone - stays);
    assert_eq!(old.rows().await, rows - i64::try_from(gone - stays).unwrap());
    assert_eq!(everything(&*old.store).await, before, "the process that had it open");
    let other = old.site.store().await;
    assert_eq!(everything(&*other).await, before, "and another one");
    assert_eq!(archive.verify(|_| ()).await.unwrap(), archived.segments);

    // Every place to begin, every length.
    let log = &before.0;
    for after in (0..log.len()).step_by(7) {
        for limit in [1, 60, 400] {
            let read = other.read_all(at(after as u64), limit).await.unwrap();
            let until = (after + limit).min(log.len());
            assert_eq!(read, log[after..until], "{limit} after {after}");
        }
    }
    let again = old.run(&archive, "2025-01-01T00:00:00Z").await.unwrap();
    assert_eq!(again, Archived::default(), "there is nothing left to do");
}

#[tokio::test]
async fn streams_go_on_after_their_beginning_is_archived() {
    let old = Old::new().await;
    let archive = old.archive().await;
    old.run(&archive, "2025-02-01T00:00:00Z").await.unwrap();
    for name in ["steady-1", "early-1", "a-1"] {
        let store = old.site.store().await;
        let there = store.read_stream(&stream(name), 0, 500).await.unwrap();
        let (version, first) = (there.len() as u64, event(9_000));
        let conflict = store.append(&stream(name), ExpectedVersion::NoStream, vec![first.clone()]).await;
        assert!(matches!(conflict, Err(StoreError::Conflict { actual, .. }) if actual == version), "{conflict:?}");
        let retried: Vec<_> = there[..2].iter().map(|e| NewEvent { event_id: e.event_id, ..event(9_000) }).collect();
        let retry = store.append(&stream(name), ExpectedVersion::NoStream, retried).await.unwrap();
        assert!(retry.duplicate && retry.version == 2, "a retry of something archived is still known as one");
        assert_eq!(
            store.append(&stream(name), ExpectedVersion::Exact(version), vec![first]).await.unwrap().version,
            version + 1
        );
        assert_eq!(ids(&store.read_stream(&stream(name), version, 5).await.unwrap()), [9_000]);
    }
    // What was the newest of its stream before is not any more, and goes with the next run.
    let before = everything(&*old.store).await;
    let again = old.run(&archive, "2025-02-01T00:00:00Z").await.unwrap();
    assert_eq!((again.segments.len(), again.removed), (0, u64::from(!on_postgres())));
    assert_eq!(everything(&*old.site.store().await).await, before);
}

#[tokio::test]
async fn a_crash_after_any_step_loses_nothing_and_is_taken_up() {
    use ArchiveStep::{Named, Recorded, Removing, Verified, Writing, Written};
    for step in [Writing, Written, Named, Verified, Recorded, Removing] {
        for survived in [0, 2] {
            let old = Old::new().await;
            let before = everything(&*old.store).await;
            let faults = stop_at(step, survived);
            let crash = old.run(&old.archive().await.with_faults(faults), "2025-02-01T00:00:00Z").await;
            let removals = step == Removing && survived > 0;
            assert!(removals || matches!(crash, Err(ArchiveError::Injected(at)) if at == step), "{step:?}: {crash:?}");
            assert_eq!(everything(&*old.site.store().await).await, before, "{step:?} {survived}");
            let archive = old.archive().await;
            old.run(&archive, "2025-02-01T00:00:00Z").await.unwrap();
            assert_eq!(everything(&*old.store).await, before, "{step:?} {survived}: taken up");
            let segments = archive.verify(|_| ()).await.unwrap();
            assert_eq!(old.files().await.len(), segments.len(), "{step:?} {survived}: each file once");
            let last = before.0.iter().rfind(|event| event.recorded_at < instant("2025-02-01T00:00:00Z")).unwrap();
            assert_eq!(segments.last().unwrap().facts.last, number(last.position));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_while_rows_go_sees_the_whole_log_and_who_writes_is_not_refused() {
    let old = Old::new().await;
    let before = everything(&*old.store).await.0;
    let store = old.site.store().await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (store, done, before) = (Arc::clone(&store), Arc::clone(&done), before.clone());
        async move {
            let mut rounds = 0;
            while rounds < 3 || !done.load(Ordering::Relaxed) {
                let log = everything(&*store).await.0;
                assert_eq!(log[..before.len()], before);
                rounds += 1;
            }
        }
    });
    let writer = tokio::spawn({
        let (store, done) = (Arc::clone(&store), Arc::clone(&done));
        async move {
            let mut number = 0_u64;
            while number < 20 || !done.load(Ordering::Relaxed) {
                let event = vec![event(50_000 + u128::from(number))];
                store.append(&stream("busy-1"), ExpectedVersion::Exact(number), event).await.unwrap();
                number += 1;
            }
        }
    });
    for before in ["2024-12-01T00:00:00Z", "2025-01-01T00:00:00Z", "2025-02-01T00:00:00Z"] {
        old.run(&old.archive().await, before).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    writer.await.unwrap();
}

#[tokio::test]
async fn consumers_are_rebuilt_from_segments() {
    let old = Old::new().await;
    old.run(&old.archive().await, "2025-02-01T00:00:00Z").await.unwrap();
    let (store, db) = (old.site.store().await, old.site.read_db().await);
    let feed = ConsumerLoop::new(Arc::clone(&store), db.clone(), decode, ticking(), old.site.limits.clone());
    feed.with(Ledger::new()).settle().await.unwrap();
    let expected = expected_ledger(&*store).await;
    assert_eq!(expected.len(), everything(&*old.store).await.0.len());
    assert_eq!(ledger(&db).await, expected);
}

/// What nobody may do with the tables in a file.
const FORBIDDEN: [&str; 16] = [
    "DELETE FROM events",
    "DELETE FROM events WHERE position = (SELECT max(last_position) + 1 FROM segments)",
    "DELETE FROM events WHERE position <= (SELECT max(last_position) FROM segments)",
    "UPDATE events SET payload = NULL, salt = NULL WHERE position <= (SELECT max(last_position) FROM segments)",
    "INSERT INTO events SELECT 1, stream_id, 9999, kind_id, event_id, occurred_at, recorded_at, actor_kind, actor_id, \
     correlation_id, causation_id, reason, payload, salt, commitment FROM events LIMIT 1",
    "INSERT INTO events SELECT 99999, stream_id, 1, kind_id, event_id, occurred_at, recorded_at, actor_kind, actor_id, \
     correlation_id, causation_id, reason, payload, salt, commitment FROM events WHERE stream_id = 1 LIMIT 1",
    "UPDATE segments SET last_position = 99999",
    "DELETE FROM segments",
    "INSERT INTO segments SELECT 99, month, 1, 99999, events, 'x', 0, 0, rows_sha256, file_sha256, 0 FROM segments LIMIT 1",
    "UPDATE segment_frames SET byte_offset = 0",
    "DELETE FROM segment_frames",
    "REPLACE INTO segment_frames SELECT * FROM segment_frames",
    "UPDATE archived_events SET position = 1",
    "DELETE FROM archived_events",
    "REPLACE INTO archived_events SELECT * FROM archived_events",
    "INSERT INTO archived_events VALUES (1, 99999, 99999)",
];

/// And on a server.
const FORBIDDEN_ON_A_SERVER: [&str; 20] = [
    "DELETE FROM events",
    "DELETE FROM events WHERE position = (SELECT max(last_position) + 1 FROM segments)",
    "DELETE FROM events_64",
    "TRUNCATE events",
    "TRUNCATE events_64",
    "UPDATE events SET payload = NULL, salt = NULL WHERE position <= (SELECT max(last_position) FROM segments)",
    "UPDATE segments SET last_position = 99999",
    "DELETE FROM segments",
    "TRUNCATE segments CASCADE",
    "INSERT INTO segments SELECT 99, month, 1, 99999, events, 'x', 0, 0, rows_sha256, file_sha256, 0 FROM segments LIMIT 1",
    "UPDATE segment_frames SET byte_offset = 0",
    "DELETE FROM segment_frames",
    "TRUNCATE segment_frames",
    "UPDATE segment_files SET content = ''",
    "DELETE FROM segment_files",
    "INSERT INTO segment_files SELECT file, 99999, content FROM segment_files LIMIT 1",
    "TRUNCATE segment_files",
    "UPDATE archived_events SET position = 1",
    "DELETE FROM archived_events",
    "INSERT INTO archived_events VALUES (1, 99999, 99999)",
];

fn refused(forbidden: &str, said: &str) {
    let because = ["append-only", "cannot be changed", "follow one another", "once"];
    assert!(because.iter().any(|because| said.contains(because)), "{forbidden}: {said}");
}

#[tokio::test]
async fn only_what_a_verified_segment_holds_can_go() {
    let old = Old::new().await;
    let before = everything(&*old.store).await;
    if let Database::Postgres(url) = &old.database {
        // Of the first segment the rows are still there.
        let recorded = old.archive().await.with_faults(stop_at(ArchiveStep::Recorded, 0));
        old.run(&recorded, "2024-12-01T00:00:00Z").await.unwrap_err();
        let mut raw = connect(url).await;
        sqlx::raw_sql("SET search_path = sluice").execute(&mut raw).await.unwrap();
        for forbidden in FORBIDDEN_ON_A_SERVER {
            let outcome = sqlx::query(forbidden).execute(&mut raw).await;
            refused(forbidden, &outcome.expect_err(forbidden).to_string());
        }
        let dropped = sqlx::query("SELECT * FROM drop_archived_partition()").fetch_all(&mut raw).await.unwrap();
        assert!(dropped.is_empty(), "a segment does not hold all of the first partition");
    } else {
        old.run(&old.archive().await, "2024-12-01T00:00:00Z").await.unwrap();
        let mut raw = old.raw().await;
        for forbidden in FORBIDDEN {
            let outcome = sqlx::query(forbidden).execute(&mut raw).await;
            refused(forbidden, &outcome.expect_err(forbidden).to_string());
        }
    }
    assert_eq!(everything(&*old.store).await, before);
}

#[tokio::test]
async fn a_segment_that_is_damaged_or_gone_is_an_error_and_never_a_gap() {
    let old = Old::new().await;
    let archive = old.archive().await;
    old.run(&archive, "2025-01-01T00:00:00Z").await.unwrap();
    let file = old.files().await.remove(1);
    let good = old.bytes(&file).await;
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for bad in [flipped, good[..good.len() - 1].to_vec(), [good.clone(), vec![0]].concat(), Vec::new()] {
        old.damage(&file, Some(&bad)).await;
        let verified = archive.verify(|_| ()).await;
        assert!(matches!(&verified, Err(ArchiveError::Segment(_))), "{} bytes: {verified:?}", bad.len());
        if bad.len() <= good.len() {
            let read = old.site.store().await.read_all(Position::START, 500).await;
            assert!(matches!(&read, Err(StoreError::Corrupt(why)) if why.contains("2024-11")), "{read:?}");
        }
    }
    old.damage(&file, None).await;
    let read = old.site.store().await.read_stream(&stream("steady-1"), 0, 500).await;
    assert!(matches!(&read, Err(StoreError::Corrupt(why)) if why.contains("backup")), "{read:?}");
    assert!(archive.verify(|_| ()).await.is_err());
    old.damage(&file, Some(&good)).await;
    archive.verify(|_| ()).await.unwrap();
    old.site.store().await.read_all(Position::START, 500).await.unwrap();
}

#[tokio::test]
async fn one_process_archives_at_a_time_and_a_segment_is_plain_lines() {
    let old = Old::new().await;
    let archive = old.archive().await;
    let (mut file, mut raw) = (None, None);
    match &old.database {
        Database::Sqlite(_) => {
            std::fs::create_dir_all(old.folder()).unwrap();
            let lock = std::fs::File::create(old.folder().join("lock")).unwrap();
            lock.lock().unwrap();
            file = Some(lock);
        }
        Database::Postgres(url) => {
            let mut connection = connect(url).await;
            sqlx::query("SELECT pg_advisory_lock(7305804402333423)").execute(&mut connection).await.unwrap();
            raw = Some(connection);
        }
    }
    let busy = old.run(&archive, "2024-12-01T00:00:00Z").await;
    assert!(matches!(busy, Err(ArchiveError::Busy(_))), "{busy:?}");
    drop((file, raw));
    let before = everything(&*old.store).await.0;
    old.run(&archive, "2024-12-01T00:00:00Z").await.unwrap();
    let text = zstd::decode_all(&*old.bytes(&old.files().await[0]).await).unwrap();
    let text = String::from_utf8(text).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(text.lines().count(), 60);
    assert_eq!((first["position"].as_u64(), first["stream"].as_str()), (Some(1), Some("steady-1")));
    assert_eq!((first["payload"].as_str(), first["version"].as_u64()), (Some("0"), Some(1)));
    assert_eq!(first["event_id"], before[0].event_id.to_string());
    assert!(start() > before[0].recorded_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_an_archived_log_has_rows_again_on_either_engine() {
    let old = Old::new().await;
    let before = everything(&*old.store).await;
    old.run(&old.archive().await, "2025-02-01T00:00:00Z").await.unwrap();
    let file = |name: &str| old.site.log_path().with_file_name(name);
    let mut ways = vec![Database::from(file("copy.db"))];
    if server().is_some() {
        ways.push(postgres(&file("copy-on-server.db")));
        ways.push(Database::from(file("and-back.db")));
    }
    let mut from = old.database.clone();
    for to in ways {
        let copied = copy(&from.clone().into(), &to.clone().into(), &old.site.limits, |_| ()).await.unwrap();
        assert_eq!(copied.events, before.0.len() as u64, "{from} to {to}");
        let store: Arc<dyn EventStore> = match &to {
            Database::Sqlite(log) => {
                Arc::new(SqliteStore::open(log, ticking(), old.site.limits.clone()).await.unwrap())
            }
            Database::Postgres(url) => {
                Arc::new(PostgresStore::open(url, ticking(), old.site.limits.clone()).await.unwrap())
            }
        };
        assert_eq!(everything(&*store).await, before, "{from} to {to}");
        let archive = Archive::open(&to, old.site.limits.clone()).await.unwrap();
        assert_eq!(archive.segments().await.unwrap(), []);
        // It can be archived in its turn, and copied from there.
        let planned = archive.plan(instant("2025-01-01T00:00:00Z"), &month_of).await.unwrap();
        archive.run(&planned, &ticking(), |_| ()).await.unwrap();
        archive.verify(|_| ()).await.unwrap();
        from = to;
    }
}

/// Names of the partitions of the log on a server.
async fn partitions(url: &str) -> Vec<String> {
    let names = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                 WHERE i.inhparent = 'sluice.events'::regclass ORDER BY c.oid";
    let names = sqlx::query(names).fetch_all(&mut connect(url).await).await.unwrap();
    names.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_full_partition_goes_as_a_table_and_its_rows_one_by_one_while_somebody_reads_it() {
    let old = Old::new().await;
    let Database::Postgres(url) = &old.database else { return };
    let before = everything(&*old.store).await;
    let all = partitions(url).await;
    assert!(all.len() > 8 && all[0] == "events_0", "{all:?}");
    // A dump holds such a lock until its end.
    let mut dump = connect(url).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE sluice.events_64 IN ACCESS SHARE MODE").execute(&mut dump).await.unwrap();
    let archived = old.run(&old.archive().await, "2025-01-01T00:00:00Z").await.unwrap();
    assert_eq!(partitions(url).await, all[1..], "the first one went, the second one is read");
    assert_eq!(old.number("SELECT count(*) FROM events_64").await, 0);
    assert_eq!(archived.removed, archived.segments.iter().map(|segment| segment.facts.events).sum::<u64>());
    assert_eq!(everything(&*old.store).await, before);
    sqlx::raw_sql("ROLLBACK").execute(&mut dump).await.unwrap();
    let again = old.run(&old.archive().await, "2025-01-01T00:00:00Z").await.unwrap();
    assert_eq!(again.removed, 0, "only empty tables went");
    let left = partitions(url).await;
    assert!(left.len() < all.len() - 2 && all.ends_with(&left), "{left:?}");
    assert_eq!(everything(&*old.site.store().await).await, before);
}

#[tokio::test]
async fn where_the_log_ends_a_row_stays_and_the_log_goes_on_after_it() {
    let old = Old::new().await;
    let before = everything(&*old.store).await;
    let archive = old.archive().await;
    old.run(&archive, "2026-01-01T00:00:00Z").await.unwrap();
    let kept = old.rows().await;
    // In a file: the newest of each of the six streams.
    assert_eq!(kept, if on_postgres() { 1 } else { 6 });
    let store = old.site.store().await;
    assert_eq!(everything(&*store).await, before);
    let end = store.head().await.unwrap();
    assert_eq!(number(end), before.0.len() as u64);
    assert_eq!(store.read_all(end, 10).await.unwrap(), []);
    for name in ["early-1", "late-1"] {
        let version = before.0.iter().filter(|event| event.stream == stream(name)).count() as u64;
        assert_eq!(store.read_stream(&stream(name), version, 10).await.unwrap(), []);
        let last = store.read_stream(&stream(name), version - 1, 10).await.unwrap();
        assert_eq!(last.len(), 1, "{name}");
        let next = vec![event(70_000 + u128::from(version))];
        store.append(&stream(name), ExpectedVersion::Exact(version), next).await.unwrap();
    }
    let nothing = whole_streams(&*store, &[stream("never-1"), stream("early-1")]).await;
    assert_eq!((nothing[0].len(), nothing[1].len()), (0, 57));
    let after = everything(&*store).await;
    assert_eq!(after.0[..before.0.len()], before.0);
    old.run(&archive, "2026-01-01T00:00:00Z").await.unwrap();
    assert_eq!(everything(&*old.site.store().await).await, after);
}
