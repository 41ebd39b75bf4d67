//! Signing in and out: what opens a session, what ends it, and what does not count as a page of the service.

use serde_json::json;

use super::{Browser, value_of};
use crate::support::server::{TestServer, Who};

async fn clock(server: &TestServer, now: &str) {
    server.put(Who::Staff, "/api/simulation/clock/", &json!({"now": now})).await.expect(200);
}

#[tokio::test]
async fn a_token_signs_in_and_the_cookie_is_for_this_service_alone() {
    let server = TestServer::start().await;
    let mut browser = Browser::new(&server);
    let asked = browser.open("/allocations?q=climate").await;
    assert_eq!((asked.status.as_u16(), asked.header("location")), (303, "/login?next=%2Fallocations%3Fq%3Dclimate"));
    let origin = browser.origin();
    let form = [("token", Who::Staff.key().unwrap()), ("next", "/allocations?q=climate")];
    let answer = browser.send("/login", &origin, &form).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/allocations?q=climate"));
    let cookie = answer.header("set-cookie").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(Who::Staff.key().unwrap()), "the cookie is no token");
    assert_eq!(browser.open("/allocations").await.status, 200);
    // Behind a proxy with TLS the cookie is one that no other host can set, and that goes over TLS only.
    let secure = browser
        .ask(reqwest::Method::POST, "/login", &[("x-forwarded-proto", "https"), ("origin", &origin)], Some(&form))
        .await;
    let cookie = secure.header("set-cookie");
    assert!(cookie.starts_with("__Host-sluice_session=") && cookie.contains("Secure"), "{cookie}");
    server.stop().await;
}

#[tokio::test]
async fn nobody_is_led_elsewhere_and_a_new_sign_in_is_a_new_session() {
    let server = TestServer::start().await;
    let mut browser = Browser::new(&server);
    let origin = browser.origin();
    for elsewhere in ["//evil.example", "https://evil.example", "/\\evil.example", "evil"] {
        let form = [("token", Who::Staff.key().unwrap()), ("next", elsewhere)];
        assert_eq!(browser.send("/login", &origin, &form).await.header("location"), "/", "{elsewhere}");
    }
    let mut other = Browser { server: &server, cookie: browser.cookie.clone() };
    assert_eq!(other.open("/sessions").await.status, 200);
    browser.sign_in(Who::Alice.key().unwrap()).await;
    assert_eq!(other.open("/sessions").await.status, 303, "the session before is over");
    server.stop().await;
}

#[tokio::test]
async fn wrong_tokens_and_agents_do_not_get_in_and_failures_are_bounded() {
    let server = TestServer::start().await;
    let mut browser = Browser::new(&server);
    for (key, says) in [
        ("", "Enter a token"),
        ("no-such-token-is-known-here", "unknown, was revoked or has expired"),
        (Who::Agent.key().unwrap(), "a site agent, which has no pages"),
    ] {
        let answer = browser.sign_in(key).await;
        assert_eq!(answer.status, 422, "{key}");
        assert!(answer.text.contains(says), "{}", answer.text);
        assert!(key.is_empty() || !answer.text.contains(key), "a key is never shown again");
    }
    for _ in 0..7 {
        browser.sign_in("another-wrong-token-of-some-length").await;
    }
    let answer = browser.sign_in(Who::Staff.key().unwrap()).await;
    assert_eq!(answer.status, 429, "{}", answer.text);
    assert!(answer.header("retry-after").parse::<u64>().unwrap() <= 300);
    server.stop().await;
}

