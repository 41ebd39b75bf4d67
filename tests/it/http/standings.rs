//! How allocations stand, as lists and numbers show it.

use serde_json::{Value, json};

use crate::support::server::{TestServer, Who, id, resource_path};

const STATES: &str = "/api/allocation-states/";

async fn at(server: &TestServer, instant: &str) {
    server.put(Who::Staff, "/api/simulation/clock/", &json!({ "now": instant })).await.expect(200);
}

/// A week of use: climate hurries, bio is over its grace.
async fn a_week() -> (TestServer, Value) {
    let server = TestServer::start().await;
    let (_, policy) = server
        .policy(|body| {
            body["carryover_enabled"] = json!(false);
            body["slug"] = json!("quarterly");
        })
        .await;
    server.report("climate-hpc1", "300", "2026-03-01").await;
    server.report("bio-hpc1", "400", "2026-03-01").await;
    at(&server, "2026-03-22T12:00:00Z").await;
    server.report("climate-hpc1", "510", "2026-03-01").await;
    server.report("bio-hpc1", "600", "2026-03-01").await;
    (server, policy)
}

fn names(rows: &Value) -> Vec<&str> {
    rows.as_array().unwrap().iter().map(|row| row["resource_slug"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_row_has_names_amounts_the_state_and_what_comes_next_at_both_paces() {
    let (server, policy) = a_week().await;
    let rows = server.get(Who::Staff, &format!("{STATES}?q=climate")).await.expect(200);
    let row = &rows[0];
    for (field, expected) in [
        ("resource_name", json!("climate on hpc1")),
        ("backend_id", json!("hpc_climate")),
        ("project_name", json!("Climate modelling")),
        ("customer_name", json!("University A")),
        ("offering_name", json!("SLURM HPC cluster")),
        ("policy_uuid", policy["uuid"].clone()),
        ("policy_slug", json!("quarterly")),
        ("billing_period", json!("2026-Q1")),
        ("period_end", json!("2026-03-31")),
        ("state", json!("normal")),
        ("state_before", json!(null)),
        ("unit", json!("hours")),
        ("used", json!(510)),
        ("may_use", json!(1000)),
        ("usage_percentage", json!(51)),
        ("reported_at", json!("2026-03-22T12:00:00Z")),
        ("report_age_seconds", json!(0)),
        ("at_risk", json!(true)),
        ("agent_status", json!("queued")),
    ] {
        assert_eq!(row[field], expected, "{field} of {row:#}");
    }
    assert_eq!(
        (&row["pace"]["last_7_days"], &row["pace"]["ideal"], &row["pace"]["multiple_of_ideal"]),
        (&json!(30), &json!(11.111_111), &json!(2.7)),
        "210 in seven days, and 1000 in 90"
    );
    assert_eq!((&row["pace"]["elapsed_percentage"], &row["pace"]["points_from_ideal"]), (&json!(90), &json!(-39)));
    let rung = |n: usize| &row["ahead"][n];
    assert_eq!(
        (&rung(0)["percent"], &rung(0)["effect"], &rung(0)["amount"], &rung(0)["left"], &rung(0)["soonest"]),
        (&json!(80), &json!("notify"), &json!(800), &json!(290), &json!("2026-03-31"))
    );
    assert_eq!(
        rung(0)["at_last_7_days"],
        json!({"days": 9, "date": "2026-03-31", "status": "projected", "in_period": true})
    );
    assert_eq!(
        rung(0)["at_average"],
        json!({"days": 46, "date": "2026-05-07", "status": "projected", "in_period": false}),
        "by then usage has started anew"
    );
    assert_eq!((&rung(1)["soonest"], &rung(1)["at_last_7_days"]["in_period"]), (&json!(null), &json!(false)));
    assert_eq!(row["rungs"].as_array().unwrap().len(), 3);
    server.stop().await;
}

#[tokio::test]
async fn a_state_says_since_when_and_what_it_was_and_what_operators_do_comes_first() {
    let (server, _) = a_week().await;
    let bio = async || server.get(Who::Staff, &format!("{STATES}?resource_uuid={}", id("resource", "bio-hpc1"))).await;
    let state = |row: &Value| [row["state"].clone(), row["state_since"].clone(), row["state_before"].clone()];
    let row = bio().await.expect(200)[0].clone();
    assert_eq!(state(&row), [json!("paused"), json!("2026-03-22T12:00:00Z"), json!("warned")]);
    assert_eq!((&row["ahead"], &row["at_risk"]), (&json!([]), &json!(false)));
    assert!(row["rungs"].as_array().unwrap().iter().all(|rung| rung["reached"] == true));
    at(&server, "2026-03-22T13:00:00Z").await;
    let exemption = json!({"kind": "exemption", "reason": "a deadline", "expires_at": "2026-03-23T00:00:00Z"});
    server.post(Who::Alice, &format!("{}holds/", resource_path("bio-hpc1")), &exemption).await.expect(201);
    let row = bio().await.expect(200)[0].clone();
    assert_eq!(state(&row), [json!("exempt"), json!("2026-03-22T13:00:00Z"), json!("paused")]);
    assert_eq!(row["manual_holds"][0]["reason"], "a deadline");
    let seen = server.get(Who::Bea, STATES).await.expect(200);
    assert_eq!(seen[0]["manual_holds"][0]["reason"], json!(null), "no matter of the resource's people");
    at(&server, "2026-03-23T01:00:00Z").await;
    let row = bio().await.expect(200)[0].clone();
    assert_eq!((&row["state"], &row["state_before"]), (&json!("paused"), &json!("exempt")));
    server.stop().await;
}

#[tokio::test]
async fn rows_are_chosen_sorted_paged_and_seen_by_those_who_see_the_resource() {
    let (server, policy) = a_week().await;
    let get = async |who, query: &str| server.get(who, &format!("{STATES}?{query}")).await.expect(200);
    for (query, expected) in [
        ("", vec!["climate-hpc1", "bio-hpc1"]),
        ("o=name", vec!["bio-hpc1", "climate-hpc1"]),
        ("o=-name", vec!["climate-hpc1", "bio-hpc1"]),
        ("o=-usage", vec!["bio-hpc1", "climate-hpc1"]),
        ("o=used", vec!["climate-hpc1", "bio-hpc1"]),
        ("o=state", vec!["bio-hpc1", "climate-hpc1"]),
        ("o=-organisation", vec!["bio-hpc1", "climate-hpc1"]),
        ("state=paused&state=on_hold", vec!["bio-hpc1"]),
        ("at_risk=true", vec!["climate-hpc1"]),
        ("at_risk=false", vec!["bio-hpc1"]),
        ("q=UNIVERSITY b", vec!["bio-hpc1"]),
        ("q=hpc_cl", vec!["climate-hpc1"]),
        ("q=quarterly", vec!["climate-hpc1", "bio-hpc1"]),
        ("q=nothing", vec![]),
        ("agent_status=confirmed", vec![]),
        ("changed_since=2026-03-22T12:00:00Z", vec!["bio-hpc1"]),
        ("changed_since=2026-03-22T12:00:01Z", vec![]),
        ("page=2&page_size=1", vec!["bio-hpc1"]),
    ] {
        assert_eq!(names(&get(Who::Staff, query).await), expected, "{query}");
    }
    let of = |field: &str, kind: &str, slug: &str| format!("{field}={}", id(kind, slug));
    for (query, expected) in [
        (of("customer_uuid", "customer", "uni-b"), vec!["bio-hpc1"]),
        (of("project_uuid", "project", "climate"), vec!["climate-hpc1"]),
        (of("offering_uuid", "offering", "hpc2"), vec![]),
        (format!("policy_uuid={}", policy["uuid"].as_str().unwrap()), vec!["climate-hpc1", "bio-hpc1"]),
    ] {
        assert_eq!(names(&get(Who::Staff, &query).await), expected, "{query}");
    }
    for (who, expected) in [
        (Who::Support, 2),
        (Who::Alice, 2),
        (Who::Bea, 1),
        (Who::Carl, 0),
        (Who::Bob, 1),
        (Who::Agent, 2),
        (Who::OtherAgent, 0),
    ] {
        let summary = server.get(who, &format!("{STATES}summary/")).await.expect(200);
        assert_eq!(
            (names(&get(who, "").await).len(), &summary["allocations"]),
            (expected, &json!(expected)),
            "{who:?}"
        );
    }
    for (query, field, allowed) in [
        ("state=stopped", "state", "slowed_down"),
        ("agent_status=lost", "agent_status", "no_answer"),
        ("o=colour", "o", "state_since"),
        ("at_risk=perhaps", "at_risk", "true or false"),
        ("changed_since=lately", "changed_since", "ISO 8601"),
        ("weather=fine", "weather", "Unknown parameter"),
    ] {
        let refusal = server.get(Who::Staff, &format!("{STATES}?{query}")).await.refusal(field);
        assert!(refusal.contains(allowed), "{query}: {refusal}");
    }
    server.get(Who::Staff, &format!("{STATES}?page=3&page_size=1")).await.expect(404);
    server.stop().await;
}

#[tokio::test]
async fn a_summary_counts_each_allocation_once_and_names_who_changed() {
    let (server, policy) = a_week().await;
    // A second policy on the same allocations, which restricts nobody.
    let (path, gentle) = server
        .policy(|body| {
            body["carryover_enabled"] = json!(false);
            body["notification_threshold"] = json!(99);
            body["actions"] = json!("notify_organization_owners");
        })
        .await;
    let summary = async |query: &str| server.get(Who::Staff, &format!("{STATES}summary/{query}")).await.expect(200);
    let now = summary("").await;
    let counts = json!({"on_hold": 0, "exempt": 0, "paused": 1, "slowed_down": 0, "warned": 0, "normal": 1});
    assert_eq!((&now["allocations"], &now["states"], &now["at_risk"]), (&json!(2), &counts, &json!(1)), "{now:#}");
    assert_eq!((&now["changed_count"], names(&now["changed"])), (&json!(1), vec!["bio-hpc1"]));
    assert_eq!(summary("?since=2026-03-22T12:00:01Z").await["changed_count"], 0);
    let together = now["together"].as_array().unwrap();
    let of = |uuid: &Value| together.iter().find(|sum| sum["policy_uuid"] == *uuid).unwrap();
    let sum = of(&policy["uuid"]);
    assert_eq!(
        (&sum["used"], &sum["may_use"], &sum["percentage"], &sum["points_from_ideal"], &sum["allocations"]),
        (&json!(1110), &json!(1500), &json!(74), &json!(-16), &json!(2))
    );
    assert_eq!(of(&gentle["uuid"])["allocations"], 2);
    let rows = server.get(Who::Staff, STATES).await.expect(200);
    assert_eq!(rows.as_array().unwrap().len(), 4, "each under each of its policies");
    let once = server.get(Who::Staff, &format!("{STATES}?once=true")).await.expect(200);
    let policies: Vec<&Value> = once.as_array().unwrap().iter().map(|row| &row["policy_uuid"]).collect();
    assert_eq!(policies, [&policy["uuid"], &policy["uuid"]], "the one that comes next, and the one that restricts");
    server.delete(Who::Staff, &path).await.expect(204);
    server
        .delete(Who::Staff, &format!("{}{}/", crate::support::server::POLICIES, policy["uuid"].as_str().unwrap()))
        .await
        .expect(204);
    let rows = server.get(Who::Staff, &format!("{STATES}?o=name")).await.expect(200);
    assert_eq!(names(&rows), ["bio-hpc1", "climate-hpc1"]);
    assert_eq!(
        (&rows[0]["policy_uuid"], &rows[0]["state"], &rows[0]["may_use"], &rows[0]["pace"]),
        (&json!(null), &json!("normal"), &json!(null), &json!(null)),
        "without a policy nothing is limited"
    );
    server.stop().await;
}
