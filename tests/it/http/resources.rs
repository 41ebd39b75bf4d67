//! Resources: filters, limits with a reason, holds, team, end.

use serde_json::{Value, json};

use crate::support::server::{RESOURCES, TestServer, Who, dashed, id, resource_path};

#[tokio::test]
async fn a_resource_has_every_field_that_the_agent_reads() {
    let server = TestServer::start().await;
    let resource =
        server.get(Who::Agent, &format!("{RESOURCES}{}/", dashed("resource", "climate-hpc1"))).await.expect(200);
    for (field, expected) in [
        ("uuid", json!(id("resource", "climate-hpc1"))),
        ("name", json!("climate on hpc1")),
        ("backend_id", json!("hpc_climate")),
        ("state", json!("OK")),
        ("project_slug", json!("climate")),
        ("customer_slug", json!("uni-a")),
        ("limits", json!({"node_hours": 1000})),
        ("paused", json!(false)),
        ("downscaled", json!(false)),
        ("restrict_member_access", json!(false)),
        ("backend_metadata", json!({})),
        ("attributes", json!({})),
        ("end_date", Value::Null),
        ("created", json!("2025-11-01T00:00:00Z")),
    ] {
        assert_eq!(resource[field], expected, "{field}");
    }
    let team = server.get(Who::Agent, &format!("{}team/", resource_path("climate-hpc1"))).await.expect(200);
    let names: Vec<&str> = team.as_array().unwrap().iter().map(|member| member["username"].as_str().unwrap()).collect();
    assert_eq!(names, ["alice", "bob"]);
    server.stop().await;
}

#[tokio::test]
async fn lists_are_filtered() {
    let server = TestServer::start().await;
    let (climate, bio) = (id("resource", "climate-hpc1"), id("resource", "bio-hpc1"));
    for (filter, expected) in [
        (
            format!("offering_uuid={}&state=OK&state=Erred&page_size=100", dashed("offering", "hpc1")),
            vec![&climate, &bio],
        ),
        ("state=Erred".to_owned(), vec![]),
        (format!("customer_uuid={}", id("customer", "uni-b")), vec![&bio]),
        (format!("project_uuid={}", id("project", "climate")), vec![&climate]),
        ("name=BIO".to_owned(), vec![&bio]),
        ("backend_id=hpc_climate".to_owned(), vec![&climate]),
        ("paused=true".to_owned(), vec![]),
        ("o=-created".to_owned(), vec![&bio, &climate]),
    ] {
        assert_eq!(
            server.get(Who::Staff, &format!("{RESOURCES}?{filter}")).await.ids(),
            expected.into_iter().cloned().collect::<Vec<_>>(),
            "{filter}"
        );
    }
    assert!(server.get(Who::Staff, &format!("{RESOURCES}?state=Gone")).await.refusal("state").contains("Terminated"));
    server.stop().await;
}

#[tokio::test]
async fn a_raised_limit_restores_and_keeps_its_reason() {
    let server = TestServer::start().await;
    server.policy(|body| body["carryover_enabled"] = json!(false)).await;
    server.report("climate-hpc1", "1300", "2026-03-02").await;
    let path = resource_path("climate-hpc1");
    assert_eq!(server.get(Who::Staff, &path).await.expect(200)["paused"], true);
    let raised = server
        .patch(
            Who::Alice,
            &path,
            &json!({"limits": {"node_hours": "2000.5"}, "name": "renamed", "reason": "top-up 4711"}),
        )
        .await
        .expect(200);
    assert_eq!(
        (&raised["paused"], &raised["limits"], &raised["name"]),
        (&json!(false), &json!({"node_hours": 2000.5}), &json!("renamed"))
    );
    let events = server.app.store.read_all(sluice::events::envelope::Position::START, 1_000).await.unwrap();
    let changed = events.iter().find(|event| &*event.event_type == "limits_changed.v1").unwrap();
    assert_eq!(changed.metadata.reason.as_deref(), Some("top-up 4711"));
    assert!(server.patch(Who::Staff, &path, &json!({"limits": {"gpu": 1}})).await.refusal("limits").contains("gpu"));
    assert!(
        server.patch(Who::Staff, &path, &json!({"limits": {"node_hours": -1}})).await.refusal("limits").contains("-1")
    );
    server.stop().await;
}

