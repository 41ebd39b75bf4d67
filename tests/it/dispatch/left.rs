//! The account is told what it is: at take-over, at the end of its resource, when another resource comes onto it. What no
//! agent can be told is named with what frees it, until the account's next live resource is confirmed or somebody says so.

use serde_json::{Value, json};
use sluice::dispatch::OutboxConsumer;

use super::support::{RESET, Site};
use crate::support::server::{RESOURCES, Who, id, resource_path};

const LEFT: &str = "/api/accounts-left-restricted/";

/// `climate` is paused, and the site has said so.
async fn paused() -> Site {
    let mut site = Site::new().await;
    site.answer("climate-hpc1", true, &RESET).await;
    site.answer("bio-hpc1", true, &RESET).await;
    site.server.report("climate-hpc1", "2500", "2026-03-01").await;
    assert_eq!(site.agent.message().await.1["object_type"], "resource_periodic_limits");
    assert_eq!(site.agent.message().await.1["paused"], true);
    site.server.app.settle().await.unwrap();
    site.answer("climate-hpc1", true, &[]).await;
    site.say_qos("climate-hpc1", "blocked").await;
    site
}

impl Site {
    async fn end(&self, resource: &str) {
        self.server.post(Who::Staff, &format!("{}terminate/", resource_path(resource)), &json!({})).await.expect(200);
        self.server.app.settle().await.unwrap();
    }

    async fn left(&self) -> Value {
        self.server.app.settle().await.unwrap();
        self.server.get(Who::Support, LEFT).await.expect(200)
    }

    /// A new resource on an account; its id.
    pub async fn register(&self, slug: &str, account: &str) -> String {
        let body = json!({"slug": slug, "name": slug, "offering": id("offering", "hpc1"),
            "project": id("project", "climate"), "backend_id": account, "limits": {"node_hours": 1000}});
        let made = self.server.post(Who::Staff, RESOURCES, &body).await.expect(201);
        self.server.app.settle().await.unwrap();
        made["uuid"].as_str().unwrap().to_owned()
    }

    /// The kinds of the next messages, with what they say of a pause.
    async fn told(&mut self, many: usize) -> Vec<(String, Value)> {
        let mut told = Vec::new();
        for _ in 0..many {
            let message = self.agent.message().await.1;
            told.push((message["object_type"].as_str().unwrap().to_owned(), message["paused"].clone()));
        }
        told
    }
}

fn word(kind: &str, paused: Value) -> (String, Value) {
    (kind.to_owned(), paused)
}

#[tokio::test]
async fn a_take_over_tells_of_the_restrictions_until_the_class_of_service_is_confirmed() {
    let mut site = Site::new().await;
    site.answer("bio-hpc1", true, &RESET).await;
    site.register("new", "hpc_new").await;
    let told = site.told(2).await;
    assert_eq!(told, [word("resource_periodic_limits", Value::Null), word("resource", json!(false))]);
    site.answer("new", true, &RESET).await;
    site.answer("climate-hpc1", true, &RESET).await;
    assert_eq!(site.shown("new").await["site"]["qos_status"], "sent");
    site.pass(16).await;
    assert_eq!(site.sweep().await, (0, 1), "nobody has said which class of service it has");
    assert_eq!(site.told(1).await, [word("resource", json!(false))]);
    site.say_qos("new", "normal").await;
    assert_eq!(site.shown("new").await["site"]["qos_status"], "confirmed");
    site.pass(16).await;
    assert_eq!(site.sweep().await, (0, 0));
    assert_eq!(site.left().await, json!([]));
    site.server.stop().await;
}

#[tokio::test]
async fn an_account_whose_resource_ended_while_paused_is_named_until_the_next_one_on_it_is_confirmed() {
    let mut site = paused().await;
    site.end("climate-hpc1").await;
    assert_eq!(site.told(1).await, [word("resource", json!(false))], "an agent that heeds it frees the account");
    let left = site.left().await;
    assert_eq!(
        left[0],
        json!({"account": "hpc_climate", "offering_uuid": id("offering", "hpc1"),
            "resource_uuid": id("resource", "climate-hpc1"), "resource_name": "climate on hpc1", "because": "ended",
            "since": "2026-03-15T12:00:00Z", "paused": true, "downscaled": true, "taken_by": null,
            "command": "sacctmgr --immediate modify account hpc_climate set qos=normal"})
    );
    let status = site.server.get(Who::Staff, &format!("{}status/", site.policy)).await.expect(200);
    assert_eq!(status["accounts_left_restricted"], left);
    let status = site.server.get(Who::Bea, &format!("{}status/", site.policy)).await;
    assert!(status.status != 200 || status.expect(200).get("accounts_left_restricted").is_none(), "it is not hers");
    for _ in 0..5 {
        site.pass(16).await;
        site.sweep().await;
    }
    site.pass(16).await;
    site.sweep().await;
    assert_eq!(site.server.get(Who::Staff, "/api/dead-letters/").await.expect(200), json!([]), "no agent heeds it");

    let next = site.register("next", "hpc_climate").await;
    let told = site.agent_told_of(&next).await;
    assert_eq!(told, [word("resource_periodic_limits", Value::Null), word("resource", json!(false))]);
    assert_eq!(site.left().await[0]["taken_by"], json!(next));
    let freed = json!({"offering_uuid": id("offering", "hpc1"), "account": "hpc_climate"});
    let refused = site.server.post(Who::Staff, &format!("{LEFT}freed/"), &freed).await;
    assert!(refused.refusal("account").contains("has the account now"), "{}", refused.text);
    site.say_qos("next", "blocked").await;
    assert_eq!(site.left().await.as_array().unwrap().len(), 1, "that is the class that was to be lifted");
    site.say_qos("next", "normal").await;
    assert_eq!(site.left().await, json!([]));
    site.server.stop().await;
}

