//! What every engine of the event store must do, whatever it is made of.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sluice::events::envelope::{Payload, Position, RecordedEvent, StreamEvent, commitment};
use sluice::limits::Limits;
use sluice::store::{AppendRequest, EventStore, ExpectedVersion, StoreError};

use super::support::{engines, event, events, ids, small_limits, start, stream, whole_streams};
use crate::support::positions::at;

async fn whole_log(store: &dyn EventStore, page: usize) -> Vec<RecordedEvent> {
    let mut log = Vec::new();
    let mut after = Position::START;
    loop {
        let events = store.read_all(after, page).await.unwrap();
        assert!(events.len() <= page);
        let Some(last) = events.last() else { return log };
        after = last.position;
        log.extend(events);
    }
}

#[tokio::test]
async fn an_event_comes_back_as_it_went_in() {
    for (engine, store, _kept) in engines(Limits::default()).await {
        let name = stream("policy-1");
        let appended = store.append(&name, ExpectedVersion::NoStream, vec![event(0), event(1)]).await.unwrap();
        let read = store.read_stream(&name, 0, 10).await.unwrap();
        let first = &read[0];
        assert_eq!((appended.version, appended.position, appended.duplicate), (2, read[1].position, false), "{engine}");
        assert_eq!(first.stream, name);
        assert_eq!(first.version, 1, "{engine}");
        assert!(Position::START < first.position && first.position < read[1].position, "{engine}");
        assert_eq!((first.event_id, &*first.event_type), (event(0).event_id, "even.v1"), "{engine}");
        assert_eq!((&first.metadata, first.occurred_at), (&event(0).metadata, start()), "{engine}");
        assert!(first.recorded_at >= start(), "{engine}");
        assert_eq!(&*first.payload, "0", "{engine}");
        assert_eq!(first.commitment, commitment(&first.salt, "0"), "{engine}");
        assert_ne!(first.salt, read[1].salt, "{engine}: salts are random");
        assert_eq!(store.read_all(Position::START, 10).await.unwrap(), read, "{engine}");
    }
}

#[tokio::test]
async fn an_event_with_the_nil_id_is_refused() {
    for (engine, store, _kept) in engines(Limits::default()).await {
        let mut nil = event(0);
        nil.event_id = uuid::Uuid::nil();
        let refused = store.append(&stream("policy-1"), ExpectedVersion::NoStream, vec![nil]).await;
        assert!(matches!(&refused, Err(StoreError::Rejected(why)) if why.contains("nil")), "{engine}: {refused:?}");
        assert_eq!(store.read_all(Position::START, 10).await.unwrap(), [], "{engine}");
    }
}

#[tokio::test]
async fn a_version_is_checked_and_a_conflict_names_what_is_there() {
    for (engine, store, _kept) in engines(Limits::default()).await {
        let name = stream("policy-1");
        let conflict = |expected, actual| (expected, actual);
        let refused = |outcome: Result<_, StoreError>| match outcome {
            Err(StoreError::Conflict { stream: of, expected, actual }) if of == stream("policy-1") => {
                (expected, actual)
            }
            other => panic!("{engine}: {other:?}"),
        };
        let early = store.append(&name, ExpectedVersion::Exact(1), events(5..6)).await;
        assert_eq!(refused(early), conflict(ExpectedVersion::Exact(1), 0));
        store.append(&name, ExpectedVersion::Exact(0), events(0..2)).await.unwrap();
        let again = store.append(&name, ExpectedVersion::NoStream, events(5..6)).await;
        assert_eq!(refused(again), conflict(ExpectedVersion::NoStream, 2));
        let ahead = store.append(&name, ExpectedVersion::Exact(3), events(5..6)).await;
        assert_eq!(refused(ahead), conflict(ExpectedVersion::Exact(3), 2));
        store.append(&name, ExpectedVersion::Exact(2), events(2..3)).await.unwrap();
        let any = store.append(&name, ExpectedVersion::Any, events(3..4)).await.unwrap();
        assert_eq!(any.version, 4, "{engine}");
        assert_eq!(ids(&store.read_stream(&name, 0, 10).await.unwrap()), [0, 1, 2, 3], "{engine}");
        assert_eq!(store.head().await.unwrap(), any.position, "{engine}: a refused append leaves nothing behind");
    }
}

