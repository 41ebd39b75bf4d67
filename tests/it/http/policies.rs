//! Policies: create, read, change, delete, evaluate, logs.

use serde_json::{Value, json};

use crate::support::server::{POLICIES, TestServer, Who, dashed, id, resource_path};

#[tokio::test]
async fn a_policy_has_every_field_that_clients_read() {
    let server = TestServer::start().await;
    let (path, policy) = server.policy(|_| ()).await;
    for (field, expected) in [
        ("scope_name", json!("SLURM HPC cluster")),
        ("scope_uuid", json!(id("offering", "hpc1"))),
        ("actions", server.policy_body()["actions"].clone()),
        ("options", json!({})),
        ("has_fired", json!(false)),
        ("fired_datetime", policy["created"].clone()),
        ("affected_resources_count", json!(0)),
        ("apply_to_all", json!(true)),
        ("organization_groups", json!([])),
        ("component_limits_set", json!([])),
        ("period", json!(3)),
        ("period_name", json!("3 month")),
        ("limit_type", json!("GrpTRESMins")),
        ("tres_billing_enabled", json!(true)),
        ("tres_billing_weights", json!({})),
        ("carryover_enabled", json!(true)),
        ("carryover_factor", Value::Null),
        ("carryover_base", json!("previous")),
        ("fairshare_decay_half_life", json!(15)),
        ("grace_ratio", json!(0.2)),
        ("notification_threshold", json!(80)),
        ("raw_usage_reset", json!(true)),
        ("qos_strategy", json!("threshold")),
        ("enabled", json!(true)),
        ("version", json!(1)),
        (
            "warnings",
            json!([
                "No agent has registered a queue for the settings of this offering: what is decided is kept, and goes out when one does."
            ]),
        ),
        ("created_by_username", json!("root")),
    ] {
        assert_eq!(policy[field], expected, "{field}");
    }
    assert_eq!(policy["url"], server.url(&path));
    let uuid = policy["uuid"].as_str().unwrap();
    assert_eq!(uuid.len(), 32);
    let with_dashes = uuid::Uuid::try_parse(uuid).unwrap().hyphenated().to_string();
    assert_eq!(server.get(Who::Staff, &format!("{POLICIES}{with_dashes}/")).await.expect(200)["uuid"], uuid);
    server.stop().await;
}

#[tokio::test]
async fn field_errors_come_together_and_name_the_fields() {
    let server = TestServer::start().await;
    let errors = server.post(Who::Staff, POLICIES, &json!({})).await.expect(400);
    for field in ["scope", "actions", "component_limits_set"] {
        assert_eq!(errors[field], json!(["This field is required."]), "{field}");
    }
    let refuse = async |change: Value, field: &str, part: &str| {
        let mut body = server.policy_body();
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let message = server.post(Who::Staff, POLICIES, &body).await.refusal(field);
        assert!(message.contains(part), "{field}: {message}");
    };
    refuse(
        json!({"actions": "notify_organization_owners,non_existent_action"}),
        "actions",
        "includes unavailable actions",
    )
    .await;
    refuse(json!({"actions": ""}), "actions", "At least one action").await;
    refuse(
        json!({"organization_groups": [id("organization_group", "research")]}),
        "non_field_errors",
        "apply_to_all=True when organization_groups are specified",
    )
    .await;
    refuse(json!({"apply_to_all": false}), "non_field_errors", "Exactly one").await;
    refuse(json!({"apply_to_all": false, "organization_groups": ["nothing"]}), "organization_groups", "does not exist")
        .await;
    refuse(json!({"component_limits_set": [{"type": "gpu", "limit": 1}]}), "component_limits_set", "gpu").await;
    refuse(
        json!({"component_limits_set": [{"type": "node_hours", "limit": 1}, {"type": "node_hours", "limit": 2}]}),
        "component_limits_set",
        "more than once",
    )
    .await;
    refuse(json!({"component_limits_set": [{"type": "node_hours", "limit": -1}]}), "component_limits_set", "-1").await;
    refuse(json!({"component_limits_set": "x"}), "component_limits_set", "list").await;
    refuse(json!({"period": 2}), "period", "3").await;
    refuse(json!({"period": 5}), "period", "5").await;
    refuse(json!({"grace_ratio": 1.5}), "grace_ratio", "1.5").await;
    refuse(json!({"grace_ratio": "much"}), "grace_ratio", "much").await;
    refuse(json!({"carryover_factor": 101}), "carryover_factor", "101").await;
    refuse(json!({"notification_threshold": 0}), "notification_threshold", "0").await;
    refuse(json!({"limit_type": "CPUMins"}), "limit_type", "CPUMins").await;
    refuse(json!({"qos_strategy": null}), "qos_strategy", "null").await;
    refuse(json!({"tres_billing_weights": {"cpu": -1}}), "tres_billing_weights", "cpu").await;
    refuse(json!({"options": {"nothing": 1}}), "options", "nothing").await;
    refuse(json!({"options": {"notify_external_user": "not an address"}}), "options", "not an address").await;
    refuse(
        json!({"scope": "http://nowhere/api/marketplace-provider-offerings/7e500000000040008000000000000001/"}),
        "scope",
        "does not exist",
    )
    .await;
    assert_eq!(server.get(Who::Staff, POLICIES).await.ids(), Vec::<String>::new(), "nothing was half done");
    server.stop().await;
}

