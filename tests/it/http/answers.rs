//! What an agent asks for and says of resources: everything it needs is there, and what it says is evidence, never an order.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::server::{POLICIES, RESOURCES, TestServer, Who, dashed, id, resource_path};

const STATUS: &str = "status/";

async fn event_count(server: &TestServer, kind: &str) -> usize {
    server.get(Who::Staff, &format!("/api/events/?type={kind}")).await.expect(200).as_array().unwrap().len()
}

#[tokio::test]
async fn limits_that_are_read_back_are_answered_and_kept_and_change_nothing() {
    let server = TestServer::start().await;
    let (path, _) = server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    server.report("climate-hpc1", "900", "2026-03-01").await;
    let resource = resource_path("climate-hpc1");
    let before = server.get(Who::Agent, &resource).await.expect(200);
    let evaluations = event_count(&server, "policy_evaluated").await;
    for _ in 0..3 {
        let echo = json!({"limits": {"node_hours": 300, "node": 300}});
        let answer = server.post(Who::Agent, &format!("{resource}set_limits/"), &echo).await.expect(200);
        assert!(answer["status"].is_string());
    }
    assert_eq!(server.get(Who::Agent, &resource).await.expect(200)["limits"], before["limits"]);
    assert_eq!(event_count(&server, "limits_echoed").await, 1, "the same thing said again is one fact");
    assert_eq!(event_count(&server, "limits_changed").await, 0);
    assert_eq!(event_count(&server, "policy_evaluated").await, evaluations);
    let site = |status: &Value| status["resources"][0]["site"].clone();
    let of = format!("{path}{STATUS}?resource_uuid={}", id("resource", "climate-hpc1"));
    let status = server.get(Who::Staff, &of).await.expect(200);
    assert_eq!(site(&status)["limits_read_back"], json!({"node": 300, "node_hours": 300}));
    assert_eq!(
        status["limits_differ"], 0,
        "what is to be sent: 1000 and a fifth, less the 900 that are used before any agent came"
    );
    let other = json!({"limits": {"node_hours": 7}});
    server.post(Who::Agent, &format!("{resource}set_limits/"), &other).await.expect(200);
    let status = server.get(Who::Staff, &of).await.expect(200);
    assert_eq!((&status["limits_differ"], site(&status)["differences"].as_array().unwrap().len()), (&json!(1), 1));
    // What was read back before the site carried out a message says nothing of the site after it.
    let result = json!({"resource_uuid": id("resource", "climate-hpc1"), "success": true,
        "commands_executed": ["sacctmgr --immediate modify account hpc_climate set RawUsage=0"]});
    server.post(Who::Agent, &format!("{path}report-command-result/"), &result).await.expect(200);
    let status = server.get(Who::Staff, &of).await.expect(200);
    assert_eq!((&status["limits_differ"], &site(&status)["limits_read_back"]), (&json!(0), &Value::Null));
    server.post(Who::Agent, &format!("{resource}set_limits/"), &other).await.expect(200);
    assert_eq!(server.get(Who::Staff, &of).await.expect(200)["limits_differ"], 1, "read back since, and still wrong");
    server.post(Who::Agent, &format!("{resource}set_limits/"), &json!({})).await.refusal("limits");
    server.stop().await;
}

