//! What a change would come to, before it is made: limits, rules, and forecasts beside both paces.

use serde_json::{Value, json};
use sluice::events::envelope::Position;

use crate::support::server::{POLICIES, TestServer, Who, id, resource_path};

async fn at(server: &TestServer, instant: &str) {
    server.put(Who::Staff, "/api/simulation/clock/", &json!({ "now": instant })).await.expect(200);
}

/// Where the log ends: what is only previewed adds nothing.
async fn events(server: &TestServer) -> Position {
    server.app.store.head().await.unwrap()
}

#[tokio::test]
async fn new_limits_are_shown_term_by_term_before_they_are_saved() {
    let server = TestServer::start().await;
    let (_, policy) = server.policy(|body| body["carryover_factor"] = json!(50)).await;
    server.report("bio-hpc1", "450", "2026-03-01").await;
    // In the second quarter 50 of 500 are carried over.
    at(&server, "2026-04-10T12:00:00Z").await;
    server.report("bio-hpc1", "560", "2026-04-01").await;
    let path = format!("{}preview-limits/", resource_path("bio-hpc1"));
    let before = events(&server).await;
    let preview = server.post(Who::Alice, &path, &json!({"limits": {"node_hours": 1000}})).await.expect(200);
    assert_eq!(events(&server).await, before, "nothing is recorded");
    assert_eq!(
        (&preview["limits_now"], &preview["limits"]),
        (&json!({"node_hours": 500}), &json!({"node_hours": 1000}))
    );
    assert_eq!(
        (&preview["now"], &preview["then"]),
        (&json!({"paused": false, "downscaled": true}), &json!({"paused": false, "downscaled": false}))
    );
    let under = &preview["policies"][0];
    assert_eq!((&under["policy_uuid"], &under["billing_period"]), (&policy["uuid"], &json!("2026-Q2")));
    let terms = |of: &Value| [of["base"].clone(), of["carried_over"].clone(), of["may_use"].clone()];
    assert_eq!(terms(&under["now"]), [json!(500), json!(50), json!(550)]);
    assert_eq!(terms(&under["then"]), [json!(1000), json!(50), json!(1050)], "past usage is compared with what it was");
    assert_eq!(under["may_use_difference"], 500);
    let carryover = &under["then"]["carryover"]["components"]["node_hours"];
    assert_eq!(
        (&carryover["previous_base"], &carryover["previous_usage"], &carryover["unused"], &carryover["carryover_cap"]),
        (&json!(500), &json!(450), &json!(50), &json!(250))
    );
    assert!(!preview["commands"].as_array().unwrap().is_empty(), "{preview:#}");
    // What was shown is what comes.
    server.patch(Who::Alice, &resource_path("bio-hpc1"), &json!({"limits": {"node_hours": 1000}})).await.expect(200);
    let rows =
        server.get(Who::Staff, &format!("/api/allocation-states/?resource_uuid={}", id("resource", "bio-hpc1"))).await;
    assert_eq!(
        (&rows.expect(200)[0]["may_use"], &rows.json()[0]["usage_percentage"]),
        (&json!(1050), &under["then"]["usage_percentage"])
    );
    let same = server.post(Who::Alice, &path, &json!({"limits": {"node_hours": 1000}})).await.expect(200);
    assert_eq!((&same["policies"][0]["may_use_difference"], &same["commands"]), (&json!(0), &json!([])));
    for (limits, said) in
        [(json!({"gpu_hours": 1}), "gpu_hours"), (json!({"node_hours": -1}), "-1"), (json!("many"), "string")]
    {
        let refusal = server.post(Who::Staff, &path, &json!({"limits": limits})).await.refusal("limits");
        assert!(refusal.contains(said), "{limits}: {refusal}");
    }
    assert_eq!(server.post(Who::Staff, &path, &json!({})).await.refusal("limits"), "This field is required.");
    server.post(Who::Bea, &path, &json!({"limits": {}})).await.expect(403);
    server.post(Who::Carl, &path, &json!({"limits": {}})).await.expect(404);
    server.stop().await;
}