#[tokio::test]
async fn holds_are_placed_and_released_by_hand() {
    let server = TestServer::start().await;
    let path = resource_path("bio-hpc1");
    let holds = format!("{path}holds/");
    let hold = server
        .post(
            Who::Alice,
            &holds,
            &json!({"kind": "pause", "reason": "incident", "ticket": "T-1", "expires_at": "2026-04-01T00:00:00Z"}),
        )
        .await
        .expect(201);
    assert_eq!((&hold["kind"], &hold["placed_at"]), (&json!("pause"), &json!("2026-03-15T12:00:00Z")));
    assert_eq!(server.get(Who::Bea, &path).await.expect(200)["paused"], true);
    assert_eq!(server.get(Who::Bea, &holds).await.ids(), [hold["uuid"].as_str().unwrap()]);
    let errors = server.post(Who::Alice, &holds, &json!({"kind": "stop"})).await.expect(400);
    assert!(errors["kind"][0].as_str().unwrap().contains("pause, downscale, exemption"), "{errors}");
    assert_eq!(errors["reason"], json!(["This field is required."]));
    server
        .post(Who::Alice, &holds, &json!({"kind": "pause", "reason": "x", "expires_at": "2026-01-01T00:00:00Z"}))
        .await
        .refusal("expires_at");
    let one = format!("{holds}{}/", hold["uuid"].as_str().unwrap());
    server.delete(Who::Bea, &one).await.expect(403);
    server.delete(Who::Alice, &one).await.expect(204);
    server.delete(Who::Alice, &one).await.expect(404);
    assert_eq!(server.get(Who::Bea, &path).await.expect(200)["paused"], false);
    server.stop().await;
}

#[tokio::test]
async fn a_terminated_resource_stays_readable_and_takes_no_limits() {
    let server = TestServer::start().await;
    let path = resource_path("bio-hpc1");
    server.post(Who::Bea, &format!("{path}terminate/"), &json!({})).await.expect(403);
    assert_eq!(
        server.post(Who::Alice, &format!("{path}terminate/"), &json!({"reason": "over"})).await.expect(200)["state"],
        "Terminated"
    );
    server.patch(Who::Staff, &path, &json!({"limits": {"node_hours": 1}})).await.refusal("limits");
    assert_eq!(
        server.get(Who::Staff, &format!("{RESOURCES}?state=Terminated")).await.ids(),
        [id("resource", "bio-hpc1")]
    );
    server.stop().await;
}

