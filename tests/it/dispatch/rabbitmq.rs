//! Against a real `RabbitMQ` that a full run starts (`tests/services/rabbitmq.sh`): `SLUICE_TEST_RABBITMQ_…` say where it is.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::dispatch::AgentQueue;
use sluice::dispatch::broker::{BrokerError, Outgoing};
use sluice::dispatch::rabbitmq::RabbitOptions;
use uuid::Uuid;

use super::client::Client;
use super::support::{newest, queue_of, report};
use crate::support::server::{TestServer, Who};

fn variable(name: &str) -> String {
    let name = format!("SLUICE_TEST_RABBITMQ_{name}");
    std::env::var(&name).unwrap_or_else(|_| panic!("{name} is set by a full run of tests/run"))
}

fn options() -> RabbitOptions {
    RabbitOptions {
        management_url: variable("MANAGEMENT"),
        username: variable("USER"),
        password: variable("PASSWORD").into(),
        stomp_host: "127.0.0.1".into(),
        stomp_port: variable("STOMP_PORT").parse().unwrap(),
        tls: false,
        ca_file: None,
        timeout: Duration::from_secs(10),
        heart_beat_ms: 10_000,
    }
}

/// A queue of its own for each test, in a virtual host of its own.
fn queue(test: &str) -> AgentQueue {
    let id =
        |what: &str| Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{test}/{what}/{}", std::process::id()).as_bytes());
    let consumer = id("consumer");
    AgentQueue {
        consumer,
        queue: format!("consumer_{}", consumer.as_simple()),
        vhost: id("vhost").as_simple().to_string(),
        login: id("login").as_simple().to_string(),
        ..queue_of("hpc1", 1)
    }
}

async fn site(change: impl FnOnce(&mut RabbitOptions)) -> TestServer {
    let mut rabbit = options();
    change(&mut rabbit);
    TestServer::customized(|options| options.rabbitmq = Some(rabbit)).await
}

async fn provision(server: &TestServer, queue: &AgentQueue) {
    let key = Who::Agent.key().unwrap().to_owned().into();
    server.app.broker.provision(queue, &key).await.unwrap();
}

/// Logs in as the agent does at a bare broker.
async fn agent(queue: &AgentQueue) -> Client {
    let url = format!("ws://127.0.0.1:{}/ws", variable("WEB_PORT"));
    let mut agent = Client::connect_to(&url, &queue.vhost, &queue.login, Who::Agent.key().unwrap()).await;
    agent.subscribe(&queue.queue, "auto").await;
    agent
}

/// Asks the management API.
async fn manage(method: reqwest::Method, path: &str) -> (u16, Value) {
    let request = reqwest::Client::new().request(method, format!("{}/api/{path}", variable("MANAGEMENT")));
    let answer = request.basic_auth(variable("USER"), Some(variable("PASSWORD"))).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
}

fn message(number: usize) -> Outgoing {
    Outgoing { id: format!("m-{number}"), subject: format!("s-{number}"), body: format!("{{\"n\":{number}}}").into() }
}

