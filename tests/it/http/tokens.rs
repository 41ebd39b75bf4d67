//! `/api/tokens/`: keys that are shown once, ends, and revocation.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::server::{Answer, TestServer, Who, id};

const TOKENS: &str = "/api/tokens/";

async fn with_key(server: &TestServer, key: &str, path: &str) -> Answer {
    server.send(Who::Anonymous, Method::GET, path, &[("authorization", &format!("Token {key}"))], None).await
}

async fn made(server: &TestServer, body: &Value) -> (String, Value) {
    let token = server.post(Who::Staff, TOKENS, body).await.expect(201);
    (token["key"].as_str().unwrap().to_owned(), token)
}

#[tokio::test]
async fn a_key_is_shown_once_works_in_its_role_and_ends_when_it_is_revoked() {
    let server = TestServer::start().await;
    let body = json!({"username": "dora", "role": "support", "label": "reports"});
    let (key, token) = made(&server, &body).await;
    assert_eq!((key.len(), &token["is_active"], &token["label"]), (40, &json!(true), &json!("reports")));
    let me = with_key(&server, &key, "/api/users/me/").await.expect(200);
    assert_eq!((&me["username"], &me["is_support"], &me["is_staff"]), (&json!("dora"), &json!(true), &json!(false)));
    let listed = server.get(Who::Staff, TOKENS).await;
    assert!(!listed.text.contains(&key) && !listed.text.contains("\"key\""), "{}", listed.text);
    assert_eq!(listed.expect(200)[0]["uuid"], token["uuid"], "the newest comes first");
    let path = format!("{TOKENS}{}/", token["uuid"].as_str().unwrap());
    server.delete(Who::Staff, &path).await.expect(204);
    assert_eq!(with_key(&server, &key, "/api/users/me/").await.expect(401), json!({"detail": "Invalid token."}));
    server.delete(Who::Staff, &path).await.expect(404);
    let revoked = &server.get(Who::Staff, TOKENS).await.expect(200)[0];
    assert_eq!(revoked["is_active"], false);
    assert!(revoked["revoked_at"].is_string());
    server.stop().await;
}

#[tokio::test]
async fn a_token_ends_at_its_time() {
    let server = TestServer::start().await;
    let end = "2026-03-16T00:00:00Z";
    let (key, _) = made(&server, &json!({"username": "dora", "role": "staff", "expires_at": end})).await;
    let clock = async |now: &str| {
        server.put(Who::Staff, "/api/simulation/clock/", &json!({"now": now})).await.expect(200);
    };
    clock("2026-03-15T23:59:59Z").await;
    with_key(&server, &key, "/api/users/me/").await.expect(200);
    clock(end).await;
    with_key(&server, &key, "/api/users/me/").await.expect(401);
    assert_eq!(server.get(Who::Staff, TOKENS).await.expect(200)[0]["is_active"], false);
    server.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_field() {
    let server = TestServer::start().await;
    for (body, field, says) in [
        (json!({"role": "staff"}), "username", "required"),
        (json!({"username": "d"}), "role", "required"),
        (json!({"username": "d", "role": "king"}), "role", "staff, support, owner, member, agent"),
        (json!({"username": "d", "role": "agent"}), "offering", "needs its offering"),
        (json!({"username": "d", "role": "staff", "offering": "hpc1"}), "offering", "Only a token of the role agent"),
        (json!({"username": "d", "role": "agent", "offering": "hpc9"}), "offering", "does not exist"),
        (json!({"username": "d", "role": "staff", "expires_at": "2026-01-01T00:00:00Z"}), "expires_at", "is over"),
        (json!({"username": "d", "role": "staff", "label": {"a": 1}}), "label", "string"),
    ] {
        let refusal = server.post(Who::Staff, TOKENS, &body).await.refusal(field);
        assert!(refusal.contains(says), "{body}: {refusal}");
    }
    let (key, token) = made(&server, &json!({"username": "new-agent", "role": "agent", "offering": "hpc1"})).await;
    assert_eq!(token["offering_uuid"], json!(id("offering", "hpc1")));
    assert_eq!(with_key(&server, &key, "/api/marketplace-provider-resources/").await.ids().len(), 2);
    server.stop().await;
}