impl Site {
    /// The next two messages on a resource; what is said of others passes by.
    async fn agent_told_of(&mut self, resource: &str) -> Vec<(String, Value)> {
        let mut told = Vec::new();
        while told.len() < 2 {
            let message = self.agent.message().await.1;
            if message["resource_uuid"] == resource {
                told.push((message["object_type"].as_str().unwrap().to_owned(), message["paused"].clone()));
            }
        }
        told
    }
}

#[tokio::test]
async fn an_account_that_a_paused_resource_gave_up_is_named_and_its_new_one_is_told() {
    let mut site = paused().await;
    let change = json!({"backend_id": "hpc_climate2", "reason": "renamed"});
    site.server.patch(Who::Staff, &resource_path("climate-hpc1"), &change).await.expect(200);
    site.server.app.settle().await.unwrap();
    let told = site.told(2).await;
    assert_eq!(told, [word("resource_periodic_limits", Value::Null), word("resource", json!(true))]);
    let left = site.left().await;
    assert_eq!(
        (&left[0]["account"], &left[0]["because"], &left[0]["command"]),
        (
            &json!("hpc_climate"),
            &json!("renamed"),
            &json!("sacctmgr --immediate modify account hpc_climate set qos=normal")
        )
    );
    site.say_qos("climate-hpc1", "blocked").await;
    assert_eq!(site.left().await.as_array().unwrap().len(), 1, "that was the new account");
    // Somebody runs the command, and says so.
    let freed = format!("{LEFT}freed/");
    let said = json!({"offering_uuid": id("offering", "hpc1"), "account": "hpc_climate", "reason": "ran it"});
    site.server.post(Who::Alice, &freed, &said).await.expect(403);
    site.server.post(Who::Staff, &freed, &json!({"account": "hpc_climate"})).await.expect(400);
    site.server.post(Who::Staff, &freed, &said).await.expect(200);
    assert_eq!(site.left().await, json!([]));
    site.server.post(Who::Staff, &freed, &said).await.expect(404);
    let events = site.server.get(Who::Staff, "/api/events/?type=account_freed").await.expect(200);
    assert_eq!((&events[0]["payload"]["account"], &events[0]["reason"]), (&json!("hpc_climate"), &json!("ran it")));
    site.server.stop().await;
}

#[tokio::test]
async fn an_account_that_was_never_restricted_or_is_free_again_is_not_named() {
    let mut site = paused().await;
    site.end("bio-hpc1").await;
    assert_eq!(site.left().await, json!([]));
    site.limit("climate-hpc1", 9000).await;
    assert_eq!(site.told(2).await[1], word("resource", json!(false)));
    site.say_qos("climate-hpc1", "normal").await;
    site.end("climate-hpc1").await;
    assert_eq!(site.left().await, json!([]));
    site.server.stop().await;
}

#[tokio::test]
async fn a_resource_that_no_policy_governs_is_told_too_when_it_comes_onto_such_an_account() {
    let mut site = paused().await;
    site.server.delete(Who::Staff, &site.policy.clone()).await.expect(204);
    site.server.app.settle().await.unwrap();
    // The restrictions go with the policy; a hold by hand pauses it without one.
    let hold = json!({"kind": "pause", "reason": "audit"});
    let holds = format!("{}holds/", resource_path("climate-hpc1"));
    site.say_qos("climate-hpc1", "normal").await;
    site.server.post(Who::Staff, &holds, &hold).await.expect(201);
    site.server.app.settle().await.unwrap();
    while site.agent.message().await.1["paused"] != true {}
    site.end("climate-hpc1").await;
    assert_eq!(site.left().await.as_array().unwrap().len(), 1);
    let next = site.register("next", "hpc_climate").await;
    loop {
        let message = site.agent.message().await.1;
        if message["resource_uuid"] == json!(next) {
            assert_eq!((&message["object_type"], &message["paused"]), (&json!("resource"), &json!(false)));
            break;
        }
    }
    site.server.app.settle().await.unwrap();
    site.say_qos("next", "normal").await;
    assert_eq!(site.left().await, json!([]));
    site.server.stop().await;
}

#[tokio::test]
async fn a_new_start_of_the_tables_names_the_same_accounts() {
    use std::sync::Arc;
    let site = paused().await;
    site.end("climate-hpc1").await;
    let before = site.left().await;
    let (registry, follower) = (Arc::clone(&site.server.app.registry), Arc::clone(&site.server.app.follower));
    let fresh = OutboxConsumer::new(registry, follower, Arc::default());
    site.server.app.consumers.rebuild(Box::new(fresh), |_| ()).await.unwrap();
    assert_eq!(site.left().await, before);
    assert_eq!(before.as_array().unwrap().len(), 1);
    site.server.stop().await;
}
