//! How much a caller may ask for: a token by requests, events and bytes, a stranger by the address; and what is never refused.

use std::time::Duration;

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::json;
use sluice::limits::Limits;

use crate::dispatch::support::report;
use crate::support::server::{Answer, TestServer, USAGES, Who, id};

/// What ends a test that waits in vain; nothing is measured by it.
const IN_VAIN: Duration = Duration::from_mins(1);

async fn bounded(change: impl FnOnce(&mut Limits)) -> TestServer {
    TestServer::customized(|options| change(&mut options.limits)).await
}

/// Usage of `climate-hpc1`, by its agent.
async fn usage(server: &TestServer, amount: u32) -> Answer {
    let body =
        json!({"usages": [{"type": "node_hours", "amount": amount}], "resource": id("resource", "climate-hpc1")});
    server.post(Who::Agent, &format!("{USAGES}set_usage/"), &body).await
}

/// A refusal says what is used up and when there is some again.
#[track_caller]
fn throttled(answer: &Answer, setting: &str) {
    let detail = answer.expect(429)["detail"].as_str().unwrap().to_owned();
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=121).contains(&seconds), "{seconds}");
    let expected =
        format!("Request was throttled. Expected available in {seconds} seconds. What is used up: {setting}.");
    assert_eq!(detail, expected);
}

