//! `/api/reports/{kind}/`: the same report as everywhere else, for staff and support.

use sluice::report::Kind;

use crate::report::made;
use crate::report::scene::quarters;
use crate::support::server::{TestServer, Who};

#[tokio::test]
async fn the_api_gives_the_report_that_the_log_gives() {
    let server = quarters().await;
    for kind in Kind::ALL {
        let path = format!("/api/reports/{}/?period=2026", kind.as_str());
        let answer = server.get(Who::Support, &path).await.expect(200);
        let report = made(&server.app, kind, "2026").await;
        let document = report.json();
        assert_eq!(answer["report"], kind.as_str());
        for (shown, table) in answer["tables"].as_array().unwrap().iter().zip(document["tables"].as_array().unwrap()) {
            for part in ["name", "columns", "rows", "totals", "notes", "omitted"] {
                assert_eq!(shown[part], table[part], "{part} of {}", kind.as_str());
            }
        }
        let lines = server.get(Who::Staff, &format!("{path}&output=csv")).await;
        assert_eq!(lines.text, report.csv());
        assert_eq!(lines.header("content-type"), "text/csv; charset=utf-8");
    }
    let through = server.get(Who::Staff, "/api/reports/statement/?period=2026-Q1").await.expect(200)["through"].clone();
    let then = format!("/api/reports/statement/?period=2026-Q1&as_of={}", through.as_str().unwrap());
    let before = server.get(Who::Staff, &then).await.expect(200);
    server.report(crate::report::scene::CLIMATE, "170", "2026-03-31").await;
    assert_eq!(server.get(Who::Staff, &then).await.expect(200), before);
}

#[tokio::test]
async fn what_is_no_span_is_refused() {
    let server = TestServer::start().await;
    for (query, field) in [
        ("", "period"),
        ("period=2026-13", "period"),
        ("period=total", "period"),
        ("from=2026-03-01", "period"),
        ("period=2026&from=2026-03-01&to=2026-03-02", "period"),
        ("from=2026-03-02&to=2026-03-01T00:00:00Z", "to"),
        ("period=2026&as_of=x", "as_of"),
        ("period=2026&output=pdf", "output"),
        ("period=2026&resource_uuid=x", "resource_uuid"),
    ] {
        let said = server.get(Who::Staff, &format!("/api/reports/statement/?{query}")).await.refusal(field);
        assert!(!said.is_empty(), "{query}");
    }
    server.get(Who::Staff, "/api/reports/no-such/?period=2026").await.expect(404);
    server.get(Who::Alice, "/api/reports/statement/?period=2026").await.expect(403);
}
