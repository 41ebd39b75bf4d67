//! What becomes of a message that is answered late, wrongly or never.

use serde_json::{Value, json};

use super::support::{RESET, Site, connect, newest, queue_for, report};
use crate::support::server::{TestServer, Who, id};

#[tokio::test]
async fn what_nobody_answers_is_said_so_sent_again_and_given_up_and_staff_may_send_it_again() {
    let mut site = Site::new().await;
    site.answer("bio-hpc1", true, &RESET).await;
    site.pass(14).await;
    assert_eq!(site.status("climate-hpc1").await, "sent");
    site.pass(2).await;
    assert_eq!(site.status("climate-hpc1").await, "no_answer");
    let dispatch = newest(&site.server, &site.policy, "climate-hpc1").await["dispatch_uuid"].clone();
    let rows = |rows: Value| rows.as_array().unwrap().len();
    let history = format!("{}command-history/?resource_uuid={}", site.policy, id("resource", "climate-hpc1"));
    let before = rows(site.server.get(Who::Staff, &history).await.expect(200));
    let mut seen = std::collections::BTreeSet::new();
    for resend in 1..=5 {
        assert_eq!(site.sweep().await.1, 1, "resend {resend}");
        let (frame, message) = site.agent.message().await;
        assert_eq!(message["dispatch_uuid"], dispatch);
        assert!(seen.insert(frame.header("message-id").unwrap().to_owned()), "a message of its own");
        assert_eq!(site.agent.message().await.1["object_type"], "resource", "and how the resource stands");
        assert_eq!(site.status("climate-hpc1").await, "sent");
        site.pass(16).await;
        assert_eq!(site.status("climate-hpc1").await, "no_answer");
    }
    assert_eq!(site.sweep().await, (0, 0), "five times are enough");
    let after = rows(site.server.get(Who::Staff, &history).await.expect(200));
    assert_eq!(before, after, "a resend is the same dispatch");

    let letters = site.server.get(Who::Staff, "/api/dead-letters/").await.expect(200);
    assert_eq!(letters.as_array().unwrap().len(), 1, "{letters}");
    assert_eq!((&letters[0]["dispatch_uuid"], &letters[0]["reason"]), (&dispatch, &json!("no_answer")));
    assert_eq!((&letters[0]["resource_name"], &letters[0]["resends"]), (&json!("climate on hpc1"), &json!(5)));
    let resend = format!("/api/dead-letters/{}/resend/", dispatch.as_str().unwrap());
    site.server.post(Who::Alice, &resend, &json!({})).await.expect(403);
    site.server.post(Who::Staff, &resend, &json!({"reason": "the agent is back"})).await.expect(202);
    assert_eq!(site.agent.message().await.1["dispatch_uuid"], dispatch);
    site.server.app.settle().await.unwrap();
    assert_eq!(site.status("climate-hpc1").await, "sent");
    assert_eq!(site.server.get(Who::Staff, "/api/dead-letters/").await.expect(200), json!([]));
    site.server.post(Who::Staff, &resend, &json!({})).await.expect(404);
    site.answer("climate-hpc1", true, &[]).await;
    assert_eq!(site.status("climate-hpc1").await, "confirmed");
    site.server.stop().await;
}

#[tokio::test]
async fn while_nobody_listens_nothing_is_sent_again_and_no_resend_is_used_up() {
    let mut site = Site::new().await;
    site.agent.disconnect().await;
    let broker = site.server.app.builtin_broker.clone().unwrap();
    while broker.connections() > 0 {
        tokio::task::yield_now().await;
    }
    site.pass(16).await;
    for _ in 0..7 {
        assert_eq!(site.sweep().await, (0, 0));
    }
    site.agent = connect(&site.server, &site.queue).await;
    site.agent.subscribe(&site.queue.queue, "auto").await;
    assert_eq!(site.sweep().await, (0, 2));
    assert_eq!(site.agent.message().await.1["object_type"], "resource_periodic_limits");
    site.server.stop().await;
}

