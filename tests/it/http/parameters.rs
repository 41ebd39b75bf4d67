//! Every parameter of every operation, and every field of every body, by the API's own description: what is declared filters
//! or says that it does not, and what is not declared is refused with its name.

use serde_json::{Value, json};

use super::permissions::{filled, furnished};
use crate::support::server::{TestServer, USAGES, Who, id};

/// Every operation but those that anybody may call, with the path as it is described and with ids in it.
async fn operations(server: &TestServer, wanted: &[&str]) -> Vec<(String, String, Value)> {
    let schema = server.get(Who::Anonymous, "/api/schema/").await.expect(200);
    let mut found = Vec::new();
    for (path, item) in schema["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let public =
                operation["x-access"] == "public" || path.ends_with("/stream/") || path == "/api/dead-messages/";
            if wanted.contains(&method.as_str()) && !public {
                found.push((method.to_uppercase(), filled(server, path).await, operation.clone()));
            }
        }
    }
    found
}

fn parameters(operation: &Value) -> Vec<(&str, &str)> {
    let all = operation["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == "query");
    all.map(|p| (p["name"].as_str().unwrap(), p["description"].as_str().unwrap_or_default())).collect()
}

/// A value of a parameter that no row has; none where there is no such value.
fn that_nothing_has(name: &str) -> Option<&'static str> {
    Some(match name {
        "page" | "page_size" | "field" | "o" | "after" | "reason" => return None,
        // Rows are one or the other.
        "paused" | "downscaled" | "restricted" | "restrict_member_access" | "is_active" | "is_staff" | "is_support" => {
            return None;
        }
        "is_restricted" => "true",
        "created" | "modified" | "from" | "date_after" | "started_from" => "2999-01-01T00:00:00Z",
        "created_before" | "modified_before" | "to" | "date_before" | "started_before" => "1971-01-01T00:00:00Z",
        "timestamp_from" => "99999999999",
        "timestamp_to" => "1000",
        "billing_period_year" => "1999",
        "billing_period_month" => "7",
        "billing_period" | "component_usage__billing_period" => "1999-07",
        _ if name.ends_with("_uuid") || name == "uuid" => "7e500000000040008000000000000001",
        "resource" | "customer" | "offering" | "project" | "scope" | "component_usage" => {
            "http://other.example/api/things/7e500000-0000-4000-8000-000000000001/"
        }
        _ => "no-such-thing",
    })
}

#[tokio::test]
async fn a_parameter_that_is_declared_filters_or_says_that_it_does_not() {
    let server = furnished().await;
    let row = server.get(Who::Staff, USAGES).await.expect(200)[0]["uuid"].as_str().unwrap().to_owned();
    let share = json!({"usages": [{"username": "bob", "usage": "1"}]});
    server.post(Who::Staff, &format!("{USAGES}{row}/set_user_usages/"), &share).await.expect(201);
    let mut tried = 0;
    for (_, path, operation) in operations(&server, &["get"]).await {
        let declared = parameters(&operation);
        let is_list = declared.iter().any(|(name, _)| *name == "page")
            && operation["responses"]["200"]["content"]["application/json"]["schema"]["type"] == "array";
        for (name, words) in &declared {
            let separator = if path.contains('?') { '&' } else { '?' };
            if let Some(value) = that_nothing_has(name).filter(|_| is_list) {
                let all: Value = server.get(Who::Staff, &path).await.expect(200);
                let answer = server.get(Who::Staff, &format!("{path}{separator}{name}={value}")).await;
                if answer.status == 400 {
                    assert!(answer.json()[*name].to_string().contains(&value[..4]), "{path} {name}: {}", answer.text);
                } else if words.contains("without effect") || words.starts_with("Accepted") {
                    assert_eq!(answer.expect(200), all, "{path} {name}");
                } else {
                    assert_eq!(answer.expect(200), json!([]), "{path} {name}={value}");
                    tried += usize::from(all != json!([]));
                }
            }
        }
        let strange = server.get(Who::Staff, &format!("{path}?feild=x")).await;
        assert_eq!(strange.status, 400, "{path}: {}", strange.text);
        let message = strange.refusal("feild");
        assert!(message.starts_with("Unknown parameter"), "{path}: {message}");
        if declared.iter().any(|(name, _)| *name == "field") {
            assert!(message.contains("field"), "the nearest is named: {message}");
        }
    }
    assert!(tried > 60, "{tried} parameters met rows");
    server.stop().await;
}

