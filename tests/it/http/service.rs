//! Version, settings, users and the simulated clock.

use serde_json::json;

use crate::support::server::{START, TestServer, Who};

#[tokio::test]
async fn the_clock_moves_forward_only() {
    let server = TestServer::start().await;
    let path = "/api/simulation/clock/";
    assert_eq!(server.get(Who::Staff, path).await.expect(200), json!({"now": START}));
    assert_eq!(server.put(Who::Staff, path, &json!({"now": START})).await.expect(200), json!({"now": START}));
    let next = json!({"now": "2026-03-16T00:00:00Z"});
    assert_eq!(server.put(Who::Staff, path, &next).await.expect(200), next);
    assert!(server.put(Who::Staff, path, &json!({"now": START})).await.refusal("now").contains("backwards"));
    assert!(server.put(Who::Staff, path, &json!({"now": "tomorrow"})).await.refusal("now").contains("tomorrow"));
    assert_eq!(server.put(Who::Staff, path, &json!({})).await.refusal("now"), "This field is required.");
    server.stop().await;
}

#[tokio::test]
async fn a_real_clock_is_not_to_be_set() {
    let server = TestServer::on_real_time().await;
    server.get(Who::Staff, "/api/simulation/clock/").await.expect(404);
    server.put(Who::Staff, "/api/simulation/clock/", &json!({"now": START})).await.expect(404);
    server.stop().await;
}

#[tokio::test]
async fn settings_are_changed_by_staff_all_or_none() {
    let server = TestServer::start().await;
    let days = "SLURM_POLICY_EVALUATION_LOG_RETENTION_DAYS";
    assert_eq!(server.get(Who::Support, "/api/settings/").await.expect(200)[days], 90);
    let changed = server.patch(Who::Staff, "/api/settings/", &json!({days: 30, "reason": "less"})).await.expect(200);
    assert_eq!(changed[days], 30);
    let errors = server
        .patch(Who::Staff, "/api/settings/", &json!({days: 60, "no_answer_minutes": 0, "x": 1}))
        .await
        .expect(400);
    assert_eq!(errors.as_object().unwrap().keys().collect::<Vec<_>>(), ["no_answer_minutes", "x"]);
    assert_eq!(server.get(Who::Staff, "/api/settings/").await.expect(200)[days], 30, "nothing was half done");
    server.patch(Who::Support, "/api/settings/", &json!({days: 1})).await.expect(403);
    server.stop().await;
}

#[tokio::test]
async fn everybody_may_ask_who_they_are_and_what_runs() {
    let server = TestServer::start().await;
    let agent = server.get(Who::Agent, "/api/users/me/").await.expect(200);
    assert_eq!(
        (&agent["username"], &agent["role"], &agent["is_staff"]),
        (&json!("agent-hpc1"), &json!("agent"), &json!(false))
    );
    assert_eq!(server.get(Who::Anonymous, "/api/version/").await.expect(200)["version"], env!("CARGO_PKG_VERSION"));
    let users = server.get(Who::Staff, "/api/users/?username=alice").await.expect(200);
    assert_eq!((users.as_array().unwrap().len(), &users[0]["email"]), (1, &json!("alice@uni-a.example")));
    let users = server.get(Who::Support, "/api/users/?username=alice").await.expect(200);
    assert_eq!((users.as_array().unwrap().len(), &users[0]["email"]), (1, &json!("")));
    server.get(Who::Alice, "/api/users/").await.expect(403);
    server.stop().await;
}
