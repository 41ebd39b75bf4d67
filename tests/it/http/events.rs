//! The event log over HTTP: filtered pages by position, and the live tail.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::store::archive::Archive;

use crate::store::old_log::{instant, month_of};
use crate::support::server::{TestServer, USAGES, Who, id};

fn report(amount: &str) -> serde_json::Value {
    json!({"usages": [{"type": "node_hours", "amount": amount}], "resource": id("resource", "climate-hpc1"), "date": "2026-03-01T00:00:00Z"})
}

#[tokio::test]
async fn pages_follow_the_log_and_filters_choose() {
    let server = TestServer::start().await;
    server.policy(|policy| policy["carryover_enabled"] = json!(false)).await;
    server.post(Who::Staff, &format!("{USAGES}set_usage/"), &report("850")).await.expect(201);
    let mut positions = Vec::new();
    let mut after = String::new();
    loop {
        let page = server.get(Who::Support, &format!("/api/events/?page_size=4{after}")).await;
        let events = page.expect(200);
        positions.extend(events.as_array().unwrap().iter().map(|e| e["position"].as_str().unwrap().to_owned()));
        let Some(next) = page.headers.get("x-next-position") else { break };
        assert!(page.header("link").contains("rel=\"next\""));
        after = format!("&after={}", next.to_str().unwrap());
    }
    let whole = server.get(Who::Support, "/api/events/?page_size=100").await.expect(200);
    let all: Vec<_> = whole.as_array().unwrap().iter().map(|e| e["position"].as_str().unwrap().to_owned()).collect();
    assert_eq!(positions, all, "pages of four are the log, each event once and in order");

    let evaluations = server.get(Who::Support, "/api/events/?type=SLURM_POLICY_EVALUATION").await.expect(200);
    let evaluations = evaluations.as_array().unwrap();
    assert!(evaluations.iter().all(|e| e["event_name"] == "SLURM_POLICY_EVALUATION"));
    let resource = id("resource", "climate-hpc1");
    let path = format!("/api/events/?type=policy_evaluated&resource_uuid={resource}");
    let of_resource = server.get(Who::Support, &path).await.expect(200);
    let last = of_resource.as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["resource_uuid"], json!(resource));
    assert_eq!(last["payload"]["trigger"], "usage_reported");
    assert!(last["message"].as_str().unwrap().contains("80 % reached -> notify"), "{last}");
    let correlated = format!("/api/events/?correlation_id={}", last["correlation_id"].as_str().unwrap());
    let types: Vec<String> = server
        .get(Who::Support, &correlated)
        .await
        .expect(200)
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["type"].as_str().unwrap().to_owned())
        .collect();
    // No agent has come for the take-over: what waits for one allows for the usage.
    assert_eq!(types, ["usage_reported.v1", "policy_evaluated.v1", "settings_commanded.v2"]);

    let policy = last["payload"]["policy"].as_str().unwrap();
    let about = |events: serde_json::Value, what: &str| -> Vec<String> {
        events.as_array().unwrap().iter().map(|e| e[what].to_string()).collect()
    };
    let path = format!("/api/events/?type=policy_evaluated&policy_uuid={policy}");
    let of_policy = about(server.get(Who::Support, &path).await.expect(200), "position");
    assert!(of_policy.contains(&last["position"].to_string()));
    let nobody = id("policy", "nobody-has-this-one");
    let path = format!("/api/events/?policy_uuid={nobody}");
    assert_eq!(server.get(Who::Support, &path).await.expect(200), json!([]));
    let reporter = last["actor"]["uuid"].as_str().unwrap();
    let path = format!("/api/events/?type=usage_reported&actor_uuid={reporter}");
    let by_reporter = about(server.get(Who::Support, &path).await.expect(200), "actor");
    assert!(!by_reporter.is_empty() && by_reporter.iter().all(|actor| actor.contains(reporter)), "{by_reporter:?}");
    let path = format!("/api/events/?actor_uuid={nobody}");
    assert_eq!(server.get(Who::Support, &path).await.expect(200), json!([]));
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_its_name_and_only_readers_of_everything_may_look() {
    let server = TestServer::start().await;
    for (query, field) in [
        ("after=x", "after"),
        ("page_size=0", "page_size"),
        ("resource_uuid=1", "resource_uuid"),
        ("from=soon", "from"),
    ] {
        server.get(Who::Staff, &format!("/api/events/?{query}")).await.refusal(field);
    }
    for path in ["/api/events/", "/api/events/stream/"] {
        server.get(Who::Alice, path).await.expect(403);
    }
    server.stop().await;
}

