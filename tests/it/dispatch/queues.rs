//! Queues of the built-in broker: acknowledgements, life, bounds, turns, restarts.

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::Value;
use sluice::dispatch::AgentQueue;
use sluice::dispatch::broker::{Broker, BrokerError, Outgoing};
use sluice::dispatch::stomp::{Command, Frame};

use super::client::Client;
use super::support::{connect, queue_of};
use crate::support::server::TestServer;

fn outgoing(number: usize) -> Outgoing {
    let body = format!("{{\"n\":{number},\"text\":\"{}\"}}", "x".repeat(100));
    Outgoing { id: format!("m-{number}"), subject: format!("s-{number}"), body: Arc::from(body) }
}

async fn put(server: &TestServer, queue: &AgentQueue, numbers: std::ops::Range<usize>) -> Vec<Result<(), BrokerError>> {
    let messages: Vec<Outgoing> = numbers.map(outgoing).collect();
    server.app.builtin_broker.as_ref().unwrap().publish(queue, &messages).await
}

async fn unread(server: &TestServer, queue: &AgentQueue) -> u64 {
    server.app.builtin_broker.as_ref().unwrap().status(queue).await.unwrap().messages
}

async fn site() -> (TestServer, AgentQueue) {
    let server = TestServer::start().await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    (server, queue)
}

fn number(body: &Value) -> u64 {
    body["n"].as_u64().unwrap()
}

#[tokio::test]
async fn what_was_not_acknowledged_goes_to_the_next_connection() {
    for mode in ["client", "client-individual"] {
        let (server, queue) = site().await;
        assert!(put(&server, &queue, 0..5).await.iter().all(Result::is_ok));
        let mut agent = connect(&server, &queue).await;
        agent.subscribe(&queue.queue, mode).await;
        let mut acks = Vec::new();
        for n in 0..5 {
            let (frame, body) = agent.message().await;
            assert_eq!(number(&body), n);
            acks.push(frame.header("ack").unwrap().to_owned());
        }
        // `client` acknowledges all up to this one, `client-individual` this one.
        agent.send(&Frame::new(Command::Ack).with("id", acks[2].as_str()).with("receipt", "a")).await;
        assert_eq!(agent.frame().await.unwrap().header("receipt-id"), Some("a"));
        agent.send(&Frame::new(Command::Nack).with("id", acks[4].as_str()).with("receipt", "n")).await;
        assert_eq!(agent.frame().await.unwrap().header("receipt-id"), Some("n"));
        drop(agent);
        let mut next = connect(&server, &queue).await;
        next.subscribe(&queue.queue, "auto").await;
        let left: &[u64] = if mode == "client" { &[] } else { &[0, 1, 3] };
        for n in left {
            assert_eq!(number(&next.message().await.1), *n, "{mode}");
        }
        put(&server, &queue, 9..10).await;
        assert_eq!(number(&next.message().await.1), 9, "{mode}: nothing else was left");
        let dead = server.app.builtin_broker.as_ref().unwrap().dead_messages(10, 0).await.unwrap().0;
        // `client` refuses all up to it, too.
        assert_eq!(dead.len(), if mode == "client" { 2 } else { 1 });
        assert!(dead.iter().all(|letter| letter.reason == "the agent refused it"));
        server.stop().await;
    }
}