#[tokio::test]
async fn progress_gives_those_behind_it_time_and_those_passed_over_none() {
    let site = Site::new().await;
    for resource in ["climate-hpc1", "bio-hpc1"] {
        site.answer(resource, true, &RESET).await;
        site.limit(resource, 600).await;
    }
    // Two are out; the one sent last is answered, so the other was passed over.
    let order = {
        let path = format!("{}command-history/", site.policy);
        let rows = site.server.get(Who::Staff, &path).await.expect(200);
        rows[0]["resource_uuid"].clone()
    };
    let (last, first) =
        if order == id("resource", "bio-hpc1") { ("bio-hpc1", "climate-hpc1") } else { ("climate-hpc1", "bio-hpc1") };
    site.pass(10).await;
    site.answer(first, true, &[]).await;
    site.pass(10).await;
    assert_eq!(site.status(last).await, "sent", "20 minutes, and 10 since the agent got on");
    site.pass(6).await;
    assert_eq!(site.status(last).await, "no_answer");

    site.limit(first, 700).await;
    site.limit(last, 800).await;
    site.pass(10).await;
    // The one that was never answered first, then the one that superseded it.
    site.answer(last, true, &[]).await;
    site.answer(last, true, &[]).await;
    site.pass(6).await;
    assert_eq!(site.status(first).await, "no_answer", "what came after it was answered");
    site.server.stop().await;
}

#[tokio::test]
async fn what_is_superseded_may_still_be_answered_and_hands_its_reset_on_for_an_hour() {
    let mut site = Site::new().await;
    let path = format!("{}command-history/?resource_uuid={}", site.policy, id("resource", "climate-hpc1"));
    site.pass(5).await;
    site.limit("climate-hpc1", 1100).await;
    assert_eq!(site.agent.message().await.1["settings"]["reset_raw_usage"], true, "inherited");
    site.pass(50).await;
    // The hour runs from the first hand-over, whoever carries the reset by now.
    site.pass(10).await;
    site.limit("climate-hpc1", 1200).await;
    let (_, message) = site.agent.message().await;
    assert_eq!(message["settings"]["reset_raw_usage"], false, "an hour after the first hand-over");
    assert!(site.reset_unconfirmed().await);
    // The agent was slow and not dead: its answers come in the order of the messages.
    site.answer("climate-hpc1", true, &RESET).await;
    let rows = site.server.get(Who::Staff, &path).await.expect(200);
    let states: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["status"].as_str().unwrap()).collect();
    assert!(states.contains(&"confirmed"), "{states:?}");
    assert!(!site.reset_unconfirmed().await, "one of them ran it");
    site.server.stop().await;
}

#[tokio::test]
async fn a_resend_leaves_the_reset_out_once_its_hour_is_over() {
    let mut site = Site::new().await;
    for (minutes, reset) in [(16, true), (16, true), (16, true), (16, false)] {
        site.pass(minutes).await;
        let swept = site.sweep().await;
        assert!(swept.1 >= 1, "{swept:?}");
        let mut seen = Vec::new();
        for _ in 0..4 {
            let (_, message) = site.agent.message().await;
            if message["backend_id"] == "hpc_climate" {
                seen.push(message["settings"]["reset_raw_usage"].clone());
            }
        }
        assert_eq!(seen, [json!(reset)]);
    }
    assert!(site.reset_unconfirmed().await);
    // Either answer is one to this dispatch.
    site.answer("climate-hpc1", true, &[]).await;
    assert_eq!(site.status("climate-hpc1").await, "confirmed");
    assert!(site.reset_unconfirmed().await, "nobody said that it ran");
    site.server.stop().await;
}

#[tokio::test]
async fn a_failure_touches_its_own_dispatch_and_staff_may_send_it_again() {
    let mut site = Site::new().await;
    site.answer("climate-hpc1", false, &[]).await;
    site.answer("bio-hpc1", true, &RESET).await;
    assert_eq!(
        (site.status("climate-hpc1").await, site.status("bio-hpc1").await),
        (json!("failed"), json!("confirmed"))
    );
    let letters = site.server.get(Who::Support, "/api/dead-letters/").await.expect(200);
    assert_eq!(letters[0]["error"], "sacctmgr: error: it did not work");
    assert_eq!(site.sweep().await, (0, 0), "a failure is not repeated by itself");
    let resend = format!("/api/dead-letters/{}/resend/", letters[0]["dispatch_uuid"].as_str().unwrap());
    // It may fail again, and be sent again.
    for success in [false, true] {
        site.server.post(Who::Staff, &resend, &json!({})).await.expect(202);
        let told = loop {
            let message = site.agent.message().await.1;
            if message["object_type"] == "resource_periodic_limits" {
                break message;
            }
        };
        assert_eq!(told["backend_id"], "hpc_climate");
        site.server.app.settle().await.unwrap();
        assert_eq!(site.status("climate-hpc1").await, "sent");
        site.answer("climate-hpc1", success, if success { &RESET[..] } else { &[] }).await;
        assert_eq!(site.status("climate-hpc1").await, if success { "confirmed" } else { "failed" });
    }
    assert_eq!(site.server.get(Who::Support, "/api/dead-letters/").await.expect(200), json!([]));
    site.server.stop().await;
}

