//! The built-in broker's door: who gets in, what may be said there, and who is shown out.

use std::time::Duration;

use sluice::dispatch::stomp::{Command, Frame};

use super::client::Client;
use super::support::{connect, queue_of};
use crate::support::server::{TestServer, Who};

#[tokio::test]
async fn only_the_owner_of_a_queue_gets_in() {
    let server = TestServer::start().await;
    let queue = queue_of("hpc1", 1);
    let (vhost, login) = (queue.vhost.as_str(), queue.login.as_str());
    server.app.agent_queues.put(queue.clone());
    let good = Who::Agent.key().unwrap();
    for (vhost, login, passcode) in [
        (vhost, login, "nonsense"),
        (vhost, login, Who::OtherAgent.key().unwrap()),
        (vhost, login, Who::Staff.key().unwrap()),
        (vhost, login, Who::Alice.key().unwrap()),
        ("another", login, good),
        (vhost, "another", good),
    ] {
        let mut client = Client::open(server.address).await;
        client.send(&Client::hello(vhost, login, passcode)).await;
        assert_eq!(client.refusal().await, "access refused for this login", "{vhost} {login} {passcode}");
    }
    let mut client = connect(&server, &queue).await;
    client.send(&Frame::new(Command::Subscribe).with("id", "1").with("destination", "/amq/queue/another")).await;
    assert!(client.refusal().await.contains("there is no queue \"/amq/queue/another\" for this login"));
    assert_eq!(server.app.builtin_broker.as_ref().unwrap().connections(), 0);
    server.stop().await;
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection_and_says_how() {
    let server = TestServer::start().await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    let (vhost, login, key) = (queue.vhost.as_str(), queue.login.as_str(), Who::Agent.key().unwrap());
    let hello = |changed: &str, value: Option<&str>| {
        let mut frame = Client::hello(vhost, login, key);
        frame.headers.retain(|(name, _)| name != changed);
        frame.headers.extend(value.map(|value| (changed.to_owned(), value.to_owned())));
        frame.encode()
    };
    let huge = [b"SEND\ndestination:/x\ncontent-length:300000\n\n".to_vec(), vec![b'x'; 300_000]].concat();
    for (bytes, says) in [
        (b"HELLO\n\n\0".to_vec(), "unknown command"),
        (b"\x16\x03\x01\x02\x00".to_vec(), "zero byte"),
        (b"SEND\n\n\0".to_vec(), "the first frame has to be CONNECT or STOMP"),
        (vec![b'x'; 100_000], "a command has at most"),
        (huge, "a body has at most"),
        (hello("accept-version", Some("1.0,1.1")), "STOMP 1.2 is spoken here"),
        (hello("accept-version", None), "STOMP 1.2 is spoken here"),
        (hello("heart-beat", Some("often")), "heart-beat is two numbers"),
        (hello("heart-beat", Some("-1,0")), "heart-beat is two numbers"),
        (hello("host", None), "CONNECT needs the header host"),
        (hello("login", None), "CONNECT needs the header login"),
        (hello("passcode", None), "CONNECT needs the header passcode"),
    ] {
        let mut client = Client::open(server.address).await;
        client.send_raw(&bytes).await;
        let said = client.refusal().await;
        assert!(said.contains(says), "{says}: {said}");
        assert!(!said.contains(key), "a passcode is never shown");
    }
    let destination = format!("/amq/queue/{}", queue.queue);
    let subscribe = Frame::new(Command::Subscribe).with("id", "1").with("destination", destination.as_str());
    for (frames, says) in [
        (vec![Client::hello(vhost, login, key)], "the connection is open already"),
        (vec![Frame::new(Command::Send).with("destination", "/x")], "agents receive here and send nothing"),
        (vec![Frame::new(Command::Begin).with("transaction", "1")], "there are no transactions"),
        (vec![Frame::new(Command::Message)], "MESSAGE is not for a client to send"),
        (vec![subscribe.clone(), subscribe.clone()], "there is a subscription \"1\" already"),
        (vec![subscribe.clone().with("ack", "sometimes")], "there is no ack mode \"sometimes\""),
        (vec![Frame::new(Command::Subscribe).with("id", "1")], "SUBSCRIBE needs the header destination"),
        (vec![Frame::new(Command::Unsubscribe).with("id", "9")], "there is no subscription \"9\""),
        (vec![Frame::new(Command::Ack).with("id", "9")], "there is no message to acknowledge"),
        (vec![Frame::new(Command::Ack).with("id", "x")], "there is no message to acknowledge"),
    ] {
        let mut client = connect(&server, &queue).await;
        for frame in &frames {
            client.send(frame).await;
        }
        let said = client.refusal().await;
        assert!(said.contains(says), "{says}: {said}");
    }
    // Nothing of all that hurts anybody else.
    let mut client = connect(&server, &queue).await;
    client.disconnect().await;
    server.stop().await;
}

#[tokio::test]
async fn frames_may_come_in_pieces_and_several_at_once() {
    let server = TestServer::start().await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    let mut client = Client::open(server.address).await;
    let receipt = |n: &str| Frame::new(Command::Unsubscribe).with("id", "q").with("receipt", n);
    let subscribe =
        Frame::new(Command::Subscribe).with("id", "q").with("destination", format!("/amq/queue/{}", queue.queue));
    let hello = Client::hello(&queue.vhost, &queue.login, Who::Agent.key().unwrap());
    let bytes =
        [b"\n\r\n".to_vec(), hello.encode(), b"\n".to_vec(), subscribe.encode(), receipt("r").encode()].concat();
    for piece in bytes.chunks(7) {
        client.send_raw(piece).await;
    }
    assert_eq!(client.frame().await.unwrap().command, Command::Connected);
    assert_eq!(client.frame().await.unwrap().header("receipt-id"), Some("r"));
    client.disconnect().await;
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_token_ends_the_connection() {
    let server = TestServer::customized(|options| options.broker.check_every = Duration::from_millis(50)).await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    let client = connect(&server, &queue).await;
    let token = server.app.directory.token_of_key(Who::Agent.key().unwrap()).await.unwrap().unwrap();
    server.app.directory.revoke_token(token.id, server.app.clock.now()).await.unwrap();
    assert_eq!(client.refusal().await, "the token, or the queue, is no longer valid");
    server.stop().await;
}

#[tokio::test]
async fn there_is_a_bound_on_connections_and_on_those_of_one_login() {
    let server = TestServer::customized(|options| {
        (options.broker.connections_max, options.broker.login_connections_max) = (3, 2);
    })
    .await;
    let (one, other) = (queue_of("hpc1", 1), queue_of("hpc1", 2));
    server.app.agent_queues.put(one.clone());
    server.app.agent_queues.put(other.clone());
    let mut first = connect(&server, &one).await;
    let _second = connect(&server, &one).await;
    let mut third = Client::open(server.address).await;
    third.send(&Client::hello(&one.vhost, &one.login, Who::Agent.key().unwrap())).await;
    assert_eq!(third.refusal().await, "this login has too many connections open");
    let _third = connect(&server, &other).await;
    assert_eq!(Client::open(server.address).await.refusal().await, "there are too many connections");
    // Who goes makes room.
    first.disconnect().await;
    let mut again = Client::open(server.address).await;
    loop {
        again.send(&Client::hello(&one.vhost, &one.login, Who::Agent.key().unwrap())).await;
        match again.frame().await {
            Some(frame) if frame.command == Command::Connected => break,
            // The place is free once the server has seen the other one go.
            _ => again = Client::open(server.address).await,
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn whoever_says_nothing_is_shown_out_and_heart_beats_keep_the_others_in() {
    let server = TestServer::customized(|options| {
        options.broker.connect_within = Duration::from_millis(200);
        options.broker.heart_beat_ms = 100;
    })
    .await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    assert_eq!(Client::open(server.address).await.refusal().await, "nobody said CONNECT in time");

    let hello = |beat: &str| {
        let mut frame = Client::hello(&queue.vhost, &queue.login, Who::Agent.key().unwrap());
        frame.headers.retain(|(name, _)| name != "heart-beat");
        frame.with("heart-beat", beat)
    };
    // It promised to say something ten times a second, and does not.
    let mut silent = Client::open(server.address).await;
    silent.send(&hello("100,0")).await;
    assert_eq!(silent.frame().await.unwrap().command, Command::Connected);
    assert_eq!(silent.refusal().await, "no heart-beat came for too long");

    // It promised nothing and wants to hear: it does, more than once.
    let mut listener = Client::open(server.address).await;
    listener.send(&hello("0,100")).await;
    assert_eq!(listener.frame().await.unwrap().command, Command::Connected);
    for _ in 0..3 {
        assert_eq!(listener.item().await, Some(sluice::dispatch::stomp::Item::HeartBeat));
    }
    listener.disconnect().await;
    server.stop().await;
}

#[tokio::test]
async fn a_ping_puts_off_no_heart_beat() {
    let server = TestServer::customized(|options| {
        options.broker.heart_beat_ms = 2_000;
        options.broker.check_every = Duration::from_millis(500);
    })
    .await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    let mut client = Client::open(server.address).await;
    let mut hello = Client::hello(&queue.vhost, &queue.login, Who::Agent.key().unwrap());
    hello.headers.retain(|(name, _)| name != "heart-beat");
    client.send(&hello.with("heart-beat", "0,2000")).await;
    assert_eq!(client.frame().await.unwrap().command, Command::Connected);
    // Pings come four times as often.
    assert_eq!(client.item().await, Some(sluice::dispatch::stomp::Item::HeartBeat));
    client.disconnect().await;
    server.stop().await;
}
