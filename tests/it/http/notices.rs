//! `/api/notices/`: what could not be delivered is seen, and sent again when the cause is gone.

use serde_json::{Value, json};
use sluice::notify::RetryOptions;

use crate::support::server::{TestServer, Who, id};

const NOTICES: &str = "/api/notices/";

async fn in_state(server: &TestServer, state: &str) -> Vec<Value> {
    let rows = server.get(Who::Support, &format!("{NOTICES}?state={state}")).await.expect(200);
    rows.as_array().unwrap().clone()
}

/// A notice that was given up, since a file stands in the place of the mail folder.
async fn given_up() -> (TestServer, std::path::PathBuf) {
    let retry = RetryOptions { attempts_max: 1, ..RetryOptions::default() };
    let server = TestServer::customized(|options| options.notify.retry = retry).await;
    let folder = server.folder().join("mail");
    std::fs::write(&folder, "no folder").unwrap();
    server.policy(|policy| policy["carryover_enabled"] = json!(false)).await;
    server.report("climate-hpc1", "850", "2026-03-01").await;
    assert_eq!(in_state(&server, "owed").await.len(), 1);
    server.put(Who::Staff, "/api/simulation/clock/", &json!({"now": "2026-03-15T12:05:00Z"})).await.expect(200);
    (server, folder)
}

#[tokio::test]
async fn what_was_given_up_is_listed_with_its_reason_and_can_be_sent_again() {
    let (server, folder) = given_up().await;
    let failed = in_state(&server, "failed").await;
    let [row] = &failed[..] else { panic!("{failed:?}") };
    assert!(row["error"].as_str().unwrap().starts_with("given up after 1 attempts: the mail folder cannot be written"));
    let shown =
        ["template", "channel", "via", "recipient_name", "resource_uuid", "attempts"].map(|name| row[name].clone());
    let resource = id("resource", "climate-hpc1");
    assert_eq!(json!(shown), json!(["threshold_reached", "mail", "owner", "alice", resource, 1]));
    std::fs::remove_file(&folder).unwrap();
    let path = format!("{NOTICES}{}/resend/", row["uuid"].as_str().unwrap());
    assert_eq!(server.post(Who::Staff, &path, &json!({})).await.expect(200), json!({"resent": 1}));
    server.app.settle().await.unwrap();
    assert_eq!((in_state(&server, "sent").await.len(), in_state(&server, "failed").await.len()), (1, 0));
    assert_eq!(std::fs::read_dir(folder.join("new")).unwrap().count(), 1);
    server.post(Who::Staff, &path, &json!({})).await.expect(404);
    let events =
        server.get(Who::Staff, "/api/events/?type=notice_failed&type=notice_resent&type=notice_sent").await.expect(200);
    let types: Vec<&str> = events.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["notice_failed.v1", "notice_resent.v1", "notice_sent.v1"], "every step is an event");
    let resent = &events.as_array().unwrap()[1];
    assert_eq!(
        (&resent["payload"]["attempt"], &resent["payload"]["template"]),
        (&json!(1), &json!("threshold_reached"))
    );
    let staff = server.get(Who::Staff, "/api/users/me/").await.expect(200)["uuid"].clone();
    assert_eq!(resent["actor"]["uuid"], staff, "it says who asked: {resent}");
    server.stop().await;
}

#[tokio::test]
async fn all_that_was_given_up_is_sent_again_at_once() {
    let (server, folder) = given_up().await;
    std::fs::remove_file(&folder).unwrap();
    assert_eq!(
        server.post(Who::Staff, &format!("{NOTICES}resend/"), &json!({})).await.expect(200),
        json!({"resent": 1})
    );
    assert_eq!(
        server.post(Who::Staff, &format!("{NOTICES}resend/"), &json!({})).await.expect(200),
        json!({"resent": 0})
    );
    server.app.settle().await.unwrap();
    assert_eq!(in_state(&server, "sent").await.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn lists_are_pages_and_filters_are_checked() {
    let (server, _) = given_up().await;
    let answer = server
        .get(Who::Staff, &format!("{NOTICES}?page_size=1&resource_uuid={}", id("resource", "climate-hpc1")))
        .await;
    assert_eq!((answer.expect(200).as_array().unwrap().len(), answer.header("x-result-count")), (1, "1"));
    let other = server.get(Who::Staff, &format!("{NOTICES}?resource_uuid={}", id("resource", "bio-hpc1"))).await;
    assert_eq!(other.expect(200), json!([]));
    server.get(Who::Staff, &format!("{NOTICES}?page=2")).await.expect(404);
    let refused = server.get(Who::Staff, &format!("{NOTICES}?state=lost")).await.refusal("state");
    assert!(refused.contains("owed, sent, failed"), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn several_thresholds_passed_at_once_are_one_mail_and_a_top_up_tells_again_what_is_still_reached() {
    let server = TestServer::start().await;
    server
        .policy(|policy| {
            policy["carryover_enabled"] = json!(false);
            policy["notification_threshold"] = json!([50, 80, 95]);
        })
        .await;
    let clock = async |now: &str| {
        server.put(Who::Staff, "/api/simulation/clock/", &json!({"now": now})).await.expect(200);
    };
    let told = async || -> Vec<Value> {
        in_state(&server, "sent").await.iter().map(|row| row["thresholds"].clone()).collect()
    };
    server.report("climate-hpc1", "960", "2026-03-01").await;
    clock("2026-03-15T12:05:00Z").await;
    assert_eq!(told().await, [json!([50, 80, 95])]);
    server.report("climate-hpc1", "970", "2026-03-01").await;
    clock("2026-03-15T12:10:00Z").await;
    assert_eq!(told().await.len(), 1, "nothing new was reached");
    let limits = json!({"limits": {"node_hours": 1100}, "reason": "a top-up"});
    server.patch(Who::Staff, &crate::support::server::resource_path("climate-hpc1"), &limits).await.expect(200);
    clock("2026-03-15T12:15:00Z").await;
    assert_eq!(told().await, [json!([50, 80]), json!([50, 80, 95])], "88 % of the larger allocation");
    server.stop().await;
}
