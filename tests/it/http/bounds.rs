//! Every list in a body has an end that the description names; what an agent reports once is cut rather than refused.

use serde_json::{Value, json};

use crate::dispatch::support::{RESET, newest, report};
use crate::support::server::{TestServer, Who, id};

/// The schema that a reference leads to.
fn resolved<'d>(description: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        Some(path) => description.pointer(path.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// The lists among the fields of a schema, those of the schemas that it is made of included, each with its bound.
fn lists(description: &Value, schema: &Value) -> Vec<(String, Option<usize>)> {
    let schema = resolved(description, schema);
    let parts = ["allOf", "anyOf", "oneOf"].iter().filter_map(|of| schema[*of].as_array()).flatten();
    let mut found: Vec<_> = parts.flat_map(|part| lists(description, part)).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let field = resolved(description, field);
        let is_list = field["type"] == "array" || field["type"].as_array().is_some_and(|t| t.contains(&json!("array")));
        if is_list {
            found.push((name.clone(), field["maxItems"].as_u64().and_then(|max| usize::try_from(max).ok())));
        }
    }
    found
}

/// A list whose bound is no reason to refuse it.
const CUT: &str = "commands_executed";

#[tokio::test]
async fn every_list_has_a_bound_that_is_answered_with_its_name() {
    let server = TestServer::start().await;
    let (policy, _) = server.policy(|_| ()).await;
    let body = json!({"offering": id("offering", "hpc1"), "name": "agent"});
    let agent = server.post(Who::Staff, "/api/marketplace-site-agent-identities/", &body).await.expect(201);
    let hook = json!({"webhook_url": "https://hooks.example/x"});
    let hook = server.post(Who::Staff, "/api/event-consumers/register_webhook/", &hook).await.expect(201);
    let total = json!({"usages": [{"type": "node_hours", "amount": 1}], "resource": id("resource", "climate-hpc1")});
    server.post(Who::Staff, "/api/marketplace-component-usages/set_usage/", &total).await.expect(201);
    let usage = server.get(Who::Staff, "/api/marketplace-component-usages/").await.expect(200)[0]["uuid"].clone();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let objects = [
        ("/api/marketplace-slurm-periodic-usage-policies/", policy.rsplit('/').nth(1).unwrap().to_owned()),
        ("/api/customers/", id("customer", "uni-a")),
        ("/api/projects/", id("project", "climate")),
        ("/api/marketplace-provider-offerings/", id("offering", "hpc1")),
        ("/api/marketplace-provider-resources/", id("resource", "climate-hpc1")),
        ("/api/marketplace-site-agent-identities/", word(&agent["uuid"])),
        ("/api/event-consumers/", word(&hook["uuid"])),
        ("/api/marketplace-component-usages/", word(&usage)),
    ];
    let description = server.get(Who::Staff, "/api/schema/").await.expect(200);
    let mut seen = 0;
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") else { continue };
            for (field, bound) in lists(&description, schema) {
                if field == CUT {
                    continue;
                }
                let Some(max) = bound else { panic!("{method} {path}: {field} has no maxItems") };
                seen += 1;
                let object = objects.iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, id)| id.as_str());
                let path = path.replace("{uuid}", object.unwrap_or_else(|| panic!("no object for {path}")));
                let mut body = json!({ field.as_str(): vec![json!("x"); max + 1] });
                if path.starts_with("/api/marketplace-site-agent-identities/") && !path.ends_with("queue/") {
                    body["offering"] = json!(id("offering", "hpc1"));
                    body["name"] = json!("agent");
                }
                let body = body.to_string();
                let method = method.to_uppercase().parse().unwrap();
                let refused = server.send(Who::Staff, method, &path, &[], Some(body)).await;
                let said = refused.refusal(&field);
                // One that may hold nothing says why.
                let expected = format!("{} items are given: at most {max} are allowed.", max + 1);
                assert!(max == 0 || said == expected, "{path} {field}: {said}");
            }
        }
    }
    assert!(seen > 15, "{seen}");
    let lines = json!(vec![json!({}); 1_001]);
    let refused = server.post(Who::Agent, "/api/marketplace-site-agent-logs/", &lines).await;
    assert_eq!(refused.refusal("non_field_errors"), "1001 items are given: at most 1000 are allowed.");
    let limits: serde_json::Map<_, _> = (0..101).map(|n| (format!("c{n}"), json!(1))).collect();
    let path = format!("/api/marketplace-provider-resources/{}/set_limits/", id("resource", "climate-hpc1"));
    let refused = server.post(Who::Agent, &path, &json!({ "limits": limits })).await;
    assert_eq!(refused.refusal("limits"), "101 items are given: at most 100 are allowed.");
    server.stop().await;
}

#[tokio::test]
async fn a_result_is_kept_whatever_its_size() {
    let server = TestServer::start().await;
    let (policy, _) = server.policy(|_| ()).await;
    let path = format!("{policy}report-command-result/");
    let send = async |commands: &[String]| {
        let before = server.app.store.head().await.unwrap();
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        server.post(Who::Agent, &path, &report("climate-hpc1", true, &commands)).await.expect(200);
        let events = "/api/events/?type=command_result_reported&type=command_result_unmatched";
        let told = server.get(Who::Staff, &format!("{events}&after={before}")).await.expect(200);
        serde_json::from_value::<Vec<String>>(told[0]["payload"]["commands_executed"].clone()).unwrap()
    };
    // Within the bounds of each command and of all together: every character of it.
    let whole: Vec<String> = (0..150).map(|n| format!("{n:03} {}", "x".repeat(9_896))).collect();
    let whole = [vec![RESET[0].to_owned()], whole].concat();
    assert_eq!(send(&whole).await, whole);
    let row = newest(&server, &policy, "climate-hpc1").await;
    assert_eq!((&row["status"], &row["reported_commands"]), (&json!("confirmed"), &json!(whole)));
    // Beyond them, with marks that say so.
    let many: Vec<String> = (0..5_000).map(|n| format!("true {n}")).collect();
    let kept = send(&many).await;
    assert_eq!((kept.len(), &kept[..1_000], kept[1_000].as_str()), (1_001, &many[..1_000], "… [cut]"));
    let long = ["y".repeat(1 << 20), "true".to_owned()];
    let kept = send(&long).await;
    assert!(kept[0].ends_with("yyy… [cut]") && kept[0].chars().count() <= 10_000 && kept[1] == "true", "{}", kept[0]);
    let huge: Vec<String> = (0..600).map(|_| "z".repeat(10_000)).collect();
    let kept = send(&huge).await;
    assert!(kept.len() > 190 && kept.len() < 220 && kept.last().unwrap().ends_with("… [cut]"), "{}", kept.len());
    server.stop().await;
}
