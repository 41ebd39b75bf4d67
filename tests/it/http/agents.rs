//! Site agents register themselves: the same again is the same, each for its own offering, and a restart keeps it all.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::server::{TestServer, Who, dashed, id};

const IDENTITIES: &str = "/api/marketplace-site-agent-identities/";
const SERVICES: &str = "/api/marketplace-site-agent-services/";
const PROCESSORS: &str = "/api/marketplace-site-agent-processors/";
const SUBSCRIPTIONS: &str = "/api/event-subscriptions/";

fn identity(offering: &str) -> Value {
    json!({
        "offering": id("offering", offering), "name": format!("agent-{}", id("offering", offering)), "version": "1.0.7",
        "last_restarted": "2026-03-15T11:59:00+00:00",
        "dependencies": [{"package": "waldur-site-agent-slurm", "version": "1.0.7"}],
        "config_file_path": "", "config_file_content": "waldur_api_token: 00000000000000000000000000000agent0hpc01",
    })
}

async fn registered(server: &TestServer) -> String {
    let made = server.post(Who::Agent, IDENTITIES, &identity("hpc1")).await.expect(201);
    format!("{IDENTITIES}{}/", made["uuid"].as_str().unwrap())
}

async fn events(server: &TestServer, kind: &str) -> usize {
    let found = server.get(Who::Staff, &format!("/api/events/?type={kind}")).await.expect(200);
    found.as_array().unwrap().len()
}