#[tokio::test]
async fn put_asks_for_everything_that_is_required_and_patch_for_nothing() {
    let server = TestServer::start().await;
    let (path, _) = server.policy(|body| body["carryover_factor"] = json!(50)).await;
    let errors = server.put(Who::Staff, &path, &json!({"grace_ratio": 0.3})).await.expect(400);
    assert_eq!(errors.as_object().unwrap().len(), 3, "{errors}");
    let message = server.patch(Who::Staff, &path, &json!({"grace_rate": 0.3})).await.refusal("grace_rate");
    assert!(message.contains("grace_ratio"), "{message}");
    let patched = server.patch(Who::Staff, &path, &json!({"grace_ratio": 0.3})).await.expect(200);
    assert_eq!((&patched["grace_ratio"], &patched["version"]), (&json!(0.3), &json!(2)));
    let mut body = server.policy_body();
    body["carryover_factor"] = json!(25);
    let put = server.put(Who::Staff, &path, &body).await.expect(200);
    assert_eq!((&put["carryover_factor"], &put["grace_ratio"]), (&json!(25), &json!(0.2)));
    let same = server.put(Who::Staff, &path, &body).await.expect(200);
    assert_eq!(same["version"], put["version"], "the same again is no new version");
    let several = json!({"notification_threshold": [95, 50], "carryover_factor": null, "enabled": false});
    let patched = server.patch(Who::Staff, &path, &several).await.expect(200);
    assert_eq!(patched["notification_threshold"], json!([50, 95]));
    assert_eq!((&patched["carryover_factor"], &patched["enabled"]), (&Value::Null, &json!(false)));
    server.stop().await;
}

#[tokio::test]
async fn one_patch_switches_who_a_policy_applies_to() {
    let server = TestServer::start().await;
    let (path, _) = server.policy(|_| ()).await;
    let group = id("organization_group", "research");
    let groups = json!({"apply_to_all": false, "organization_groups": [server.url(&format!("/api/organization-groups/{group}/"))]});
    let patched = server.patch(Who::Alice, &path, &groups).await.expect(200);
    assert_eq!(patched["apply_to_all"], false);
    assert_eq!(patched["organization_groups"], groups["organization_groups"]);
    assert!(
        server
            .patch(Who::Alice, &path, &json!({"apply_to_all": true}))
            .await
            .refusal("non_field_errors")
            .contains("apply_to_all=True")
    );
    let back =
        server.patch(Who::Alice, &path, &json!({"apply_to_all": true, "organization_groups": []})).await.expect(200);
    assert_eq!((&back["apply_to_all"], &back["organization_groups"]), (&json!(true), &json!([])));
    server.stop().await;
}

#[tokio::test]
async fn addresses_are_given_back_to_those_who_may_see_them() {
    let server = TestServer::start().await;
    let addresses = "first@site.example,second@site.example";
    let (path, policy) = server
        .policy(|body| {
            body["actions"] = json!("notify_external_user");
            body["options"] = json!({"notify_external_user": addresses});
        })
        .await;
    assert_eq!(policy["options"]["notify_external_user"], addresses);
    assert_eq!(server.get(Who::Alice, &path).await.expect(200)["options"]["notify_external_user"], addresses);
    assert_eq!(server.get(Who::Agent, &path).await.expect(200)["options"], json!({}));
    let events = server.app.store.read_all(sluice::events::envelope::Position::START, 1000).await.unwrap();
    assert!(events.iter().all(|event| !event.payload.contains("site.example")), "no address in the log");
    server.stop().await;
}

