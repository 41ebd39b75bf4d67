//! Webhooks that hear of resources: who registers them, what they are told, and what becomes of one that does not answer.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use sluice::egress::Networks;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

use crate::support::server::{TestServer, Who, dashed, id, resource_path};

const CONSUMERS: &str = "/api/event-consumers/";

#[derive(Clone)]
struct Receiver {
    heard: mpsc::UnboundedSender<Value>,
    answers: Arc<Mutex<Vec<u16>>>,
}

async fn receive(State(receiver): State<Receiver>, body: Bytes) -> StatusCode {
    let answer = receiver.answers.lock().unwrap().pop().unwrap_or(204);
    let _ = receiver.heard.send(json!({"answer": answer, "body": serde_json::from_slice::<Value>(&body).unwrap()}));
    StatusCode::from_u16(answer).unwrap()
}

/// An address that gives these answers, last first, and then 204; and what it hears.
async fn address(answers: &[u16]) -> (String, mpsc::UnboundedReceiver<Value>) {
    let (heard, receiver) = mpsc::unbounded_channel();
    let state = Receiver { heard, answers: Arc::new(Mutex::new(answers.to_vec())) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in?key=secret", listener.local_addr().unwrap());
    let router = Router::new().route("/in", post(receive)).with_state(state);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, receiver)
}

async fn next(hears: &mut mpsc::UnboundedReceiver<Value>) -> Value {
    let minute = std::time::Duration::from_mins(1);
    tokio::time::timeout(minute, hears.recv()).await.expect("nothing came").unwrap()
}

async fn registered(server: &TestServer, body: &Value) -> (String, Value) {
    let made = server.post(Who::Staff, &format!("{CONSUMERS}register_webhook/"), body).await.expect(201);
    (format!("{CONSUMERS}{}/", made["uuid"].as_str().unwrap()), made)
}