#[tokio::test]
async fn an_agent_has_no_more_than_a_window_of_unanswered_messages() {
    let server = TestServer::start().await;
    server.patch(Who::Staff, "/api/settings/", &json!({"dispatch_window": 1})).await.expect(200);
    let queue = queue_for("hpc1", 1, &["resource_periodic_limits"]);
    server.app.agent_queues.put(queue.clone());
    let (policy, _) = server.policy(|_| ()).await;
    server.app.settle().await.unwrap();
    let depth = server.app.publisher.depth().await.unwrap();
    assert_eq!((depth.queued, depth.unanswered), (1, 1));
    let mut agent = connect(&server, &queue).await;
    agent.subscribe(&queue.queue, "auto").await;
    let name = |message: &Value| if message["backend_id"] == "hpc_bio" { "bio-hpc1" } else { "climate-hpc1" };
    let (_, first) = agent.message().await;
    let path = format!("{policy}report-command-result/");
    server.post(Who::Agent, &path, &report(name(&first), true, &RESET)).await.expect(200);
    let (_, second) = agent.message().await;
    assert_ne!(first["backend_id"], second["backend_id"]);
    server.post(Who::Agent, &path, &report(name(&second), true, &RESET)).await.expect(200);
    server.app.settle().await.unwrap();
    let depth = server.app.publisher.depth().await.unwrap();
    assert_eq!((depth.queued, depth.unanswered, depth.given_up), (0, 0, 0));
    server.stop().await;
}

#[tokio::test]
async fn the_settings_sync_sends_again_what_nobody_answered_and_its_record_says_so() {
    let server = TestServer::start().await;
    let queue = queue_for("hpc1", 1, &["resource_periodic_limits"]);
    server.app.agent_queues.put(queue.clone());
    let (policy, _) = server.policy(|_| ()).await;
    let mut agent = connect(&server, &queue).await;
    agent.subscribe(&queue.queue, "auto").await;
    let first = [agent.message().await.1["dispatch_uuid"].clone(), agent.message().await.1["dispatch_uuid"].clone()];
    server.app.settle().await.unwrap();
    // Sent at 12:00, late at 12:15, and the next sync after that is at 12:20.
    server.app.advance_clock("2026-03-15T12:19:00Z".parse().unwrap()).await.unwrap();
    assert_eq!(newest(&server, &policy, "climate-hpc1").await["status"], "no_answer");
    let synced = |runs: Vec<sluice::scheduler::Run>| -> Vec<(String, serde_json::Value)> {
        let run = |r: sluice::scheduler::Run| (r.due.format("%H:%M").to_string(), r.counts["sent_again"].clone());
        runs.into_iter().filter(|r| r.job == sluice::scheduler::Job::SettingsSync).map(run).collect()
    };
    let runs = server.app.advance_clock("2026-03-15T12:21:00Z".parse().unwrap()).await.unwrap();
    assert_eq!(synced(runs), [("12:20".to_owned(), json!(2))]);
    let mut again = Vec::new();
    while again.len() < 2 {
        let (_, message) = agent.message().await;
        if message["object_type"] == "resource_periodic_limits" {
            again.push(message["dispatch_uuid"].clone());
        }
    }
    assert!(first.iter().all(|dispatch| again.contains(dispatch)), "the same dispatches");
    // Once nobody listens the clock has nothing to stop for.
    agent.disconnect().await;
    let broker = server.app.builtin_broker.clone().unwrap();
    while broker.connections() > 0 {
        tokio::task::yield_now().await;
    }
    let runs = server.app.advance_clock("2026-03-15T18:00:00Z".parse().unwrap()).await.unwrap();
    assert_eq!(synced(runs), [("18:00".to_owned(), json!(0))]);
    server.stop().await;
}
