//! The pages for those who keep the service going: who sees which, and what may be done there.

use serde_json::{Value, json};

use super::Browser;
use super::pages::lived;
use crate::support::server::{TestServer, Who, id};

/// The newest message about an allocation, and an agent.
async fn worked(server: &TestServer) -> (String, String) {
    lived(server).await;
    let hold = json!({"kind": "exemption", "reason": "a trial", "expires_at": "2026-03-20T00:00:00Z"});
    let place = format!("/api/marketplace-provider-resources/{}/holds/", id("resource", "bio-hpc1"));
    server.post(Who::Staff, &place, &hold).await.expect(201);
    let agent = json!({"offering": id("offering", "hpc1"), "name": "agent", "version": "1.0.7"});
    let agent = server.post(Who::Agent, "/api/marketplace-site-agent-identities/", &agent).await.expect(201);
    let of = format!("/api/dispatches/?resource_uuid={}", id("resource", "climate-hpc1"));
    let newest = server.get(Who::Staff, &of).await.expect(200)[0].clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&newest["uuid"]), text(&agent["uuid"]))
}

/// Staff and support read it, and nobody else.
const READ: [u16; 6] = [200, 200, 404, 404, 404, 404];
/// Only staff see it.
const STAFF: [u16; 6] = [200, 404, 404, 404, 404, 404];

/// Pages, with who sees each of them: staff, support, Alice who owns the provider and `climate`, Bea who owns `bio`, Carl who has
/// nothing to do with either, Bob who is a member of `climate`.
const PAGES: [(&str, [u16; 6]); 40] = [
    ("/events", READ),
    ("/events?view=flat&type=usage_reported&actor=agent", READ),
    ("/events?folded=no&from=2026-03-01&to=2026-03-31", READ),
    ("/events?at=EVENT&tab=envelope", READ),
    ("/events/EVENT", READ),
    ("/events/EVENT?tab=raw", READ),
    ("/events/99999-0", [404; 6]),
    ("/events/export/events.ndjson", READ),
    ("/system", READ),
    ("/system/jobs?state=failed", READ),
    ("/system/consumers", READ),
    ("/system/notices", READ),
    ("/system/notices?state=failed", READ),
    ("/system/notices/all/resend", STAFF),
    ("/system/holds", READ),
    ("/system/holds/RESOURCE/HOLD/release", STAFF),
    ("/system/tokens", STAFF),
    ("/system/tokens/new", STAFF),
    ("/system/tokens/TOKEN/revoke", STAFF),
    ("/system/retention", READ),
    ("/system/settings", READ),
    ("/system/settings/dispatch_window", STAFF),
    ("/system/settings/there_is_none", [404; 6]),
    ("/timeline", [200, 200, 200, 404, 200, 404]),
    ("/timeline?from=2026-01-01&to=2026-03-31&state=normal", [200, 200, 200, 404, 200, 404]),
    ("/timeline?from=yesterday", [400, 400, 400, 404, 400, 404]),
    ("/allocations/climate-hpc1?tab=holds", [200, 200, 200, 404, 404, 200]),
    ("/policies/quarterly?tab=commands", [200, 200, 200, 404, 404, 404]),
    ("/commands", [200, 200, 200, 200, 200, 200]),
    ("/commands?status=queued&type=limits&from=2026-03-01", [200, 200, 200, 200, 200, 200]),
    ("/commands?tab=agents", [200, 200, 200, 200, 200, 200]),
    ("/commands?tab=dead", [200, 200, 404, 404, 404, 404]),
    ("/commands?tab=accounts", [200, 200, 404, 404, 404, 404]),
    ("/commands/export/commands.csv", [200, 200, 200, 200, 200, 200]),
    ("/commands/export/commands.exe", [404, 404, 404, 404, 404, 404]),
    ("/commands/DISPATCH", [200, 200, 200, 404, 404, 404]),
    ("/commands/DISPATCH/resend", [200, 404, 404, 404, 404, 404]),
    ("/commands/there-is-none", [404, 404, 404, 404, 404, 404]),
    ("/commands/freed?account=climate", [200, 404, 404, 404, 404, 404]),
    ("/agents/AGENT", [200, 200, 200, 404, 404, 404]),
];