#[tokio::test]
async fn an_agent_registers_what_it_is_and_runs_and_a_second_start_adds_nothing() {
    let server = TestServer::start().await;
    let name = format!("agent-{}", id("offering", "hpc1"));
    let found = server.get(Who::Agent, &format!("{IDENTITIES}?name={name}")).await;
    assert_eq!((found.expect(200), found.header("x-result-count")), (json!([]), "0"));
    let path = registered(&server).await;
    for start in ["first", "second"] {
        let service = json!({"name": "initial-offering-process", "mode": "event_process"});
        let service = server.post(Who::Agent, &format!("{path}register_service/"), &service).await;
        let service = service.expect(if start == "first" { 201 } else { 200 });
        assert_eq!((&service["identity_name"], &service["state"]), (&json!(name), &json!("Active")));
        let processor =
            json!({"name": "OfferingOrderProcessor", "backend_type": "slurm.SlurmBackend", "backend_version": "1.0.7"});
        let place = format!("{SERVICES}{}/register_processor/", service["uuid"].as_str().unwrap());
        let processor = server.post(Who::Agent, &place, &processor).await;
        let processor = processor.expect(if start == "first" { 201 } else { 200 });
        assert_eq!(processor["service_name"], "initial-offering-process");
        let again = server.put(Who::Agent, &path, &identity("hpc1")).await.expect(200);
        assert_eq!(again["services"][0]["uuid"], service["uuid"]);
    }
    for kind in ["agent_identity_registered", "agent_service_registered", "agent_processor_registered"] {
        assert_eq!(events(&server, kind).await, 1, "{kind}");
    }
    assert_eq!(events(&server, "agent_identity_changed").await, 0);
    let mut later = identity("hpc1");
    later["last_restarted"] = json!("2026-03-15T13:00:00Z");
    server.put(Who::Agent, &path, &later).await.expect(200);
    assert_eq!(events(&server, "agent_identity_changed").await, 1);
    let found = server.get(Who::Agent, &format!("{IDENTITIES}?name={name}")).await.expect(200);
    assert_eq!((&found[0]["last_restarted"], found.as_array().unwrap().len()), (&json!("2026-03-15T13:00:00Z"), 1));
    let compatible = |version: &str, known: &Value| {
        let (status, message) = (&known["compatibility"]["status"], &known["compatibility"]["message"]);
        (version.to_owned(), status.clone(), message.is_string(), known["compatibility"]["minimum_required"].clone())
    };
    let expected = |version: &str, status: &str| (version.to_owned(), json!(status), true, json!("1.0.7"));
    assert_eq!(compatible("1.0.7", &found[0]), expected("1.0.7", "compatible"));
    for (version, status) in
        [("1.0.8rc12", "compatible"), ("1.0.6", "unknown"), ("9.0", "unknown"), ("HEAD", "unknown")]
    {
        let said = server.patch(Who::Agent, &path, &json!({"version": version})).await.expect(200);
        assert_eq!(compatible(version, &said), expected(version, status));
    }
    server.put(Who::Agent, &path, &later).await.expect(200);
    let log = server.get(Who::Staff, "/api/events/?type=agent_identity_registered").await.text;
    assert!(!log.contains("agent0hpc01"), "a configuration holds keys and is not kept");
    for (list, rows) in [(SERVICES, 1), (PROCESSORS, 1), (SUBSCRIPTIONS, 0)] {
        assert_eq!(server.get(Who::Alice, list).await.expect(200).as_array().unwrap().len(), rows, "{list}");
        assert_eq!(server.get(Who::Bea, list).await.expect(200), json!([]), "{list}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_queue_is_one_per_agent_and_keeps_its_login_as_long_as_its_owner() {
    let server = TestServer::start().await;
    let path = format!("{}register_queue/", registered(&server).await);
    let types = json!({"object_types": ["order", "resource", "resource_periodic_limits"]});
    let first = server.post(Who::Agent, &path, &types).await.expect(201);
    let me = server.get(Who::Agent, "/api/users/me/").await.expect(200);
    assert_eq!(first["vhost"], me["uuid"], "the virtual host is the user's");
    assert!(first["queue_name"].as_str().unwrap().starts_with("consumer_"));
    assert_eq!(first["rmq_username"].as_str().unwrap().len(), 32);
    assert_eq!(first["observable_object_types"], types["object_types"]);
    assert_eq!(server.post(Who::Agent, &path, &types).await.expect(200), first, "again: the same");
    assert_eq!(server.post(Who::Agent, &path, &json!({})).await.expect(200), first, "nothing said: nothing changes");
    let all = server.post(Who::Agent, &path, &json!({"object_types": []})).await.expect(200);
    assert_eq!((&all["observable_object_types"], &all["queue_name"]), (&json!([]), &first["queue_name"]));
    let other = server.post(Who::Staff, &path, &types).await.expect(200);
    assert_eq!(other["queue_name"], first["queue_name"]);
    assert_ne!((&other["vhost"], &other["rmq_username"]), (&first["vhost"], &first["rmq_username"]));
    server.post(Who::Agent, &path, &json!({"object_types": "resource"})).await.refusal("object_types");
    let offering = id("offering", "hpc1").parse().unwrap();
    let queues: Vec<String> = server.app.registry.read().queues_of(offering).map(|q| q.login.clone()).collect();
    assert_eq!(json!(queues), json!([other["rmq_username"]]));
    server.stop().await;
}

#[tokio::test]
async fn agents_register_for_their_own_offering_only() {
    let server = TestServer::start().await;
    server.post(Who::OtherAgent, IDENTITIES, &identity("hpc1")).await.refusal("offering");
    server.post(Who::Agent, IDENTITIES, &json!({"name": "x"})).await.refusal("offering");
    server.post(Who::Alice, IDENTITIES, &identity("hpc1")).await.expect(403);
    let path = registered(&server).await;
    for (who, seen) in
        [(Who::Staff, 200), (Who::Support, 200), (Who::Alice, 200), (Who::Bea, 404), (Who::OtherAgent, 404)]
    {
        server.get(who, &path).await.expect(seen);
    }
    for call in ["register_service/", "register_queue/", "register_event_subscription/"] {
        server.post(Who::OtherAgent, &format!("{path}{call}"), &json!({})).await.expect(404);
    }
    server.put(Who::Agent, &path, &identity("hpc2")).await.refusal("offering");
    server.put(Who::Agent, &path, &json!({"name": "other"})).await.refusal("name");
    server.post(Who::Agent, &format!("{path}register_service/"), &json!({"mode": "report"})).await.refusal("name");
    server.send(Who::OtherAgent, Method::DELETE, &path, &[], None).await.expect(404);
    server.stop().await;
}

#[tokio::test]
async fn an_older_agent_has_a_subscription_and_a_queue_for_each_kind_of_message() {
    let server = TestServer::start().await;
    let path = registered(&server).await;
    let subscribe = format!("{path}register_event_subscription/");
    let kind = json!({"observable_object_type": "resource_periodic_limits", "description": "limits"});
    let made = server.post(Who::Agent, &subscribe, &kind).await.expect(201);
    assert_eq!(server.post(Who::Agent, &subscribe, &kind).await.expect(200)["uuid"], made["uuid"]);
    assert_eq!(made["observable_objects"], json!([{"object_type": "resource_periodic_limits"}]));
    assert_eq!(made["user_username"], "agent-hpc1");
    let uuid = made["uuid"].as_str().unwrap();
    let place = format!("{SUBSCRIPTIONS}{uuid}/create_queue/");
    let wanted = json!({"offering_uuid": dashed("offering", "hpc1"), "object_type": "resource_periodic_limits"});
    let queue = server.post(Who::Agent, &place, &wanted).await.expect(201);
    let offering = id("offering", "hpc1");
    assert_eq!(queue["queue_name"], format!("subscription_{uuid}_offering_{offering}_resource_periodic_limits"));
    assert_eq!(queue["vhost"], made["user_uuid"]);
    server.post(Who::Agent, &place, &wanted).await.expect(200);
    server.post(Who::Staff, &place, &wanted).await.refusal("non_field_errors");
    let mut other = wanted.clone();
    other["object_type"] = json!("order");
    server.post(Who::Agent, &place, &other).await.refusal("object_type");
    other = wanted.clone();
    other["offering_uuid"] = json!(dashed("offering", "hpc2"));
    server.post(Who::Agent, &place, &other).await.refusal("offering_uuid");
    let login: Vec<(String, bool, bool)> = {
        let state = server.app.registry.read();
        let of = offering.parse().unwrap();
        state.queues_of(of).map(|q| (q.login.clone(), q.takes("resource_periodic_limits"), q.takes("order"))).collect()
    };
    assert_eq!(login, [(uuid.to_owned(), true, false)]);
    server.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_forgotten_takes_its_queues_along_and_may_come_back() {
    let server = TestServer::start().await;
    let path = registered(&server).await;
    server.post(Who::Agent, &format!("{path}register_queue/"), &json!({})).await.expect(201);
    server.delete(Who::Agent, &path).await.expect(204);
    server.get(Who::Staff, &path).await.expect(404);
    let offering = id("offering", "hpc1").parse().unwrap();
    assert_eq!(server.app.registry.read().queues_of(offering).count(), 0);
    assert_eq!(registered(&server).await, path, "the same name is the same agent");
    server.post(Who::Agent, &format!("{path}register_queue/"), &json!({})).await.expect(201);
    assert_eq!(server.app.registry.read().queues_of(offering).count(), 1);
    server.stop().await;
}

#[tokio::test]
async fn an_agent_ships_its_log_and_who_sees_its_offering_reads_it() {
    let server = TestServer::start().await;
    let agent = registered(&server).await;
    let agent = agent.trim_end_matches('/').rsplit('/').next().unwrap();
    let logs = "/api/marketplace-site-agent-logs/";
    let line = |at: f64, level: &str, message: &str| json!({"agent_identity_uuid": agent, "timestamp": at, "level": level, "message": message, "module": "processors"});
    let shipped =
        json!([line(1_773_576_000.25, "INFO", "Processing"), line(1_773_576_001.5, "ERROR", "a\u{1b}[31m red\nline")]);
    let made = server.post(Who::Agent, logs, &shipped).await.expect(201);
    assert_eq!((&made[0]["timestamp"], &made[0]["level"]), (&json!(1_773_576_000.25), &json!("INFO")));
    assert_eq!(
        (&made[1]["message"], &made[1]["offering_uuid"]),
        (&json!("a\u{fffd}[31m red\nline"), &json!(id("offering", "hpc1")))
    );
    for (who, rows) in
        [(Who::Staff, 2), (Who::Support, 2), (Who::Alice, 2), (Who::Agent, 2), (Who::Bea, 0), (Who::OtherAgent, 0)]
    {
        let found = server.get(who, logs).await;
        assert_eq!(
            (found.header("x-result-count"), found.expect(200).as_array().unwrap().len()),
            (rows.to_string().as_str(), rows)
        );
    }
    for (query, messages) in [
        ("level=error", vec!["a\u{fffd}[31m red\nline"]),
        ("level=DEBUG", vec![]),
        ("timestamp_from=1773576001", vec!["a\u{fffd}[31m red\nline"]),
        ("timestamp_to=1773576001", vec!["Processing"]),
        ("page_size=1", vec!["a\u{fffd}[31m red\nline"]),
        ("page_size=1&page=2", vec!["Processing"]),
        (&format!("agent_identity_uuid={agent}"), vec!["a\u{fffd}[31m red\nline", "Processing"]),
        (&format!("offering_uuid={}", id("offering", "hpc2")), vec![]),
    ] {
        for who in [Who::Staff, Who::Alice] {
            let found = server.get(who, &format!("{logs}?{query}")).await.expect(200);
            let said: Vec<&str> =
                found.as_array().unwrap().iter().map(|row| row["message"].as_str().unwrap()).collect();
            assert_eq!(said, messages, "{query}");
        }
    }
    server.get(Who::Staff, &format!("{logs}?level=loud")).await.refusal("level");
    server.get(Who::Staff, &format!("{logs}?timestamp_from=soon")).await.refusal("timestamp_from");
    // All of a request or nothing, and the complaint says which line.
    let bad = json!([line(1.0, "INFO", "good"), line(2.0, "LOUD", "bad")]);
    let refused = server.post(Who::Agent, logs, &bad).await.refusal("level");
    assert!(refused.starts_with("Line 2: \"LOUD\" is not a valid choice."), "{refused}");
    server.post(Who::OtherAgent, logs, &shipped).await.refusal("agent_identity_uuid");
    server.post(Who::Agent, logs, &json!({})).await.refusal("non_field_errors");
    server.post(Who::Agent, logs, &json!([1])).await.refusal("non_field_errors");
    server.post(Who::Agent, logs, &json!(vec![line(1.0, "INFO", "x"); 1_001])).await.refusal("non_field_errors");
    assert_eq!(server.post(Who::Agent, logs, &json!([])).await.expect(201), json!([]));
    assert_eq!(server.get(Who::Staff, logs).await.expect(200).as_array().unwrap().len(), 2);
    // Two weeks later they go with the next line.
    server.put(Who::Staff, "/api/simulation/clock/", &json!({"now": "2026-03-30T12:00:01Z"})).await.expect(200);
    server.post(Who::Agent, logs, &json!([line(1_774_872_000.0, "WARNING", "new")])).await.expect(201);
    let left = server.get(Who::Alice, logs).await.expect(200);
    assert_eq!((left.as_array().unwrap().len(), &left[0]["message"]), (1, &json!("new")));
    server.stop().await;
}
