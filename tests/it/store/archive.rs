//! The archive: old months leave the database, nobody who reads the log notices, and a crash at any step loses nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use sluice::events::envelope::{Position, RecordedEvent, StreamEvent};
use sluice::limits::Limits;
use sluice::store::consumer::ConsumerLoop;
use sluice::store::sqlite::{Archive, ArchiveError, ArchiveStep, Archived, SqliteStore};
use sluice::store::{EventStore, ExpectedVersion, Now, StoreError};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Row, SqliteConnection};

use super::support::{
    Ledger, Site, decode, event, events, expected_ledger, ids, ledger, small_limits, start, stream, ticking,
};

/// A log over four months: `steady-1` goes on all the time, `early-1` ends in the first month, `late-1` begins in the last.
struct Old {
    site: Site,
    store: SqliteStore,
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The months of a site whose clock is UTC.
fn month_of(at: DateTime<Utc>) -> (String, DateTime<Utc>) {
    let (year, month) = (at.year(), at.month());
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    (format!("{year}-{month:02}"), instant(&format!("{next_year}-{next:02}-01T00:00:00Z")))
}

impl Old {
    async fn new() -> Self {
        let site = Site::new(Limits { read_events_max: 500, ..small_limits() });
        let clock = Arc::new(AtomicI64::new(instant("2024-11-01T00:00:00Z").timestamp()));
        let now: Now = {
            let clock = Arc::clone(&clock);
            Arc::new(move || DateTime::from_timestamp(clock.load(Ordering::Relaxed), 0).unwrap())
        };
        let store = SqliteStore::open(&site.log_path(), now, site.limits.clone()).await.unwrap();
        let mut number = 0;
        for month in 0..4_i64 {
            for day in 0..28 {
                let at = instant("2024-11-01T00:00:00Z") + TimeDelta::days(month * 30 + day);
                clock.store(at.timestamp(), Ordering::Relaxed);
                let mut streams = vec![("steady-1", 3)];
                streams.extend((month == 0).then_some(("early-1", 2)));
                streams.extend((month == 3).then_some(("late-1", 1)));
                streams.push((["a-1", "a-2", "a-3"][usize::try_from(day % 3).unwrap()], 1));
                for (name, count) in streams {
                    store.append(&stream(name), ExpectedVersion::Any, events(number..number + count)).await.unwrap();
                    number += count;
                }
            }
        }
        Self { site, store }
    }

    async fn archive(&self) -> Archive {
        Archive::open(&self.site.log_path(), self.site.limits.clone()).await.unwrap().with_segment_events_max(60)
    }

    async fn run(&self, archive: &Archive, before: &str) -> Result<Archived, ArchiveError> {
        let planned = archive.plan(instant(before), &month_of).await?;
        archive.run(&planned, &ticking(), |_| ()).await
    }

    /// Rows that the database holds.
    async fn rows(&self) -> i64 {
        let row = sqlx::query("SELECT count(*) FROM events").fetch_one(&mut self.raw().await).await.unwrap();
        row.get(0)
    }

    async fn raw(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.site.log_path()).connect().await.unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = self.site.log_path().with_file_name("site-archive");
        let Ok(folder) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut files: Vec<PathBuf> = folder.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "zst"));
        files.sort();
        files
    }
}

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
    let folds = store.read_streams(&names).await.unwrap();
    (log, streams, folds)
}

