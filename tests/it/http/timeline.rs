//! What happened to a resource, and its raw usage reset by hand.

use serde_json::{Value, json};

use crate::support::server::{TestServer, Who, resource_path};

fn kinds(rows: &Value) -> Vec<&str> {
    rows.as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect()
}

/// A month goes over, and things happen on both sides of it.
async fn eventful() -> (TestServer, String) {
    let server = TestServer::start().await;
    server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    let path = resource_path("bio-hpc1");
    server.report("bio-hpc1", "100", "2026-03-01").await;
    server.report("bio-hpc1", "420", "2026-03-01").await;
    server.report("bio-hpc1", "430", "2026-03-01").await;
    server.report("bio-hpc1", "510", "2026-03-01").await;
    let hold = json!({"kind": "pause", "reason": "incident", "expires_at": "2026-03-20T00:00:00Z"});
    server.post(Who::Alice, &format!("{path}holds/"), &hold).await.expect(201);
    server.put(Who::Staff, "/api/simulation/clock/", &json!({"now": "2026-04-02T12:00:00Z"})).await.expect(200);
    server.patch(Who::Staff, &path, &json!({"limits": {"node_hours": 600}, "reason": "top-up"})).await.expect(200);
    (server, format!("{path}timeline/"))
}

#[tokio::test]
async fn a_timeline_has_what_changed_and_leaves_out_what_did_not() {
    let (server, timeline) = eventful().await;
    let all = server.get(Who::Staff, &format!("{timeline}?page_size=100")).await;
    let rows = all.expect(200);
    let (expected, mut found) = (
        [
            "limits", // and what follows of it
            "command",
            "reset",
            "restriction",
            "evaluation", // the new quarter
            "restriction",
            "hold", // the hold ran out: still slowed down
            "restriction",
            "hold", // placed
            "command",
            "restriction",
            "evaluation", // 102 %
            "evaluation", // 84 %: a notice
            "reset",      // taken over
            "resource",
        ],
        kinds(&rows),
    );
    found.retain(|kind| *kind != "command" && *kind != "notice");
    let expected: Vec<&str> = expected.into_iter().filter(|kind| *kind != "command").collect();
    assert_eq!(found, expected, "{rows:#}");
    assert_eq!(all.header("x-result-count").parse::<usize>().unwrap(), rows.as_array().unwrap().len());
    let top_up = &rows.as_array().unwrap().iter().find(|row| row["kind"] == "limits").unwrap();
    assert_eq!(
        (&top_up["summary"], &top_up["reason"], &top_up["actor"]["kind"], &top_up["at"]),
        (
            &json!("limits node_hours 500 -> node_hours 600"),
            &json!("top-up"),
            &json!("staff"),
            &json!("2026-04-02T12:00:00Z")
        )
    );
    let warned = rows.as_array().unwrap().iter().rev().find(|row| row["kind"] == "evaluation").unwrap();
    assert_eq!(
        (&warned["details"]["usage_percentage"], &warned["details"]["actions_taken"]),
        (&json!(84), &json!(["notify"]))
    );
    let mut at: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["at"].as_str().unwrap()).collect();
    at.reverse();
    assert!(at.is_sorted(), "newest first, over the turn of the month: {at:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_timeline_is_paged_and_filtered_and_seen_by_those_who_see_the_resource() {
    let (server, timeline) = eventful().await;
    let whole = server.get(Who::Bea, &format!("{timeline}?page_size=100")).await.expect(200);
    let whole = whole.as_array().unwrap();
    let mut paged = Vec::new();
    for page in 1..=whole.len().div_ceil(4) {
        let rows = server.get(Who::Bea, &format!("{timeline}?page_size=4&page={page}")).await.expect(200);
        paged.extend(rows.as_array().unwrap().clone());
    }
    assert_eq!(&paged, whole);
    let beyond = format!("{timeline}?page_size=100&page=2");
    server.get(Who::Bea, &beyond).await.expect(404);
    let holds = server.get(Who::Staff, &format!("{timeline}?kind=hold&kind=limits")).await.expect(200);
    assert_eq!(kinds(&holds), ["limits", "hold", "hold"]);
    let march = server.get(Who::Staff, &format!("{timeline}?to=2026-03-16&page_size=100")).await.expect(200);
    assert!(march.as_array().unwrap().iter().all(|row| row["at"].as_str().unwrap() < "2026-03-17"));
    let april =
        server.get(Who::Staff, &format!("{timeline}?from=2026-04-01T00:00:00Z&page_size=100")).await.expect(200);
    let (march, april) = (march.as_array().unwrap().len(), april.as_array().unwrap().len());
    assert!(march > 5 && april > 3 && march + april < whole.len() + 1);
    assert!(server.get(Who::Staff, &format!("{timeline}?kind=weather")).await.refusal("kind").contains("restriction"));
    server.get(Who::Staff, &format!("{timeline}?from=soon")).await.refusal("from");
    server.get(Who::Carl, &timeline).await.expect(404);
    server.stop().await;
}

#[tokio::test]
async fn staff_reset_raw_usage_by_hand() {
    let server = TestServer::start().await;
    let path = format!("{}reset-raw-usage/", resource_path("climate-hpc1"));
    let refused = server.post(Who::Staff, &path, &json!({})).await.refusal("non_field_errors");
    assert!(refused.contains("No enabled policy applies"), "{refused}");
    server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    server.report("climate-hpc1", "100", "2026-03-01").await;
    let reset = server.post(Who::Staff, &path, &json!({"reason": "counter was wrong"})).await.expect(200);
    let commands: Vec<&str> =
        reset["commands"].as_array().unwrap().iter().map(|c| c["shell_command"].as_str().unwrap()).collect();
    assert_eq!(commands.last(), Some(&"sacctmgr --immediate modify account hpc_climate set RawUsage=0"));
    assert!(
        commands.contains(&"sacctmgr --immediate modify account hpc_climate set GrpTRESMins=node=66000"),
        "{commands:?}"
    );
    assert_eq!(reset["billing_period"], "2026-Q1");
    let shown =
        server.get(Who::Staff, &format!("{}timeline/?kind=reset", resource_path("climate-hpc1"))).await.expect(200);
    assert_eq!(shown[0]["reason"], "counter was wrong");
    assert_eq!(shown[0]["details"]["dispatch_uuid"], reset["dispatch_uuid"]);
    server.post(Who::Alice, &path, &json!({})).await.expect(403);
    server.stop().await;
}
