//! What the chart of an allocation shows.

use serde_json::{Value, json};
use sluice::events::envelope::Position;

use crate::support::server::{TestServer, Who, id, resource_path};

fn series_of(slug: &str) -> String {
    format!("{}usage-series/", resource_path(slug))
}

async fn at(server: &TestServer, instant: &str) {
    server.put(Who::Staff, "/api/simulation/clock/", &json!({ "now": instant })).await.expect(200);
}

fn column<'a>(rows: &'a Value, field: &str) -> Vec<&'a Value> {
    rows.as_array().unwrap().iter().map(|row| &row[field]).collect()
}

/// A quarter in which much happens: a notice, a slowdown, a top-up, a pause, a hold, and a policy that changes.
async fn eventful() -> (TestServer, String) {
    let server = TestServer::start().await;
    let (path, _) = server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    server.report("bio-hpc1", "410", "2026-03-01").await;
    at(&server, "2026-03-16T12:00:00Z").await;
    server.report("bio-hpc1", "505", "2026-03-01").await;
    at(&server, "2026-03-16T13:00:00Z").await;
    server.patch(Who::Staff, &resource_path("bio-hpc1"), &json!({"limits": {"node_hours": 800}})).await.expect(200);
    at(&server, "2026-03-16T14:00:00Z").await;
    let hold = json!({"kind": "pause", "reason": "incident", "expires_at": "2026-03-16T18:00:00Z"});
    server.post(Who::Alice, &format!("{}holds/", resource_path("bio-hpc1")), &hold).await.expect(201);
    at(&server, "2026-03-20T12:00:00Z").await;
    server.patch(Who::Staff, &path, &json!({"grace_ratio": 0.1})).await.expect(200);
    server.report("bio-hpc1", "880", "2026-03-01").await;
    server.report("bio-hpc1", "600", "2026-03-01").await;
    (server, series_of("bio-hpc1"))
}

#[tokio::test]
async fn a_series_has_usage_thresholds_as_they_were_bands_and_what_happened() {
    let (server, path) = eventful().await;
    let series = server.get(Who::Staff, &path).await.expect(200);
    assert_eq!(
        (&series["billing_period"], &series["starts_at"], &series["ends_before"], &series["unit"]),
        (&json!("2026-Q1"), &json!("2026-01-01T00:00:00Z"), &json!("2026-04-01T00:00:00Z"), &json!("hours"))
    );
    let steps = &series["steps"];
    assert_eq!(
        column(steps, "used"),
        [&json!(0), &json!(410), &json!(505), &json!(505), &json!(505), &json!(505), &json!(880), &json!(600)],
        "{series:#}"
    );
    assert_eq!(
        column(steps, "state"),
        [
            &json!("normal"),
            &json!("warned"),
            &json!("slowed_down"),
            &json!("normal"),
            &json!("on_hold"),
            &json!("normal"),
            &json!("paused"),
            &json!("normal")
        ]
    );
    let thresholds = &series["thresholds"];
    assert_eq!(column(thresholds, "may_use"), [&json!(500), &json!(800), &json!(800)]);
    assert_eq!(column(thresholds, "policy_version"), [&json!(1), &json!(1), &json!(2)]);
    assert_eq!(column(&thresholds[1]["rungs"], "amount"), [&json!(640), &json!(800), &json!(960)]);
    assert_eq!(column(&thresholds[2]["rungs"], "amount"), [&json!(640), &json!(800), &json!(880)]);
    let band = |state: &str, from: &str, to: &str| json!({"state": state, "from": from, "to": to});
    assert_eq!(
        series["bands"],
        json!([
            band("warned", "2026-03-15T12:00:00Z", "2026-03-16T12:00:00Z"),
            band("slowed_down", "2026-03-16T12:00:00Z", "2026-03-16T13:00:00Z"),
            band("on_hold", "2026-03-16T14:00:00Z", "2026-03-16T18:00:00Z"),
        ]),
        "what lasts no time is no band"
    );
    let kinds: Vec<&str> = column(&series["markers"], "kind").iter().map(|kind| kind.as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "warned",
            "slowed_down",
            "limits_changed",
            "restored",
            "hold_placed",
            "paused",
            "hold_ended",
            "restored",
            "policy_changed",
            "warned",
            "paused",
            "restated",
            "restored"
        ]
    );
    assert_eq!(series["gaps"], json!([{"from": "2026-03-16T12:00:00Z", "to": "2026-03-20T12:00:00Z"}]));
    let forecast = &series["forecast"];
    assert_eq!((&forecast["used"], &forecast["ahead"][0]["amount"]), (&json!(600), &json!(640)));
    assert_eq!(forecast["pace"]["last_7_days"], json!(38), "190 in the five days that are known");
    server.stop().await;
}

