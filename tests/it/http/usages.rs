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
    for date in ["0000-01-01", "0001-01-01T00:00:00Z", "1969-12-31", "9999-01-01", "9999-12-31T23:59:59-14:00"] {
        refuse(report(&json!("1"), date), "date", "a date from 1970-01-01 to 9998-12-31 is allowed").await;
    }
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
async fn a_late_report_is_answered_201_and_changes_no_total() {
    let server = TestServer::start().await;
    let set = format!("{USAGES}set_usage/");
    let measured = |amount: &str, at: &str| {
        let mut body = report(&json!(amount), "2026-03-01");
        body["measured_at"] = at.into();
        body
    };
    server.post(Who::Agent, &set, &measured("100", "2026-03-01T00:00:00Z")).await.expect(201);
    server.post(Who::Agent, &set, &measured("90", "2026-03-01T00:59:59+01:00")).await.expect(201);
    assert_eq!(server.get(Who::Staff, USAGES).await.expect(200)[0]["usage"], 100);
    let timeline =
        format!("/api/marketplace-provider-resources/{}/timeline/?kind=usage", id("resource", "climate-hpc1"));
    let summary = server.get(Who::Staff, &timeline).await.expect(200)[0]["summary"].as_str().unwrap().to_owned();
    assert!(summary.contains("late") && summary.contains("node_hours 90, 100 stands"), "{summary}");
    let message = server.post(Who::Agent, &set, &measured("1", "2026-03-20T00:00:00Z")).await.refusal("measured_at");
    assert!(message.contains("2026-03-20"), "{message}");
    server.post(Who::Agent, &set, &measured("1", "yesterday")).await.refusal("measured_at");
    server.stop().await;
}

#[tokio::test]
async fn months_that_a_resource_cannot_have_used_are_refused_by_field() {
    let server = TestServer::start().await;
    let set = format!("{USAGES}set_usage/");
    server.post(Who::Agent, &set, &report(&json!(5), "0001-01-01")).await.refusal("date");
    for date in ["1970-01-01", "2023-09-30"] {
        let message = server.post(Who::Agent, &set, &report(&json!(5), date)).await.refusal("date");
        assert!(message.contains("usage_before_creation_months"), "{date}: {message}");
    }
    server.post(Who::Agent, &set, &report(&json!(5), "2025-10-01")).await.expect(201);
    let settings = json!({"usage_before_creation_months": 0});
    server.patch(Who::Staff, "/api/settings/", &settings).await.expect(200);
    server.post(Who::Agent, &set, &report(&json!(6), "2025-10-01")).await.refusal("date");
    server
        .post(
            Who::Staff,
            &format!("/api/marketplace-provider-resources/{}/terminate/", id("resource", "climate-hpc1")),
            &json!({}),
        )
        .await
        .expect(200);
    server.post(Who::Agent, &set, &report(&json!(5), "2026-03-01")).await.expect(201);
    server.put(Who::Staff, "/api/simulation/clock/", &json!({"now": "2026-04-10T00:00:00Z"})).await.expect(200);
    for field in ["date", "resource"] {
        let message = server.post(Who::Staff, &set, &report(&json!(5), "2026-04-01")).await.refusal(field);
        assert!(message.contains("2026-03"), "{message}");
    }
    server.stop().await;
}

/// What is done to a body that would be taken.
type Change = fn(&mut Value);