#[tokio::test]
async fn a_subscriber_has_no_more_unacknowledged_messages_than_it_asked_for() {
    for mode in ["client", "client-individual"] {
        let (server, queue) = site().await;
        put(&server, &queue, 0..6).await;
        let mut agent = connect(&server, &queue).await;
        agent.subscribe_as(&queue.queue, mode, &[("prefetch-count", "2")]).await;
        let (first, body) = agent.message().await;
        assert_eq!(number(&body), 0);
        assert_eq!(number(&agent.message().await.1), 1);
        // The rest is free for somebody else.
        let mut other = connect(&server, &queue).await;
        other.subscribe(&queue.queue, "auto").await;
        for n in 2..6 {
            assert_eq!(number(&other.message().await.1), n, "{mode}");
        }
        other.disconnect().await;
        // One is acknowledged, one comes, and the next is free again.
        put(&server, &queue, 6..8).await;
        agent.send(&Frame::new(Command::Ack).with("id", first.header("ack").unwrap())).await;
        assert_eq!(number(&agent.message().await.1), 6, "{mode}");
        let mut other = connect(&server, &queue).await;
        other.subscribe(&queue.queue, "auto").await;
        assert_eq!(number(&other.message().await.1), 7, "{mode}");
        server.stop().await;
    }
    // Zero, like nothing, is as many as the broker gives.
    let (server, queue) = site().await;
    put(&server, &queue, 0..6).await;
    let mut agent = connect(&server, &queue).await;
    agent.subscribe_as(&queue.queue, "client-individual", &[("prefetch-count", "0")]).await;
    for n in 0..6 {
        assert_eq!(number(&agent.message().await.1), n);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_message_is_taken_once_lives_an_hour_and_then_is_a_dead_letter() {
    let (server, queue) = site().await;
    put(&server, &queue, 0..2).await;
    assert!(put(&server, &queue, 0..2).await.iter().all(Result::is_ok), "what it has it has");
    assert_eq!(unread(&server, &queue).await, 2);
    // A newer one on the same subject replaces what nobody has read.
    let newer = Outgoing { id: "m-0-again".into(), ..outgoing(0) };
    server.app.builtin_broker.as_ref().unwrap().publish(&queue, &[newer]).await[0].clone().unwrap();
    assert_eq!(unread(&server, &queue).await, 2);
    server.app.advance_clock(server.app.clock.now() + TimeDelta::minutes(59)).await.unwrap();
    put(&server, &queue, 2..3).await;
    server.app.advance_clock(server.app.clock.now() + TimeDelta::minutes(2)).await.unwrap();
    assert_eq!(unread(&server, &queue).await, 1);
    let mut agent = connect(&server, &queue).await;
    agent.subscribe(&queue.queue, "auto").await;
    assert_eq!(number(&agent.message().await.1), 2);
    let dead = server.app.builtin_broker.as_ref().unwrap().dead_messages(10, 0).await.unwrap().0;
    let reasons: Vec<&str> = dead.iter().map(|d| d.reason.as_str()).collect();
    assert_eq!(reasons, ["nobody read it in time", "nobody read it in time"]);
    server.stop().await;
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again_when_there_is_room() {
    let server = TestServer::customized(|options| options.broker.queue_messages_max = 3).await;
    let (queue, other) = (queue_of("hpc1", 1), queue_of("hpc1", 2));
    server.app.agent_queues.put(queue.clone());
    server.app.agent_queues.put(other.clone());
    let outcomes = put(&server, &queue, 0..5).await;
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, true, false, false]);
    assert!(matches!(&outcomes[3], Err(BrokerError::Refused(why)) if why.contains("holds 3 unread messages")));
    assert!(put(&server, &other, 0..3).await.iter().all(Result::is_ok), "one full queue is one full queue");
    let mut agent = connect(&server, &queue).await;
    agent.subscribe(&queue.queue, "client").await;
    let (frame, _) = agent.message().await;
    agent.send(&Frame::new(Command::Ack).with("id", frame.header("ack").unwrap())).await;
    while put(&server, &queue, 3..4).await[0].is_err() {
        tokio::task::yield_now().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_subscriber_that_acknowledges_nothing_holds_up_nobody() {
    let server = TestServer::customized(|options| options.broker.unacknowledged_max = 4).await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    let mut silent = connect(&server, &queue).await;
    silent.subscribe(&queue.queue, "client").await;
    put(&server, &queue, 0..4).await;
    for _ in 0..4 {
        silent.message().await;
    }
    // It has all that it may have; the rest is for others.
    put(&server, &queue, 4..40).await;
    let mut busy = connect(&server, &queue).await;
    busy.subscribe(&queue.queue, "auto").await;
    for n in 4..40 {
        assert_eq!(number(&busy.message().await.1), n);
    }
    drop(silent);
    for n in 0..4 {
        assert_eq!(number(&busy.message().await.1), n, "what the silent one had is free");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_subscriber_that_takes_nothing_is_disconnected_and_loses_nothing() {
    let server = TestServer::customized(|options| {
        options.broker.write_within = std::time::Duration::from_millis(300);
    })
    .await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    let mut stuck = connect(&server, &queue).await;
    stuck.subscribe(&queue.queue, "client-individual").await;
    // More than the sockets' buffers hold, in messages of 200 KB each.
    let big = |n: usize| Outgoing {
        id: format!("b-{n}"),
        subject: format!("b-{n}"),
        body: Arc::from(format!("{{\"n\":{n},\"text\":\"{}\"}}", "y".repeat(200_000))),
    };
    let messages: Vec<Outgoing> = (0..100).map(big).collect();
    let broker = server.app.builtin_broker.clone().unwrap();
    assert!(broker.publish(&queue, &messages).await.iter().all(Result::is_ok));
    while broker.connections() > 0 {
        tokio::task::yield_now().await;
    }
    let mut next =
        Client::connect(server.address, &queue.vhost, &queue.login, crate::support::server::Who::Agent.key().unwrap())
            .await;
    next.subscribe(&queue.queue, "auto").await;
    for n in 0..100 {
        assert_eq!(number(&next.message().await.1), n);
    }
    drop(stuck);
    server.stop().await;
}