#[tokio::test]
async fn a_token_makes_so_many_requests_in_a_minute_and_others_go_on() {
    let server = bounded(|limits| limits.token_requests_per_minute = 3).await;
    for _ in 0..3 {
        server.get(Who::Bob, "/api/customers/").await.expect(200);
    }
    throttled(&server.get(Who::Bob, "/api/customers/").await, "token_requests_per_minute");
    // What is refused for another reason counts as well.
    for _ in 0..3 {
        server.get(Who::Alice, "/api/tokens/").await.expect(403);
    }
    throttled(&server.get(Who::Alice, "/api/tokens/").await, "token_requests_per_minute");
    server.get(Who::Agent, "/api/customers/").await.expect(200);
    server.get(Who::Anonymous, "/health/live").await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn a_token_appends_so_many_events_and_bytes_in_a_minute() {
    for (setting, change) in [
        ("token_events_per_minute", (|limits| limits.token_events_per_minute = 1) as fn(&mut Limits)),
        ("token_mib_per_minute", |limits| limits.token_bytes_per_minute = 10),
    ] {
        let server = bounded(change).await;
        server.get(Who::Agent, "/api/customers/").await.expect(200);
        usage(&server, 10).await.expect(201);
        throttled(&usage(&server, 20).await, setting);
        // Reading what is there appends nothing, and the token has still used up what it may.
        throttled(&server.get(Who::Agent, "/api/customers/").await, setting);
        server.get(Who::Staff, "/api/customers/").await.expect(200);
        server.stop().await;
    }
}

#[tokio::test]
async fn the_result_of_commands_is_never_refused_for_its_rate() {
    let server = bounded(|limits| {
        limits.token_requests_per_minute = 2;
        limits.token_bytes_per_minute = 10;
    })
    .await;
    // Staff has used up its minute with this; the agent has not begun.
    let (policy, _) = server.policy(|_| ()).await;
    let path = format!("{policy}report-command-result/");
    for _ in 0..5 {
        server.post(Who::Agent, &path, &report("climate-hpc1", true, &["true"])).await.expect(200);
    }
    throttled(&usage(&server, 10).await, "token_requests_per_minute");
    server.stop().await;
}

#[tokio::test]
async fn an_address_without_a_good_token_makes_so_many_requests() {
    let server = bounded(|limits| limits.address_requests_per_minute = 3).await;
    server.get(Who::Anonymous, "/api/customers/").await.expect(401);
    server.get(Who::Anonymous, "/api/schema/").await.expect(200);
    let wrong = [("authorization", "Token nonsense")];
    server.send(Who::Anonymous, Method::GET, "/api/customers/", &wrong, None).await.expect(401);
    for headers in [&wrong[..], &[]] {
        for path in ["/api/customers/", "/api/schema/", "/health/live"] {
            let refused = server.send(Who::Anonymous, Method::GET, path, headers, None).await;
            throttled(&refused, "address_requests_per_minute");
        }
    }
    // Nobody names an address for others whom the site does not know as a proxy.
    let forged = [("x-forwarded-for", "192.0.2.1")];
    throttled(
        &server.send(Who::Anonymous, Method::GET, "/health/live", &forged, None).await,
        "address_requests_per_minute",
    );
    // A good token is no matter of the address.
    server.get(Who::Bob, "/api/customers/").await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_address_is_the_one_that_it_names() {
    let server = TestServer::customized(|options| {
        options.limits.address_requests_per_minute = 2;
        options.trusted_proxies = "127.0.0.1, 10.0.0.0/8".parse().unwrap();
    })
    .await;
    let live = async |forwarded: &str| {
        let headers = [("x-forwarded-for", forwarded)];
        server.send(Who::Anonymous, Method::GET, "/health/live", &headers, None).await
    };
    for _ in 0..2 {
        live("203.0.113.5, 192.0.2.1, 10.0.0.3").await.expect(200);
    }
    throttled(&live("192.0.2.1").await, "address_requests_per_minute");
    live("192.0.2.2").await.expect(200);
    // The proxy itself is not bounded.
    for _ in 0..5 {
        server.get(Who::Anonymous, "/health/live").await.expect(200);
        live("10.0.0.3").await.expect(200);
    }
    server.stop().await;
}

/// Opens a live tail with a token.
async fn tail(server: &TestServer, key: &str) -> reqwest::Response {
    let request = reqwest::Client::new().get(server.url("/api/events/stream/?type=usage_reported"));
    let tail = request.header("authorization", format!("Token {key}")).send().await.unwrap();
    assert_eq!(tail.status(), 200);
    tail
}

/// Reads a live tail to its end.
async fn ended(mut tail: reqwest::Response) -> String {
    let mut text = String::new();
    let read = async {
        while let Ok(Some(chunk)) = tail.chunk().await {
            text.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(IN_VAIN, read).await.expect("the live tail goes on");
    text
}

#[tokio::test]
async fn a_live_tail_ends_with_its_token() {
    // It is looked at again before every event.
    let server = bounded(|limits| limits.token_check = Duration::ZERO).await;
    let make = async |expires: Option<String>| {
        let body = json!({"username": "sam", "role": "support", "expires_at": expires});
        server.post(Who::Staff, "/api/tokens/", &body).await.expect(201)
    };
    let word = |made: &serde_json::Value, name: &str| made[name].as_str().unwrap().to_owned();
    let revoked = make(None).await;
    let at = server.app.clock.now() + TimeDelta::minutes(10);
    let expired = make(Some(at.to_rfc3339())).await;
    let tails = [tail(&server, &word(&revoked, "key")).await, tail(&server, &word(&expired, "key")).await];
    let mut stays = tail(&server, Who::Support.key().unwrap()).await;

    server.delete(Who::Staff, &format!("/api/tokens/{}/", word(&revoked, "uuid"))).await.expect(204);
    server.app.advance_clock(at).await.unwrap();
    usage(&server, 10).await.expect(201);
    for tail in tails {
        let told = ended(tail).await;
        assert!(!told.contains("usage_reported"), "{told}");
    }
    let told = tokio::time::timeout(IN_VAIN, stays.chunk()).await.unwrap().unwrap().unwrap();
    assert!(String::from_utf8_lossy(&told).contains("usage_reported"));
    server.stop().await;
}

#[tokio::test]
async fn a_token_holds_so_many_live_tails_and_others_theirs() {
    let server = bounded(|limits| limits.token_tails_max = 1).await;
    let _held = tail(&server, Who::Support.key().unwrap()).await;
    let refused = server.get(Who::Support, "/api/events/stream/").await;
    let detail = refused.expect(429)["detail"].as_str().unwrap().to_owned();
    assert!(detail.ends_with("(token_tails_max is 1)."), "{detail}");
    assert_eq!(refused.header("retry-after"), "1");
    let _other = tail(&server, Who::Staff.key().unwrap()).await;
    server.stop().await;
}
