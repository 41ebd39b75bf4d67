//! `/metrics`: what is counted, that labels stay few, and who may read.

use std::collections::BTreeSet;

use serde_json::json;
use sluice::config::{MetricsAccess, MetricsConfig};

use crate::support::server::{POLICIES, TestServer, Who, id, resource_path};

/// The value of a series, which is named with its labels.
#[track_caller]
fn value(text: &str, series: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn work_is_counted_and_tables_are_measured() {
    let server = TestServer::start().await;
    server.policy(|policy| policy["carryover_enabled"] = json!(false)).await;
    for amount in ["100", "850", "1050", "1250"] {
        server.report("climate-hpc1", amount, "2026-03-01").await;
    }
    server.get(Who::Staff, &resource_path("climate-hpc1")).await.expect(200);
    server.get(Who::Staff, "/api/nothing/").await.expect(404);
    let answer = server.get(Who::Support, "/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = &answer.text;
    for (outcome, at_least) in [("normal", 1), ("notify", 1), ("downscale", 1), ("pause", 1)] {
        let series = format!("sluice_evaluations_total{{outcome=\"{outcome}\"}}");
        assert!(value(text, &series) >= at_least, "{series}");
    }
    let route = "method=\"GET\",route=\"/api/marketplace-provider-resources/{uuid}/\"";
    assert!(value(text, &format!("sluice_http_requests_total{{{route},status=\"200\"}}")) >= 1);
    assert!(value(text, &format!("sluice_http_request_seconds_count{{{route}}}")) >= 1);
    assert!(value(text, "sluice_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}") >= 1);
    assert!(value(text, "sluice_command_seconds_count{command=\"report_usage\"}") >= 4);
    assert!(value(text, "sluice_store_commit_events_count") >= 4);
    assert_eq!(value(text, "sluice_consumer_lag_events{consumer=\"evaluation_log\"}"), 0);
    assert_eq!(value(text, "sluice_consumer_stalled{consumer=\"evaluation_log\"}"), 0);
    assert_eq!(value(text, "sluice_resources{standing=\"paused\"}"), 1);
    assert_eq!(value(text, "sluice_resources{standing=\"downscaled\"}"), 1);
    assert_eq!(value(text, "sluice_reactions_pending"), 0);
    assert!(value(text, "sluice_outbox{state=\"queued\"}") >= 1, "no queue is registered");
    assert_eq!(value(text, "sluice_outbox{state=\"given_up\"}"), 0);
    assert!(value(text, "sluice_notices{state=\"owed\"}") >= 1, "the digest of the owners is still open");
    assert_eq!(value(text, "sluice_notices_oldest_seconds"), 0, "the simulated clock has not moved");
    assert!(!text.contains("sluice_scrape_failures_total{"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn labels_hold_no_ids_and_strange_requests_add_no_series() {
    let server = TestServer::start().await;
    let series = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name.to_owned()).collect()
    };
    let strange = async |n: u32| {
        let method = reqwest::Method::from_bytes(format!("BREW{n}").as_bytes()).unwrap();
        server.send(Who::Staff, method, "/api/version/", &[], None).await;
        server
            .get(Who::Staff, &format!("/api/customers/{}/", id("customer", &format!("nobody-{n}"))))
            .await
            .expect(404);
        server.get(Who::Staff, &format!("/somewhere/{n}")).await.expect(404);
    };
    strange(0).await;
    server.get(Who::Staff, "/metrics").await;
    let before = series(&server.get(Who::Staff, "/metrics").await.text);
    for n in 1..10 {
        strange(n).await;
    }
    let after = series(&server.get(Who::Staff, "/metrics").await.text);
    assert_eq!(before, after);
    let customer = id("customer", "uni-a");
    server.get(Who::Staff, &format!("/api/customers/{customer}/")).await.expect(200);
    assert!(!server.get(Who::Staff, "/metrics").await.text.contains(&customer));
    server.stop().await;
}

#[tokio::test]
async fn who_may_read_is_a_setting() {
    for (access, expected) in
        [(MetricsAccess::Token, [401, 200, 403]), (MetricsAccess::Public, [200; 3]), (MetricsAccess::Off, [404; 3])]
    {
        let server = TestServer::customized(|options| options.metrics = MetricsConfig { access, listen: None }).await;
        for (who, status) in [Who::Anonymous, Who::Support, Who::Alice].into_iter().zip(expected) {
            assert_eq!(server.get(who, "/metrics").await.status, status, "{access:?} {who:?}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn an_address_of_its_own_serves_metrics_alone() {
    let metrics = MetricsConfig { access: MetricsAccess::Off, listen: Some("127.0.0.1:0".parse().unwrap()) };
    let server = TestServer::customized(|options| options.metrics = metrics).await;
    let address = server.metrics_address.unwrap();
    let get = async |path: &str| reqwest::get(format!("http://{address}{path}")).await.unwrap();
    let answer = get("/metrics").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("sluice_log_position"));
    for path in ["/", POLICIES, "/api/version/", "/health/live"] {
        assert_eq!(get(path).await.status(), 404, "{path}");
    }
    server.stop().await;
}
