//! Runs of jobs, jobs and re-evaluations, as staff and support read them.

use serde_json::json;

use crate::support::server::{TestServer, Who};

const RUNS: &str = "/api/scheduler-runs/";

#[tokio::test]
async fn runs_are_listed_newest_first_and_filtered() {
    let server = TestServer::start().await;
    server.policy(|_| ()).await;
    let clock = json!({"now": "2026-03-17T12:00:00Z"});
    server.put(Who::Staff, "/api/simulation/clock/", &clock).await.expect(200);
    let all = server.get(Who::Support, &format!("{RUNS}?page_size=100")).await;
    let rows = all.expect(200);
    let rows = rows.as_array().unwrap();
    let named: Vec<String> =
        rows.iter().map(|r| format!("{} {}", r["job"].as_str().unwrap(), r["due"].as_str().unwrap())).collect();
    assert_eq!(
        named,
        [
            "settings_sync 2026-03-17T12:00:00Z",
            "retention 2026-03-17T03:00:00Z",
            "evaluate_all 2026-03-17T02:00:00Z",
            "period_boundary 2026-03-17T01:00:00Z",
            "retention 2026-03-16T03:00:00Z",
            "evaluate_all 2026-03-16T02:00:00Z",
            "period_boundary 2026-03-16T01:00:00Z",
        ]
    );
    assert_eq!(all.header("x-result-count"), "7");
    let night = &rows[2];
    for (field, expected) in [
        ("state", json!("done")),
        ("attempt", json!(1)),
        ("done", json!(2)),
        ("total", json!(2)),
        ("failed", json!(0)),
        ("counts", json!({"resources": 2})),
        ("error", json!(null)),
        ("started", json!("2026-03-17T02:00:00Z")),
        ("finished", json!("2026-03-17T02:00:00Z")),
    ] {
        assert_eq!(night[field], expected, "{field}");
    }
    let one = server.get(Who::Staff, &format!("{RUNS}{}/", night["uuid"].as_str().unwrap())).await.expect(200);
    assert_eq!(&one, night);
    for (filter, rows) in [
        ("job=evaluate_all", 2),
        ("state=failed", 0),
        ("state=done&job=retention&started_from=2026-03-17", 1),
        ("started_before=2026-03-17T02:00:00Z", 4),
    ] {
        assert_eq!(server.get(Who::Staff, &format!("{RUNS}?{filter}")).await.ids().len(), rows, "{filter}");
    }
    assert!(server.get(Who::Staff, &format!("{RUNS}?job=nap")).await.refusal("job").contains("evaluate_all"));
    assert!(server.get(Who::Staff, &format!("{RUNS}?state=odd")).await.refusal("state").contains("interrupted"));
    assert!(
        server.get(Who::Staff, &format!("{RUNS}?started_from=x")).await.refusal("started_from").contains("instant")
    );
    server.stop().await;
}

#[tokio::test]
async fn jobs_say_when_they_are_due_and_a_settled_site_has_nothing_to_evaluate_again() {
    let server = TestServer::start().await;
    server.put(Who::Staff, "/api/simulation/clock/", &json!({"now": "2026-03-16T12:00:00Z"})).await.expect(200);
    let jobs = server.get(Who::Support, "/api/scheduler-jobs/").await.expect(200);
    let night = jobs.as_array().unwrap().iter().find(|job| job["job"] == "evaluate_all").unwrap();
    assert_eq!(
        (&night["schedule"], &night["next_due"], &night["last_run"]["due"]),
        (&json!("0 2 * * *"), &json!("2026-03-17T02:00:00Z"), &json!("2026-03-16T02:00:00Z"))
    );
    assert_eq!(jobs.as_array().unwrap().len(), 7);
    assert_eq!(server.get(Who::Support, "/api/re-evaluations/").await.expect(200), json!([]));
    server.stop().await;
}