#[tokio::test]
async fn an_account_that_comes_from_a_name_counts_as_well_and_none_begins_with_a_dash() {
    let server = TestServer::start().await;
    let body =
        |name: &str, account: &str| json!({"name": name, "offering": "hpc1", "project": "bio", "backend_id": account});
    for (name, account, field) in [
        ("hpc_bio", "", "name"),
        ("HPC_Bio", "", "name"),
        ("Second", "Hpc_Bio", "backend_id"),
        ("-second", "", "name"),
        ("Second", "-x", "backend_id"),
    ] {
        let refusal = server.post(Who::Staff, RESOURCES, &body(name, account)).await.refusal(field);
        assert!(refusal.contains("choose another") || refusal.contains("dash"), "{refusal}");
    }
    server.post(Who::Staff, RESOURCES, &body("third", "")).await.expect(201);
    server.post(Who::Staff, RESOURCES, &body("Fourth", "Third")).await.refusal("backend_id");
    let path = resource_path("third");
    server.patch(Who::Staff, &path, &json!({"name": "hpc_bio"})).await.refusal("name");
    server.patch(Who::Staff, &path, &json!({"backend_id": "-third"})).await.refusal("backend_id");
    server.patch(Who::Staff, &path, &json!({"name": "Third"})).await.expect(200);
    server.patch(Who::Staff, &path, &json!({"name": "hpc_bio", "backend_id": "third"})).await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn monthly_totals_are_seen_by_whoever_sees_the_resource() {
    const TOTALS: &str = "/api/evaluation-totals/";
    let server = TestServer::start().await;
    server.policy(|_| ()).await;
    let clock = json!({"now": "2026-08-01T00:00:00Z"});
    server.put(Who::Staff, "/api/simulation/clock/", &clock).await.expect(200);
    let of_bio = format!("{TOTALS}?month=2026-03&resource_uuid={}", id("resource", "bio-hpc1"));
    let bio = server.get(Who::Staff, &of_bio).await;
    assert_eq!(bio.header("x-result-count"), "1");
    let row = bio.expect(200)[0].clone();
    assert_eq!((&row["month"], &row["resource_name"]), (&json!("2026-03"), &json!("bio on hpc1")));
    assert!(row["evaluations"].as_i64().unwrap() > 0 && row["minutes_restricted"] == 0, "{row}");
    for (who, rows) in [
        (Who::Support, 1),
        (Who::Alice, 1),
        (Who::Bea, 1),
        (Who::Agent, 1),
        (Who::Carl, 0),
        (Who::Bob, 0),
        (Who::OtherAgent, 0),
    ] {
        assert_eq!(server.get(who, &of_bio).await.expect(200).as_array().unwrap().len(), rows, "{who:?}");
    }
    assert!(server.get(Who::Staff, &format!("{TOTALS}?month=March")).await.refusal("month").contains("2026-03"));
    server.stop().await;
}

#[tokio::test]
async fn an_account_belongs_to_one_live_resource_of_an_offering() {
    let server = TestServer::start().await;
    let body = |slug: &str, offering: &str, account: &str| json!({"name": slug, "slug": slug, "offering": offering, "project": "bio", "backend_id": account});
    let refusal = server.post(Who::Staff, RESOURCES, &body("second", "hpc1", "hpc_bio")).await.refusal("backend_id");
    assert!(refusal.contains("\"hpc_bio\"") && refusal.contains("bio on hpc1"), "{refusal}");
    server.post(Who::Staff, RESOURCES, &body("elsewhere", "hpc2", "hpc_bio")).await.expect(201);
    for slug in ["nameless", "nameless-too"] {
        server.post(Who::Staff, RESOURCES, &body(slug, "hpc1", "")).await.expect(201);
    }
    let path = resource_path("climate-hpc1");
    server.patch(Who::Staff, &path, &json!({"backend_id": "hpc_bio", "name": "x"})).await.refusal("backend_id");
    assert_eq!(server.get(Who::Staff, &path).await.expect(200)["name"], "climate on hpc1", "nothing of it was done");
    server.patch(Who::Staff, &path, &json!({"backend_id": "hpc_climate"})).await.expect(200);
    server.post(Who::Staff, &format!("{}terminate/", resource_path("bio-hpc1")), &json!({})).await.expect(200);
    server.post(Who::Staff, RESOURCES, &body("second", "hpc1", "hpc_bio")).await.expect(201);
    // Two at once: one of them is too late.
    let (one, other) = (body("race-a", "hpc1", "race"), body("race-b", "hpc1", "race"));
    let (one, other) =
        tokio::join!(server.post(Who::Staff, RESOURCES, &one), server.post(Who::Staff, RESOURCES, &other));
    let mut answers = [one.status.as_u16(), other.status.as_u16()];
    answers.sort_unstable();
    assert_eq!(answers, [201, 400]);
    server.stop().await;
}

#[tokio::test]
async fn holds_of_all_resources_are_listed_for_staff_and_support() {
    let server = TestServer::start().await;
    let place = async |slug: &str, kind: &str| {
        let body = json!({"kind": kind, "reason": "maintenance"});
        server.post(Who::Staff, &format!("{}holds/", resource_path(slug)), &body).await.expect(201)
    };
    let slow = place("bio-hpc1", "slowdown").await;
    assert_eq!(slow["kind"], "downscale", "slowdown is another name of it");
    let exempt = place("climate-hpc1", "exemption").await;
    let both: Vec<String> = [&slow, &exempt].map(|hold| hold["uuid"].as_str().unwrap().to_owned()).to_vec();
    let all = "/api/manual-holds/";
    let listed = server.get(Who::Support, all).await;
    assert_eq!((listed.ids(), listed.header("x-result-count")), (both.clone(), "2"));
    assert_eq!(server.get(Who::Staff, &format!("{all}?kind=exemption")).await.ids(), both[1..]);
    let on = format!("{all}?resource_uuid={}", id("resource", "bio-hpc1"));
    assert_eq!(server.get(Who::Staff, &on).await.ids(), both[..1]);
    server.get(Who::Staff, &format!("{all}?kind=stop")).await.refusal("kind");
    server.delete(Who::Staff, &format!("{}holds/{}/", resource_path("bio-hpc1"), both[0])).await.expect(204);
    assert_eq!(server.get(Who::Staff, all).await.ids(), both[1..]);
    server.stop().await;
}

#[tokio::test]
async fn the_address_of_peoples_own_resources_gives_the_same_rows() {
    let server = TestServer::start().await;
    let (theirs, own) = ("/api/marketplace-provider-resources/", "/api/marketplace-resources/");
    let query = format!("?offering_uuid={}&state=OK&state=Erred&page_size=1", id("offering", "hpc1"));
    for who in [Who::Staff, Who::Alice, Who::Bea, Who::Bob, Who::Agent, Who::OtherAgent] {
        let (one, other) =
            (server.get(who, &format!("{theirs}{query}")).await, server.get(who, &format!("{own}{query}")).await);
        assert_eq!(one.header("x-result-count"), other.header("x-result-count"), "{who:?}");
        assert!(
            other
                .headers
                .get("link")
                .is_none_or(|link| link.to_str().unwrap().contains("/api/marketplace-resources/?"))
        );
        assert_eq!(one.expect(200), other.expect(200), "{who:?}");
    }
    let one = format!("{own}{}/", id("resource", "climate-hpc1"));
    assert_eq!(server.get(Who::Agent, &one).await.expect(200)["backend_id"], "hpc_climate");
    server.get(Who::OtherAgent, &one).await.expect(404);
    server.stop().await;
}