#[tokio::test]
async fn usage_is_evaluated_shown_and_explained() {
    let server = TestServer::start().await;
    let (path, policy) = server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    server.report("climate-hpc1", "1043.2", "2026-03-01T00:00:00+00:00").await;
    let resource = server.get(Who::Bob, &resource_path("climate-hpc1")).await.expect(200);
    assert_eq!((&resource["downscaled"], &resource["paused"]), (&json!(true), &json!(false)));
    let shown = server.get(Who::Staff, &path).await.expect(200);
    assert_eq!((&shown["has_fired"], &shown["affected_resources_count"]), (&json!(true), &json!(1)));

    let filter = format!(
        "{path}evaluation-logs/?resource_uuid={}&billing_period=2026-Q1&action=downscale&outcome=changed",
        dashed("resource", "climate-hpc1")
    );
    let logs = server.get(Who::Staff, &filter).await;
    assert_eq!(logs.header("x-result-count"), "1");
    let log = &logs.expect(200)[0];
    assert_eq!(log["actions_taken"], json!(["downscale", "notify"]));
    assert_eq!((&log["usage_percentage"], &log["grace_limit_percentage"]), (&json!(104.32), &json!(120)));
    assert_eq!(
        (&log["previous_state"], &log["new_state"]),
        (&json!({"paused": false, "downscaled": false}), &json!({"paused": false, "downscaled": true}))
    );
    assert_eq!(
        (&log["stomp_message_sent"], &log["site_agent_confirmed"], &log["site_agent_response"]),
        (&json!(false), &Value::Null, &Value::Null)
    );
    assert!(log["explanation"].as_str().unwrap().contains("104.3"), "{log}");
    for none in ["from=2026-03-16", "to=2026-03-14", "action=pause", "billing_period=2025-Q4", "outcome=failed"] {
        assert_eq!(
            server
                .get(
                    Who::Staff,
                    &format!("{path}evaluation-logs/?{none}&resource_uuid={}", id("resource", "climate-hpc1"))
                )
                .await
                .expect(200),
            json!([]),
            "{none}"
        );
    }
    for some in ["from=2026-03-15", "to=2026-03-15", "from=2026-03-15T12:00:00%2B00:00"] {
        assert_ne!(
            server.get(Who::Staff, &format!("{path}evaluation-logs/?{some}")).await.expect(200),
            json!([]),
            "{some}"
        );
    }

    let dry = server
        .post(Who::Staff, &format!("{path}dry-run/"), &json!({"resource_uuid": dashed("resource", "climate-hpc1")}))
        .await
        .expect(200);
    assert_eq!(
        (&dry["policy_uuid"], &dry["billing_period"], &dry["grace_limit_percentage"]),
        (&policy["uuid"], &json!("2026-Q1"), &json!(120))
    );
    let row = &dry["resources"][0];
    assert_eq!(
        (&row["usage_percentage"], &row["would_trigger"], &row["downscaled"]),
        (&json!(104.32), &json!(["downscale"]), &json!(true))
    );
    let evaluated = server.post(Who::Staff, &format!("{path}evaluate/"), &json!({})).await.expect(200);
    assert_eq!(evaluated["resources"].as_array().unwrap().len(), 2, "both resources are in scope");
    assert_eq!(
        server
            .post(Who::Staff, &format!("{path}force-period-reset/"), &json!({"resource_uuid": null}))
            .await
            .expect(200)["resources"],
        json!([])
    );
    server
        .post(Who::Staff, &format!("{path}evaluate/"), &json!({"resource_uuid": "7e500000000040008000000000000001"}))
        .await
        .refusal("resource_uuid");
    let status = server
        .get(Who::Staff, &format!("{path}status/?resource_uuid={}", id("resource", "climate-hpc1")))
        .await
        .expect(200);
    assert_eq!((&status["downscaled"], &status["resources"][0]["usage_percentage"]), (&json!(1), &json!(104.32)));
    server.stop().await;
}