#[tokio::test]
async fn what_is_not_honoured_is_refused_by_name() {
    let server = TestServer::start().await;
    let set = format!("{USAGES}set_usage/");
    let with = |change: Change| {
        let mut body = report(&json!("7"), "2026-03-01");
        change(&mut body);
        body
    };
    let cases: [(Change, &str, &str); 8] = [
        (|b| b["usages"] = json!([]), "usages", "at least one"),
        (
            |b| b["daily_usages"] = json!([{"type": "node_hours", "date": "2026-03-09", "amount": "1300.00"}]),
            "daily_usages",
            "by the month",
        ),
        (|b| b["usages"][0]["recurring"] = json!(true), "usages", "missing_usage_policy"),
        (|b| b["usages"][0]["description"] = json!("by hand"), "usages", "description"),
        (|b| b["usages"][0]["amuont"] = json!(1), "usages", "amount"),
        (|b| b["measured"] = json!("2026-03-01"), "measured", "measured_at"),
        (|b| b["plan_period"] = json!("7e500000000040008000000000000001"), "plan_period", "no plans"),
        (|b| b["usages"][0]["missing_usage_policy"] = json!("often"), "usages", "none, reuse, zero"),
    ];
    for (change, field, part) in cases {
        let message = server.post(Who::Agent, &set, &with(change)).await.refusal(field);
        assert!(message.contains(part), "{field}: {message}");
    }
    assert_eq!(server.get(Who::Staff, USAGES).await.expect(200), json!([]), "nothing was half done");
    let harmless = with(|b| {
        b["daily_usages"] = json!([]);
        b["plan_period"] = b["resource"].clone();
        b["usages"][0]["description"] = json!("");
    });
    server.post(Who::Agent, &set, &harmless).await.expect(201);
    let row = server.get(Who::Staff, USAGES).await.expect(200)[0]["uuid"].as_str().unwrap().to_owned();
    let shares = format!("{USAGES}{row}/set_user_usage/");
    let share = |more: &str, value: Value| json!({"usages": [{"username": "bob", "usage": "1", more: value}]});
    for (more, value, part) in [
        ("date", json!("2026-02-01"), "2026-03"),
        ("user", json!("http://x.example/api/users/7e500000000040008000000000000001/"), "bob"),
        ("hours", json!(1), "hours"),
    ] {
        let message = server.post(Who::Agent, &shares, &share(more, value)).await.refusal("usages");
        assert!(message.contains(part), "{more}: {message}");
    }
    let bob = format!("http://x.example/api/users/{}/", id("user", "bob"));
    server.post(Who::Agent, &shares, &share("user", json!(bob))).await.expect(201);
    server.post(Who::Agent, &shares, &share("date", json!("2026-03-01T00:00:00+02:00"))).await.expect(201);
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
        (Who::Alice, "", vec![10, 20, 30]),
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

#[tokio::test]
async fn months_without_a_report_are_filled_in_when_they_end() {
    let server = TestServer::start().await;
    let set = format!("{USAGES}set_usage/");
    let with = |resource: &str, policy: &str| json!({"resource": id("resource", resource), "usages": [{"type": "node_hours", "amount": "7.5", "missing_usage_policy": policy}]});
    for (resource, policy) in [("climate-hpc1", "reuse"), ("bio-hpc1", "zero")] {
        server.post(Who::Agent, &set, &with(resource, policy)).await.expect(201);
    }
    let shown = async |query: &str| -> Vec<Value> {
        let rows = server.get(Who::Staff, &format!("{USAGES}?{query}&o=resource_name")).await.expect(200);
        let seen = |row: &Value| json!([row["usage"], row["missing_usage_policy"], row["recurring"]]);
        rows.as_array().unwrap().iter().map(seen).collect()
    };
    assert_eq!(shown("billing_period=2026-03").await, [json!([7.5, "zero", false]), json!([7.5, "reuse", true])]);
    assert_eq!(shown("missing_usage_policy=reuse").await, [json!([7.5, "reuse", true])]);
    server.put(Who::Staff, "/api/simulation/clock/", &json!({"now": "2026-06-01T02:00:00Z"})).await.expect(200);
    for month in ["2026-04", "2026-05"] {
        let rows = shown(&format!("billing_period={month}")).await;
        assert_eq!(rows, [json!([0, "zero", false]), json!([7.5, "reuse", true])], "{month}");
    }
    assert_eq!(shown("billing_period=2026-06").await, Vec::<Value>::new());
    let timeline =
        format!("/api/marketplace-provider-resources/{}/timeline/?kind=usage", id("resource", "climate-hpc1"));
    let entries = server.get(Who::Staff, &timeline).await.expect(200);
    assert!(entries[0]["summary"].as_str().unwrap().contains("no report on 2026-05"), "{entries}");
    server.stop().await;
}
