//! `agent`: what was meant beside what was run, dead letters and dead messages, on the command line.

use serde_json::{Value, json};

use super::{Fixture, KEY, Serving};

const SITE: &str = r"
customers: [{slug: u, name: U, owners: [{username: alice, email: a@u.example}]}]
projects: [{slug: p, name: P, customer: u}]
offerings: [{slug: o, name: O, customer: u, components: [{type: node, name: N, measured_unit: h, billing_type: limit, limit_period: quarterly}], qos: {default: normal, downscaled: slowdown, paused: blocked}}]
resources: [{slug: r, name: R, project: p, offering: o, backend_id: acct, limits: {node: 1000}, created: 2025-11-01}]
policies: [{slug: q, offering: o, actions: [request_slurm_resource_pausing], apply_to_all: true, tres_billing_enabled: false, carryover_enabled: false}]
tokens: [{user: root, role: staff, key: 0123456789abcdef0123456789abcdef01234567}]
";

/// A request to a server that answers with JSON.
async fn ask(server: &Serving, method: reqwest::Method, path: &str, body: &Value) -> Value {
    let request = reqwest::Client::new().request(method, format!("{}{path}", server.url));
    let request = request.header("authorization", format!("Token {KEY}")).json(body);
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default()
}

#[tokio::test]
async fn what_was_meant_stands_beside_what_was_run_and_dead_letters_are_sent_again() {
    use reqwest::Method;
    let fixture = Fixture::new();
    fixture.run(&["apply", "-f", &fixture.file("site.yaml", SITE)]);
    let server = Serving::start(&fixture, &[]);
    let list = ask(&server, Method::GET, "/api/marketplace-provider-resources/?slug=r", &json!({})).await;
    let (resource, offering) = (list[0]["uuid"].clone(), list[0]["offering_uuid"].clone());
    let policies = "/api/marketplace-slurm-periodic-usage-policies/";
    let policy = ask(&server, Method::GET, policies, &json!({})).await[0]["uuid"].as_str().unwrap().to_owned();
    let identities = "/api/marketplace-site-agent-identities/";
    let identity = ask(&server, Method::POST, identities, &json!({"offering": offering, "name": "a"})).await;
    let register = format!("{identities}{}/register_queue/", identity["uuid"].as_str().unwrap());
    ask(&server, Method::POST, &register, &json!({"object_types": []})).await;

    let report = json!({"resource_uuid": resource, "success": false, "error_message": "sacctmgr: error: no such TRES",
        "commands_executed": ["/usr/bin/sacctmgr --parsable2 --noheader --immediate modify account acct set fairshare=1"]});
    ask(&server, Method::POST, &format!("{policies}{policy}/report-command-result/"), &report).await;
    let told = fixture.run(&["agent", "dispatches", "--resource", "r"]);
    let beside = "modify account acct set fairshare=333 modify account acct set fairshare=1 modify";
    assert!(told.split_whitespace().collect::<Vec<_>>().join(" ").contains(beside), "{told}");
    assert!(told.contains("! fairshare=1 was set; 333 was meant."), "{told}");
    assert!(told.contains("error: sacctmgr: error: no such TRES"), "{told}");
    let document = fixture.json(&["agent", "dispatches", "--policy", "q"]);
    assert_eq!((&document["count"], &document["dispatches"][0]["status"]), (&json!(1), &json!("failed")));
    let listed = ask(&server, Method::GET, &format!("{policies}{policy}/dispatches/"), &json!({})).await;
    assert_eq!(listed[0]["differences"], json!(["fairshare=1 was set; 333 was meant."]));
    let status = fixture.run(&["slurm_policy_status"]);
    assert!(status.contains("differs, see below") && status.contains("! R: fairshare=1 was set"), "{status}");

    let letters = fixture.json(&["agent", "dead-letters"]);
    assert_eq!((&letters["count"], &letters["dead_letters"][0]["reason"]), (&json!(1), &json!("failed")));
    let dispatch = letters["dead_letters"][0]["dispatch"].as_str().unwrap();
    assert!(fixture.run(&["agent", "dead-letters"]).contains("resource_periodic_limits"));
    assert!(
        fixture.run(&["agent", "resend", "--dispatch", dispatch]).contains("1 to be sent again, by the running server")
    );
    assert_eq!(fixture.json(&["agent", "dead-letters"])["count"], 0);
    let (code, error) = fixture.fails(&["agent", "resend", "--dispatch", dispatch]);
    assert!(code == 1 && error.contains("no dead letter"), "{error}");
    while fixture.json(&["agent", "outbox"])["restrictions_unconfirmed"] == 0 {}
    let qos = format!("/api/marketplace-provider-resources/{}/set_backend_metadata/", resource.as_str().unwrap());
    ask(&server, Method::POST, &qos, &json!({"backend_metadata": {"qos": "normal"}})).await;
    assert_eq!(fixture.fails(&["agent", "resend", "--resource", "r"]).0, 1, "nothing is owed of its restrictions");
    assert_eq!(fixture.fails(&["agent", "resend"]).0, 2);
    assert_eq!(fixture.json(&["agent", "resend", "--all"])["resent"], 0);

    assert!(fixture.run(&["agent", "dead-messages"]).contains("every message was read in time"));
    ask(&server, Method::PUT, "/api/simulation/clock/", &json!({"now": "2026-04-02T02:00:00Z"})).await;
    // The clock that the fixture starts with is behind now.
    let later = |arguments: &[&str]| {
        let done = fixture.command(arguments).env_remove("SLUICE_SIMULATED_CLOCK").assert().success();
        String::from_utf8(done.get_output().stdout.clone()).unwrap()
    };
    let dead: Value = serde_json::from_str(&later(&["agent", "dead-messages", "--format", "json"])).unwrap();
    assert!(dead["count"].as_u64().unwrap() >= 1, "nobody read it for an hour: {dead}");
    assert_eq!(dead["dead_messages"][0]["reason"], "nobody read it in time");
    let shown = ask(&server, Method::GET, "/api/dead-messages/", &json!({})).await;
    assert!(shown.as_array().unwrap().iter().any(|dead| dead["body"]["backend_id"] == "acct"), "{shown}");
    let outbox = later(&["agent", "outbox"]);
    assert!(outbox.starts_with("settings: 0 queued; 1 unanswered; 0 given up\nrestrictions: 0 to tell of"), "{outbox}");
    server.stop();
}

#[tokio::test]
async fn an_account_under_two_policies_is_seen_alike_in_the_rows_of_both() {
    use reqwest::Method;
    let fixture = Fixture::new();
    let both =
        "policies: [{slug: second, offering: o, actions: [request_slurm_resource_downscaling], apply_to_all: true}, ";
    fixture.run(&["apply", "-f", &fixture.file("site.yaml", &SITE.replace("policies: [", both))]);
    let server = Serving::start(&fixture, &[]);
    let list = ask(&server, Method::GET, "/api/marketplace-provider-resources/?slug=r", &json!({})).await;
    let resource = format!("/api/marketplace-provider-resources/{}/", list[0]["uuid"].as_str().unwrap());
    let said = json!({"backend_metadata": {"qos": "normal"}});
    ask(&server, Method::POST, &format!("{resource}set_backend_metadata/"), &said).await;
    let status = fixture.json(&["slurm_policy_status"]);
    let rows = status["resources"].as_array().unwrap().iter();
    let seen: Vec<&Value> = rows.map(|row| &row["site"]["qos_confirmed"]).collect();
    assert_eq!(seen, ["normal", "normal"], "{status}");
    server.stop();
}