#[tokio::test]
async fn changed_rules_are_tried_on_all_allocations_and_nothing_is_recorded() {
    let server = TestServer::start().await;
    let (path, _) = server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    server.report("climate-hpc1", "700", "2026-03-01").await;
    server.report("bio-hpc1", "560", "2026-03-01").await;
    let preview = format!("{path}preview-changes/");
    let before = events(&server).await;
    let tried = async |body: Value| server.post(Who::Alice, &preview, &body).await.expect(200);
    let becomes = |answer: &Value| {
        let row = |row: &Value| {
            let word = |field: &str| row[field].as_str().unwrap().to_owned();
            format!("{} {} -> {}: {}", word("resource_name"), word("state_now"), word("state_then"), word("becomes"))
        };
        answer["allocations"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let as_it_is = tried(json!({})).await;
    assert_eq!(
        becomes(&as_it_is),
        ["bio on hpc1 slowed_down -> slowed_down: unchanged", "climate on hpc1 normal -> normal: unchanged"]
    );
    assert_eq!(as_it_is["summary"], "Nothing would change. Nothing has been changed or recorded.");
    let stricter = tried(json!({"grace_ratio": 0.1, "notification_threshold": 60})).await;
    assert_eq!(
        becomes(&stricter),
        ["bio on hpc1 slowed_down -> paused: paused", "climate on hpc1 normal -> warned: warned"]
    );
    assert_eq!(
        (&stricter["becomes"]["paused"], &stricter["becomes"]["warned"], &stricter["people"]),
        (&json!(1), &json!(1), &json!(2))
    );
    assert_eq!(
        stricter["summary"],
        "1 allocation would be paused, 1 allocation would be warned, and 2 people would be told. Nothing has been changed or recorded."
    );
    let milder = tried(json!({"actions": "notify_organization_owners"})).await;
    assert_eq!(becomes(&milder)[0], "bio on hpc1 slowed_down -> warned: restored");
    let row = &milder["allocations"][0];
    assert_eq!(
        (&row["usage_percentage_now"], &row["usage_percentage_then"], &row["may_use_then"]),
        (&json!(112), &json!(112), &json!(500))
    );
    let off = tried(json!({"enabled": false})).await;
    assert_eq!(
        becomes(&off),
        ["bio on hpc1 slowed_down -> normal: restored", "climate on hpc1 normal -> normal: released"]
    );
    let fewer = tried(json!({"apply_to_all": false, "organization_groups": ["research"]})).await;
    assert_eq!(
        becomes(&fewer),
        ["bio on hpc1 slowed_down -> normal: restored", "climate on hpc1 normal -> normal: unchanged"]
    );
    let one = server.post(Who::Alice, &format!("{preview}?page_size=1"), &json!({"grace_ratio": 0.1})).await;
    assert_eq!((one.expect(200)["allocations"].as_array().unwrap().len(), one.header("x-result-count")), (1, "2"));
    let bio = format!("{preview}?resource_uuid={}", id("resource", "bio-hpc1"));
    assert_eq!(server.post(Who::Alice, &bio, &json!({})).await.expect(200)["tried"], 1);
    assert_eq!(events(&server).await, before, "nothing is recorded");
    assert!(server.post(Who::Alice, &preview, &json!({"grace_ratio": 2})).await.refusal("grace_ratio").contains('2'));
    server.post(Who::Alice, &preview, &json!({"grace": 2})).await.refusal("grace");
    server.post(Who::Support, &preview, &json!({})).await.expect(403);
    server.post(Who::Bea, &preview, &json!({})).await.expect(404);
    // What was shown is what comes.
    server.patch(Who::Alice, &path, &json!({"grace_ratio": 0.1, "notification_threshold": 60})).await.expect(200);
    let rows = server.get(Who::Staff, "/api/allocation-states/?o=name").await.expect(200);
    assert_eq!((&rows[0]["state"], &rows[1]["state"]), (&json!("paused"), &json!("warned")));
    server.stop().await;
}

#[tokio::test]
async fn a_preview_has_dates_at_both_paces_and_marks_those_behind_the_period() {
    let server = TestServer::start().await;
    server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    server.report("climate-hpc1", "300", "2026-03-01").await;
    at(&server, "2026-03-22T12:00:00Z").await;
    server.report("climate-hpc1", "510", "2026-03-01").await;
    let preview = format!("{POLICIES}preview_impact/");
    let of = json!({"resource_uuid": id("resource", "climate-hpc1")});
    let shown = server.post(Who::Staff, &preview, &of).await.expect(200);
    assert_eq!((&shown["daily_usage_rate"], &shown["daily_usage_rate_last_7_days"]), (&json!(6.3), &json!(30)));
    assert_eq!(
        shown["date_projections"]["notification"],
        json!({"days": 46, "date": "2026-05-07", "status": "projected", "in_period": false})
    );
    assert_eq!(
        shown["date_projections_last_7_days"]["notification"],
        json!({"days": 9, "date": "2026-03-31", "status": "projected", "in_period": true})
    );
    let bare = json!({"current_usage": 500, "daily_usage_rate": 10});
    let shown = server.post(Who::Staff, &preview, &bare).await.expect(200);
    assert_eq!(shown["date_projections"]["slowdown"]["in_period"], json!(null), "numbers alone have no period");
    assert_eq!(shown.get("date_projections_last_7_days"), None);
    server.stop().await;
}

#[tokio::test]
async fn what_needs_somebody_is_listed_with_cause_and_age() {
    let server = TestServer::start().await;
    let (path, _) = server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    let attention = async |who| server.get(who, "/api/allocation-states/attention/").await.expect(200);
    let quiet = attention(Who::Staff).await;
    assert_eq!((&quiet["items"], &quiet["counts"]), (&json!([]), &json!({})));
    server.report("bio-hpc1", "560", "2026-03-01").await;
    let hold = json!({"kind": "pause", "reason": "incident", "expires_at": "2026-03-17T12:00:00Z"});
    server.post(Who::Alice, &format!("{}holds/", resource_path("climate-hpc1")), &hold).await.expect(201);
    let dispatches = format!("{path}dispatches/?resource_uuid={}", id("resource", "climate-hpc1"));
    let newest = server.get(Who::Staff, &dispatches).await.expect(200)[0]["uuid"].clone();
    let report = json!({"resource_uuid": id("resource", "climate-hpc1"), "success": false,
        "error_message": "no such account", "dispatch_uuid": newest});
    server.post(Who::Staff, &format!("{path}report-command-result/"), &report).await.expect(200);
    let failed = attention(Who::Staff).await;
    let item = &failed["items"][0];
    assert_eq!(
        (&item["kind"], &item["resource_name"], &item["cause"], &item["age_seconds"]),
        (
            &json!("command_failed"),
            &json!("climate on hpc1"),
            &json!("The newest commands failed: no such account"),
            &json!(0)
        ),
        "{failed:#}"
    );
    assert_eq!(failed["counts"], json!({"command_failed": 1}), "48 hours are left to the hold, and no less");
    assert_eq!(attention(Who::Bob).await["items"][0]["cause"], "The newest commands failed.");
    at(&server, "2026-03-15T14:00:00Z").await;
    let shown = attention(Who::Staff).await;
    // Whether the settings sync has sent the failed commands again by now is not what this test is about.
    let commands_of_climate =
        |item: &&Value| item["resource_name"] == "climate on hpc1" && item["kind"] != "hold_ending";
    let items: Vec<&Value> =
        shown["items"].as_array().unwrap().iter().filter(|item| !commands_of_climate(item)).collect();
    let said: Vec<String> = items
        .iter()
        .map(|item| format!("{} {} {}", item["kind"], item["resource_name"], item["cause"]).replace('"', ""))
        .collect();
    assert_eq!(
        said,
        [
            "not_confirmed bio on hpc1 Commands wait for a queue of the site agent to take them.",
            "hold_ending climate on hpc1 A manual hold (pause) ends by itself: incident",
        ],
        "{shown:#}"
    );
    assert_eq!(shown["counts"]["hold_ending"], json!(1));
    assert_eq!(
        (&items[0]["age_seconds"], &items[1]["age_seconds"], &items[1]["since"]),
        (&json!(7200), &json!(-165_600), &json!("2026-03-17T12:00:00Z"))
    );
    let own = attention(Who::Bea).await;
    assert_eq!(own["counts"], json!({"not_confirmed": 1}), "of their own alone");
    let member = attention(Who::Bob).await;
    let causes: Vec<&Value> = member["items"].as_array().unwrap().iter().map(|item| &item["cause"]).collect();
    assert_eq!(causes.last(), Some(&&json!("A manual hold (pause) ends by itself.")), "without the operator's reason");
    assert_eq!(attention(Who::Carl).await["items"], json!([]));
    server.stop().await;
}
