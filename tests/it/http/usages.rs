//! Intake of usage as the agent does it, and what is listed afterwards.

use serde_json::{Value, json};

use crate::support::server::{TestServer, USAGES, Who, dashed, id};

const USERS: &str = "/api/marketplace-component-user-usages/";

fn report(amount: &Value, date: &str) -> Value {
    json!({"usages": [{"type": "node_hours", "amount": amount, "recurring": false}], "resource": id("resource", "climate-hpc1"), "date": date})
}

#[tokio::test]
async fn the_agents_round_is_answered_as_it_expects() {
    let server = TestServer::start().await;
    let set = format!("{USAGES}set_usage/");
    assert_eq!(
        server.post(Who::Agent, &set, &report(&json!("120.00"), "2026-03-01T00:00:00+00:00")).await.expect(201),
        Value::Null
    );
    let list = format!(
        "{USAGES}?resource_uuid={}&billing_period=2026-03-01&field=uuid&field=type&field=usage&page_size=100",
        id("resource", "climate-hpc1")
    );
    let rows = server.get(Who::Agent, &list).await.expect(200);
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(
        (&rows[0]["type"], &rows[0]["usage"], rows[0].as_object().unwrap().len()),
        (&json!("node_hours"), &json!(120), 3)
    );
    let usage: uuid::Uuid = rows[0]["uuid"].as_str().unwrap().parse().unwrap();
    let users = json!({"usages": [{"username": "zoe", "usage": "100.00"}, {"username": "bob", "usage": 20}]});
    server.post(Who::Agent, &format!("{USAGES}{}/set_user_usages/", usage.hyphenated()), &users).await.expect(201);
    let shares = server
        .get(
            Who::Agent,
            &format!(
                "{USERS}?resource_uuid={}&component_usage__billing_period=2026-03-01&page_size=100",
                dashed("resource", "climate-hpc1")
            ),
        )
        .await
        .expect(200);
    let names: Vec<&str> = shares.as_array().unwrap().iter().map(|row| row["username"].as_str().unwrap()).collect();
    assert!(names.contains(&"zoe") && names.contains(&"bob"), "{names:?}");
    assert!(shares[0]["component_usage"].as_str().unwrap().ends_with(&format!("/{}/", usage.hyphenated())));
    assert_eq!(server.get(Who::Staff, &format!("{USERS}?username=zoe")).await.expect(200)[0]["usage"], 100);
    assert_eq!(server.get(Who::Staff, &format!("{USERS}?username=nobody")).await.expect(200), json!([]));
    server.stop().await;
}

#[tokio::test]
async fn the_month_is_that_of_the_date_in_its_own_zone() {
    let server = TestServer::start().await;
    let set = format!("{USAGES}set_usage/");
    server.post(Who::Agent, &set, &report(&json!(5), "2026-02-01T00:00:00+02:00")).await.expect(201);
    let rows = server.get(Who::Staff, USAGES).await.expect(200);
    assert_eq!((&rows[0]["billing_period"], &rows[0]["usage"]), (&json!("2026-02-01"), &json!(5)));
    server.stop().await;
}

#[tokio::test]
async fn reports_are_refused_by_field() {
    let server = TestServer::start().await;
    let set = format!("{USAGES}set_usage/");
    let refuse = async |body: Value, field: &str, part: &str| {
        let message = server.post(Who::Staff, &set, &body).await.refusal(field);
        assert!(message.contains(part), "{field}: {message}");
    };
    refuse(report(&json!("-1"), "2026-03-01"), "usages", "-1").await;
    refuse(report(&json!("many"), "2026-03-01"), "usages", "many").await;
    refuse(report(&json!("1"), "2026-04-01"), "date", "2026-04").await;
    refuse(report(&json!("1"), "soon"), "date", "soon").await;
    refuse(
        json!({"usages": [{"type": "gpu", "amount": 1}], "resource": id("resource", "climate-hpc1")}),
        "type",
        "gpu",
    )
    .await;
    refuse(json!({"usages": [], "resource": "7e500000000040008000000000000001"}), "resource", "does not exist").await;
    refuse(json!({"usages": {}}), "usages", "list").await;
    refuse(json!({}), "resource", "required").await;
    assert_eq!(server.get(Who::Staff, USAGES).await.expect(200), json!([]), "nothing was half done");
    server.stop().await;
}

#[tokio::test]
async fn the_same_report_twice_is_one_fact() {
    let server = TestServer::start().await;
    server.policy(|_| ()).await;
    let set = format!("{USAGES}set_usage/");
    for amount in [json!("7.50"), json!(7.5), json!("7.500")] {
        server.post(Who::Agent, &set, &report(&amount, "2026-03-01")).await.expect(201);
    }
    let events = server.app.store.read_all(sluice::events::envelope::Position::START, 1_000).await.unwrap();
    assert_eq!(events.iter().filter(|event| &*event.event_type == "usage_reported.v1").count(), 1);
    server.stop().await;
}

#[tokio::test]
async fn lists_are_filtered_and_limited_to_what_the_caller_may_see() {
    let server = TestServer::start().await;
    server.report("climate-hpc1", "10", "2026-02-01").await;
    server.report("climate-hpc1", "20", "2026-03-01").await;
    server.report("bio-hpc1", "30", "2026-03-01").await;
    let amounts = async |who, query: &str| -> Vec<i64> {
        let rows = server.get(who, &format!("{USAGES}?{query}")).await.expect(200);
        let mut amounts: Vec<i64> = rows.as_array().unwrap().iter().map(|row| row["usage"].as_i64().unwrap()).collect();
        amounts.sort_unstable();
        amounts
    };
    let offering = format!("offering_uuid={}", id("offering", "hpc1"));
    for (who, query, expected) in [
        (Who::Staff, "", vec![10, 20, 30]),
        (Who::Staff, "billing_period=2026-02-01", vec![10]),
        (Who::Staff, "date_after=2026-03-01", vec![20, 30]),
        (Who::Staff, "date_before=2026-02-28", vec![10]),
        (Who::Staff, "type=gpu", vec![]),
        (Who::Staff, &offering, vec![10, 20, 30]),
        (Who::Agent, "", vec![10, 20, 30]),
        (Who::OtherAgent, "", vec![]),
        (Who::OtherAgent, &offering, vec![]),
        (Who::Alice, &offering, vec![10, 20, 30]),
        (Who::Alice, "", vec![10, 20]),
        (Who::Bea, "", vec![30]),
        (Who::Bea, &offering, vec![30]),
        (Who::Bob, "", vec![10, 20]),
        (Who::Carl, "", vec![]),
    ] {
        assert_eq!(amounts(who, query).await, expected, "{who:?} {query}");
    }
    let customer = format!("customer_uuid={}", dashed("customer", "uni-b"));
    assert_eq!(amounts(Who::Staff, &customer).await, [30]);
    assert_eq!(amounts(Who::Bob, &customer).await, [] as [i64; 0]);
    server.stop().await;
}