#[tokio::test]
async fn the_same_events_at_the_same_version_are_one_fact() {
    for (engine, store, _kept) in engines(Limits::default()).await {
        let name = stream("policy-1");
        let first = store.append(&name, ExpectedVersion::NoStream, events(0..3)).await.unwrap();
        store.append(&name, ExpectedVersion::Exact(3), events(3..5)).await.unwrap();
        let again = store.append(&name, ExpectedVersion::NoStream, events(0..3)).await.unwrap();
        assert!(again.duplicate, "{engine}");
        assert_eq!((again.version, again.position), (first.version, first.position), "{engine}");
        for other in [events(1..4), vec![event(0), event(2), event(1)], events(0..6)] {
            let outcome = store.append(&name, ExpectedVersion::NoStream, other).await;
            assert!(matches!(outcome, Err(StoreError::Conflict { .. })), "{engine}: {outcome:?}");
        }
        assert_eq!(whole_log(&*store, 10).await.len(), 5, "{engine}");
    }
}

#[tokio::test]
async fn a_bulk_has_one_outcome_per_stream_in_order() {
    for (engine, store, _kept) in engines(small_limits()).await {
        store.append(&stream("b-1"), ExpectedVersion::NoStream, events(100..101)).await.unwrap();
        let request = |name: &str, numbers: std::ops::Range<u128>| AppendRequest {
            stream: stream(name),
            expected: ExpectedVersion::NoStream,
            events: events(numbers),
        };
        let mut requests = vec![
            request("a-1", 0..2),
            request("b-1", 7..8),
            request("c-1", 0..0),
            request("a-1", 8..9),
            request("b-2", 9..10),
        ];
        // More than one group's worth, so that pieces and their outcomes must find together again.
        requests.extend((0..50).map(|number| request(&format!("many-{number}"), 200 + number..201 + number)));
        let outcomes = store.append_many(requests).await;
        assert_eq!(outcomes.len(), 55, "{engine}");
        assert_eq!(outcomes[0].as_ref().unwrap().version, 2, "{engine}");
        assert!(matches!(outcomes[1], Err(StoreError::Conflict { actual: 1, .. })), "{engine}");
        assert!(matches!(outcomes[2], Err(StoreError::Rejected(_))), "{engine}: nothing to append");
        assert!(matches!(outcomes[3], Err(StoreError::Rejected(_))), "{engine}: twice in a bulk");
        assert!(outcomes[4..].iter().all(Result::is_ok), "{engine}");
        for (number, outcome) in outcomes[5..].iter().enumerate() {
            let read = store.read_stream(&stream(&format!("many-{number}")), 0, 10).await.unwrap();
            assert_eq!(ids(&read), [200 + number as u128], "{engine}");
            assert_eq!(read[0].position, outcome.as_ref().unwrap().position, "{engine}");
        }
    }
}

#[tokio::test]
async fn what_no_log_should_hold_is_refused() {
    let limits = Limits { append_events_max: 2, payload_bytes_max: 10, ..Limits::default() };
    for (engine, store, _kept) in engines(limits).await {
        let mut empty = event(1);
        empty.payload = Payload::of_no_family("");
        let mut long = event(1);
        long.payload = Payload::of_no_family("1".repeat(11));
        for bad in [vec![], events(0..3), vec![event(0), empty], vec![long]] {
            let outcome = store.append(&stream("a-1"), ExpectedVersion::Any, bad).await;
            assert!(matches!(outcome, Err(StoreError::Rejected(_))), "{engine}: {outcome:?}");
        }
        assert_eq!(store.head().await.unwrap(), Position::START, "{engine}");
    }
}