#[tokio::test]
#[ignore = "needs the RabbitMQ of a full run"]
async fn a_decision_reaches_the_agent_over_rabbitmq_and_comes_back() {
    let server = site(|_| ()).await;
    let queue = queue("decision");
    provision(&server, &queue).await;
    provision(&server, &queue).await;
    server.app.agent_queues.put(queue.clone());
    let mut agent = agent(&queue).await;
    let (policy, _) = server.policy(|_| ()).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(agent.message().await.1);
    }
    let climate = told.iter().find(|m| m["backend_id"] == "hpc_climate").expect("the settings of climate");
    assert_eq!(climate["settings"]["reset_raw_usage"], true);
    server.app.settle().await.unwrap();
    assert_eq!(newest(&server, &policy, "climate-hpc1").await["status"], "sent");
    let ran = ["sacctmgr modify account hpc_climate set RawUsage=0"];
    server
        .post(Who::Agent, &format!("{policy}report-command-result/"), &report("climate-hpc1", true, &ran))
        .await
        .expect(200);
    assert_eq!(newest(&server, &policy, "climate-hpc1").await["status"], "confirmed");

    let (_, shown) = manage(reqwest::Method::GET, &format!("queues/{}/{}", queue.vhost, queue.queue)).await;
    assert_eq!(
        shown["arguments"],
        json!({"x-message-ttl": 3_600_000, "x-max-length": 10_000, "x-overflow": "reject-publish-dlx",
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "waldur.dlq.messages"})
    );
    assert_eq!(manage(reqwest::Method::GET, &format!("queues/{}/waldur.dlq.messages", queue.vhost)).await.0, 200);
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs the RabbitMQ of a full run"]
async fn what_went_missing_is_set_up_again_without_any_token() {
    let server = site(|_| ()).await;
    let queue = queue("repair");
    provision(&server, &queue).await;
    for lost in [
        format!("queues/{}/{}", queue.vhost, queue.queue),
        format!("users/{}", queue.login),
        format!("permissions/{}/{}", queue.vhost, queue.login),
        format!("queues/{}/waldur.dlq.messages", queue.vhost),
        format!("vhosts/{}", queue.vhost),
    ] {
        assert_eq!(manage(reqwest::Method::DELETE, &lost).await.0, 204, "{lost}");
        let outcome = server.app.broker.publish(&queue, &[message(1)]).await.remove(0);
        if lost.starts_with("vhosts") {
            // The connection into it ended with it; the next attempt has another.
            if outcome.is_err() {
                server.app.broker.publish(&queue, &[message(1)]).await.remove(0).unwrap();
            }
        } else {
            outcome.unwrap_or_else(|error| panic!("{lost}: {error}"));
        }
        let mut agent = agent(&queue).await;
        assert_eq!(agent.message().await.1["n"], 1, "{lost}");
        assert_eq!(manage(reqwest::Method::GET, &lost).await.0, 200, "{lost} is there again");
    }
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs the RabbitMQ of a full run"]
async fn a_queue_that_nobody_can_set_up_takes_nothing_whatever_receipts_say() {
    let server = site(|_| ()).await;
    let unknown = queue("unknown");
    let outcome = server.app.broker.publish(&unknown, &[message(1)]).await.remove(0);
    assert!(matches!(&outcome, Err(BrokerError::Refused(why)) if why.contains("restart the agent")), "{outcome:?}");
    let status = server.app.broker.status(&unknown).await.unwrap();
    assert!(!status.exists);
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs the RabbitMQ of a full run"]
async fn a_broker_that_cannot_be_reached_or_refuses_the_login_leaves_everything_queued() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for wrong in ["port", "password", "management"] {
        let server = site(|rabbit| match wrong {
            "port" => rabbit.stomp_port = nobody,
            "password" => rabbit.password = "wrong".to_owned().into(),
            _ => rabbit.management_url = format!("http://127.0.0.1:{nobody}"),
        })
        .await;
        let queue = queue(wrong);
        let right = site(|_| ()).await;
        provision(&right, &queue).await;
        right.stop().await;
        server.app.agent_queues.put(queue.clone());
        let (policy, _) = server.policy(|_| ()).await;
        server.app.settle().await.unwrap();
        let row = newest(&server, &policy, "climate-hpc1").await;
        assert_eq!((&row["status"], &row["sent_at"]), (&json!("queued"), &Value::Null), "{wrong}");
        let outcome = server.app.broker.publish(&queue, &[message(1)]).await.remove(0);
        let Err(BrokerError::Unreachable(why)) = outcome else { panic!("{wrong}: {outcome:?}") };
        assert!(!why.contains(&variable("PASSWORD")) && !why.contains("wrong"), "{wrong}: {why}");
        server.stop().await;
    }
}

#[tokio::test]
#[ignore = "needs the RabbitMQ of a full run"]
async fn a_rotated_token_opens_the_queue_and_the_old_one_does_not() {
    let server = site(|_| ()).await;
    let queue = queue("rotated");
    provision(&server, &queue).await;
    let fresh = "a-fresh-token-of-forty-letters-or-thereabouts";
    server.app.broker.provision(&queue, &fresh.to_owned().into()).await.unwrap();
    let url = format!("ws://127.0.0.1:{}/ws", variable("WEB_PORT"));
    drop(Client::connect_to(&url, &queue.vhost, &queue.login, fresh).await);
    let mut old = Client::open_at(&url).await;
    old.send(&Client::hello(&queue.vhost, &queue.login, Who::Agent.key().unwrap())).await;
    assert_eq!(old.frame().await.unwrap().command, sluice::dispatch::stomp::Command::Error);
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs the RabbitMQ of a full run"]
async fn many_messages_go_over_one_connection_in_order() {
    let server = site(|_| ()).await;
    let queue = queue("many");
    provision(&server, &queue).await;
    let messages: Vec<Outgoing> = (0..500).map(message).collect();
    let outcomes = server.app.broker.publish(&queue, &messages).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let mut agent = agent(&queue).await;
    for number in 0..500 {
        assert_eq!(agent.message().await.1["n"], number);
    }
    server.stop().await;
}

fn with_tls(options: &mut RabbitOptions, authority: Option<String>) {
    options.management_url = variable("TLS_MANAGEMENT");
    options.stomp_port = variable("TLS_STOMP_PORT").parse().unwrap();
    options.tls = true;
    options.ca_file = authority.map(Into::into);
}

#[tokio::test]
#[ignore = "needs the RabbitMQ of a full run"]
async fn everything_goes_through_tls_if_the_site_says_so() {
    let server = site(|options| with_tls(options, Some(variable("TLS_CA")))).await;
    let queue = queue("tls");
    provision(&server, &queue).await;
    assert_eq!(server.app.broker.publish(&queue, &[message(1), message(2)]).await, [Ok(()), Ok(())]);
    assert!(server.app.broker.status(&queue).await.unwrap().exists);
    let mut agent = agent(&queue).await;
    assert_eq!(agent.message().await.1["n"], 1);
    assert_eq!(agent.message().await.1["n"], 2);
    server.stop().await;
}

#[tokio::test]
#[ignore = "needs the RabbitMQ of a full run"]
async fn a_broker_whose_certificate_nobody_vouches_for_is_told_nothing() {
    let trusted = site(|options| with_tls(options, Some(variable("TLS_CA")))).await;
    let queue = queue("tls-unknown");
    provision(&trusted, &queue).await;
    // The management API over plain HTTP, so that it is STOMP's certificate that is refused.
    let strict = site(|options| {
        with_tls(options, None);
        options.management_url = variable("MANAGEMENT");
    })
    .await;
    provision(&strict, &queue).await;
    let outcome = strict.app.broker.publish(&queue, &[message(1)]).await.remove(0);
    assert!(matches!(&outcome, Err(BrokerError::Unreachable(why)) if why.contains("certificate")), "{outcome:?}");
    // And the management API's own.
    let stricter = site(|options| with_tls(options, None)).await;
    let key = Who::Agent.key().unwrap().to_owned().into();
    let outcome = stricter.app.broker.provision(&queue, &key).await;
    assert!(matches!(&outcome, Err(BrokerError::Unreachable(why)) if why.contains("certificate")), "{outcome:?}");
    let (_, shown) = manage(reqwest::Method::GET, &format!("queues/{}/{}", queue.vhost, queue.queue)).await;
    assert_eq!(shown["messages"].as_u64().unwrap_or_default(), 0);
    for server in [trusted, strict, stricter] {
        server.stop().await;
    }
}
