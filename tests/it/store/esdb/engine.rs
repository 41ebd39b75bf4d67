//! What is particular to `EventStoreDB`: errors of a cluster and a connection, retries that must stay one fact, other programs'
//! streams, and the address.

use std::time::Duration;

use sluice::events::envelope::{Payload, Position};
use sluice::limits::Limits;
use sluice::store::eventstoredb::EventStoreAddress;
use sluice::store::{AppendRequest, EventStore, ExpectedVersion, StoreError};
use uuid::Uuid;

use super::cluster::{Peer, Role};
use super::{Fault, Fixture, store, store_at};
use crate::store::support::{event, events, ids, stream};

/// Few attempts, with no pause to speak of. How long an answer takes depends on the machine, so it may take long.
pub fn impatient() -> Limits {
    Limits {
        event_store_call: Duration::from_mins(1),
        event_store_attempts_max: 3,
        event_store_pause_first: Duration::from_millis(1),
        foreign_poll: Duration::from_millis(5),
        ..Limits::default()
    }
}

/// Bounds for a call that hangs: it is given up soon, and a slow machine has more attempts.
fn bounds_for(fault: &Fault) -> Limits {
    match fault {
        Fault::AppendHangs | Fault::ReadHangs => {
            Limits { event_store_call: Duration::from_secs(1), event_store_attempts_max: 20, ..impatient() }
        }
        _ => impatient(),
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_one_fact() {
    for fault in [Fault::AppendTimesOutBefore, Fault::AppendTimesOutAfter, Fault::AppendLostAfter, Fault::AppendHangs] {
        let fixture = Fixture::start();
        let store = store(&fixture, bounds_for(&fault));
        let first = store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..2)).await.unwrap();
        fixture.plan([fault.clone()]);
        let second = store.append(&stream("a-1"), ExpectedVersion::Exact(2), events(2..4)).await.unwrap();
        fixture.assert_no_fault_left();
        assert_eq!(second.version, 4, "{fault:?}");
        assert!(second.position > first.position, "{fault:?}");
        assert_eq!(ids(&store.read_stream(&stream("a-1"), 0, 10).await.unwrap()), [0, 1, 2, 3], "{fault:?}");
        assert!(fixture.appends() >= 3, "{fault:?}: one for each, and one again");
    }
}