#[tokio::test]
async fn a_dry_run_says_when_an_overused_quarter_still_carries_over() {
    let server = TestServer::start().await;
    server.report("climate-hpc1", "1500", "2025-12-01T00:00:00+00:00").await;
    let (path, _) = server.policy(|_| ()).await;
    let one = json!({"resource_uuid": id("resource", "climate-hpc1")});
    // The second time the terms stand in the log as a reference.
    for _ in 0..2 {
        let dry = server.post(Who::Staff, &format!("{path}dry-run/"), &one).await.expect(200);
        let note = dry["resources"][0]["carryover_note"].as_str().unwrap_or_default().to_owned();
        assert!(note.contains("1500 of 1000") && note.contains("2025-Q4"), "{dry}");
        server.post(Who::Staff, &format!("{path}evaluate/"), &one).await.expect(200);
    }
    server.stop().await;
}

#[tokio::test]
async fn commands_are_listed_and_reports_settle_them() {
    let server = TestServer::start().await;
    let (path, _) = server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    server.report("climate-hpc1", "1250", "2026-03-01").await;
    let history = format!("{path}command-history/?resource_uuid={}", id("resource", "climate-hpc1"));
    let rows = server.get(Who::Alice, &history).await.expect(200);
    let types: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["command_type"].as_str().unwrap()).collect();
    assert!(types.contains(&"qos") && types.contains(&"limits"), "{types:?}");
    let qos = server.get(Who::Alice, &format!("{history}&action=qos")).await.expect(200);
    assert!(qos[0]["shell_command"].as_str().unwrap().contains("set qos=blocked"), "{qos}");
    assert_eq!((&qos[0]["success"], &qos[0]["execution_mode"]), (&Value::Null, &json!("production")));
    assert_eq!(qos[0]["billing_period"], "2026-Q1");

    let report = json!({"resource_uuid": dashed("resource", "climate-hpc1"), "success": false, "error_message": "boom", "mode": "emulator", "commands_executed": ["sacctmgr x"]});
    let result = format!("{path}report-command-result/");
    assert_eq!(
        server.post(Who::Agent, &result, &report).await.expect(200),
        json!({"detail": "Command result recorded."})
    );
    let failed = server.get(Who::Alice, &format!("{history}&outcome=failed")).await.expect(200);
    assert_eq!(
        (&failed[0]["success"], &failed[0]["error_message"], &failed[0]["execution_mode"]),
        (&json!(false), &json!("boom"), &json!("emulator"))
    );
    let unknown = json!({"resource_uuid": "7e500000000040008000000000000001", "success": true});
    assert_eq!(server.post(Who::Staff, &result, &unknown).await.refusal("resource_uuid"), "Resource not found.");
    assert_eq!(
        server.post(Who::Staff, &result, &json!({})).await.expect(400),
        json!({"resource_uuid": ["This field is required."], "success": ["This field is required."]})
    );
    server.stop().await;
}

#[tokio::test]
async fn preview_counts_like_the_published_cases() {
    let server = TestServer::start().await;
    let path = format!("{POLICIES}preview_impact/");
    let half = server.post(Who::Staff, &path, &json!({"current_usage": 500, "daily_usage_rate": 50})).await.expect(200);
    assert_eq!(
        (&half["usage_percentage"], &half["current_qos_status"], &half["carryover"]),
        (&json!(50), &json!("normal"), &Value::Null)
    );
    assert_eq!(half["date_projections"]["blocked"], json!({"days": 14, "date": "2026-03-29", "status": "projected"}));
    assert_eq!((half.get("billing_period_start"), &half["carryover_factor"]), (None, &json!(50)));
    let carried = server.post(Who::Staff, &path, &json!({"previous_usage": 400})).await.expect(200);
    let terms = json!({"previous_usage": 400, "carryover_factor": 50, "base_allocation": 1000, "previous_base_allocation": 1000, "unused": 600, "carryover_cap": 500, "carryover": 500, "total_allocation": 1500});
    assert_eq!((&carried["carryover"], &carried["thresholds"]["blocked_threshold"]), (&terms, &json!(1800)));
    let of_resource =
        server.post(Who::Staff, &path, &json!({"resource_uuid": id("resource", "climate-hpc1")})).await.expect(200);
    assert_eq!(
        (&of_resource["billing_period_start"], &of_resource["billing_period_end"]),
        (&json!("2026-01-01"), &json!("2026-03-31"))
    );
    server.post(Who::Staff, &path, &json!({"grace_ratio": 2})).await.refusal("grace_ratio");
    server.post(Who::Alice, &path, &json!({})).await.expect(403);
    server.stop().await;
}