#[tokio::test]
async fn old_months_leave_the_database_and_no_reader_notices() {
    let old = Old::new().await;
    let before = everything(&old.store).await;
    let rows = old.rows().await;
    assert_eq!(rows, i64::try_from(before.0.len()).unwrap());

    let archive = old.archive().await;
    let planned = archive.plan(instant("2025-01-01T00:00:00Z"), &month_of).await.unwrap();
    let months: Vec<&str> = planned.iter().map(|piece| piece.month.as_str()).collect();
    assert_eq!(months, ["2024-11", "2024-11", "2024-11", "2024-12", "2024-12"], "by month, and of bounded size");
    assert_eq!(planned[0].first, 1);
    assert!(planned.windows(2).all(|two| two[0].last + 1 == two[1].first));
    assert_eq!((old.rows().await, old.files().len()), (rows, 0), "a plan changes nothing");

    let archived = archive.run(&planned, &ticking(), |_| ()).await.unwrap();
    let gone: u64 = planned.iter().map(|piece| piece.events).sum();
    // Of the archived events, only `early-1` has its newest here; the others go on.
    assert_eq!(archived.removed, gone - 1);
    assert_eq!(old.rows().await, rows - i64::try_from(gone).unwrap() + 1);
    assert_eq!(everything(&old.store).await, before, "the process that had it open");
    let other = old.site.log().await;
    assert_eq!(everything(&other).await, before, "and another one");
    assert_eq!(archive.verify(|_| ()).await.unwrap(), archived.segments);

    // Every place to begin, every length.
    let log = &before.0;
    for after in (0..log.len()).step_by(7) {
        for limit in [1, 60, 400] {
            let read = other.read_all(Position::seq(after as u64), limit).await.unwrap();
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
        let store = old.site.log().await;
        let there = store.read_stream(&stream(name), 0, 500).await.unwrap();
        let (version, first) = (there.len() as u64, event(9_000));
        let conflict = store.append(&stream(name), ExpectedVersion::NoStream, vec![first.clone()]).await;
        assert!(matches!(conflict, Err(StoreError::Conflict { actual, .. }) if actual == version), "{conflict:?}");
        let retried: Vec<_> = there[..2].iter().map(|e| event(e.event_id.as_u128())).collect();
        let retry = store.append(&stream(name), ExpectedVersion::NoStream, retried).await.unwrap();
        assert!(retry.duplicate && retry.version == 2, "a retry of something archived is still known as one");
        assert_eq!(
            store.append(&stream(name), ExpectedVersion::Exact(version), vec![first]).await.unwrap().version,
            version + 1
        );
        assert_eq!(ids(&store.read_stream(&stream(name), version, 5).await.unwrap()), [9_000]);
        store.close().await;
    }
    // What was the newest of its stream before is not any more, and goes with the next run.
    let before = everything(&old.store).await;
    let again = old.run(&archive, "2025-02-01T00:00:00Z").await.unwrap();
    assert_eq!((again.segments.len(), again.removed), (0, 1));
    assert_eq!(everything(&old.site.log().await).await, before);
}

#[tokio::test]
async fn a_crash_after_any_step_loses_nothing_and_is_taken_up() {
    use ArchiveStep::{Named, Recorded, Removing, Verified, Writing, Written};
    for step in [Writing, Written, Named, Verified, Recorded, Removing] {
        for survived in [0, 2] {
            let old = Old::new().await;
            let before = everything(&old.store).await;
            let passed = AtomicUsize::new(0);
            let faults = Arc::new(move |at| at == step && passed.fetch_add(1, Ordering::Relaxed) == survived);
            let crash = old.run(&old.archive().await.with_faults(faults), "2025-02-01T00:00:00Z").await;
            let removals = step == Removing && survived > 0;
            assert!(removals || matches!(crash, Err(ArchiveError::Injected(at)) if at == step), "{step:?}: {crash:?}");
            assert_eq!(everything(&old.site.log().await).await, before, "{step:?} {survived}");
            let archive = old.archive().await;
            old.run(&archive, "2025-02-01T00:00:00Z").await.unwrap();
            assert_eq!(everything(&old.store).await, before, "{step:?} {survived}: taken up");
            let segments = archive.verify(|_| ()).await.unwrap();
            assert_eq!(old.files().len(), segments.len(), "{step:?} {survived}: each file once");
            let last = before.0.iter().rfind(|event| event.recorded_at < instant("2025-02-01T00:00:00Z")).unwrap();
            assert_eq!(segments.last().unwrap().facts.last, last.position.as_seq());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_while_rows_go_sees_the_whole_log_and_who_writes_is_not_refused() {
    let old = Old::new().await;
    let before = everything(&old.store).await.0;
    let store: Arc<dyn EventStore> = Arc::new(old.site.log().await);
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
    let (store, db): (Arc<dyn EventStore>, _) = (Arc::new(old.site.log().await), old.site.read_db().await);
    let feed = ConsumerLoop::new(Arc::clone(&store), db.clone(), decode, ticking(), old.site.limits.clone());
    feed.with(Ledger::new()).settle().await.unwrap();
    let expected = expected_ledger(&*store).await;
    assert_eq!(expected.len(), everything(&old.store).await.0.len());
    assert_eq!(ledger(&db).await, expected);
}

#[tokio::test]
async fn only_what_a_verified_segment_holds_can_go() {
    let old = Old::new().await;
    old.run(&old.archive().await, "2024-12-01T00:00:00Z").await.unwrap();
    let mut raw = old.raw().await;
    for forbidden in [
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
    ] {
        let outcome = sqlx::query(AssertSqlSafe(forbidden)).execute(&mut raw).await;
        let message = outcome.expect_err(forbidden).to_string();
        let said = ["append-only", "cannot be changed", "follow one another", "once"];
        assert!(said.iter().any(|said| message.contains(said)), "{forbidden}: {message}");
    }
}

#[tokio::test]
async fn a_segment_that_is_damaged_or_gone_is_an_error_and_never_a_gap() {
    let old = Old::new().await;
    let archive = old.archive().await;
    old.run(&archive, "2025-01-01T00:00:00Z").await.unwrap();
    let file = old.files().remove(1);
    let good = std::fs::read(&file).unwrap();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for bad in [flipped, good[..good.len() - 1].to_vec(), [good.clone(), vec![0]].concat(), Vec::new()] {
        std::fs::write(&file, &bad).unwrap();
        let verified = archive.verify(|_| ()).await;
        assert!(matches!(&verified, Err(ArchiveError::Segment(_))), "{} bytes: {verified:?}", bad.len());
        if bad.len() <= good.len() {
            let read = old.site.log().await.read_all(Position::START, 500).await;
            assert!(matches!(&read, Err(StoreError::Corrupt(why)) if why.contains("2024-11")), "{read:?}");
        }
    }
    std::fs::remove_file(&file).unwrap();
    let read = old.site.log().await.read_stream(&stream("steady-1"), 0, 500).await;
    assert!(matches!(&read, Err(StoreError::Corrupt(why)) if why.contains("backup")), "{read:?}");
    assert!(archive.verify(|_| ()).await.is_err());
    std::fs::write(&file, &good).unwrap();
    archive.verify(|_| ()).await.unwrap();
    old.site.log().await.read_all(Position::START, 500).await.unwrap();
}

#[tokio::test]
async fn one_process_archives_at_a_time_and_a_segment_is_plain_lines() {
    let old = Old::new().await;
    let archive = old.archive().await;
    let folder = archive.folder().to_owned();
    std::fs::create_dir_all(&folder).unwrap();
    let lock = std::fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let busy = old.run(&archive, "2024-12-01T00:00:00Z").await;
    assert!(matches!(busy, Err(ArchiveError::Busy(_))), "{busy:?}");
    drop(lock);
    let before = everything(&old.store).await.0;
    old.run(&archive, "2024-12-01T00:00:00Z").await.unwrap();
    let text = zstd::decode_all(std::fs::File::open(&old.files()[0]).unwrap()).unwrap();
    let text = String::from_utf8(text).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(text.lines().count(), 60);
    assert_eq!((first["position"].as_u64(), first["stream"].as_str()), (Some(1), Some("steady-1")));
    assert_eq!((first["payload"].as_str(), first["version"].as_u64()), (Some("0"), Some(1)));
    assert_eq!(first["event_id"], before[0].event_id.to_string());
    assert!(start() > before[0].recorded_at);
}