#[tokio::test]
async fn a_session_ends_unused_at_the_latest_and_with_its_token() {
    let server = TestServer::start().await;
    let mut idle = Browser::of(&server, Who::Staff).await;
    clock(&server, "2026-03-15T19:59:00Z").await;
    assert_eq!(idle.open("/sessions").await.status, 200);
    // Used a minute ago, it lasts eight hours more.
    clock(&server, "2026-03-16T03:58:00Z").await;
    assert_eq!(idle.open("/sessions").await.status, 200);
    clock(&server, "2026-03-16T12:00:00Z").await;
    assert_eq!(idle.open("/sessions").await.status, 303);
    let mut busy = Browser::of(&server, Who::Staff).await;
    let opened: chrono::DateTime<chrono::Utc> = "2026-03-16T12:00:00Z".parse().unwrap();
    for hours in (6..=168).step_by(6) {
        let now = (opened + chrono::TimeDelta::hours(hours)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
        clock(&server, &now).await;
        let expected = if hours < 168 { 200 } else { 303 };
        assert_eq!(busy.open("/sessions").await.status, expected, "{now}");
    }
    let body = json!({"username": "dora", "role": "support"});
    let token = server.post(Who::Staff, "/api/tokens/", &body).await.expect(201);
    let mut dora = Browser::new(&server);
    dora.sign_in(token["key"].as_str().unwrap()).await;
    assert_eq!(dora.open("/sessions").await.status, 200);
    server.delete(Who::Staff, &format!("/api/tokens/{}/", token["uuid"].as_str().unwrap())).await.expect(204);
    assert_eq!(dora.open("/sessions").await.status, 303, "the token is revoked");
    server.stop().await;
}

#[tokio::test]
async fn sessions_are_listed_and_ended_and_those_of_others_only_by_staff() {
    let server = TestServer::start().await;
    let mut here = Browser::of(&server, Who::Alice).await;
    let mut there = Browser::of(&server, Who::Alice).await;
    let mut bea = Browser::of(&server, Who::Bea).await;
    let page = here.open("/sessions").await.text;
    assert_eq!(page.matches("name=\"session\"").count(), 2, "{page}");
    let other = there.open("/sessions").await.text;
    let ids: Vec<String> = other
        .split("name=\"session\" value=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    assert_eq!(bea.submit("/sessions/end", &[("session", &ids[0])]).await.status, 404, "it is not hers");
    for id in &ids {
        here.submit("/sessions/end", &[("session", id)]).await;
        if here.open("/sessions").await.status == 303 {
            break;
        }
    }
    let mut staff = Browser::of(&server, Who::Staff).await;
    let page = staff.open("/sessions?of=all").await.text;
    assert!(page.contains("Bea B"), "{page}");
    let bea_id = page.split("Bea B").nth(1).unwrap().split("name=\"session\" value=\"").nth(1).unwrap();
    let answer = staff.submit("/sessions/end", &[("session", bea_id.split('"').next().unwrap()), ("of", "all")]).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/sessions?of=all"));
    assert_eq!(bea.open("/sessions").await.status, 303);
    let out = staff.submit("/logout", &[]).await;
    assert_eq!(out.header("location"), "/login");
    assert_eq!(staff.open("/").await.status, 303);
    server.stop().await;
}

#[tokio::test]
async fn what_changes_something_comes_from_a_page_of_the_session() {
    let server = TestServer::start().await;
    let mut staff = Browser::of(&server, Who::Staff).await;
    let csrf = value_of(&staff.open("/sessions").await.text, "csrf");
    let (origin, foreign) = (staff.origin(), "https://evil.example".to_owned());
    let other = value_of(&Browser::of(&server, Who::Staff).await.open("/sessions").await.text, "csrf");
    assert_ne!(csrf, other, "each session has its own");
    for (from, token) in [(&foreign, csrf.as_str()), (&origin, ""), (&origin, other.as_str())] {
        let answer = staff.send("/logout", from, &[("csrf", token)]).await;
        assert_eq!(answer.status, 403, "{from} {token}");
        assert!(answer.text.contains("Nothing was changed"), "{}", answer.text);
    }
    assert_eq!(staff.open("/sessions").await.status, 200, "still signed in");
    let mut attempt = Browser::new(&server);
    let answer = attempt.send("/login", &foreign, &[("token", Who::Staff.key().unwrap())]).await;
    assert_eq!(answer.status, 403);
    assert_eq!(staff.send("/logout", &origin, &[("csrf", &csrf)]).await.status, 303);
    server.stop().await;
}

#[tokio::test]
async fn a_link_signs_in_once_and_in_time() {
    let server = TestServer::start().await;
    let (directory, now) = (&server.app.directory, server.app.clock.now());
    let user = directory.user_by_username("alice").await.unwrap().unwrap().id;
    let until = now + chrono::TimeDelta::minutes(15);
    let role = sluice::directory::Role::Owner;
    let key = directory.create_login_link(user, role, until, now).await.unwrap();
    let mut browser = Browser::new(&server);
    let page = browser.open(&format!("/login?link={key}")).await;
    assert!(page.status == 200 && page.text.contains("Sign in as Alice A"), "{}", page.text);
    // To look at it uses nothing up: mail programs and chats do.
    let origin = browser.origin();
    assert_eq!(browser.send("/login", &origin, &[("link", &key)]).await.status, 303);
    assert_eq!(browser.open("/sessions").await.status, 200);
    let again = Browser::new(&server).send("/login", &origin, &[("link", &key)]).await;
    assert!(again.status == 422 && again.text.contains("was used already"), "{}", again.text);
    let late = directory.create_login_link(user, role, until, now).await.unwrap();
    clock(&server, "2026-03-15T12:15:00Z").await;
    assert_eq!(Browser::new(&server).open(&format!("/login?link={late}")).await.status, 410);
    // Whoever is erased is signed out, and no link is left.
    assert!(directory.create_login_link(user, sluice::directory::Role::Agent, until, now).await.is_err());
    server.post(Who::Staff, "/api/users/erase/", &json!({"username": "alice"})).await.expect(200);
    assert_eq!(browser.open("/sessions").await.status, 303);
    server.stop().await;
}
