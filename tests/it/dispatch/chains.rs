//! Every event says what caused it: one correlation id gives the whole chain, and each event of it leads back to the first.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use uuid::Uuid;

use super::support::{RESET, Site};
use crate::support::causes::whole_log;
use crate::support::server::{TestServer, USAGES, Who, id, resource_path};

/// The newest event of a type in the books of climate on hpc1.
async fn newest(server: &TestServer, event_type: &str) -> Value {
    server.app.settle().await.unwrap();
    let path = format!("/api/events/?type={event_type}&resource_uuid={}", id("resource", "climate-hpc1"));
    let events = server.get(Who::Support, &path).await.expect(200);
    events.as_array().unwrap().last().cloned().unwrap_or_else(|| panic!("there is no {event_type}"))
}

/// Every event with a correlation id, page by page.
pub async fn chain(server: &TestServer, correlation: &Value, page_size: usize) -> Vec<Value> {
    let path = format!("/api/events/?page_size={page_size}&correlation_id={}", correlation.as_str().unwrap());
    let (mut events, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.get(Who::Support, &format!("{path}{after}")).await;
        events.extend(page.expect(200).as_array().unwrap().iter().cloned());
        let Some(next) = page.headers.get("x-next-position") else { return events };
        after = format!("&after={}", next.to_str().unwrap());
    }
}

/// The types from the newest event of one back to the first cause, found by its correlation id alone.
async fn back_from(server: &TestServer, event_type: &str) -> Vec<String> {
    let last = newest(server, event_type).await;
    let events = chain(server, &last["correlation_id"], 100).await;
    assert_eq!(chain(server, &last["correlation_id"], 3).await, events, "small pages are the same chain");
    let known: BTreeMap<&str, &Value> = events.iter().map(|event| (event["uuid"].as_str().unwrap(), event)).collect();
    let mut walked = Vec::new();
    let mut at = Some(last["uuid"].as_str().unwrap());
    while let Some(id) = at {
        let event = known.get(id).unwrap_or_else(|| panic!("{id} is not in the chain"));
        walked.push(event["type"].as_str().unwrap().split('.').next().unwrap().to_owned());
        at = event["causation_id"].as_str();
    }
    walked
}

/// From the hand-over of settings back to what changed the restrictions.
const TOLD: [&str; 4] = ["stomp_message_sent", "settings_commanded", "restriction_changed", "policy_evaluated"];

fn after(first: &[&str], rest: &[&str], root: &str) -> Vec<String> {
    first.iter().chain(rest).chain([&root]).map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn from_a_report_to_the_confirmation_and_the_notice_there_is_one_chain() {
    let site = Site::new().await;
    site.answer("climate-hpc1", true, &RESET).await;
    let usage = json!({"usages": [{"type": "node_hours", "amount": "9000"}], "resource": id("resource", "climate-hpc1"),
        "date": "2026-03-01T00:00:00Z"});
    site.server.post(Who::Staff, &format!("{USAGES}set_usage/"), &usage).await.expect(201);
    assert_eq!(back_from(&site.server, "stomp_message_sent").await, after(&[], &TOLD, "usage_reported"));
    site.answer("climate-hpc1", true, &[]).await;
    assert_eq!(
        back_from(&site.server, "command_result_reported").await,
        after(&["command_result_reported"], &TOLD, "usage_reported")
    );
    site.say_qos("climate-hpc1", "blocked").await;
    assert_eq!(back_from(&site.server, "qos_confirmed").await, after(&["qos_confirmed"], &TOLD, "usage_reported"));
    site.pass(5).await;
    assert_eq!(
        back_from(&site.server, "notice_sent").await.last().map(String::as_str),
        Some("usage_reported"),
        "a notice leads back to the report"
    );
    site.server.stop().await;
}

#[tokio::test]
async fn each_kind_of_trigger_is_the_first_of_its_chain() {
    let site = Site::new().await;
    site.answer("climate-hpc1", true, &RESET).await;
    let climate = resource_path("climate-hpc1");

    site.limit("climate-hpc1", 700).await;
    let changed = ["stomp_message_sent", "settings_commanded", "policy_evaluated"];
    assert_eq!(back_from(&site.server, "stomp_message_sent").await, after(&[], &changed, "limits_changed"));
    site.answer("climate-hpc1", true, &[]).await;

    let policy = site.policy.clone();
    site.server.patch(Who::Staff, &policy, &json!({"grace_ratio": 0.4})).await.expect(200);
    assert_eq!(back_from(&site.server, "stomp_message_sent").await, after(&[], &changed, "policy_changed"));
    site.answer("climate-hpc1", true, &[]).await;

    let hold = json!({"kind": "pause", "reason": "security incident"});
    site.server.post(Who::Staff, &format!("{climate}holds/"), &hold).await.expect(201);
    let told = ["stomp_message_sent", "settings_commanded", "restriction_changed"];
    assert_eq!(back_from(&site.server, "stomp_message_sent").await, after(&[], &told, "hold_placed"));
    site.server.stop().await;
}

#[tokio::test]
async fn a_boundary_is_the_first_of_what_it_leads_to() {
    let site = Site::new().await;
    let to = "2026-04-01T12:00:00Z".parse().unwrap();
    site.server.app.advance_clock(to).await.unwrap();
    assert_eq!(
        back_from(&site.server, "settings_commanded").await,
        ["settings_commanded", "policy_evaluated"].map(str::to_owned)
    );
    assert_eq!(back_from(&site.server, "books_opened").await, ["books_opened", "books_closed"].map(str::to_owned));
    let evaluated = newest(&site.server, "policy_evaluated").await;
    assert_eq!(evaluated["causation_id"], Value::Null);
    let fleet = chain(&site.server, &evaluated["correlation_id"], 100).await;
    // Whatever id it is, the page of it is what a search of the whole log would find.
    let log = whole_log(&site.server.app).await;
    let ids: BTreeSet<Uuid> = log.iter().map(|event| event.metadata.correlation_id).collect();
    for id in ids {
        let found = chain(&site.server, &json!(id.as_simple().to_string()), 40).await;
        let found: Vec<&str> = found.iter().map(|event| event["position"].as_str().unwrap()).collect();
        let searched = log.iter().filter(|event| event.metadata.correlation_id == id);
        assert_eq!(found, searched.map(|event| event.position.to_string()).collect::<Vec<_>>());
    }
    assert!(fleet.iter().filter(|event| event["type"] == "policy_evaluated.v1").count() >= 1, "{fleet:?}");
    site.server.stop().await;
}