#[tokio::test]
async fn a_write_without_expectation_is_never_sent_twice() {
    for fault in [Fault::AppendTimesOutBefore, Fault::AppendTimesOutAfter, Fault::AppendLostAfter, Fault::AppendHangs] {
        let fixture = Fixture::start();
        let store = store(&fixture, bounds_for(&fault));
        fixture.plan([fault.clone()]);
        let outcome = store.append(&stream("a-1"), ExpectedVersion::Any, events(0..1)).await;
        assert!(matches!(outcome, Err(StoreError::Unknown(_))), "{fault:?}: {outcome:?}");
        assert_eq!(fixture.appends(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn who_stays_unclear_says_so_and_who_never_wrote_says_that() {
    let mut fixture = Fixture::start();
    let store = store(&fixture, impatient());
    fixture.plan([Fault::AppendTimesOutAfter, Fault::AppendTimesOutBefore, Fault::AppendTimesOutBefore]);
    let outcome = store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await;
    assert!(matches!(outcome, Err(StoreError::Unknown(_))), "{outcome:?}");
    // The same fact again, as the caller of an unknown append does.
    let again = store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await.unwrap();
    assert_eq!(again.version, 1);
    assert_eq!(ids(&store.read_all(Position::START, 10).await.unwrap()), [0]);

    fixture.plan([Fault::AppendNotLeader { port: 1 }]);
    fixture.stop();
    let outcome = store.append(&stream("a-1"), ExpectedVersion::Exact(1), events(1..2)).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_) | StoreError::Unknown(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_retry_knows_that_it_is_one_and_a_changed_stream_is_a_conflict() {
    let fixture = Fixture::start();
    let store = store(&fixture, impatient());
    // Lost answer; before the retry somebody else has gone on in the stream.
    let name = stream("a-1");
    let first = store.append(&name, ExpectedVersion::NoStream, events(0..2)).await.unwrap();
    store.append(&name, ExpectedVersion::Exact(2), events(2..3)).await.unwrap();
    let again = store.append(&name, ExpectedVersion::NoStream, events(0..2)).await.unwrap();
    assert!(again.duplicate);
    assert_eq!((again.version, again.position), (first.version, first.position));
    let other = store.append(&name, ExpectedVersion::NoStream, vec![event(0), event(7)]).await;
    assert!(matches!(other, Err(StoreError::Conflict { actual: 3, .. })), "{other:?}");
    // The first writer's commitment is what counts: a retry has another salt.
    let read = store.read_stream(&name, 0, 10).await.unwrap();
    assert!(read.iter().all(sluice::events::envelope::RecordedEvent::commitment_holds));
}

#[tokio::test]
async fn small_packets_are_never_held_back() {
    let mut fixture = Fixture::start();
    let store = store(&fixture, impatient());
    store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await.unwrap();
    let connections = store.no_delay().unwrap();
    assert!(!connections.is_empty() && connections.iter().all(|set| *set), "{connections:?}");
    // Another connection, to the same server that was away.
    fixture.restart();
    store.append(&stream("a-1"), ExpectedVersion::Exact(1), events(1..2)).await.unwrap();
    store.append(&stream("a-1"), ExpectedVersion::Exact(2), events(2..3)).await.unwrap();
    let connections = store.no_delay().unwrap();
    assert!(!connections.is_empty() && connections.iter().all(|set| *set), "{connections:?}");
}

#[tokio::test]
async fn the_leader_is_followed_wherever_it_is() {
    let leader = Fixture::start();
    let follower = Fixture::start();
    let store = store(&follower, impatient());
    follower.plan([Fault::AppendNotLeader { port: leader.port() }]);
    store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await.unwrap();
    assert_eq!((follower.log().records.len(), leader.log().stream("sluice.a-1").map(<[usize]>::len)), (0, Some(1)));
    // It goes on there; and when that one stops leading, back.
    let leader_now = leader.appends();
    store.append(&stream("a-1"), ExpectedVersion::Exact(1), events(1..2)).await.unwrap();
    assert_eq!(leader.appends(), leader_now + 1);
    leader.plan([Fault::ReadNotLeader { port: follower.port() }]);
    assert_eq!(store.read_stream(&stream("a-1"), 0, 10).await.unwrap(), [], "the other node is another log here");
    follower.assert_no_fault_left();
    leader.assert_no_fault_left();
}

#[tokio::test]
async fn a_cluster_is_asked_who_leads() {
    let leader = Fixture::start();
    let follower = Fixture::start();
    for node in [&leader, &follower] {
        let peer = |of: &Fixture, role| Peer { port: of.port(), role, alive: true };
        node.state.view().peers = vec![peer(&leader, Role::Leader), peer(&follower, Role::Follower)];
    }
    let address =
        format!("esdb://127.0.0.1:{},127.0.0.1:{}?tls=false&discoveryInterval=1", follower.port(), leader.port());
    let store = store_at(&address, impatient());
    store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await.unwrap();
    assert_eq!((follower.appends(), leader.appends()), (0, 1));
}

#[tokio::test]
async fn an_election_without_a_leader_is_no_empty_stream() {
    let fixture = Fixture::start();
    let store = store(&fixture, impatient());
    store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await.unwrap();
    fixture.plan([Fault::ReadWithoutLeader]);
    assert_eq!(ids(&store.read_stream(&stream("a-1"), 0, 10).await.unwrap()), [0], "asked again");
    fixture.plan([Fault::ReadWithoutLeader, Fault::ReadWithoutLeader, Fault::ReadWithoutLeader]);
    let read = store.read_stream(&stream("a-1"), 0, 10).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    fixture.assert_no_fault_left();
}

#[tokio::test]
async fn a_read_that_breaks_off_is_read_again_as_a_whole() {
    let fixture = Fixture::start();
    // Nothing is kept of what was read, so that every read goes to the server.
    let limits = Limits { tail_events_max: 0, ..bounds_for(&Fault::ReadHangs) };
    let store = store(&fixture, limits);
    store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..9)).await.unwrap();
    for fault in [Fault::ReadBreaksAfter(0), Fault::ReadBreaksAfter(4), Fault::ReadHangs] {
        fixture.plan([fault.clone()]);
        assert_eq!(store.read_stream(&stream("a-1"), 0, 20).await.unwrap().len(), 9, "{fault:?}");
        fixture.plan([fault.clone()]);
        assert_eq!(store.read_all(Position::START, 20).await.unwrap().len(), 9, "{fault:?}");
        fixture.assert_no_fault_left();
    }
}

#[tokio::test]
async fn a_server_that_was_away_is_found_again_and_waiters_wake() {
    let mut fixture = Fixture::start();
    let store = store(&fixture, impatient());
    let first = store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await.unwrap();
    fixture.stop();
    let away = store.read_all(Position::START, 10).await;
    assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
    let away = store.append(&stream("a-1"), ExpectedVersion::Exact(1), events(1..2)).await;
    assert!(matches!(away, Err(StoreError::Unavailable(_) | StoreError::Unknown(_))), "{away:?}");
    let waiting = store.clone();
    let waiter = tokio::spawn(async move { waiting.wait_beyond(first.position, Duration::from_hours(1)).await });
    fixture.restart();
    let other = super::store(&fixture, impatient());
    other.append(&stream("b-1"), ExpectedVersion::NoStream, events(5..6)).await.unwrap();
    waiter.await.unwrap();
    assert_eq!(ids(&store.read_all(first.position, 10).await.unwrap()), [5]);
    assert_eq!(store.append(&stream("a-1"), ExpectedVersion::Exact(1), events(1..2)).await.unwrap().version, 2);
}

#[tokio::test]
async fn what_the_server_refuses_for_good_is_refused_and_what_it_lost_is_corrupt() {
    let fixture = Fixture::start();
    let store = store(&fixture, impatient());
    fixture.state.append_bytes_max.store(1, std::sync::atomic::Ordering::Relaxed);
    let large = store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await;
    assert!(matches!(&large, Err(StoreError::Rejected(why)) if why.contains("Maximum Append Size")), "{large:?}");
    fixture.state.append_bytes_max.store(1_048_576, std::sync::atomic::Ordering::Relaxed);
    fixture.plan([Fault::Denied]);
    let denied = store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await;
    assert!(matches!(denied, Err(StoreError::Unavailable(_))), "{denied:?}");
    let mut no_json = event(0);
    no_json.payload = Payload::of_no_family("{");
    let no_json = store.append(&stream("a-1"), ExpectedVersion::NoStream, vec![no_json]).await;
    assert!(matches!(no_json, Err(StoreError::Rejected(_))), "{no_json:?}");
    fixture.log().tombstone("sluice.a-1");
    let gone = store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await;
    assert!(matches!(gone, Err(StoreError::Corrupt(_))), "{gone:?}");
    let gone = store.read_stream(&stream("a-1"), 0, 10).await;
    assert!(matches!(gone, Err(StoreError::Corrupt(_))), "{gone:?}");
}

#[tokio::test]
async fn an_event_of_somebody_else_in_our_stream_is_noticed() {
    use crate::store::esdb::log::{Expected, Proposed};
    let fixture = Fixture::start();
    let store = store(&fixture, impatient());
    let first = store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await.unwrap();
    let foreign = Proposed {
        id: Uuid::from_u128(9),
        metadata: [("type".to_owned(), "even.v1".to_owned())].into(),
        custom_metadata: bytes::Bytes::new(),
        data: bytes::Bytes::from_static(b"9"),
    };
    fixture.log().append("sluice.a-1", Expected::Any, vec![foreign]);
    let read = store.read_stream(&stream("a-1"), 0, 10).await.unwrap();
    let damage = read[1].damage().unwrap();
    assert!(damage.contains("not written by Sluice"), "{damage}");
    assert!(!read[1].commitment_holds());
    let after = store.read_all(first.position, 10).await.unwrap();
    assert_eq!(after, read[1..], "it keeps its place, so that it can be set aside");
}

#[tokio::test]
async fn an_answer_without_position_is_completed() {
    let fixture = Fixture::start();
    let store = store(&fixture, impatient());
    fixture.plan([Fault::AppendWithoutPosition]);
    let appended = store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..3)).await.unwrap();
    let read = store.read_all(Position::START, 10).await.unwrap();
    assert_eq!((appended.version, appended.position), (3, read[2].position));
}

#[tokio::test]
async fn logs_with_different_prefixes_share_a_server_and_never_meet() {
    let fixture = Fixture::start();
    let one = store_at(&format!("{}&streamPrefix=one.", fixture.address()), impatient());
    let two = store_at(&format!("{}&streamPrefix=two.", fixture.address()), impatient());
    let identities = [one.identity(Uuid::from_u128(1)).await.unwrap(), two.identity(Uuid::from_u128(2)).await.unwrap()];
    assert_eq!(identities, [Uuid::from_u128(1), Uuid::from_u128(2)]);
    let requests = |numbers: std::ops::Range<u128>| {
        numbers.map(|number| AppendRequest {
            stream: stream(&format!("s-{number}")),
            expected: ExpectedVersion::NoStream,
            events: vec![event(number)],
        })
    };
    assert!(one.append_many(requests(0..40).collect()).await.iter().all(Result::is_ok));
    assert!(two.append_many(requests(0..3).collect()).await.iter().all(Result::is_ok));
    assert_eq!(one.read_all(Position::START, 100).await.unwrap().len(), 40);
    let read = two.read_all(Position::START, 100).await.unwrap();
    assert_eq!(two.head().await.unwrap(), read[2].position);
    assert_eq!(read.len(), 3, "neither the other log nor the server's own streams");
    assert!(fixture.log().records.iter().any(|record| record.stream.starts_with('$')), "which were there");

    assert_eq!(one.identity(Uuid::from_u128(3)).await.unwrap(), identities[0], "it stays");
    assert_eq!(one.read_all(Position::START, 100).await.unwrap().len(), 40, "and is no event of the log");
}

#[tokio::test]
async fn credentials_come_from_the_address_and_go_with_every_call() {
    let fixture = Fixture::start();
    let address =
        format!("kurrentdb://op%40site:s%3Acret%2F1@127.0.0.1:{}?tls=false&discoveryInterval=1", fixture.port());
    let shown: EventStoreAddress = address.parse().unwrap();
    for text in [shown.to_string(), format!("{shown:?}"), serde_json::to_string(&shown).unwrap()] {
        assert!(text.contains("op@site") && !text.contains("cret"), "{text}");
    }
    let store = store_at(&address, impatient());
    store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await.unwrap();
    store.read_all(Position::START, 10).await.unwrap();
    store.read_stream(&stream("a-1"), 0, 10).await.unwrap();
    let sent = fixture.state.authorizations.lock().unwrap().clone();
    assert!(sent.len() >= 3);
    // base64 of "op@site:s:cret/1"
    assert!(sent.iter().all(|header| header == "Basic b3BAc2l0ZTpzOmNyZXQvMQ=="), "{sent:?}");
}

#[test]
fn an_address_is_checked_where_it_comes_in_and_shows_no_secret() {
    let refused = |text: &str| text.parse::<EventStoreAddress>().expect_err(text).to_string();
    for (text, named) in [
        ("localhost:2113", "no scheme"),
        ("http://localhost:2113", "http"),
        ("esdb://", "no host"),
        ("esdb://user:geheim@", "no host"),
        ("esdb://user:geheim@host:no", "no address"),
        ("esdb://user:geheim@host:2113?tlsVerifyCerts=false", "tlsVerifyCerts"),
        ("esdb://user:geheim@host:2113?tls=maybe", "tls"),
        ("esdb://user:geheim@host:2113?nodePreference=follower", "only leader"),
        ("esdb://user:geheim@host:2113?userCertFile=a", "userKeyFile"),
        ("esdb://host?streamPrefix=$all.", "streamPrefix"),
        ("esdb://host?streamPrefix=sluice", "ends with a dot"),
    ] {
        let message = refused(text);
        assert!(message.contains(named) && !message.contains("geheim"), "{text}: {message}");
        assert!(message.contains("write esdb://"), "{message}");
    }
    for good in [
        "esdb://host",
        "esdb+discover://cluster.example.org:2113?tls=true",
        "kurrentdb://a:1,b:2,c:3?tlsCaFile=/etc/ca.pem&nodePreference=Leader",
        "kdb+discover://u@host/?streamPrefix=hpc.",
    ] {
        let address: EventStoreAddress = good.parse().unwrap_or_else(|error| panic!("{good}: {error}"));
        assert_eq!(address.to_string().parse::<EventStoreAddress>().unwrap().to_string(), address.to_string());
    }
}

#[tokio::test]
async fn tls_is_used_as_the_address_says_and_certificates_are_checked() {
    let read = |name: &str| std::fs::read_to_string(tls_file(name)).unwrap();
    // The first client chooses the process' TLS library, which the fixture uses too.
    drop(store_at("esdb://127.0.0.1:1", impatient()));
    let fixture = Fixture::with_tls(read("server.pem"), read("server.key"));
    let at =
        |parameters: &str| format!("esdb://user:secret@127.0.0.1:{}?discoveryInterval=1&{parameters}", fixture.port());
    let trusted = store_at(&at(&format!("tls=true&tlsCaFile={}", tls_file("ca.pem").display())), impatient());
    trusted.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await.unwrap();
    assert_eq!(ids(&trusted.read_all(Position::START, 10).await.unwrap()), [0]);
    for parameters in ["tls=true", "tls=false"] {
        let read = store_at(&at(parameters), impatient()).read_all(Position::START, 10).await;
        assert!(matches!(read, Err(StoreError::Unavailable(_))), "{parameters}: {read:?}");
    }
    let unchecked = store_at(&at("tls=true&tlsVerifyCert=false"), impatient());
    assert_eq!(ids(&unchecked.read_all(Position::START, 10).await.unwrap()), [0]);
    let missing = at("tls=true&tlsCaFile=/nowhere/ca.pem").parse().unwrap();
    let missing =
        sluice::store::eventstoredb::EventStoreDb::open(&missing, crate::store::support::ticking(), impatient());
    assert!(missing.is_err(), "a certificate that is not there is noticed at once");
}

pub fn tls_file(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/store/esdb/tls").join(name)
}

#[tokio::test]
async fn what_others_wrote_is_looked_through_once() {
    let fixture = Fixture::start();
    let store = store(&fixture, impatient());
    store.identity(Uuid::from_u128(1)).await.unwrap();
    let first = store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..3)).await.unwrap();
    fixture.others_write(20_000);
    assert_eq!(store.read_all(first.position, 10).await.unwrap(), []);
    let once = fixture.looked_at();
    assert!((20_000..21_000).contains(&once), "{once}");

    // Polls, heads and reads at the end cost a look at the newest event.
    for _ in 0..20 {
        assert_eq!(store.read_all(first.position, 10).await.unwrap(), []);
        assert_eq!(store.head().await.unwrap(), first.position);
    }
    let second = store.append(&stream("a-1"), ExpectedVersion::Exact(3), events(3..4)).await.unwrap();
    assert_eq!(ids(&store.read_all(first.position, 10).await.unwrap()), [3]);
    fixture.others_write(100);
    assert_eq!(store.read_all(second.position, 10).await.unwrap(), []);
    assert_eq!(store.head().await.unwrap(), second.position);
    let idle = fixture.looked_at() - once;
    assert!(idle < 500, "{idle} events were looked at");

    // A whole read looks at each event once, the newest foreign ones not at all.
    let before = fixture.looked_at();
    assert_eq!(ids(&store.read_all(Position::START, 3).await.unwrap()), [0, 1, 2]);
    assert_eq!(ids(&store.read_all(first.position, 3).await.unwrap()), [3]);
    let whole = fixture.looked_at() - before;
    assert!(whole < 500, "{whole} events were looked at");
}

