//! From a decision to the agent and back, over the built-in broker.

use serde_json::{Value, json};

use super::support::{connect, newest, queue_for, queue_of, report};
use crate::support::server::{TestServer, USAGES, Who, dashed, id};

#[tokio::test]
async fn a_decision_reaches_the_agent_and_its_report_comes_back() {
    let server = TestServer::start().await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    let (policy, body) = server.policy(|_| ()).await;
    let mut agent = connect(&server, &queue).await;
    agent.subscribe(&queue.queue, "auto").await;

    let mut told = Vec::new();
    for _ in 0..4 {
        let (frame, message) = agent.message().await;
        assert_eq!(frame.header("destination"), Some(format!("/amq/queue/{}", queue.queue).as_str()));
        assert_eq!((frame.header("subscription"), frame.header("ack")), (Some(queue.queue.as_str()), None));
        told.push(message);
    }
    let climate = told.iter().find(|m| m["backend_id"] == "hpc_climate").expect("the settings of climate");
    assert_eq!(
        *climate,
        json!({
            "object_type": "resource_periodic_limits", "schema_version": 1, "action": "apply_periodic_settings",
            "resource_uuid": id("resource", "climate-hpc1"), "backend_id": "hpc_climate",
            "offering_uuid": id("offering", "hpc1"), "policy_uuid": body["uuid"],
            "dispatch_uuid": newest(&server, &policy, "climate-hpc1").await["dispatch_uuid"],
            "timestamp": "2026-03-15T12:00:00",
            "settings": {
                "fairshare": 666, "limit_type": "GrpTRESMins", "grp_tres_mins": {"node": 143_999}, "reset_raw_usage": true,
                "qos_threshold": {"node": 119_999}, "grace_limit": {"node": 143_999},
                "carryover_details": climate["settings"]["carryover_details"],
            },
        })
        .as_object()
        .map(|expected| {
            // The amounts are the business of other tests.
            let mut expected = expected.clone();
            expected["settings"] = climate["settings"].clone();
            Value::Object(expected)
        })
        .unwrap()
    );
    assert_eq!(climate["settings"]["reset_raw_usage"], true, "raw usage starts again at the take-over");

    // The history knows that it was sent, and when.
    server.app.settle().await.unwrap();
    let row = newest(&server, &policy, "climate-hpc1").await;
    assert_eq!((&row["status"], &row["success"]), (&json!("sent"), &Value::Null));
    assert_eq!(row["sent_at"], "2026-03-15T12:00:00Z");
    let logs = server.get(Who::Staff, &format!("{policy}evaluation-logs/")).await.expect(200);
    assert!(logs.as_array().unwrap().iter().all(|log| log["stomp_message_sent"] == true), "{logs}");
    let status = server.get(Who::Staff, &format!("{policy}status/")).await.expect(200);
    assert_eq!((&status["agent_status"], &status["agent"]["sent"]), (&json!("sent"), &json!(2)));

    // The agent answers for one of them.
    let path = format!(
        "/api/marketplace-slurm-periodic-usage-policies/{}/report-command-result/",
        uuid::Uuid::parse_str(body["uuid"].as_str().unwrap()).unwrap()
    );
    let ran =
        ["sacctmgr modify account hpc_climate set fairshare=666", "sacctmgr modify account hpc_climate set RawUsage=0"];
    server.post(Who::Agent, &path, &report("climate-hpc1", true, &ran)).await.expect(200);
    let row = newest(&server, &policy, "climate-hpc1").await;
    assert_eq!((&row["status"], &row["success"]), (&json!("confirmed"), &json!(true)));
    let status = server.get(Who::Staff, &format!("{policy}status/")).await.expect(200);
    assert_eq!((&status["agent"]["sent"], &status["agent"]["confirmed"]), (&json!(1), &json!(1)));
    agent.disconnect().await;
    server.stop().await;
}

