//! The base of carryover over HTTP: what new policies get, what old ones are told, and what a preview makes of it.

use serde_json::{Value, json};
use sluice::domain::policy::PolicyTerms;
use sluice::events::registry::PolicyFacts;

use crate::support::fleet::meta;
use crate::support::server::{POLICIES, TestServer, Who, id, resource_path};

/// The policy as a version of Sluice without the parameter wrote it.
async fn as_an_older_version_wrote_it(server: &TestServer, uuid: &str) {
    let policy = uuid::Uuid::try_parse(uuid).unwrap().into();
    let without = |known: Option<&PolicyFacts>| {
        let facts = known.unwrap().clone();
        Ok(PolicyFacts { terms: PolicyTerms { carryover_base: None, ..facts.terms }, ..facts })
    };
    server.app.registry_commands.put_policy(policy, &meta(), &without).await.unwrap();
}

fn about_the_base(policy: &Value) -> Vec<&str> {
    let warnings = policy["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap());
    warnings.filter(|warning| warning.contains("carryover_base")).collect()
}

#[tokio::test]
async fn new_policies_look_at_the_previous_base_and_old_ones_say_what_would_change() {
    let server = TestServer::start().await;
    let (path, policy) = server.policy(|body| body["carryover_factor"] = json!(50)).await;
    assert_eq!((&policy["carryover_base"], about_the_base(&policy).len()), (&json!("previous"), 0));
    let message = server.patch(Who::Staff, &path, &json!({"carryover_base": "last"})).await.refusal("carryover_base");
    assert!(message.contains("last") && message.contains("previous, current"), "{message}");

    as_an_older_version_wrote_it(&server, policy["uuid"].as_str().unwrap()).await;
    let old = server.get(Who::Staff, &path).await.expect(200);
    assert_eq!((&old["carryover_base"], &old["version"]), (&json!("current"), &json!(2)));
    assert_eq!(
        about_the_base(&old),
        [
            "carryover_base is not set, so carryover is worked out from the allocation of now, as it was before there was a \
          choice: after a period with 1000 of which 900 were used, a raise to 1500 carries 600 over. With carryover_base \
          previous it would carry 100. Nothing changes until you set it to previous or current."
        ]
    );
    let other = server.patch(Who::Staff, &path, &json!({"grace_ratio": 0.3})).await.expect(200);
    assert_eq!((&other["carryover_base"], about_the_base(&other).len()), (&json!("current"), 1), "not for that");

    let chosen = server.patch(Who::Staff, &path, &json!({"carryover_base": "current"})).await.expect(200);
    assert_eq!((&chosen["version"], about_the_base(&chosen).len()), (&json!(4), 0), "said is said");
    let changed = server.patch(Who::Staff, &path, &json!({"carryover_base": "previous"})).await.expect(200);
    assert_eq!((&changed["carryover_base"], about_the_base(&changed).len()), (&json!("previous"), 0));
    server.stop().await;
}

#[tokio::test]
async fn a_preview_shows_what_each_base_gives() {
    let server = TestServer::start().await;
    server.policy(|body| body["carryover_factor"] = json!(100)).await;
    let path = format!("{POLICIES}preview_impact/");
    let numbers =
        json!({"allocation": 1500, "previous_allocation": 1000, "previous_usage": 890, "carryover_factor": 100});
    let shown = server.post(Who::Staff, &path, &numbers).await.expect(200);
    assert_eq!(
        (
            &shown["carryover"]["carryover"],
            &shown["carryover"]["previous_base_allocation"],
            &shown["carryover_formula"]
        ),
        (&json!(110), &json!(1000), &json!("capped_unused/2"))
    );
    let mut current = numbers.clone();
    current["carryover_base"] = json!("current");
    let shown = server.post(Who::Staff, &path, &current).await.expect(200);
    assert_eq!(
        (&shown["carryover"]["carryover"], shown["carryover"].get("previous_base_allocation")),
        (&json!(610), None)
    );
    assert_eq!(shown["carryover_formula"], "capped_unused/1");

    server.report("climate-hpc1", "890", "2026-03-10").await;
    let clock = json!({"now": "2026-05-15T12:00:00Z"});
    server.put(Who::Staff, "/api/simulation/clock/", &clock).await.expect(200);
    let limits = json!({"limits": {"node_hours": 1500}});
    server.patch(Who::Staff, &resource_path("climate-hpc1"), &limits).await.expect(200);
    let of = async |base: &str| {
        let request = json!({"resource_uuid": id("resource", "climate-hpc1"), "carryover_base": base});
        server.post(Who::Staff, &path, &request).await.expect(200)
    };
    let (previous, current) = (of("previous").await, of("current").await);
    assert_eq!((&previous["carryover"]["carryover"], &previous["effective_allocation"]), (&json!(110), &json!(1610)));
    assert_eq!((&current["carryover"]["carryover"], &current["effective_allocation"]), (&json!(610), &json!(2110)));
    let note = previous["carryover_note"].as_str().unwrap();
    assert!(note.contains("at the end of 2026-Q1: node_hours had 1000 (now 1500)"), "{note}");
    let both = json!({"resource_uuid": id("resource", "climate-hpc1"), "previous_allocation": 5});
    server.post(Who::Staff, &path, &both).await.refusal("previous_allocation");
    server.stop().await;
}
