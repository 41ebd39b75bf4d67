//! The built-in broker's door: who gets in, what may be said there, and who is shown out.

use std::time::Duration;

use serde_json::json;
use sluice::dispatch::stomp::{Command, Frame};

use super::client::Client;
use super::support::{connect, queue_of};
use crate::support::server::{TestServer, Who, id};

#[tokio::test]
async fn only_the_owner_of_a_queue_gets_in() {
    let server = TestServer::customized(|options| options.broker.missing_queue_lingers = Duration::ZERO).await;
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
    ] {
        let mut client = Client::open(server.address).await;
        client.send(&Client::hello(vhost, login, passcode)).await;
        assert_eq!(client.refusal().await, "access refused for this login", "{vhost} {login} {passcode}");
    }
    let mut client = connect(&server, &queue).await;
    client.send(&Frame::new(Command::Subscribe).with("id", "1").with("destination", "/amq/queue/another")).await;
    let said = format!("NOT_FOUND - no queue 'another' in vhost '{vhost}'");
    let refused = client.frame().await.unwrap();
    assert_eq!((refused.command, refused.header("message")), (Command::Error, Some(said.as_str())));
    drop(client);
    // Another's queue is not there either.
    let others = queue_of("hpc2", 9);
    server.app.agent_queues.put(others.clone());
    let mut client = connect(&server, &queue).await;
    client.send(&subscribe(&others.queue)).await;
    assert_eq!(client.refusal().await, format!("NOT_FOUND - no queue '{}' in vhost '{vhost}'", others.queue));
    server.stop().await;
}

fn subscribe(queue: &str) -> Frame {
    Frame::new(Command::Subscribe).with("id", "1").with("destination", format!("/amq/queue/{queue}"))
}

#[tokio::test]
async fn an_agent_whose_queue_is_gone_is_told_so_and_comes_again_without_haste() {
    let server = TestServer::customized(|options| {
        options.broker.token_check = Duration::from_millis(50);
        options.broker.missing_queue_lingers = Duration::from_mins(10);
    })
    .await;
    let path = "/api/marketplace-site-agent-identities/";
    let body = json!({"offering": id("offering", "hpc1"), "name": "agent", "version": "1.0.8rc12"});
    let made = server.post(Who::Agent, path, &body).await.expect(201);
    let path = format!("{path}{}/", made["uuid"].as_str().unwrap());
    let register = async || server.post(Who::Agent, &format!("{path}register_queue/"), &json!({})).await;
    let queue = register().await.expect(201);
    let word = |key: &str| queue[key].as_str().unwrap().to_owned();
    let (name, vhost, login) = (word("queue_name"), word("vhost"), word("rmq_username"));
    let open = async || Client::connect(server.address, &vhost, &login, Who::Agent.key().unwrap()).await;
    let missing = format!("NOT_FOUND - no queue '{name}' in vhost '{vhost}'");
    let mut early = open().await;
    early.subscribe(&name, "client-individual").await;

    server.delete(Who::Staff, &path).await.expect(204);
    for mut client in [early, open().await] {
        client.send(&subscribe(&name)).await;
        let mut told = client.frame().await.unwrap();
        while told.command != Command::Error {
            told = client.frame().await.unwrap();
        }
        assert_eq!(told.header("message"), Some(missing.as_str()));
        // It stays open, so that an agent that connects again at once does so only when this one ends; it ends it itself.
        client.close().await;
    }
    // It registers the queue again, as agents do that find NOT_FOUND, and is known again with it.
    let again = register().await.expect(201);
    assert_eq!((&again["queue_name"], &again["vhost"]), (&json!(name), &json!(vhost)));
    assert_eq!(server.get(Who::Staff, &path).await.expect(200)["version"], "1.0.8rc12");
    // It knows the login that it had, and the one that came with the answer.
    for login in [login.as_str(), again["rmq_username"].as_str().unwrap()] {
        let mut client = Client::connect(server.address, &vhost, login, Who::Agent.key().unwrap()).await;
        client.subscribe(&name, "client-individual").await;
        client.disconnect().await;
    }
    // Nobody else brings it back.
    server.delete(Who::Staff, &path).await.expect(204);
    server.post(Who::OtherAgent, &format!("{path}register_queue/"), &json!({})).await.expect(404);
    server.stop().await;
}

#[tokio::test]
async fn logins_without_a_queue_count_together() {
    let server = TestServer::customized(|options| options.broker.login_connections_max = 2).await;
    let owner = queue_of("hpc1", 1).vhost;
    let key = Who::Agent.key().unwrap();
    let _first = Client::connect(server.address, &owner, "one", key).await;
    let _second = Client::connect(server.address, &owner, "two", key).await;
    let mut third = Client::open(server.address).await;
    third.send(&Client::hello(&owner, "three", key)).await;
    assert_eq!(third.refusal().await, "this login has too many connections open");
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
        (
            vec![subscribe.clone().with("prefetch-count", "many")],
            "prefetch-count is a number from 0 to 65535, and not \"many\"",
        ),
        (vec![subscribe.clone().with("prefetch-count", "70000")], "and not \"70000\""),
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
    let server = TestServer::customized(|options| options.broker.token_check = Duration::from_millis(50)).await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    let client = connect(&server, &queue).await;
    let token = server.app.directory.token_of_key(Who::Agent.key().unwrap()).await.unwrap().unwrap();
    server.app.directory.revoke_token(token.id, server.app.clock.now()).await.unwrap();
    assert_eq!(client.refusal().await, "the token is no longer valid");
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
    let mut fourth = Client::open(server.address).await;
    fourth.send(&Client::hello(&other.vhost, &other.login, Who::Agent.key().unwrap())).await;
    assert_eq!(fourth.refusal().await, "there are too many connections");
    // Who says nothing takes nobody's place.
    let _silent = [Client::open(server.address).await, Client::open(server.address).await];
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

#[tokio::test]
async fn a_token_has_so_many_connections_whatever_it_logs_in_as() {
    let server = TestServer::customized(|options| options.broker.token_connections_max = 2).await;
    let queues: Vec<_> = (1..4).map(|number| queue_of("hpc1", number)).collect();
    for queue in &queues {
        server.app.agent_queues.put(queue.clone());
    }
    let mut first = connect(&server, &queues[0]).await;
    let _second = connect(&server, &queues[1]).await;
    let mut third = Client::open(server.address).await;
    third.send(&Client::hello(&queues[2].vhost, &queues[2].login, Who::Agent.key().unwrap())).await;
    assert_eq!(third.refusal().await, "this token has too many connections open");
    // Who goes makes room, once the server has seen it go.
    first.disconnect().await;
    loop {
        let mut again = Client::open(server.address).await;
        again.send(&Client::hello(&queues[2].vhost, &queues[2].login, Who::Agent.key().unwrap())).await;
        if again.frame().await.is_some_and(|frame| frame.command == Command::Connected) {
            break;
        }
    }
    server.stop().await;
}
