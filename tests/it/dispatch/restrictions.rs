//! Word of restrictions reaches the agent until the site says that the account has its class of service: a message that is
//! lost is sent again, within bounds, and what was never confirmed is seen.

use std::sync::Arc;

use serde_json::{Value, json};
use sluice::dispatch::OutboxConsumer;

use super::support::{RESET, Site};
use crate::support::server::{TestServer, Who, id};

/// The account of `climate` is over its limits, and the agent has answered the settings, but never came to the restrictions.
async fn lost() -> Site {
    let mut site = Site::new().await;
    site.answer("climate-hpc1", true, &RESET).await;
    site.answer("bio-hpc1", true, &RESET).await;
    site.server.report("climate-hpc1", "2500", "2026-03-01").await;
    assert_eq!(site.agent.message().await.1["object_type"], "resource_periodic_limits");
    assert_eq!(site.agent.message().await.1["object_type"], "resource");
    site.server.app.settle().await.unwrap();
    site.answer("climate-hpc1", true, &[]).await;
    assert_eq!(site.status("climate-hpc1").await, "confirmed");
    site
}

async fn qos(site: &Site) -> Value {
    site.shown("climate-hpc1").await["site"]["qos_status"].clone()
}

#[tokio::test]
async fn a_lost_message_about_restrictions_is_sent_again_alone_until_the_class_of_service_is_confirmed() {
    let mut site = lost().await;
    assert_eq!(qos(&site).await, "sent");
    site.pass(14).await;
    assert_eq!(site.sweep().await, (0, 0), "the agent has a quarter of an hour");
    site.pass(2).await;
    assert_eq!(site.sweep().await, (0, 1));
    let (first, message) = site.agent.message().await;
    assert_eq!((&message["object_type"], &message["paused"]), (&json!("resource"), &json!(true)));
    // Another class than is meant says that it was heard, and is no confirmation.
    site.say_qos("climate-hpc1", "normal").await;
    assert_eq!(qos(&site).await, "sent");
    site.pass(16).await;
    assert_eq!(site.sweep().await, (0, 1));
    let (second, message) = site.agent.message().await;
    assert_eq!(message["object_type"], "resource");
    assert_ne!(
        first.header("message-id"),
        second.header("message-id"),
        "a message of its own, which no queue takes for the old one"
    );
    site.say_qos("climate-hpc1", "blocked").await;
    assert_eq!(qos(&site).await, "confirmed");
    assert_eq!(site.status("climate-hpc1").await, "confirmed", "the settings were not sent again");
    site.pass(60).await;
    assert_eq!(site.sweep().await, (0, 0));
    site.server.stop().await;
}

#[tokio::test]
async fn the_class_that_an_account_had_before_is_confirmed_anew_after_restrictions_came_and_went() {
    let mut site = lost().await;
    site.say_qos("climate-hpc1", "blocked").await;
    site.limit("climate-hpc1", 9000).await;
    site.limit("climate-hpc1", 1000).await;
    site.server.app.settle().await.unwrap();
    let mut told = Vec::new();
    while told.last() != Some(&json!(true)) {
        let (_, message) = site.agent.message().await;
        if message["object_type"] == "resource" {
            told.push(message["paused"].clone());
        }
    }
    assert_eq!(qos(&site).await, "sent", "what was said before the restrictions changed does not count");
    site.say_qos("climate-hpc1", "blocked").await;
    assert_eq!(qos(&site).await, "confirmed");
    site.server.stop().await;
}

#[tokio::test]
async fn what_is_never_confirmed_is_given_up_seen_and_sent_again_by_hand() {
    let mut site = lost().await;
    for resend in 1..=5 {
        site.pass(16).await;
        assert_eq!(site.sweep().await, (0, 1), "resend {resend}");
        assert_eq!(site.agent.message().await.1["object_type"], "resource");
    }
    assert_eq!(qos(&site).await, "sent");
    site.pass(16).await;
    assert_eq!(site.sweep().await, (0, 0), "five times are enough");
    assert_eq!(qos(&site).await, "no_answer");
    let differences = site.shown("climate-hpc1").await["site"]["differences"].to_string();
    assert!(differences.contains("told of the restrictions 6 times"), "{differences}");
    let depth = site.server.app.publisher.depth().await.unwrap();
    assert_eq!((depth.restrictions, depth.restrictions_unconfirmed, depth.restrictions_given_up), (0, 0, 1));

    let letters = site.server.get(Who::Support, "/api/dead-letters/").await;
    assert_eq!(letters.header("x-result-count"), "1");
    let letters = letters.expect(200);
    assert_eq!(
        (&letters[0]["message"], &letters[0]["reason"], &letters[0]["dispatch_uuid"], &letters[0]["resends"]),
        (&json!("resource"), &json!("no_answer"), &Value::Null, &json!(5))
    );
    let resource = id("resource", "climate-hpc1");
    let resend = format!("/api/dead-letters/{resource}/resend/");
    site.server.post(Who::Alice, &resend, &json!({})).await.expect(403);
    site.server.post(Who::Staff, &resend, &json!({"reason": "the agent is back"})).await.expect(202);
    assert_eq!(site.agent.message().await.1["resource_uuid"], resource);
    site.server.app.settle().await.unwrap();
    assert_eq!(qos(&site).await, "sent");
    assert_eq!(site.server.get(Who::Staff, "/api/dead-letters/").await.expect(200), json!([]));
    site.say_qos("climate-hpc1", "blocked").await;
    assert_eq!(qos(&site).await, "confirmed");
    site.server.post(Who::Staff, &resend, &json!({})).await.expect(404);
    site.server.stop().await;
}