#[tokio::test]
async fn what_was_read_a_moment_ago_is_not_fetched_again() {
    let fixture = Fixture::start();
    let (store, other) = (store(&fixture, impatient()), store(&fixture, impatient()));
    let first = store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..6)).await.unwrap();
    assert_eq!(ids(&store.read_all(Position::START, 4).await.unwrap()), [0, 1, 2, 3]);
    let (log, calls) = (store.read_all(Position::START, 3).await.unwrap(), fixture.calls());
    assert_eq!(ids(&log), [0, 1, 2]);
    assert_eq!(ids(&store.read_all(log[0].position, 9).await.unwrap()), [1, 2, 3], "what is at hand");
    assert_eq!(fixture.calls(), calls);
    // What comes after that is fetched, and what others append is not missed.
    let fourth = store.read_all(log[2].position, 1).await.unwrap();
    assert_eq!(ids(&store.read_all(fourth[0].position, 9).await.unwrap()), [4, 5]);
    other.append(&stream("b-1"), ExpectedVersion::NoStream, events(6..7)).await.unwrap();
    assert_eq!(ids(&store.read_all(first.position, 9).await.unwrap()), [6]);
    assert_eq!(ids(&store.read_all(log[0].position, 9).await.unwrap()), [1, 2, 3, 4, 5, 6]);
}