#[tokio::test]
async fn every_figure_of_a_series_names_its_event() {
    let (server, path) = eventful().await;
    let series = server.get(Who::Staff, &path).await.expect(200);
    for list in ["steps", "thresholds", "markers"] {
        for row in series[list].as_array().unwrap() {
            let position: Position = row["position"].as_str().unwrap().parse().unwrap();
            let event = server.app.store.event_at(position).await.unwrap().unwrap();
            assert_eq!(json!(event.event_id.as_simple().to_string()), row["event_uuid"]);
            assert_eq!(json!(event.occurred_at), row["at"], "{row}");
            if list == "steps" {
                let said: Value = serde_json::from_str(&event.payload).unwrap();
                assert_eq!(said["outcome"]["weighted_usage"], json!(row["used"].to_string()), "{said}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_series_is_bounded_cut_to_a_span_and_seen_by_those_who_see_the_allocation() {
    let (server, path) = eventful().await;
    let get = async |query: &str| server.get(Who::Staff, &format!("{path}?{query}")).await.expect(200);
    for used in 601..630 {
        server.report("bio-hpc1", &used.to_string(), "2026-03-01").await;
    }
    let whole = get("").await;
    let bounded = get("steps=20").await;
    let decided = |series: &Value| {
        let steps = series["steps"].as_array().unwrap();
        steps.iter().filter(|step| step["decided"] == true).cloned().collect::<Vec<_>>()
    };
    assert_eq!(decided(&bounded), decided(&whole), "no decision is left out");
    let (all, some) = (whole["steps"].as_array().unwrap().len(), bounded["steps"].as_array().unwrap().len());
    assert!(some <= 20 && all > 30, "{some} of {all}");
    assert_eq!(bounded["steps_left_out"], json!(all - some));
    assert_eq!(
        (bounded["steps"].as_array().unwrap().last(), &bounded["markers"]),
        (whole["steps"].as_array().unwrap().last(), &whole["markers"])
    );
    let day = get("from=2026-03-16T12:30:00Z&to=2026-03-16T15:00:00Z").await;
    assert_eq!(column(&day["steps"], "state"), [&json!("slowed_down"), &json!("normal"), &json!("on_hold")]);
    assert_eq!(
        column(&day["thresholds"], "may_use"),
        [&json!(500), &json!(800)],
        "what held when it begins comes first"
    );
    assert_eq!(day["bands"].as_array().unwrap().len(), 2);
    let before = get("billing_period=2025-Q4").await;
    assert_eq!((&before["steps"], &before["forecast"]), (&json!([]), &json!(null)));
    for (query, field, allowed) in [
        ("steps=1", "steps", "2 to 800"),
        ("steps=801", "steps", "2 to 800"),
        ("billing_period=summer", "billing_period", "2026-Q1"),
        ("from=soon", "from", "ISO 8601"),
    ] {
        let refusal = server.get(Who::Staff, &format!("{path}?{query}")).await.refusal(field);
        assert!(refusal.contains(allowed), "{query}: {refusal}");
    }
    let none = format!("{path}?policy_uuid={}", id("policy", "none"));
    server.get(Who::Staff, &none).await.expect(404);
    for (who, status) in [(Who::Bea, 200), (Who::Alice, 200), (Who::Carl, 404), (Who::Bob, 404), (Who::Anonymous, 401)]
    {
        server.get(who, &path).await.expect(status);
    }
    server.get(Who::Staff, &series_of("nothing")).await.expect(404);
    server.stop().await;
}