#[tokio::test]
async fn every_page_of_work_answers_each_role_as_the_api_does() {
    let server = TestServer::start().await;
    let (dispatch, agent) = worked(&server).await;
    let first = async |path: &str, name: &str| {
        server.get(Who::Staff, path).await.expect(200)[0][name].as_str().unwrap().to_owned()
    };
    let event = first("/api/events/?type=restriction_changed", "position").await;
    let (hold, token) = (first("/api/manual-holds/", "uuid").await, first("/api/tokens/", "uuid").await);
    let at = |path: &str| {
        let path = path.replace("DISPATCH", &dispatch).replace("AGENT", &agent).replace("EVENT", &event);
        path.replace("RESOURCE", &id("resource", "bio-hpc1")).replace("HOLD", &hold).replace("TOKEN", &token)
    };
    let roles = [Who::Staff, Who::Support, Who::Alice, Who::Bea, Who::Carl, Who::Bob];
    for (place, who) in roles.into_iter().enumerate() {
        let mut browser = Browser::of(&server, who).await;
        for (path, expected) in PAGES {
            let answer = browser.open(&at(path)).await;
            assert_eq!(answer.status.as_u16(), expected[place], "{path} as {who:?}: {}", answer.text);
            let policy = answer.header("content-security-policy");
            assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{path}: {policy}");
            for word in ["<style", "style=", " onclick", " onload", "javascript:", "hx-on"] {
                assert!(!answer.text.contains(word), "{path} holds {word}");
            }
        }
    }
    let mut nobody = Browser::new(&server);
    for (path, _) in PAGES {
        assert_eq!(nobody.open(&at(path)).await.status, 303, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_message_shows_its_life_and_what_was_run_beside_what_was_intended() {
    let server = TestServer::start().await;
    let (dispatch, _) = worked(&server).await;
    let policy = server.get(Who::Staff, "/api/marketplace-slurm-periodic-usage-policies/").await.expect(200);
    let known = server.get(Who::Staff, &format!("/api/dispatches/{dispatch}/")).await.expect(200);
    let ran = json!([known["intended_commands"][0], "modify account climate set fairshare=1", "show account climate"]);
    let result = json!({"resource_uuid": id("resource", "climate-hpc1"), "success": false, "dispatch_uuid": dispatch,
        "error_message": "no such account", "commands_executed": ran});
    let report = format!(
        "/api/marketplace-slurm-periodic-usage-policies/{}/report-command-result/",
        policy[0]["uuid"].as_str().unwrap()
    );
    server.post(Who::Agent, &report, &result).await.expect(200);
    server.app.settle().await.unwrap();
    let mut staff = Browser::of(&server, Who::Staff).await;
    let page = staff.open(&format!("/commands/{dispatch}")).await.text;
    for said in [
        "no such account",
        "run as intended",
        "run, but not intended",
        "Commands that change nothing: 1",
        "usage_reported",
        "settings_commanded",
        "command_result_reported",
        "Send again",
    ] {
        assert!(page.contains(said), "{said} in {page}");
    }
    let list = staff.open("/commands?status=failed").await.text;
    assert!(list.contains(&format!("/commands/{dispatch}")) && list.contains("no such account"), "{list}");
    let mut support = Browser::of(&server, Who::Support).await;
    assert!(!support.open(&format!("/commands/{dispatch}")).await.text.contains("Send again"));
    assert_eq!(support.submit(&format!("/commands/{dispatch}/resend"), &[("reason", "x")]).await.status, 404);
    let own = Browser::of(&server, Who::Bea).await.open("/commands").await.text;
    assert!(own.contains("bio on hpc1") && !own.contains("climate on hpc1"), "{own}");
    server.stop().await;
}

#[tokio::test]
async fn what_happened_is_shown_by_cause_with_its_chain() {
    let server = TestServer::start().await;
    lived(&server).await;
    let mut staff = Browser::of(&server, Who::Staff).await;
    let list = staff.open("/events").await.text;
    assert!(list.contains("climate on hpc1 slowed down") && list.contains("104.3 % = 1043.2 of 1000"), "{list}");
    let events = server.get(Who::Staff, "/api/events/?type=restriction_changed").await.expect(200);
    let position = events[0]["position"].as_str().unwrap();
    let page = staff.open(&format!("/events/{position}")).await.text;
    for said in
        ["Payload matches its commitment", "usage_reported", "policy_evaluated", "settings_commanded", "aria-current"]
    {
        assert!(page.contains(said), "{said} in {page}");
    }
    let envelope = staff.open(&format!("/events/{position}?tab=envelope")).await.text;
    for value in ["uuid", "correlation_id", "causation_id", "commitment"] {
        let value = events[0][value].as_str().unwrap();
        assert!(envelope.contains(value), "{value} in {envelope}");
    }
    let cause = events[0]["causation_id"].as_str().unwrap();
    let led = server.get(Who::Staff, "/api/events/?type=policy_evaluated").await.expect(200);
    let led = led.as_array().unwrap().iter().find(|event| event["uuid"] == cause).unwrap();
    assert!(envelope.contains(&format!("/events/{}", led["position"].as_str().unwrap())), "{envelope}");
    let file = staff.open("/events/export/events.ndjson?type=usage_reported").await.text;
    let lines: Vec<Value> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{file}");
    assert!(lines.iter().all(|line| line["type"] == "usage_reported.v1"));
    server.stop().await;
}

#[tokio::test]
async fn staff_change_what_the_service_goes_by_and_support_does_not() {
    let server = TestServer::start().await;
    worked(&server).await;
    let mut staff = Browser::of(&server, Who::Staff).await;
    let mut support = Browser::of(&server, Who::Support).await;
    let change: &[(&str, &str)] = &[("value", "50"), ("reason", "a slower agent")];
    assert_eq!(support.submit("/system/settings/dispatch_window", change).await.status, 404);
    let refused = staff.submit("/system/settings/dispatch_window", &[("value", "0"), ("reason", "x")]).await;
    assert!(refused.status == 200 && refused.text.contains("from 1 to 10000"), "{}", refused.text);
    assert_eq!(staff.submit("/system/settings/dispatch_window", change).await.status, 303);
    let settings = server.get(Who::Support, "/api/settings/").await.expect(200);
    assert_eq!(settings["dispatch_window"], 50);
    let event = server.get(Who::Support, "/api/events/?type=setting_changed").await.expect(200);
    assert_eq!(event[0]["reason"], "a slower agent");

    let holds = server.get(Who::Staff, "/api/manual-holds/").await.expect(200);
    let release = format!(
        "/system/holds/{}/{}/release",
        holds[0]["resource_uuid"].as_str().unwrap(),
        holds[0]["uuid"].as_str().unwrap()
    );
    assert!(support.open("/system/holds").await.text.contains("a trial"));
    assert_eq!(support.submit(&release, &[("reason", "x")]).await.status, 404);
    assert_eq!(staff.submit(&release, &[("reason", "over")]).await.status, 303);
    assert_eq!(server.get(Who::Staff, "/api/manual-holds/").await.expect(200), json!([]));

    let made =
        staff.submit("/system/tokens/new", &[("username", "dora"), ("role", "support"), ("label", "a desk")]).await;
    let key = made.text.split("key-shown\"><code>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let mut dora = Browser::new(&server);
    assert_eq!(dora.sign_in(&key).await.status, 303);
    assert_eq!(support.submit("/system/tokens/new", &[("username", "eve"), ("role", "staff")]).await.status, 404);
    let tokens = server.get(Who::Staff, "/api/tokens/?page_size=1").await.expect(200);
    assert_eq!((&tokens[0]["username"], &tokens[0]["label"]), (&json!("dora"), &json!("a desk")));
    let revoke = format!("/system/tokens/{}/revoke", tokens[0]["uuid"].as_str().unwrap());
    assert_eq!(support.submit(&revoke, &[]).await.status, 404);
    assert_eq!(staff.submit(&revoke, &[]).await.status, 303);
    assert_eq!(dora.open("/events").await.status, 303, "the session that it opened has ended");
    server.stop().await;
}