#[tokio::test]
async fn the_class_of_service_that_an_account_has_stands_beside_the_one_it_should_have() {
    let server = TestServer::start().await;
    let (path, _) = server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    server.report("climate-hpc1", "1100", "2026-03-01").await;
    let resource = resource_path("climate-hpc1");
    let say = async |qos: &str| {
        let body = json!({"backend_metadata": {"qos": qos, "other": [1]}});
        server.post(Who::Agent, &format!("{resource}set_backend_metadata/"), &body).await.expect(200);
        let of = format!("{path}{STATUS}?resource_uuid={}", id("resource", "climate-hpc1"));
        server.get(Who::Staff, &of).await.expect(200)
    };
    let wrong = say("normal").await;
    assert_eq!(
        (&wrong["qos_differs"], &wrong["resources"][0]["site"]["qos_expected"]),
        (&json!(1), &json!("slowdown"))
    );
    let sentence = "The account has the QoS \"normal\"; \"slowdown\" is meant.";
    assert_eq!(wrong["resources"][0]["site"]["differences"], json!([sentence]));
    let right = say("slowdown").await;
    assert_eq!((&right["qos_differs"], &right["resources"][0]["site"]["differences"]), (&json!(0), &json!([])));
    say("slowdown").await;
    assert_eq!(event_count(&server, "qos_confirmed").await, 2);
    let shown = server.get(Who::Agent, &resource).await.expect(200);
    assert_eq!(shown["backend_metadata"], json!({"qos": "slowdown"}));
    let listed = server.get(Who::Agent, &format!("{RESOURCES}?backend_id=hpc_climate")).await.expect(200);
    assert_eq!(listed[0]["backend_metadata"], json!({"qos": "slowdown"}));
    let place = format!("{resource}set_backend_metadata/");
    server.post(Who::Agent, &place, &json!({"backend_metadata": {}})).await.expect(200);
    server.post(Who::Agent, &place, &json!({})).await.refusal("backend_metadata");
    server.post(Who::Agent, &place, &json!({"backend_metadata": {"qos": [1]}})).await.refusal("backend_metadata");
    server.stop().await;
}

#[tokio::test]
async fn commands_that_were_not_meant_are_named_in_the_status_until_a_report_agrees() {
    let server = TestServer::start().await;
    let (path, _) = server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    let resource = id("resource", "climate-hpc1");
    let history = server.get(Who::Staff, &format!("{path}command-history/?resource_uuid={resource}")).await.expect(200);
    let intended: Vec<String> = history
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row["shell_command"].as_str().unwrap().split("; ").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(history[0]["reported"].is_null());
    let report = async |commands: &[String]| {
        let body = json!({"resource_uuid": resource, "success": true, "commands_executed": commands});
        server.post(Who::Agent, &format!("{path}report-command-result/"), &body).await.expect(200);
        server.get(Who::Staff, &format!("{path}{STATUS}?resource_uuid={resource}")).await.expect(200)
    };
    let mut run: Vec<String> = intended.iter().map(|c| format!("/opt/bin/{c}")).collect();
    run[0] = "/opt/bin/sacctmgr --immediate modify account hpc_climate set fairshare=1".to_owned();
    let status = report(&run).await;
    assert_eq!(status["commands_differ"], 1);
    let differences = status["resources"][0]["site"]["differences"].as_array().unwrap().clone();
    assert_eq!(differences[0], "fairshare=1 was set; 333 was meant.");
    let history = server.get(Who::Staff, &format!("{path}command-history/?resource_uuid={resource}")).await.expect(200);
    let reported = |kind: &str| {
        history.as_array().unwrap().iter().find(|row| row["command_type"] == kind).map(|row| row["reported"].clone())
    };
    assert_eq!((reported("fairshare"), reported("limits")), (Some(json!(false)), Some(json!(true))));
    // Said again it answers nothing that is open, and is kept.
    report(&run).await;
    let unmatched = server.get(Who::Staff, &format!("{path}unmatched-results/")).await.expect(200);
    assert_eq!((unmatched.as_array().unwrap().len(), &unmatched[0]["resource_uuid"]), (1, &json!(resource)));
    let again = json!({"limits": {"node_hours": 2000}});
    server.patch(Who::Staff, &resource_path("climate-hpc1"), &again).await.expect(200);
    let history = server.get(Who::Staff, &format!("{path}command-history/?resource_uuid={resource}")).await.expect(200);
    let newest: Vec<String> = history
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["dispatch_uuid"] == history[0]["dispatch_uuid"])
        .flat_map(|row| row["shell_command"].as_str().unwrap().split("; ").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(report(&newest).await["commands_differ"], 0);
    server.stop().await;
}