#[tokio::test]
async fn the_tail_tells_what_happens_resumes_after_an_id_and_ends_with_the_server() {
    let server = TestServer::start().await;
    server.policy(|_| ()).await;
    let url = server.url("/api/events/stream/?type=usage_reported");
    let client = reqwest::Client::new();
    let open = |last: Option<String>| {
        let request = client.get(&url).header("authorization", format!("Token {}", Who::Support.key().unwrap()));
        last.map_or_else(|| request.try_clone().unwrap(), |id| request.try_clone().unwrap().header("last-event-id", id))
            .send()
    };
    let mut live = open(None).await.unwrap();
    server.post(Who::Staff, &format!("{USAGES}set_usage/"), &report("10")).await.expect(201);
    let first = next(&mut live).await;
    server.post(Who::Staff, &format!("{USAGES}set_usage/"), &report("20")).await.expect(201);
    let second = next(&mut live).await;
    let mut resumed = open(Some(first.0.clone())).await.unwrap();
    assert_eq!(next(&mut resumed).await, second, "what came after the id comes again");
    assert!(first.1.contains("\"amount\":\"10\"") && second.1.contains("\"amount\":\"20\""));
    // Stopping waits for requests that are under way: an endless one must end by itself.
    server.stop().await;
}

#[tokio::test]
async fn live_tails_are_bounded_and_places_are_given_back() {
    let server = TestServer::customized(|options| options.limits.token_tails_max = 0).await;
    let client = reqwest::Client::new();
    let open = || {
        let request = client.get(server.url("/api/events/stream/"));
        request.header("authorization", format!("Token {}", Who::Support.key().unwrap())).send()
    };
    let mut tails = Vec::new();
    for _ in 0..100 {
        tails.push(open().await.unwrap());
    }
    assert!(tails.iter().all(|tail| tail.status() == 200));
    let refused = open().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    server.get(Who::Support, "/api/events/?page_size=1").await.expect(200);
    tails.clear();
    // The server notices that a caller has left when it next has something to say.
    server.policy(|_| ()).await;
    let until = tokio::time::Instant::now() + Duration::from_mins(1);
    while open().await.unwrap().status() != 200 {
        assert!(tokio::time::Instant::now() < until, "no place was given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn pages_and_tails_go_on_where_memory_ends() {
    // Each read brings one event, and a page holds as many as it is asked for all the same.
    let server = TestServer::customized(|options| options.limits.read_bytes_max = 1).await;
    let head = server.app.store.head().await.unwrap();
    server.policy(|_| ()).await;
    for amount in ["10", "20", "30"] {
        server.post(Who::Staff, &format!("{USAGES}set_usage/"), &report(amount)).await.expect(201);
    }
    server.app.settle().await.unwrap();
    let page = server.get(Who::Staff, "/api/events/?type=usage_reported").await;
    assert_eq!(page.expect(200).as_array().unwrap().len(), 3);
    assert_eq!(page.header("x-next-position"), "");
    let chain = page.json()[2]["correlation_id"].as_str().unwrap().to_owned();
    let of_chain = server.get(Who::Staff, &format!("/api/events/?correlation_id={chain}")).await.expect(200);
    assert!(of_chain.as_array().unwrap().iter().any(|event| event["event_type"] == "usage_reported"), "{of_chain}");
    let url = server.url(&format!("/api/events/stream/?type=usage_reported&after={head}"));
    let tail = reqwest::Client::new().get(url).header("authorization", format!("Token {}", Who::Staff.key().unwrap()));
    let mut tail = tail.send().await.unwrap();
    for amount in ["10", "20", "30"] {
        let (_, data) = next(&mut tail).await;
        assert!(data.contains(&format!("\"amount\":\"{amount}\"")), "{data}");
    }
    server.stop().await;
}

/// Id and data of the next event of a stream.
async fn next(stream: &mut reqwest::Response) -> (String, String) {
    let mut text = String::new();
    loop {
        let chunk = tokio::time::timeout(Duration::from_secs(30), stream.chunk()).await.unwrap().unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        if text.contains("\n\n") {
            let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned());
            if let (Some(id), Some(data)) = (field("id:"), field("data:")) {
                return (id, data);
            }
            text.clear();
        }
    }
}

/// The whole log, in small pages.
async fn feed(server: &TestServer) -> Vec<Value> {
    let (mut events, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.get(Who::Support, &format!("/api/events/?page_size=7{after}")).await;
        events.extend(page.expect(200).as_array().unwrap().iter().cloned());
        let Some(next) = page.headers.get("x-next-position") else { return events };
        after = format!("&after={}", next.to_str().unwrap());
    }
}

#[tokio::test]
async fn the_feed_does_not_tell_what_is_archived_meanwhile() {
    let server = TestServer::customized(|options| {
        options.event_store = None;
        // So that nothing is answered from memory.
        (options.limits.tail_events_max, options.limits.books_max) = (1, 1);
    })
    .await;
    server.policy(|_| ()).await;
    for (to, amount, date) in [
        ("2026-04-10T12:00:00Z", "850", "2026-04-09T00:00:00Z"),
        ("2026-05-11T12:00:00Z", "300", "2026-05-10T00:00:00Z"),
        ("2026-06-02T12:00:00Z", "20", "2026-06-01T00:00:00Z"),
    ] {
        server.app.advance_clock(instant(to)).await.unwrap();
        server.report("climate-hpc1", amount, date).await;
    }
    let before = feed(&server).await;
    let options = &server.app.options;
    let archive = Archive::open(&options.database, options.limits.clone()).await.unwrap().with_segment_events_max(25);
    let planned = archive.plan(instant("2026-06-01T00:00:00Z"), &month_of).await.unwrap();
    let now: sluice::store::Now = std::sync::Arc::new(sluice::clock::real_now);
    let archived = archive.run(&planned, &now, |_| ()).await.unwrap();
    assert!(archived.removed > 40 && planned.len() > 2, "{archived:?}");
    assert_eq!(feed(&server).await, before);
    server.report("climate-hpc1", "40", "2026-06-02T00:00:00Z").await;
    let after = feed(&server).await;
    assert!(after.len() > before.len());
    assert_eq!(after[..before.len()], before);
    archive.verify(|_| ()).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_policys_life_has_the_names_of_waldurs_feed() {
    let server = TestServer::start().await;
    let (path, policy) = server.policy(|_| ()).await;
    server.patch(Who::Alice, &path, &json!({"grace_ratio": 0.3})).await.expect(200);
    server.delete(Who::Staff, &path).await.expect(204);
    for (name, says) in [("policy_created", "created"), ("policy_updated", "updated"), ("policy_deleted", "deleted")] {
        let found = server.get(Who::Support, &format!("/api/events/?event_type={name}")).await.expect(200);
        assert_eq!(found.as_array().unwrap().len(), 1, "{name}: {found}");
        let event = &found[0];
        assert_eq!((&event["event_type"], &event["event_name"]), (&json!(name), &json!(name)));
        assert_eq!((&event["created"], &event["context"]["policy_uuid"]), (&event["occurred_at"], &policy["uuid"]));
        assert_eq!(event["context"]["offering_uuid"], json!(id("offering", "hpc1")));
        let message = event["message"].as_str().unwrap();
        assert!(message.starts_with("Policy ") && message.ends_with(&format!(" has been {says}.")), "{message}");
    }
    let both =
        server.get(Who::Support, "/api/events/?event_type=policy_created&event_type=policy_deleted").await.expect(200);
    assert_eq!(both.as_array().unwrap().len(), 2);
    let evaluations = server.get(Who::Support, "/api/events/?event_type=slurm_policy_evaluation").await.expect(200);
    assert!(!evaluations.as_array().unwrap().is_empty());
    for event in evaluations.as_array().unwrap() {
        assert_eq!(
            (&event["event_type"], &event["event_name"]),
            (&json!("slurm_policy_evaluation"), &json!("SLURM_POLICY_EVALUATION"))
        );
        assert!(
            event["context"]["resource_uuid"].is_string() && event["context"]["policy_uuid"].is_string(),
            "{event}"
        );
    }
    server.stop().await;
}
