//! Connections over real sockets: who is slow to ask is cut off, who has asked is not, and there is an end to how many.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use sluice::limits::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dispatch::client::Client;
use crate::dispatch::support::{connect, queue_of};
use crate::support::server::{TestServer, Who};

/// What ends a test that waits in vain; nothing is measured by it.
const IN_VAIN: Duration = Duration::from_mins(1);

const LIVE: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";

async fn bounded(change: impl FnOnce(&mut Limits)) -> TestServer {
    TestServer::customized(|options| change(&mut options.limits)).await
}

async fn open(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Asks on a connection, and reads the answer whole.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(LIVE.as_bytes()).await.unwrap();
    answered(stream).await;
}

/// The same with a token: the connection is nobody's that may be closed for another.
async fn ask_as(who: Who, stream: &mut TcpStream) {
    let token = format!("authorization: Token {}\r\n\r\n", who.key().unwrap());
    stream.write_all(format!("{}{token}", LIVE.trim_end_matches("\r\n").to_owned() + "\r\n").as_bytes()).await.unwrap();
    answered(stream).await;
}

async fn answered(stream: &mut TcpStream) {
    let mut text = Vec::new();
    while !text.ends_with(b"{\"status\":\"live\"}") {
        let mut part = [0; 1024];
        let read = tokio::time::timeout(IN_VAIN, stream.read(&mut part)).await.expect("an answer").unwrap();
        assert!(read > 0, "the connection ended after {:?}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&part[..read]);
    }
    assert!(text.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&text));
}

/// Waits until the server has closed a connection on which it said nothing.
async fn cut(mut stream: TcpStream) {
    let mut said = Vec::new();
    let read = tokio::time::timeout(IN_VAIN, stream.read_to_end(&mut said)).await.expect("the connection stays open");
    // A reset is an end too: bytes of ours may still have been on their way.
    assert!(read.is_err() || said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn who_never_finishes_a_head_is_cut_off_and_who_has_asked_is_not() {
    let head = Duration::from_millis(300);
    let server = bounded(|limits| limits.request_head = head).await;
    let mut rests = open(server.address).await;
    ask(&mut rests).await;
    let tail = reqwest::Client::new().get(server.url("/api/events/stream/?type=usage_reported"));
    let tail = tail.header("authorization", format!("Token {}", Who::Support.key().unwrap())).send();
    let mut tail = tail.await.unwrap();
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    let mut agent: Client = connect(&server, &queue).await;

    let begun = tokio::time::Instant::now();
    let silent = open(server.address).await;
    let mut half = open(server.address).await;
    half.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    // Of a second request too, and a byte now and then does not help.
    let mut drips = open(server.address).await;
    ask(&mut drips).await;
    let dripped = async {
        let mut bytes = LIVE.as_bytes()[..LIVE.len() - 2].iter().chain(b"x: ".iter()).chain(std::iter::repeat(&b'x'));
        let mut tick = tokio::time::interval(head / 20);
        loop {
            tick.tick().await;
            if drips.write_all(&[*bytes.next().unwrap()]).await.is_err() {
                return;
            }
            assert!(begun.elapsed() < IN_VAIN, "the connection stays open");
        }
    };
    tokio::join!(cut(silent), cut(half), dripped);
    assert!(begun.elapsed() >= head);

    // All of these were there before, and have said nothing for longer.
    ask(&mut rests).await;
    server.policy(|policy| policy["carryover_enabled"] = json!(false)).await;
    server.report("climate-hpc1", "10", "2026-03-01").await;
    let told = tokio::time::timeout(IN_VAIN, tail.chunk()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&told.unwrap()).contains("usage_reported"));
    agent.subscribe(&queue.queue, "client-individual").await;
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_rests_for_too_long_is_closed() {
    let server = bounded(|limits| limits.keep_alive = Duration::from_millis(300)).await;
    let mut rests = open(server.address).await;
    ask(&mut rests).await;
    cut(rests).await;
    server.stop().await;
}

#[tokio::test]
async fn connections_above_the_limit_wait_and_those_that_are_open_go_on() {
    let server = bounded(|limits| limits.connections_max = 2).await;
    let mut first = open(server.address).await;
    ask_as(Who::Staff, &mut first).await;
    let mut second = open(server.address).await;
    ask_as(Who::Agent, &mut second).await;
    let mut third = open(server.address).await;
    third.write_all(LIVE.as_bytes()).await.unwrap();
    for _ in 0..20 {
        ask(&mut first).await;
        ask(&mut second).await;
    }
    let early = third.try_read(&mut [0; 64]).expect_err("no answer yet");
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    answered(&mut third).await;
    ask(&mut second).await;
    drop((second, third));
    server.stop().await;
}

#[tokio::test]
async fn no_number_of_strangers_keeps_an_agent_out() {
    let server = bounded(|limits| limits.connections_max = 6).await;
    let mut known = open(server.address).await;
    ask_as(Who::Agent, &mut known).await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    let mut agent = connect(&server, &queue).await;
    let mut strangers = Vec::new();
    for _ in 0..20 {
        let mut stranger = open(server.address).await;
        ask(&mut stranger).await;
        strangers.push(stranger);
    }
    // WebSockets on which nobody says CONNECT are strangers too.
    for _ in 0..20 {
        strangers.push(silent_websocket(server.address).await);
    }
    server.policy(|_| ()).await;
    server.report("climate-hpc1", "10", "2026-03-01").await;
    let mut another = connect(&server, &queue).await;
    another.subscribe(&queue.queue, "client-individual").await;
    agent.subscribe(&queue.queue, "client-individual").await;
    ask(&mut known).await;
    // Those that came first have made room.
    for stranger in strangers.drain(..20) {
        cut(stranger).await;
    }
    drop((agent, another, known, strangers));
    server.stop().await;
}

/// A WebSocket of the built-in broker, opened by hand.
async fn silent_websocket(address: SocketAddr) -> TcpStream {
    let mut stream = open(address).await;
    let head = "GET /rmqws-stomp HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                sec-websocket-protocol: v12.stomp\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let mut part = [0; 1];
        assert!(stream.read(&mut part).await.unwrap() > 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&part);
    }
    assert!(text.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&text));
    stream
}