#[tokio::test]
async fn restrictions_follow_the_settings_and_come_alone_where_those_wait() {
    let server = TestServer::start().await;
    let queue = queue_of("hpc1", 1);
    server.app.agent_queues.put(queue.clone());
    let (_, _) = server.policy(|_| ()).await;
    let mut agent = connect(&server, &queue).await;
    agent.subscribe(&queue.queue, "auto").await;
    for _ in 0..4 {
        agent.message().await;
    }
    server.report("climate-hpc1", "2500", "2026-03-01").await;
    let (_, settings) = agent.message().await;
    let (_, resource) = agent.message().await;
    assert_eq!(
        (&settings["object_type"], &settings["backend_id"]),
        (&json!("resource_periodic_limits"), &json!("hpc_climate"))
    );
    assert_eq!(
        (&resource["object_type"], &resource["resource_uuid"], &resource["paused"], &resource["downscaled"]),
        (&json!("resource"), &json!(id("resource", "climate-hpc1")), &json!(true), &json!(true))
    );
    assert_eq!(resource["resource_backend_id"], "hpc_climate");

    // An erred resource takes no settings, and hears of its restrictions all the same.
    let path = crate::support::server::resource_path("bio-hpc1");
    server
        .app
        .allocations
        .execute(
            sluice::domain::ids::ResourceId::from(sluice::domain::ids::slug_uuid("resource", "bio-hpc1")),
            &sluice::commands::allocation::AllocationCommand::ChangeState(
                sluice::events::allocation::ResourceState::Erred,
            ),
            &sluice::commands::execute::CommandMeta::system(uuid::Uuid::from_u128(1)),
        )
        .await
        .unwrap();
    server.app.settle().await.unwrap();
    let body = json!({"usages": [{"type": "node_hours", "amount": "5000"}], "resource": id("resource", "bio-hpc1"), "date": "2026-03-01"});
    server.post(Who::Agent, &format!("{USAGES}set_usage/"), &body).await.expect(201);
    let (_, resource) = agent.message().await;
    assert_eq!(
        (&resource["object_type"], &resource["resource_uuid"]),
        (&json!("resource"), &json!(id("resource", "bio-hpc1")))
    );
    assert_eq!(server.get(Who::Staff, &path).await.expect(200)["paused"], true);

    // Once it is well again the settings go out, and no second message about what is known.
    server
        .app
        .allocations
        .execute(
            sluice::domain::ids::ResourceId::from(sluice::domain::ids::slug_uuid("resource", "bio-hpc1")),
            &sluice::commands::allocation::AllocationCommand::ChangeState(
                sluice::events::allocation::ResourceState::Ok,
            ),
            &sluice::commands::execute::CommandMeta::system(uuid::Uuid::from_u128(1)),
        )
        .await
        .unwrap();
    let (_, settings) = agent.message().await;
    assert_eq!(
        (&settings["object_type"], &settings["backend_id"]),
        (&json!("resource_periodic_limits"), &json!("hpc_bio"))
    );
    agent.disconnect().await;
    server.stop().await;
}

#[tokio::test]
async fn without_a_queue_everything_waits_and_the_policy_says_so() {
    let server = TestServer::start().await;
    let (policy, body) = server.policy(|_| ()).await;
    let warned = |body: &Value| body["warnings"].to_string().contains("No agent has registered a queue");
    assert!(warned(&body), "{body}");
    server.app.settle().await.unwrap();
    let row = newest(&server, &policy, "climate-hpc1").await;
    assert_eq!((&row["status"], &row["sent_at"]), (&json!("queued"), &Value::Null));
    let logs = server.get(Who::Staff, &format!("{policy}evaluation-logs/")).await.expect(200);
    assert!(logs.as_array().unwrap().iter().all(|log| log["stomp_message_sent"] == false), "{logs}");

    // A queue for other things does not help, one of another offering neither.
    server.app.agent_queues.put(queue_for("hpc1", 1, &["order"]));
    server.app.agent_queues.put(queue_of("hpc2", 2));
    server.app.settle().await.unwrap();
    assert_eq!(newest(&server, &policy, "climate-hpc1").await["status"], "queued");
    assert!(warned(&server.get(Who::Staff, &policy).await.expect(200)));

    // One for settings alone does, and the policy says what the agent will not hear.
    let queue = queue_for("hpc1", 3, &["resource_periodic_limits"]);
    server.app.agent_queues.put(queue.clone());
    server.app.settle().await.unwrap();
    assert_eq!(newest(&server, &policy, "climate-hpc1").await["status"], "sent");
    let shown = server.get(Who::Staff, &policy).await.expect(200);
    assert!(
        !warned(&shown) && shown["warnings"].to_string().contains("does not listen to changes of resources"),
        "{shown}"
    );
    let mut agent = connect(&server, &queue).await;
    agent.subscribe(&queue.queue, "auto").await;
    let mut heard: Vec<String> = Vec::new();
    for _ in 0..2 {
        heard.push(agent.message().await.1["backend_id"].as_str().unwrap().to_owned());
    }
    heard.sort();
    assert_eq!(heard, ["hpc_bio", "hpc_climate"]);
    assert_eq!(dashed("resource", "x").len(), 36);
    server.stop().await;
}