#[tokio::test]
async fn an_agent_that_gets_on_with_other_accounts_is_given_time() {
    let site = lost().await;
    site.server.report("bio-hpc1", "2500", "2026-03-01").await;
    site.server.app.settle().await.unwrap();
    // Twenty minutes, and ten since the agent last got on, with something that was sent before.
    site.pass(10).await;
    site.answer("bio-hpc1", true, &[]).await;
    site.pass(10).await;
    assert_eq!(site.sweep().await, (0, 1), "climate was passed over, bio comes next");
    site.pass(6).await;
    assert_eq!(site.sweep().await, (0, 1), "nobody got on since");
    site.server.stop().await;
}

#[tokio::test]
async fn a_new_start_of_the_tables_knows_as_much() {
    let site = lost().await;
    site.pass(16).await;
    assert_eq!(site.sweep().await, (0, 1));
    site.server.app.settle().await.unwrap();
    let before = site.server.app.publisher.depth().await.unwrap();
    let (registry, follower) = (Arc::clone(&site.server.app.registry), Arc::clone(&site.server.app.follower));
    let fresh = OutboxConsumer::new(registry, follower, Arc::default());
    site.server.app.consumers.rebuild(Box::new(fresh), |_| ()).await.unwrap();
    site.server.app.settle().await.unwrap();
    assert_eq!(site.server.app.publisher.depth().await.unwrap(), before);
    assert_eq!(qos(&site).await, "sent");
    for _ in 2..=5 {
        site.pass(16).await;
        assert_eq!(site.sweep().await, (0, 1), "the count of resends is in the log");
    }
    site.pass(16).await;
    assert_eq!(site.sweep().await, (0, 0));
    assert_eq!(qos(&site).await, "no_answer");
    site.server.stop().await;
}

#[tokio::test]
async fn when_an_account_was_looked_after_is_kept_to_ten_minutes() {
    let server = TestServer::start().await;
    let (policy, _) = server.policy(|_| ()).await;
    let path = crate::support::server::resource_path("climate-hpc1");
    let sync = format!("{path}refresh_last_sync/");
    assert!(server.get(Who::Agent, &path).await.expect(200).get("last_sync").is_none(), "absent rather than null");
    for _ in 0..3 {
        server.post(Who::Agent, &sync, &json!({})).await.expect(200);
    }
    assert_eq!(server.get(Who::Agent, &path).await.expect(200)["last_sync"], "2026-03-15T12:00:00Z");
    let listed = server.get(Who::Agent, "/api/marketplace-provider-resources/?slug=climate-hpc1").await.expect(200);
    assert_eq!(listed[0]["last_sync"], "2026-03-15T12:00:00Z");
    let of = format!("{policy}status/?resource_uuid={}", id("resource", "climate-hpc1"));
    let status = server.get(Who::Staff, &of).await.expect(200);
    assert_eq!(status["resources"][0]["site"]["last_sync_at"], "2026-03-15T12:00:00Z");
    server.app.advance_clock("2026-03-15T12:09:00Z".parse().unwrap()).await.unwrap();
    server.post(Who::Agent, &sync, &json!({})).await.expect(200);
    let events = "/api/events/?type=resource_synced";
    assert_eq!(server.get(Who::Staff, events).await.expect(200).as_array().unwrap().len(), 1);
    // A new month's book knows it too.
    server.app.advance_clock("2026-04-02T12:00:00Z".parse().unwrap()).await.unwrap();
    assert_eq!(server.get(Who::Agent, &path).await.expect(200)["last_sync"], "2026-03-15T12:00:00Z");
    server.post(Who::Agent, &sync, &json!({})).await.expect(200);
    assert_eq!(server.get(Who::Agent, &path).await.expect(200)["last_sync"], "2026-04-02T12:00:00Z");
    server.post(Who::OtherAgent, &sync, &json!({})).await.expect(404);
    server.stop().await;
}
