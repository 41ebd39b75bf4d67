//! `/api/event-episodes/`, the log from its end, and one event.

use serde_json::{Value, json};

use crate::support::server::{TestServer, Who, id};

async fn lived() -> TestServer {
    let server = TestServer::start().await;
    server.policy(|policy| policy["carryover_enabled"] = json!(false)).await;
    for (slug, amount) in [("climate-hpc1", "10"), ("bio-hpc1", "20"), ("climate-hpc1", "30"), ("bio-hpc1", "560")] {
        server.report(slug, amount, "2026-03-01").await;
    }
    for (slug, amount) in [("climate-hpc1", "40"), ("climate-hpc1", "50")] {
        server.report(slug, amount, "2026-03-01").await;
    }
    server
}

async fn episodes(server: &TestServer, query: &str) -> Vec<Value> {
    server.get(Who::Support, &format!("/api/event-episodes/?{query}")).await.expect(200).as_array().unwrap().clone()
}

fn titles(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["title"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn what_happened_stands_by_cause_and_what_changed_nothing_is_folded() {
    let server = lived().await;
    let rows = episodes(&server, "").await;
    let told = titles(&rows);
    let at = told.iter().position(|title| *title == "bio on hpc1 slowed down").unwrap_or_else(|| panic!("{told:?}"));
    let row = &rows[at];
    assert!(
        row["message"].as_str().unwrap().contains("100 % reached -> downscale"),
        "the evaluation says why: {row:#}"
    );
    assert_eq!((&row["about"], &row["quiet"], &row["resources"]), (&json!("slowed_down"), &json!(false), &json!(1)));
    let chain = format!("/api/events/?correlation_id={}", row["correlation_id"].as_str().unwrap());
    let chain = server.get(Who::Support, &chain).await.expect(200);
    assert_eq!(row["events"], json!(chain.as_array().unwrap().len()));
    assert_eq!(row["first_position"], chain[0]["position"]);
    // Each of the reports on `climate` tells its agent of another limit; none of them changes anything else.
    let all = episodes(&server, "folded=false&page_size=100").await;
    assert!(all.len() >= rows.len() && all.iter().all(|row| row["chains"] == json!(1)), "{:?}", titles(&all));
    let events = |rows: &[Value]| rows.iter().map(|row| row["events"].as_u64().unwrap()).sum::<u64>();
    let whole = server.get(Who::Support, "/api/events/?page_size=100").await.expect(200);
    let all_events = whole.as_array().unwrap().len() as u64;
    assert_eq!((events(&rows), events(&all)), (all_events, all_events), "each event once");
    server.stop().await;
}

#[tokio::test]
async fn reports_that_change_nothing_are_one_row() {
    let server = TestServer::start().await;
    for number in 1..=5 {
        server.report("climate-hpc1", &number.to_string(), "2026-03-01").await;
    }
    let rows = episodes(&server, "type=usage_reported").await;
    assert_eq!(titles(&rows), ["5 usage reports, nothing changed"], "{rows:#?}");
    assert_eq!((&rows[0]["chains"], &rows[0]["events"], &rows[0]["quiet"]), (&json!(5), &json!(5), &json!(true)));
    let apart = episodes(&server, "type=usage_reported&folded=false").await;
    assert_eq!(titles(&apart), ["1 usage report, nothing changed"; 5]);
    server.stop().await;
}

#[tokio::test]
async fn pages_go_back_through_the_log_and_filters_choose() {
    let server = lived().await;
    let whole = server.get(Who::Support, "/api/events/?page_size=100").await.expect(200);
    let positions: Vec<&str> =
        whole.as_array().unwrap().iter().rev().map(|event| event["position"].as_str().unwrap()).collect();
    let (mut back, mut before) = (Vec::new(), String::new());
    loop {
        let page = server.get(Who::Support, &format!("/api/events/?o=-created&page_size=7{before}")).await;
        let rows = page.expect(200);
        back.extend(rows.as_array().unwrap().iter().map(|event| event["position"].as_str().unwrap().to_owned()));
        let Some(next) = page.headers.get("x-next-position") else { break };
        before = format!("&before={}", next.to_str().unwrap());
    }
    assert_eq!(back, positions, "the log backwards, each event once");
    let (mut events, mut before) = (0, String::new());
    loop {
        let page = server.get(Who::Support, &format!("/api/event-episodes/?page_size=2&folded=false{before}")).await;
        let rows = page.expect(200);
        events += rows.as_array().unwrap().iter().map(|row| row["events"].as_u64().unwrap()).sum::<u64>();
        let Some(next) = page.headers.get("x-next-position") else { break };
        before = format!("&before={}", next.to_str().unwrap());
    }
    assert_eq!(events, positions.len() as u64, "pages of episodes have each event once");
    let of_bio = episodes(&server, &format!("resource_uuid={}", id("resource", "bio-hpc1"))).await;
    assert!(!of_bio.is_empty() && of_bio.iter().all(|row| row["resource_name"] == "bio on hpc1"), "{of_bio:#?}");
    assert_eq!(episodes(&server, "actor=cli&from=2027-01-01").await, Vec::<Value>::new());
    for (query, field) in [("actor=somebody", "actor"), ("before=x", "before"), ("page_size=0", "page_size")] {
        server.get(Who::Support, &format!("/api/event-episodes/?{query}")).await.refusal(field);
    }
    server.get(Who::Support, "/api/events/?before=1-0").await.refusal("before");
    server.get(Who::Alice, "/api/event-episodes/").await.expect(403);
    server.stop().await;
}

#[tokio::test]
async fn one_event_says_whether_it_is_what_was_committed_to() {
    let server = lived().await;
    let whole = server.get(Who::Support, "/api/events/?page_size=100").await.expect(200);
    for event in whole.as_array().unwrap() {
        let path = format!("/api/events/{}/", event["position"].as_str().unwrap());
        let one = server.get(Who::Support, &path).await.expect(200);
        assert_eq!((&one["uuid"], &one["payload"]), (&event["uuid"], &event["payload"]));
        assert_eq!(one["commitment_holds"], json!(true));
        assert!(!event["message"].as_str().unwrap_or_default().is_empty(), "each says something: {event:#}");
    }
    for nowhere in ["99999-0", "1-1", "x", "0-0"] {
        server.get(Who::Support, &format!("/api/events/{nowhere}/")).await.expect(404);
    }
    server.stop().await;
}