#[tokio::test]
async fn a_read_ends_with_the_event_that_reaches_the_bound_in_bytes() {
    for tail_events_max in [0, 1_000] {
        let limits = Limits { read_bytes_max: 10, tail_events_max, ..Limits::default() };
        for (engine, store, _kept) in engines(limits).await {
            let name = stream("a-1");
            let mut large = event(500);
            large.payload = Payload::of_no_family("5".repeat(100));
            let all: Vec<_> = events(100..110).into_iter().chain([large]).chain(events(110..120)).collect();
            store.append(&name, ExpectedVersion::NoStream, all.clone()).await.unwrap();
            // The same again is known for what it is, in however many reads.
            assert!(store.append(&name, ExpectedVersion::NoStream, all.clone()).await.unwrap().duplicate, "{engine}");
            let bounded = |read: &[RecordedEvent]| {
                let before: usize = read.iter().rev().skip(1).map(|event| event.payload.len()).sum();
                assert!(before < 10, "{engine}: {before} bytes before the last");
            };
            let (mut of_log, mut of_stream, mut reads) = (Vec::new(), Vec::<RecordedEvent>::new(), 0);
            let mut after = Position::START;
            loop {
                let read = store.read_all(after, 1_000).await.unwrap();
                bounded(&read);
                let Some(last) = read.last() else { break };
                after = last.position;
                of_log.extend(read);
                reads += 1;
            }
            loop {
                let after = of_stream.last().map_or(0, |event| event.version);
                let read = store.read_stream(&name, after, 1_000).await.unwrap();
                bounded(&read);
                if read.is_empty() {
                    break;
                }
                of_stream.extend(read);
            }
            let expected: Vec<_> = all.iter().map(|event| event.event_id).collect();
            for found in [&of_log, &of_stream] {
                assert_eq!(found.iter().map(|event| event.event_id).collect::<Vec<_>>(), expected, "{engine}");
            }
            assert!(reads > 4, "{engine}: {reads}");
            let [start] = &store.read_streams(std::slice::from_ref(&name)).await.unwrap()[..] else {
                panic!("{engine}")
            };
            assert!(!start.whole && start.events.len() < all.len(), "{engine}: more than a read may bring");
            let versions: Vec<_> = start.events.iter().map(|event| event.version).collect();
            assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>(), "{engine}");
            assert_eq!(whole_streams(&*store, &[name]).await[0].len(), all.len(), "{engine}");
        }
    }
}