#[tokio::test]
async fn every_list_takes_what_known_clients_send() {
    let server = furnished().await;
    for (_, path, operation) in operations(&server, &["get"]).await {
        if !parameters(&operation).iter().any(|(name, _)| *name == "page") || path.starts_with("/api/events/") {
            continue;
        }
        let nothing = "7e500000-0000-4000-8000-000000000001";
        for sent in [
            "has_consent=true".to_owned(),
            "modified_before=2026-01-01T00:00:00%2B00:00".to_owned(),
            format!("resource_uuid={nothing}&offering_uuid={nothing}&project_uuid={nothing}&user_uuid={nothing}"),
            "slug=x&query=x&backend_id=x".to_owned(),
            "field=uuid&field=name&page=1&page_size=100".to_owned(),
        ] {
            let is_list = operation["responses"]["200"]["content"]["application/json"]["schema"]["type"] == "array";
            if is_list && !path.ends_with("/team/") {
                server.get(Who::Staff, &format!("{path}?{sent}")).await.expect(200);
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_field_that_a_body_does_not_have_is_refused_with_its_name() {
    let server = furnished().await;
    for (method, path, operation) in operations(&server, &["post", "put", "patch"]).await {
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        let list = body["type"] == "array" || body["$ref"] == "#/components/schemas/LinesInput";
        if operation.get("requestBody").is_none() || list || path.contains("7e500000000040008000000000000001") {
            continue;
        }
        let body = Some(json!({"frobnicate": 1}).to_string());
        let answer = server.send(Who::Staff, method.parse().unwrap(), &path, &[], body).await;
        assert_eq!(answer.status, 400, "{method} {path}: {}", answer.text);
        answer.refusal("frobnicate");
    }
    server.stop().await;
}

#[tokio::test]
async fn lists_are_searched_and_sorted_by_what_their_rows_have() {
    let server = furnished().await;
    for slug in ["b-two", "a-one", "c-three"] {
        server
            .post(Who::Staff, "/api/organization-groups/", &json!({"slug": slug, "name": slug.to_uppercase()}))
            .await
            .expect(201);
    }
    let groups = async |query: &str| -> Vec<String> {
        let rows = server.get(Who::Staff, &format!("/api/organization-groups/?field=slug&{query}")).await.expect(200);
        rows.as_array().unwrap().iter().map(|row| row["slug"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(groups("query=-t&o=name").await, ["b-two", "c-three"]);
    assert_eq!(groups("query=-t&o=-name").await, ["c-three", "b-two"]);
    assert_eq!(groups("query=-T&o=created,-name&page=2&page_size=1").await.len(), 1);
    let page = server.get(Who::Staff, "/api/organization-groups/?query=-&o=slug&page=2&page_size=1&field=slug").await;
    assert_eq!(page.header("x-result-count"), "3");
    assert!(
        page.header("link").contains("page=3") && page.header("link").contains("query=-"),
        "{}",
        page.header("link")
    );
    assert_eq!(page.expect(200), json!([{"slug": "b-two"}]));
    let head = server.head(Who::Staff, "/api/organization-groups/?query=-t").await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("x-result-count"), "2");
    let message = server.get(Who::Staff, "/api/organization-groups/?o=colour").await.refusal("o");
    assert!(message.contains("colour") && message.contains("slug"), "{message}");
    assert_eq!(server.get(Who::Staff, "/api/organization-groups/?o=name&page=9").await.status, 404);
    server.stop().await;
}

#[tokio::test]
async fn usage_is_found_by_the_clients_own_filters() {
    let server = TestServer::start().await;
    server.report("climate-hpc1", "10", "2026-02-01").await;
    server.report("climate-hpc1", "20", "2025-11-01").await;
    server.report("bio-hpc1", "30", "2026-02-01").await;
    let climate = id("resource", "climate-hpc1");
    let amounts = async |query: &str| -> Vec<i64> {
        let rows = server.get(Who::Staff, &format!("{USAGES}?{query}")).await.expect(200);
        rows.as_array().unwrap().iter().map(|row| row["usage"].as_i64().unwrap()).collect()
    };
    let address = format!("resource={}", server.url(&format!("/api/marketplace-resources/{climate}/")));
    assert_eq!(amounts(&address).await, [10, 20]);
    assert_eq!(amounts("billing_period_year=2026&billing_period_month=2&o=usage").await, [10, 30]);
    assert_eq!(amounts("billing_period_month=11").await, [20]);
    assert_eq!(amounts(&format!("billing_period_year=2025&resource_uuid={climate}")).await, [20]);
    assert_eq!(amounts("o=-usage").await, [30, 20, 10]);
    assert_eq!(amounts("billing_period_year=2024").await, Vec::<i64>::new());
    for (query, field) in [
        ("billing_period_month=13", "billing_period_month"),
        ("billing_period_year=soon", "billing_period_year"),
        ("resource=climate", "resource"),
        (&format!("{address}&resource_uuid=7e500000000040008000000000000001"), "resource"),
        ("resource_uid=x", "resource_uid"),
    ] {
        let message = server.get(Who::Staff, &format!("{USAGES}?{query}")).await.refusal(field);
        assert!(field != "resource_uid" || message.contains("resource_uuid"), "{message}");
    }
    server.stop().await;
}

#[tokio::test]
async fn both_ends_of_a_span_are_in_it() {
    let server = TestServer::start().await;
    let (policy, _) = server.policy(|_| ()).await;
    server.report("climate-hpc1", "1100", "2026-03-01").await;
    let timeline = format!("/api/marketplace-provider-resources/{}/timeline/", id("resource", "climate-hpc1"));
    for (list, field) in [
        (format!("{policy}evaluation-logs/"), "evaluated_at"),
        (format!("{policy}command-history/"), "executed_at"),
        (timeline, "at"),
        ("/api/events/".to_owned(), "occurred_at"),
    ] {
        let rows = server.get(Who::Staff, &list).await.expect(200);
        let count = rows.as_array().unwrap().len();
        let at = rows[0][field].as_str().unwrap().to_owned();
        assert!(count > 0 && at.starts_with("2026-03-15"), "{list}: {rows}");
        for span in [
            format!("from={at}&to={at}"),
            format!("to={at}"),
            format!("from={at}"),
            "from=2026-03-15&to=2026-03-15".to_owned(),
        ] {
            let some = server.get(Who::Staff, &format!("{list}?{span}")).await.expect(200);
            assert_eq!(some.as_array().unwrap().len(), count, "{list}?{span}");
        }
        let before = server.get(Who::Staff, &format!("{list}?to=2026-03-15T11:59:59.999999Z")).await.expect(200);
        assert_eq!(before, json!([]), "{list}");
    }
    server.stop().await;
}

/// The shape of one value of a parameter, which may be repeated.
fn shape(parameter: &Value) -> &Value {
    let schema = &parameter["schema"];
    if schema["type"] == "array" { &schema["items"] } else { schema }
}

#[tokio::test]
async fn a_value_is_as_long_as_described_and_empty_only_where_any_text_will_do() {
    let server = furnished().await;
    let (mut empty, mut long, mut ids) = (0, 0, 0);
    for (method, path, operation) in operations(&server, &["get", "delete", "post"]).await {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let (name, shape) = (parameter["name"].as_str().unwrap(), shape(parameter));
            if parameter["in"] == "path" {
                assert_eq!((&shape["minLength"], &shape["maxLength"]), (&json!(32), &json!(36)), "{path} {name}");
                ids += 1;
                continue;
            }
            let asked = async |value: &str| {
                let method = method.parse().unwrap();
                let path = format!("{}?{name}={value}", path.split('?').next().unwrap());
                server.send(Who::Staff, method, &path, &[], None).await
            };
            let free = shape["type"] == "string" && shape["minLength"].is_null();
            if !free && parameter["in"] == "query" {
                let refused = asked("").await;
                assert!(refused.expect(400)[name].is_array(), "{method} {path} {name}");
                empty += 1;
            }
            if shape["type"] == "string" && long < 60 {
                let max = usize::try_from(shape["maxLength"].as_u64().unwrap()).unwrap();
                let refused = asked(&"x".repeat(max + 1)).await;
                assert!(refused.expect(400)[name].is_array(), "{method} {path} {name}");
                long += 1;
            }
        }
    }
    assert!(empty > 300 && long == 60 && ids > 30, "{empty} {long} {ids}");
    let flagged = server.get(Who::Staff, "/api/tokens/?is_active=perhaps").await.expect(400);
    assert!(flagged["is_active"][0].as_str().unwrap().contains("true or false"), "{flagged}");
    for id in ["x", &"7".repeat(5_000)] {
        server.get(Who::Staff, &format!("/api/customers/{id}/")).await.expect(404);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_query_that_no_proxy_would_let_through_is_refused_once_it_is_known_who_asks() {
    let server = furnished().await;
    let of = |fields: usize| format!("/api/customers/?field=url{}", "&field=name".repeat(fields));
    let allowed = server.get(Who::Staff, &of(743)).await;
    assert!(allowed.expect(200)[0]["name"].is_string());
    let refused = server.get(Who::Staff, &of(744)).await.expect(414);
    assert_eq!(refused["detail"], "The query of the address is too long: at most 8192 bytes are allowed, as encoded.");
    server.get(Who::Anonymous, &of(744)).await.expect(401);
    server.stop().await;
}
