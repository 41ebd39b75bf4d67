//! What holds for every address: bodies, ids of requests, methods, slashes, headers, health.

use reqwest::Method;
use serde_json::json;

use crate::support::server::{POLICIES, TestServer, Who};

#[tokio::test]
async fn unreadable_bodies_are_refused_in_words() {
    let server = TestServer::start().await;
    let post = async |body: &str, headers: &[(&str, &str)]| {
        server.send(Who::Staff, Method::POST, POLICIES, headers, Some(body.to_owned())).await
    };
    let detail = post("{\"scope\": ", &[]).await.expect(400)["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("JSON parse error - "), "{detail}");
    assert!(post("[1]", &[]).await.refusal("non_field_errors").contains("a list"));
    assert!(post(&"[".repeat(100), &[]).await.expect(400)["detail"].as_str().unwrap().starts_with("JSON parse error"));
    let large = format!("{{\"x\": \"{}\"}}", "x".repeat(3 << 20));
    post(&large, &[]).await.expect(413);
    server.stop().await;
}

#[tokio::test]
async fn requests_have_ids_that_bind_the_events_they_lead_to() {
    let server = TestServer::start().await;
    let id = "7e500000-0000-4000-8000-0000000000aa";
    let body = server.policy_body().to_string();
    let answer = server.send(Who::Staff, Method::POST, POLICIES, &[("x-request-id", id)], Some(body)).await;
    answer.expect(201);
    assert_eq!(answer.header("x-request-id"), id);
    let events = server.app.store.read_all(sluice::events::envelope::Position::START, 1_000).await.unwrap();
    let created = events.iter().find(|event| &*event.event_type == "policy_created.v1").unwrap();
    assert_eq!(created.metadata.correlation_id.to_string(), id);
    assert!(!server.get(Who::Anonymous, "/api/version/").await.header("x-request-id").is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_missing_slash_works_and_what_is_nowhere_is_json() {
    let server = TestServer::start().await;
    assert_eq!(server.get(Who::Staff, POLICIES.trim_end_matches('/')).await.expect(200), json!([]));
    assert_eq!(server.get(Who::Staff, "/api/nothing/").await.expect(404), json!({"detail": "Not found."}));
    assert_eq!(
        server.get(Who::Staff, &format!("{POLICIES}not-an-id/")).await.expect(404),
        json!({"detail": "Not found."})
    );
    let refused = server.delete(Who::Staff, POLICIES).await;
    assert_eq!(refused.expect(405), json!({"detail": "Method \"DELETE\" not allowed."}));
    assert!(refused.header("allow").contains("POST"), "{}", refused.header("allow"));
    for path in ["/api/nothing/", POLICIES] {
        let answer = server.get(Who::Staff, path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'; base-uri"), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn health_tells_life_from_readiness() {
    let server = TestServer::start().await;
    assert_eq!(server.get(Who::Anonymous, "/health/live").await.expect(200), json!({"status": "live"}));
    let ready = server.get(Who::Anonymous, "/health/ready").await.expect(200);
    assert_eq!(
        (&ready["status"], &ready["event_store"], &ready["read_models"]),
        (&json!("ready"), &json!(true), &json!(true))
    );
    assert!(ready["consumers"].as_array().unwrap().len() >= 5, "{ready}");
    server.stop().await;
}