#[tokio::test]
async fn a_resource_that_could_not_be_looked_after_is_erred_until_it_could() {
    let server = TestServer::start().await;
    server.policy(|_| ()).await;
    let resource = resource_path("climate-hpc1");
    let erred = json!({"error_message": "sacctmgr:\nno such account", "error_traceback": "…"});
    server.post(Who::Agent, &format!("{resource}set_as_erred/"), &erred).await.expect(200);
    assert_eq!(server.get(Who::Agent, &resource).await.expect(200)["state"], "Erred");
    let event = server.get(Who::Staff, "/api/events/?type=resource_state_changed").await.expect(200);
    assert_eq!(event[0]["reason"], "sacctmgr: no such account");
    server.post(Who::Agent, &format!("{resource}refresh_last_sync/"), &json!({})).await.expect(200);
    server.send(Who::Agent, Method::POST, &format!("{resource}set_as_ok/"), &[], None).await.expect(200);
    assert_eq!(server.get(Who::Agent, &resource).await.expect(200)["state"], "OK");
    server.post(Who::Staff, &format!("{resource}terminate/"), &json!({})).await.expect(200);
    server.post(Who::Agent, &format!("{resource}set_as_ok/"), &json!({})).await.refusal("non_field_errors");
    for call in ["set_as_ok/", "set_as_erred/", "set_limits/", "set_backend_metadata/", "refresh_last_sync/"] {
        server.post(Who::OtherAgent, &format!("{resource}{call}"), &json!({})).await.expect(404);
        server.post(Who::Alice, &format!("{resource}{call}"), &json!({})).await.expect(403);
    }
    server.stop().await;
}

#[tokio::test]
async fn the_people_of_an_offering_are_those_of_its_resources() {
    let server = TestServer::start().await;
    let offering = id("offering", "hpc1");
    let path = format!("/api/marketplace-offering-users/?offering_uuid={offering}&is_restricted=false&page_size=100");
    let users = server.get(Who::Agent, &path).await.expect(200);
    let names: Vec<&str> = users.as_array().unwrap().iter().map(|u| u["username"].as_str().unwrap()).collect();
    assert_eq!(names, ["alice", "bea", "bob"], "members and owners, of every resource");
    assert!(users.as_array().unwrap().iter().all(|u| u["state"] == "OK" && u["offering_uuid"] == offering));
    let team =
        server.get(Who::Agent, &format!("{}team/?has_consent=true", resource_path("climate-hpc1"))).await.expect(200);
    let team: Vec<&str> =
        team.as_array().unwrap().iter().map(|u| u["offering_user_username"].as_str().unwrap()).collect();
    assert_eq!(team, ["alice", "bob"]);
    let one = format!("/api/marketplace-offering-users/{}/", users[0]["uuid"].as_str().unwrap());
    assert_eq!(server.get(Who::Agent, &one).await.expect(200)["username"], "alice");
    server.get(Who::OtherAgent, &one).await.expect(404);
    for (query, rows) in
        [("state=Requested", 0), ("state=Requested&state=OK", 3), ("username=bob", 1), ("is_restricted=true", 0)]
    {
        let found = server.get(Who::Agent, &format!("/api/marketplace-offering-users/?{query}")).await.expect(200);
        assert_eq!(found.as_array().unwrap().len(), rows, "{query}");
    }
    let user = format!("/api/marketplace-offering-users/?user_uuid={}&offering_uuid={offering}", dashed("user", "bea"));
    assert_eq!(server.get(Who::Agent, &user).await.expect(200)[0]["user_username"], "bea");
    server.stop().await;
}

#[tokio::test]
async fn what_there_is_nothing_of_is_an_empty_list_with_a_count() {
    let server = TestServer::start().await;
    let offering = id("offering", "hpc1");
    for path in [
        format!(
            "/api/marketplace-orders/?offering_uuid={offering}&state=pending-provider&state=executing&page_size=100"
        ),
        format!("/api/component-user-usage-limits/?resource_uuid={}", id("resource", "climate-hpc1")),
        "/api/marketplace-resource-api-keys/".to_owned(),
        format!("/api/marketplace-provider-offerings/{offering}/list_project_service_accounts/"),
        format!("/api/marketplace-provider-offerings/{offering}/list_course_accounts/"),
    ] {
        assert_eq!(server.get(Who::Agent, &path).await.expect(200), json!([]), "{path}");
        assert_eq!(server.head(Who::Agent, &path).await.header("x-result-count"), "0", "{path}");
    }
    let config = format!("/api/marketplace-provider-offerings/{offering}/user-attribute-config/");
    assert_eq!(server.get(Who::Agent, &config).await.expect(200)["exposed_fields"], json!(["username"]));
    server.get(Who::OtherAgent, &config).await.expect(404);
    assert_eq!(server.get(Who::Agent, &format!("{POLICIES}?scope_uuid={offering}")).await.expect(200), json!([]));
    server.stop().await;
}