/// The consumer, once what it last heard is written down.
async fn shown(server: &TestServer, holds: impl Fn(&Value) -> bool) -> Value {
    loop {
        let found = server.get(Who::Support, &format!("{CONSUMERS}?delivery=webhook")).await.expect(200)[0].clone();
        if holds(&found) {
            return found;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_webhook_hears_of_its_resources_in_order_and_its_address_is_never_shown() {
    let server = TestServer::start().await;
    let (url, mut hears) = address(&[]).await;
    let scope = json!([{"type": "customer", "uuid": dashed("customer", "uni-a")}]);
    let body = json!({"webhook_url": url, "scopes": scope, "payload_filters": {}});
    let (path, made) = registered(&server, &body).await;
    assert_eq!(
        (&made["delivery"], &made["is_global"], &made["rmq_username"]),
        (&json!("webhook"), &json!(false), &json!(""))
    );
    assert_eq!(made["scopes"], json!([{"type": "customer", "uuid": id("customer", "uni-a")}]));
    assert_eq!((&made["webhook_destination"], &made["last_delivered_at"]), (&json!("http://127.0.0.1"), &Value::Null));
    assert!(!made.to_string().contains("secret"));

    server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    let first = next(&mut hears).await["body"].clone();
    assert_eq!(
        (&first["object_type"], &first["backend_id"]),
        (&json!("resource_periodic_limits"), &json!("hpc_climate"))
    );
    server.report("climate-hpc1", "1250", "2026-03-01").await;
    server.report("bio-hpc1", "9999", "2026-03-01").await;
    let mut told = Vec::new();
    while !told.contains(&"resource".to_owned()) {
        let message = next(&mut hears).await["body"].clone();
        assert_eq!(message["resource_uuid"], json!(id("resource", "climate-hpc1")), "no other organisation's");
        if message["object_type"] == "resource" {
            assert_eq!((&message["paused"], &message["downscaled"]), (&json!(true), &json!(true)));
        }
        told.push(message["object_type"].as_str().unwrap().to_owned());
    }
    let shown = shown(&server, |found| found["last_delivered_at"] == "2026-03-15T12:00:00Z").await;
    assert_eq!((&shown["uuid"], &shown["last_error"]), (&made["uuid"], &json!("")));
    let log = server.get(Who::Staff, "/api/events/?page_size=100").await.text;
    assert!(!log.contains("key=secret"), "no event has the address");
    server.delete(Who::Staff, &path).await.expect(204);
    server.delete(Who::Staff, &path).await.expect(404);
    assert_eq!(server.get(Who::Staff, CONSUMERS).await.expect(200), json!([]));
    server.stop().await;
}

#[tokio::test]
async fn a_resync_sends_the_present_state_and_filters_choose() {
    let server = TestServer::start().await;
    let (url, mut hears) = address(&[]).await;
    let body = json!({"webhook_url": url, "object_types": ["resource", "order"], "payload_filters": {"paused": [true], "offering_uuid": [id("offering", "hpc1")]}});
    let (path, made) = registered(&server, &body).await;
    assert_eq!((&made["is_global"], &made["object_types"]), (&json!(true), &json!(["order", "resource"])));
    let answer = server.post(Who::Staff, &format!("{path}resync/"), &json!({})).await.expect(202);
    assert_eq!(answer, json!({"object_types": ["resource"]}));
    let hold = json!({"kind": "pause", "reason": "an inspection"});
    server.post(Who::Staff, &format!("{}holds/", resource_path("climate-hpc1")), &hold).await.expect(201);
    let message = next(&mut hears).await["body"].clone();
    assert_eq!((&message["resource_uuid"], &message["paused"]), (&json!(id("resource", "climate-hpc1")), &json!(true)));
    server.post(Who::Staff, &format!("{path}resync/"), &json!({})).await.expect(202);
    assert_eq!(
        next(&mut hears).await["body"]["resource_uuid"],
        json!(id("resource", "climate-hpc1")),
        "the one that is paused"
    );
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_taken_is_told_again_and_an_address_that_is_gone_is_left() {
    let server = TestServer::start().await;
    let (url, mut hears) = address(&[410, 500]).await;
    let (path, _) = registered(&server, &json!({"webhook_url": url, "object_types": ["resource"]})).await;
    let limit = |hours: u32| json!({"limits": {"node_hours": hours}});
    server.patch(Who::Staff, &resource_path("climate-hpc1"), &limit(1500)).await.expect(200);
    assert_eq!(next(&mut hears).await["answer"], 500);
    let failed = shown(&server, |found| found["last_error"] != "").await;
    assert!(failed["last_error"].as_str().unwrap().contains("500"), "{failed}");
    assert_eq!(
        (&failed["delivery_blocked_reason"], &failed["last_error_at"]),
        (&Value::Null, &json!("2026-03-15T12:00:00Z"))
    );
    // A change has it tried at once; the address says that it is gone.
    let same = json!({"object_types": ["resource"]});
    server.post(Who::Staff, &format!("{path}update_webhook/"), &same).await.expect(200);
    assert_eq!(next(&mut hears).await["answer"], 410);
    let blocked = shown(&server, |found| found["delivery_blocked_reason"].is_string()).await;
    assert!(blocked["delivery_blocked_reason"].as_str().unwrap().contains("410 Gone; change the webhook"), "{blocked}");
    // Changed, it begins where it stopped: nothing is lost.
    server.patch(Who::Staff, &resource_path("climate-hpc1"), &limit(1600)).await.expect(200);
    let changed = server.post(Who::Staff, &format!("{path}update_webhook/"), &same).await.expect(200);
    assert_eq!(changed["delivery_blocked_reason"], Value::Null);
    for _ in 0..2 {
        let told = next(&mut hears).await;
        assert_eq!((&told["answer"], &told["body"]["limits"]), (&json!(204), &json!({"node_hours": 1600})));
    }
    server.stop().await;
}

#[tokio::test]
async fn staff_registers_webhooks_and_an_agents_queue_is_listed_and_left_alone() {
    let server = TestServer::start().await;
    let (register, good) =
        (format!("{CONSUMERS}register_webhook/"), json!({"webhook_url": "https://hooks.example/in"}));
    for who in [Who::Support, Who::Alice, Who::Agent] {
        server.post(who, &register, &good).await.expect(403);
    }
    for (field, value) in [
        ("webhook_url", json!("ftp://x")),
        ("webhook_url", json!("hooks.example")),
        ("webhook_url", json!("https://me:secret@hooks.example/")),
        ("webhook_url", Value::Null),
        ("object_types", json!(["weather"])),
        ("object_types", json!("resource")),
        ("scopes", json!([{"type": "galaxy", "uuid": id("customer", "uni-a")}])),
        ("scopes", json!([{"type": "customer", "uuid": id("customer", "nobody")}])),
        ("scopes", json!([{"type": "customer"}])),
        ("payload_filters", json!({"paused": true})),
        ("payload_filters", json!({"paused": [{}]})),
    ] {
        let mut body = good.clone();
        body[field] = value;
        server.post(Who::Staff, &register, &body).await.refusal(field);
    }
    server.post(Who::Staff, &format!("{CONSUMERS}register/"), &json!({})).await.refusal("non_field_errors");
    let (path, _) = registered(&server, &good).await;
    server.post(Who::Staff, &format!("{path}update_webhook/"), &json!({"scopes": []})).await.refusal("scopes");

    let identity = json!({"offering": id("offering", "hpc1"), "name": "agent"});
    let agent = server.post(Who::Agent, "/api/marketplace-site-agent-identities/", &identity).await.expect(201);
    let queue = format!("/api/marketplace-site-agent-identities/{}/register_queue/", agent["uuid"].as_str().unwrap());
    let queue = server.post(Who::Agent, &queue, &json!({"object_types": ["resource"]})).await.expect(201);
    for (who, kinds) in [
        (Who::Staff, vec!["webhook", "rmq"]),
        (Who::Support, vec!["webhook", "rmq"]),
        (Who::Alice, vec!["rmq"]),
        (Who::Agent, vec!["rmq"]),
        (Who::OtherAgent, vec![]),
        (Who::Bea, vec![]),
    ] {
        let found = server.get(who, CONSUMERS).await.expect(200);
        let seen: Vec<&str> = found.as_array().unwrap().iter().map(|row| row["delivery"].as_str().unwrap()).collect();
        assert_eq!(seen, kinds, "{who:?}");
    }
    let found = server.get(Who::Alice, &format!("{CONSUMERS}?delivery=rmq&user_username=agent-hpc1")).await.expect(200);
    assert_eq!((&found[0]["rmq_username"], &found[0]["user_username"]), (&queue["rmq_username"], &json!("agent-hpc1")));
    for (query, rows) in
        [("delivery=webhook", 1), ("is_global=true", 1), ("is_global=false", 1), ("user_username=nobody", 0)]
    {
        assert_eq!(
            server.get(Who::Staff, &format!("{CONSUMERS}?{query}")).await.expect(200).as_array().unwrap().len(),
            rows,
            "{query}"
        );
    }
    server.get(Who::Staff, &format!("{CONSUMERS}?delivery=pigeon")).await.refusal("delivery");
    let queue = format!("{CONSUMERS}{}/", found[0]["uuid"].as_str().unwrap());
    server.delete(Who::Staff, &queue).await.refusal("non_field_errors");
    server.post(Who::Staff, &format!("{queue}resync/"), &json!({})).await.refusal("non_field_errors");
    server.stop().await;
}

#[tokio::test]
async fn an_address_that_may_not_be_called_is_refused_and_a_name_that_leads_there_is_not_called() {
    let server = TestServer::start().await;
    let register = format!("{CONSUMERS}register_webhook/");
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "https://[::ffff:169.254.169.254]/",
        "http://[fe80::1]:8080/",
        "http://0.0.0.0:8000/",
    ] {
        let said = server.post(Who::Staff, &register, &json!({"webhook_url": url})).await.refusal("webhook_url");
        assert!(said.starts_with("Enter an address that may be called: "), "{url}: {said}");
    }
    let (path, _) = registered(&server, &json!({"webhook_url": "https://hooks.example/in"})).await;
    let metadata = json!({"webhook_url": "http://169.254.169.254/"});
    server.post(Who::Staff, &format!("{path}update_webhook/"), &metadata).await.refusal("webhook_url");
    server.stop().await;

    let server = TestServer::customized(|options| {
        options.notify.egress.deny = Networks::parse(["127.0.0.0/8", "::1/128"]).unwrap();
    })
    .await;
    let (url, mut hears) = address(&[]).await;
    let url = url.replace("127.0.0.1", "localhost");
    registered(&server, &json!({"webhook_url": url, "object_types": ["resource"]})).await;
    let limits = json!({"limits": {"node_hours": 1500}});
    server.patch(Who::Staff, &resource_path("climate-hpc1"), &limits).await.expect(200);
    let failed = shown(&server, |found| found["last_error"] != "").await;
    assert!(failed["last_error"].as_str().unwrap().contains("which webhooks.deny holds"), "{failed}");
    assert!(hears.try_recv().is_err(), "it was called");
    server.stop().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = TestServer::start().await;
    let (other, mut hears) = address(&[]).await;
    let moved = move || async move { axum::response::Redirect::temporary(&other) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(moved))).await });
    registered(&server, &json!({"webhook_url": url, "object_types": ["resource"]})).await;
    let limits = json!({"limits": {"node_hours": 1500}});
    server.patch(Who::Staff, &resource_path("climate-hpc1"), &limits).await.expect(200);
    let failed = shown(&server, |found| found["last_error"] != "").await;
    assert!(failed["last_error"].as_str().unwrap().contains("307"), "{failed}");
    assert!(hears.try_recv().is_err(), "it was followed");
    server.stop().await;
}