#[tokio::test]
async fn reads_come_in_pages_and_in_order() {
    for (engine, store, _kept) in engines(small_limits()).await {
        for round in 0..20 {
            for name in ["a-1", "b-1", "c-1"] {
                let version = u64::try_from(round * 2).unwrap();
                let number = round * 10 + u128::from(name.as_bytes()[0]) * 1000;
                let events = events(number..number + 2);
                store.append(&stream(name), ExpectedVersion::Exact(version), events).await.unwrap();
            }
        }
        for page in [1, 7, 64, 1000] {
            let log = whole_log(&*store, page).await;
            assert_eq!(log.len(), 120, "{engine}, pages of {page}");
            assert!(log.is_sorted_by(|one, next| one.position < next.position), "{engine}, pages of {page}");
            assert!(log.iter().map(|event| event.version).max() == Some(40), "{engine}, pages of {page}");
        }
        let head = store.head().await.unwrap();
        let part = store.read_stream(&stream("b-1"), 5, 3).await.unwrap();
        assert_eq!(part.iter().map(|event| event.version).collect::<Vec<_>>(), [6, 7, 8], "{engine}");
        assert_eq!(store.read_stream(&stream("b-1"), 40, 3).await.unwrap(), [], "{engine}");
        assert_eq!(store.read_stream(&stream("none-1"), 0, 3).await.unwrap(), [], "{engine}");
        assert_eq!(store.read_all(head, 3).await.unwrap(), [], "{engine}");
        let beyond: Position = "ffffffffffff-0".parse().unwrap();
        assert!(beyond > head, "{engine}");
        assert_eq!(store.read_all(beyond, 3).await.unwrap(), [], "{engine}: beyond the end there is nothing");

        let names = ["c-1", "none-1", "a-1", "b-1", "none-2"].map(stream);
        let starts = store.read_streams(&names).await.unwrap();
        let mut found = starts.iter().zip([40, 0, 40, 40, 0]);
        assert!(found.all(|(start, events)| events == 0 || start.whole), "{engine}: {starts:?}");
        let streams = whole_streams(&*store, &names).await;
        assert_eq!(streams.iter().map(Vec::len).collect::<Vec<_>>(), [40, 0, 40, 40, 0], "{engine}");
        let whole = store.read_stream(&stream("a-1"), 0, 100).await.unwrap();
        assert_eq!(streams[2], whole.iter().map(StreamEvent::from).collect::<Vec<_>>(), "{engine}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_at_once_lose_and_repeat_nothing_and_a_reader_sees_no_hole() {
    for (engine, store, _kept) in engines(small_limits()).await {
        let reader = tokio::spawn(follow(Arc::clone(&store), 64 * 10));
        let writers = (0..64_u128).map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                // Eight writers share a stream, so most have to try again.
                let name = stream(&format!("shared-{}", writer % 8));
                for number in 0..10 {
                    let event = event(writer * 1000 + number);
                    loop {
                        let there = store.read_stream(&name, 0, 1000).await.unwrap();
                        let expected = ExpectedVersion::Exact(there.len() as u64);
                        match store.append(&name, expected, vec![event.clone()]).await {
                            Ok(appended) => break assert!(!appended.duplicate),
                            Err(StoreError::Conflict { .. }) => {}
                            Err(other) => panic!("{other}"),
                        }
                    }
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        let followed = reader.await.unwrap();
        let log = whole_log(&*store, 100).await;
        assert_eq!(followed, log, "{engine}: who follows the log sees what is in it");
        let different: HashSet<u128> = ids(&log).into_iter().collect();
        assert_eq!((log.len(), different.len()), (640, 640), "{engine}");
        for number in 0..8 {
            let versions = store.read_stream(&stream(&format!("shared-{number}")), 0, 1000).await.unwrap();
            let versions: Vec<u64> = versions.iter().map(|event| event.version).collect();
            assert_eq!(versions, (1..=80).collect::<Vec<_>>(), "{engine}");
        }
    }
}

/// Reads the log as it grows, never going back, until so many events have come.
async fn follow(store: Arc<dyn EventStore>, count: usize) -> Vec<RecordedEvent> {
    let mut log = Vec::new();
    let mut after = Position::START;
    while log.len() < count {
        store.wait_beyond(after, Duration::from_secs(1)).await;
        let events = store.read_all(after, 13).await.unwrap();
        after = events.last().map_or(after, |event| event.position);
        log.extend(events);
    }
    log
}

#[tokio::test]
async fn a_waiter_wakes_when_something_was_appended() {
    for (_, store, _kept) in engines(Limits::default()).await {
        let waiter = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.wait_beyond(Position::START, Duration::from_hours(1)).await })
        };
        store.append(&stream("a-1"), ExpectedVersion::Any, events(0..1)).await.unwrap();
        waiter.await.unwrap();
        store.wait_beyond(Position::START, Duration::from_hours(1)).await;
    }
}

#[test]
fn names_and_positions_are_checked_where_they_come_in() {
    use sluice::events::envelope::StreamName;
    for bad in ["", "-a", "$all", "a b", "ä-1", "a/1", &"x".repeat(201)] {
        assert!(StreamName::new(bad).is_err(), "{bad:?}");
    }
    assert_eq!(stream("organization_group-12").category(), "organization_group");
    let written = "ffffffffffffffff-2a";
    assert_eq!(written.parse::<Position>().unwrap().to_string(), written);
    for bad in ["", "1", "1-", "-1", "+1-1", "1-1-1", "g-1", "11111111111111111-1"] {
        assert!(bad.parse::<Position>().is_err(), "{bad:?}");
    }
    assert!(Position::START < at(1) && "1-9".parse::<Position>().unwrap() < at(2));
}
