//! What is in the way is said in a sentence of its own, with the host and what to do.

use std::error::Error;
use std::net::Ipv4Addr;

use base64::Engine;
use sluice::events::envelope::Position;
use sluice::limits::Limits;
use sluice::store::{EventStore, ExpectedVersion, StoreError};

use super::cluster::Cluster;
use super::engine::{impatient, tls_file};
use super::{Fault, Fixture, store_at};
use crate::store::support::{events, stream};

/// What is in the way of a read of the log at an address.
async fn in_the_way(address: &str) -> String {
    let limits = Limits { event_store_attempts_max: 1, ..impatient() };
    reason(&store_at(address, limits).read_all(Position::START, 10).await.expect_err(address))
}

fn reason(error: &StoreError) -> String {
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    error.source().unwrap().to_string()
}

/// A fixture that speaks TLS, at an address of this machine.
fn with_tls(host: Ipv4Addr) -> Fixture {
    let read = |name: &str| std::fs::read_to_string(tls_file(name)).unwrap();
    // The first client chooses the process' TLS library, which the fixture uses too.
    drop(store_at("esdb://127.0.0.1:1", impatient()));
    Fixture::with_tls_at(host, read("server.pem"), read("server.key"))
}

#[tokio::test]
async fn a_certificate_is_refused_for_its_authority_or_its_name() {
    let fixture = with_tls(Ipv4Addr::LOCALHOST);
    let port = fixture.port();
    let trusting = format!("tls=true&discoveryInterval=1&tlsCaFile={}", tls_file("ca.pem").display());
    let stranger = in_the_way(&format!("esdb://127.0.0.1:{port}?tls=true&discoveryInterval=1")).await;
    assert_eq!(
        stranger,
        format!(
            "the certificate of the event store at 127.0.0.1:{port} comes from an authority that this machine does not \
             trust: name the authority's certificate in event_store (tlsCaFile=/path/to/ca.crt)"
        )
    );
    // The certificate is for 127.0.0.1 and localhost.
    let elsewhere = with_tls(Ipv4Addr::new(127, 0, 0, 2));
    let misnamed = in_the_way(&format!("esdb://127.0.0.2:{}?{trusting}", elsewhere.port())).await;
    assert!(
        misnamed.starts_with(&format!(
            "the certificate of the event store at 127.0.0.2:{} is not for 127.0.0.2: it is for 127.0.0.1, localhost. Write \
             a name in event_store",
            elsewhere.port()
        )),
        "{misnamed}"
    );
    // A file with another authority.
    let other = format!("tls=true&discoveryInterval=1&tlsCaFile={}", tls_file("server.pem").display());
    let other = in_the_way(&format!("esdb://127.0.0.1:{port}?{other}")).await;
    assert!(other.contains("127.0.0.1") && other.contains("certificate"), "{other}");
    let trusted = store_at(&format!("esdb://127.0.0.1:{port}?{trusting}"), impatient());
    trusted.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await.unwrap();
}

#[tokio::test]
async fn tls_on_one_side_only_is_said() {
    let (secure, plain) = (with_tls(Ipv4Addr::LOCALHOST), Fixture::start());
    let said = in_the_way(&format!("esdb://127.0.0.1:{}?tls=false&discoveryInterval=1", secure.port())).await;
    assert_eq!(
        said,
        format!("the event store at 127.0.0.1:{} speaks TLS: take tls=false out of event_store", secure.port())
    );
    let said = in_the_way(&format!("esdb://127.0.0.1:{}?tls=true&discoveryInterval=1", plain.port())).await;
    assert!(said.contains(&format!("127.0.0.1:{}", plain.port())) && said.contains("speak TLS"), "{said}");
}

#[tokio::test]
async fn a_closed_port_and_a_name_without_an_address_are_said() {
    let mut fixture = Fixture::start();
    fixture.stop();
    let said = in_the_way(&fixture.address()).await;
    assert_eq!(
        said,
        format!(
            "nothing listens at 127.0.0.1:{}: start the event store there, or correct host and port in event_store",
            fixture.port()
        )
    );
    let said = in_the_way("esdb://nowhere.invalid:2113?tls=false&discoveryInterval=1").await;
    assert!(said.starts_with("the host \"nowhere.invalid\" of the event store cannot be resolved ("), "{said}");
}

#[tokio::test]
async fn a_refused_password_is_told_from_a_missing_right() {
    let fixture = Fixture::start();
    let header = |user: &str, password: &str| {
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
    };
    let users = [(header("sluice", "s:cret"), false), (header("ops", "changeit"), true)];
    fixture.state.users.lock().unwrap().extend(users);
    let (port, parameters) = (fixture.port(), "tls=false&discoveryInterval=1");
    let at = |who: &str| format!("esdb://{who}127.0.0.1:{port}?{parameters}");

    assert!(in_the_way(&at("")).await.starts_with(&format!(
        "the event store at 127.0.0.1:{port} lets nobody in without a name: write esdb://USER:PASSWORD@127.0.0.1:{port}"
    )));
    let refused = in_the_way(&at("sluice:wr%40ng@")).await;
    assert!(
        refused.starts_with(&format!(
            "the event store at 127.0.0.1:{port} refuses the user \"sluice\" with this password"
        )),
        "{refused}"
    );
    assert!(!refused.contains("wr@ng") && !refused.contains("wr%40ng"), "{refused}");
    let missing = in_the_way(&at("sluice:s%3Acret@")).await;
    assert!(
        missing.starts_with(&format!(
            "the user \"sluice\" may not read $all, the log of all streams, in the event store at 127.0.0.1:{port}: give it"
        )),
        "{missing}"
    );
    let store = store_at(&at("sluice:s%3Acret@"), impatient());
    store.append(&stream("a-1"), ExpectedVersion::NoStream, events(0..1)).await.unwrap();
    fixture.plan([Fault::Denied]);
    let denied = store.append(&stream("a-1"), ExpectedVersion::Exact(1), events(1..2)).await;
    let denied = reason(&denied.expect_err("denied"));
    assert!(
        denied.starts_with("the user \"sluice\" may not write to streams in the event store at 127.0.0.1:"),
        "{denied}"
    );
    let allowed = store_at(&at("ops:changeit@"), impatient());
    assert_eq!(allowed.read_all(Position::START, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn without_a_leader_each_node_is_named_with_what_was_found() {
    let mut cluster = Cluster::start();
    let address = cluster.address();
    cluster.kill_leader();
    cluster.elected();
    let dead = cluster.nodes[0].port();
    // The one that leads now goes too, and the last one is alone.
    let second = cluster.leader().port();
    cluster.leader().stop();
    let last = cluster.nodes.iter().map(Fixture::port).find(|port| ![dead, second].contains(port)).unwrap();
    let said = in_the_way(&address).await;
    assert!(said.starts_with("no node of the event store leads ("), "{said}");
    for node in [
        format!("127.0.0.1:{dead}: nothing listens there"),
        format!("127.0.0.1:{second}: nothing listens there"),
        format!("127.0.0.1:{last}: it can be reached"),
    ] {
        assert!(said.contains(&node), "{said}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_quoted() {
    let fixture = Fixture::start();
    fixture.state.view().standing = super::cluster::Standing::NotReady;
    let said = in_the_way(&fixture.address()).await;
    assert!(said.starts_with(&format!("the event store at 127.0.0.1:{} can be reached", fixture.port())), "{said}");
    assert!(said.contains("Server Is Not Ready"), "{said}");
}