#[tokio::test]
async fn one_address_has_its_own_part_of_the_places() {
    let server = bounded(|limits| limits.address_connections_max = 2).await;
    let (mut first, mut second) = (open(server.address).await, open(server.address).await);
    ask(&mut first).await;
    ask_as(Who::Bob, &mut second).await;
    let mut later = [open(server.address).await, open(server.address).await];
    for stream in &mut later {
        ask(stream).await;
    }
    cut(first).await;
    ask(&mut second).await;
    // A token that is not good makes a stranger of the connection, and an older one goes.
    let wrong = "GET /api/customers/ HTTP/1.1\r\nhost: x\r\nauthorization: Token nonsense\r\n\r\n";
    second.write_all(wrong.as_bytes()).await.unwrap();
    let [third, mut fourth] = later;
    cut(third).await;
    ask(&mut fourth).await;
    drop((second, fourth));
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_read_the_answer_is_cut_off() {
    let server = bounded(|limits| {
        limits.connections_max = 1;
        limits.write_stall = Duration::from_millis(200);
    })
    .await;
    let mut deaf = open(server.address).await;
    ask_as(Who::Staff, &mut deaf).await;
    let mut waits = open(server.address).await;
    waits.write_all(LIVE.as_bytes()).await.unwrap();
    // More than the system holds for a reader who does not read.
    let asked = async {
        let request = "GET /api/schema/ HTTP/1.1\r\nhost: x\r\n\r\n";
        while deaf.write_all(request.as_bytes()).await.is_ok() {}
    };
    tokio::select! {
        () = asked => answered(&mut waits).await,
        () = answered(&mut waits) => {}
    }
    drop(waits);
    server.stop().await;
}

#[tokio::test]
async fn a_websocket_keeps_its_place_and_gives_it_back() {
    let server = bounded(|limits| limits.connections_max = 1).await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    let mut agent = connect(&server, &queue).await;
    let mut waits = open(server.address).await;
    waits.write_all(LIVE.as_bytes()).await.unwrap();
    agent.subscribe(&queue.queue, "client-individual").await;
    let early = waits.try_read(&mut [0; 64]).expect_err("no answer yet");
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    drop(agent);
    answered(&mut waits).await;
    drop(waits);
    server.stop().await;
}

#[tokio::test]
async fn a_half_sent_head_does_not_keep_the_server_from_stopping() {
    let server = bounded(|limits| limits.request_head = Duration::from_millis(300)).await;
    let mut half = open(server.address).await;
    half.write_all(b"GET /health/live HTTP/1.1\r\n").await.unwrap();
    let mut asked = open(server.address).await;
    ask(&mut asked).await;
    tokio::time::timeout(IN_VAIN, server.stop()).await.expect("the server stops");
}

/// Asks with a token until the answer has come, and says with which status.
async fn status_as(who: Who, stream: &mut TcpStream) -> String {
    let head = LIVE.trim_end_matches("\r\n");
    let request = format!("{head}\r\nauthorization: Token {}\r\n\r\n", who.key().unwrap());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"}") {
        let mut part = [0; 1024];
        let read = tokio::time::timeout(IN_VAIN, stream.read(&mut part)).await.expect("an answer").unwrap();
        assert!(read > 0, "the connection ended after {:?}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&part[..read]);
    }
    String::from_utf8_lossy(&text).split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_token_does_not_hold_all_places() {
    let server = bounded(|limits| limits.token_connections_max = 2).await;
    let (mut one, mut two, mut three) =
        (open(server.address).await, open(server.address).await, open(server.address).await);
    assert_eq!(status_as(Who::Support, &mut one).await, "200");
    assert_eq!(status_as(Who::Support, &mut two).await, "200");
    // The same connection again is no further one.
    assert_eq!(status_as(Who::Support, &mut two).await, "200");
    assert_eq!(status_as(Who::Support, &mut three).await, "429");
    // Another token has its own, on the same connection too.
    assert_eq!(status_as(Who::Alice, &mut three).await, "200");
    // Who shows another token gives a place back.
    assert_eq!(status_as(Who::Alice, &mut one).await, "200");
    let mut four = open(server.address).await;
    assert_eq!(status_as(Who::Support, &mut four).await, "200");
    server.stop().await;
}
