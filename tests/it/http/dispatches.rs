//! `/api/dispatches/`: what agents were told over all policies, who sees it, and the life of one message.

use serde_json::{Value, json};

use crate::support::server::{TestServer, Who, id};

const DISPATCHES: &str = "/api/dispatches/";

async fn told(server: &TestServer, who: Who, query: &str) -> Vec<String> {
    let rows = server.get(who, &format!("{DISPATCHES}?{query}")).await.expect(200);
    let name = |row: &Value| format!("{} {}", row["resource_name"].as_str().unwrap(), row["status"].as_str().unwrap());
    let mut told: Vec<String> = rows.as_array().unwrap().iter().map(name).collect();
    told.dedup();
    told
}

/// Two policies: one on `hpc1`, where Alice's and Bea's allocations are, and both are restricted.
async fn restricted() -> (TestServer, String) {
    let server = TestServer::start().await;
    let (path, _) = server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    server.report("climate-hpc1", "1043.2", "2026-03-01").await;
    server.report("bio-hpc1", "560", "2026-03-01").await;
    (server, path)
}

#[tokio::test]
async fn everybody_sees_what_agents_were_told_about_their_own_allocations() {
    let (server, policy) = restricted().await;
    let all = server.get(Who::Staff, DISPATCHES).await;
    let of_policy = server.get(Who::Staff, &format!("{policy}dispatches/")).await;
    assert_eq!(all.expect(200), of_policy.expect(200), "there is one policy");
    assert!(!all.expect(200).as_array().unwrap().is_empty());
    assert!(told(&server, Who::Support, "page_size=1").await[0].starts_with("bio on hpc1"), "the newest first");
    let bea = told(&server, Who::Bea, "").await;
    assert!(!bea.is_empty() && bea.iter().all(|row| row.starts_with("bio on hpc1")), "{bea:?}");
    assert_eq!(told(&server, Who::Alice, "").await, told(&server, Who::Staff, "").await, "she provides them");
    for stranger in [Who::Carl, Who::Bob, Who::OtherAgent] {
        assert_eq!(told(&server, stranger, "").await, Vec::<String>::new(), "{stranger:?}");
    }
    let elsewhere = format!("scope_uuid={}", id("offering", "hpc2"));
    assert_eq!(told(&server, Who::Staff, &elsewhere).await, Vec::<String>::new());
    let here = format!("scope_uuid={}&resource_uuid={}", id("offering", "hpc1"), id("resource", "bio-hpc1"));
    assert_eq!(told(&server, Who::Staff, &here).await, bea);
    let refused = server.get(Who::Staff, &format!("{DISPATCHES}?outcome=lost")).await;
    assert!(refused.refusal("outcome").contains("no_answer"));
    server.stop().await;
}

#[tokio::test]
async fn the_life_of_a_message_goes_from_its_cause_to_what_the_agent_made_of_it() {
    let (server, policy) = restricted().await;
    let of_bio = format!("{DISPATCHES}?resource_uuid={}", id("resource", "bio-hpc1"));
    let newest = server.get(Who::Staff, &of_bio).await.expect(200)[0].clone();
    let commands: Vec<Value> = newest["intended_commands"].as_array().unwrap().clone();
    let report = json!({"resource_uuid": id("resource", "bio-hpc1"), "success": true, "commands_executed": commands,
        "dispatch_uuid": newest["uuid"]});
    server.post(Who::Agent, &format!("{policy}report-command-result/"), &report).await.expect(200);
    let path = format!("{DISPATCHES}{}/", newest["uuid"].as_str().unwrap());
    let shown = server.get(Who::Bea, &path).await.expect(200);
    let steps: Vec<&str> =
        shown["life"].as_array().unwrap().iter().map(|step| step["type"].as_str().unwrap()).collect();
    assert_eq!(
        steps,
        ["usage_reported", "policy_evaluated", "restriction_changed", "settings_commanded", "command_result_reported"],
        "{shown:#}"
    );
    assert_eq!(shown["status"], "confirmed");
    let run = |kind: &str| {
        let commands = shown["commands"].as_array().unwrap();
        commands.iter().find(|one| one["command_type"] == kind).map(|one| one["reported"].clone())
    };
    assert_eq!((run("limits"), run("qos")), (Some(json!(true)), Some(json!(null))), "{shown:#}");
    let says = |at: usize| shown["life"][at]["message"].as_str().unwrap();
    assert!(says(0).contains("node_hours 560, before nothing") && says(2).contains("slowed down"), "{shown:#}");
    assert_eq!(says(4), "the agent reports success");
    // Whose allocation it is not sees nothing of it.
    for stranger in [Who::Carl, Who::Bob, Who::OtherAgent] {
        server.get(stranger, &path).await.expect(404);
    }
    server.stop().await;
}

#[tokio::test]
async fn why_an_operator_holds_an_allocation_is_not_told_to_its_people() {
    let (server, _) = restricted().await;
    let resource = id("resource", "bio-hpc1");
    let hold = json!({"kind": "pause", "reason": "a leaked key"});
    let place = format!("/api/marketplace-provider-resources/{resource}/holds/");
    server.post(Who::Alice, &place, &hold).await.expect(201);
    let newest =
        server.get(Who::Staff, &format!("{DISPATCHES}?resource_uuid={resource}&page_size=1")).await.expect(200);
    let path = format!("{DISPATCHES}{}/", newest[0]["uuid"].as_str().unwrap());
    let inside = server.get(Who::Alice, &path).await;
    assert!(inside.text.contains("a leaked key") && inside.text.contains("hold_placed"), "{}", inside.text);
    let outside = server.get(Who::Bea, &path).await;
    assert!(outside.expect(200)["life"].as_array().unwrap().len() > 1);
    assert!(!outside.text.contains("a leaked key"), "{}", outside.text);
    server.stop().await;
}