#[tokio::test]
async fn a_preview_on_a_resource_has_what_is_enforced_beside_it_and_names_what_differs() {
    let server = TestServer::start().await;
    let preview = format!("{POLICIES}preview_impact/");
    // What a typed client sends whatever it is asked for.
    let filled_in = json!({
        "resource_uuid": dashed("resource", "climate-hpc1"), "allocation": 1000, "grace_ratio": 0.2, "previous_usage": 0,
        "carryover_factor": 50, "carryover_enabled": true, "current_usage": 0, "daily_usage_rate": 0,
    });
    let nothing = server.post(Who::Staff, &preview, &filled_in).await.expect(200);
    assert_eq!((nothing.get("enforcement"), nothing.get("differences")), (None, None), "no policy applies yet");

    let own = |body: &mut Value| {
        body["grace_ratio"] = json!(0.15);
        body["fairshare_decay_half_life"] = json!(15);
    };
    let (path, policy) = server.policy(own).await;
    server.report("climate-hpc1", "100", "2025-12-01").await;
    server.report("climate-hpc1", "1100", "2026-03-01").await;
    let shown = server.post(Who::Staff, &preview, &filled_in).await.expect(200);
    let enforced = &shown["enforcement"];
    assert_eq!((&shown["grace_ratio"], &shown["carryover_factor"]), (&json!(0.2), &json!(50)));
    assert_eq!((&enforced["policy_uuid"], &enforced["grace_ratio"]), (&policy["uuid"], &json!(0.15)));
    assert_eq!((&enforced["carryover_factor"], &enforced["fairshare_decay_half_life"]), (&Value::Null, &json!(15)));
    let dry = json!({"resource_uuid": id("resource", "climate-hpc1")});
    let dry = server.post(Who::Staff, &format!("{path}dry-run/"), &dry).await.expect(200);
    let percent = |value: &Value| format!("{:.1}", value["usage_percentage"].as_f64().unwrap());
    assert_eq!(percent(enforced), percent(&dry["resources"][0]), "enforcement's own figure");
    assert_ne!(percent(&shown), percent(enforced));
    let rows = shown["differences"].as_array().unwrap();
    let fields: Vec<&str> = rows.iter().map(|row| row["field"].as_str().unwrap()).collect();
    for field in ["grace_ratio", "carryover_formula", "carryover_factor", "effective_allocation", "usage_percentage"] {
        assert!(fields.contains(&field), "{field}: {fields:?}");
    }
    assert_eq!(rows[0], json!({"field": "grace_ratio", "previewed": 0.2, "enforced": 0.15}));
    let note = shown["differences_note"].as_str().unwrap();
    assert!(note.contains("in force: grace_ratio 0.15 (previewed: 0.2), carryover_formula decayed_usage/"), "{note}");

    // Asked as the policy is, the preview is enforcement.
    let as_it_is =
        server.post(Who::Staff, &preview, &json!({"resource_uuid": id("resource", "climate-hpc1")})).await.expect(200);
    assert_eq!(
        (&as_it_is["differences"], &as_it_is["differences_note"]),
        (&json!([]), &json!("The figures are those in force."))
    );
    for field in ["usage_percentage", "effective_allocation", "thresholds", "current_qos_status"] {
        assert_eq!(as_it_is[field], as_it_is["enforcement"][field], "{field}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_blocking_policy_forbids_a_further_resource() {
    let server = TestServer::start().await;
    let (path, policy) = server.policy(|body| body["actions"] = json!("block_creation_of_new_resources")).await;
    let question = format!("creation-allowed/?customer_uuid={}", dashed("customer", "uni-b"));
    let allowed = json!({"allowed": true, "reason": null, "policy_uuid": null});
    assert_eq!(server.get(Who::Staff, &format!("{path}{question}")).await.expect(200), allowed);
    server.report("bio-hpc1", "5000", "2026-03-02").await;
    let refused = server.get(Who::Staff, &format!("{path}{question}")).await.expect(200);
    assert_eq!((&refused["allowed"], &refused["policy_uuid"]), (&json!(false), &policy["uuid"]));
    let offering = format!("/api/marketplace-provider-offerings/{}/{question}", id("offering", "hpc1"));
    assert_eq!(server.get(Who::Bea, &offering).await.expect(200), refused, "an owner may ask for the own organisation");
    server.get(Who::Carl, &offering).await.expect(404);
    let body = json!({"name": "bio two", "offering": "hpc1", "project": "bio"});
    assert_eq!(
        server.post(Who::Staff, "/api/marketplace-provider-resources/", &body).await.refusal("non_field_errors"),
        refused["reason"]
    );
    server.get(Who::Staff, &format!("{path}creation-allowed/")).await.refusal("customer_uuid");
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_policy_releases_what_it_held_and_its_log_stays() {
    let server = TestServer::start().await;
    let (path, _) = server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    server.report("climate-hpc1", "1300", "2026-03-02").await;
    assert_eq!(server.get(Who::Staff, &resource_path("climate-hpc1")).await.expect(200)["paused"], true);
    server.delete(Who::Staff, &path).await.expect(204);
    server.get(Who::Staff, &path).await.expect(404);
    server.delete(Who::Staff, &path).await.expect(404);
    assert_eq!(server.get(Who::Staff, &resource_path("climate-hpc1")).await.expect(200)["paused"], false);
    assert_ne!(server.get(Who::Staff, &format!("{path}evaluation-logs/")).await.expect(200), json!([]));
    let history = format!("{path}command-history/?resource_uuid={}", id("resource", "climate-hpc1"));
    let released = &server.get(Who::Staff, &format!("{history}&action=qos")).await.expect(200)[0];
    let report = json!({"resource_uuid": id("resource", "climate-hpc1"), "success": true, "dispatch_uuid": released["dispatch_uuid"]});
    let result = format!("{path}report-command-result/");
    server.post(Who::Agent, &result, &report).await.expect(200);
    let confirmed = server.get(Who::Staff, &format!("{history}&outcome=confirmed&action=qos")).await.expect(200);
    assert_eq!((&confirmed[0]["uuid"], &confirmed[0]["success"]), (&released["uuid"], &json!(true)));
    assert_eq!(server.head(Who::Staff, POLICIES).await.header("x-result-count"), "0");
    server.stop().await;
}

#[tokio::test]
async fn lists_are_filtered_counted_and_paged() {
    let server = TestServer::start().await;
    for _ in 0..3 {
        server.policy(|_| ()).await;
    }
    let page = server.get(Who::Staff, &format!("{POLICIES}?page_size=2&page=1&field=uuid&field=scope_uuid")).await;
    assert_eq!(page.header("x-result-count"), "3");
    assert!(
        page.header("link").contains("page=2>; rel=\"next\"") && page.header("link").contains("rel=\"last\""),
        "{}",
        page.header("link")
    );
    let rows = page.expect(200);
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert_eq!(rows[0].as_object().unwrap().len(), 2);
    let last = server.get(Who::Staff, &format!("{POLICIES}?page_size=2&page=2")).await;
    assert!(!last.header("link").contains("rel=\"next\"") && last.header("link").contains("rel=\"prev\""));
    assert_eq!(
        server.get(Who::Staff, &format!("{POLICIES}?page=9")).await.expect(404),
        json!({"detail": "Invalid page."})
    );
    let head = server.head(Who::Staff, &format!("{POLICIES}?scope_uuid={}", dashed("offering", "hpc1"))).await;
    assert_eq!((head.status.as_u16(), head.header("x-result-count"), head.text.as_str()), (200, "3", ""));
    assert_eq!(
        server.get(Who::Staff, &format!("{POLICIES}?scope_uuid={}", id("offering", "hpc2"))).await.expect(200),
        json!([])
    );
    assert!(
        server
            .get(Who::Staff, &format!("{POLICIES}?scope_uuid=nonsense"))
            .await
            .refusal("scope_uuid")
            .contains("nonsense")
    );
    let names = server.get(Who::Bob, &format!("{POLICIES}actions/")).await;
    assert_eq!((names.header("x-result-count"), names.expect(200).as_array().unwrap().len()), ("5", 5));
    server.stop().await;
}
