//! The API's description is a golden file: a change of the API shows in review.

use crate::support::server::{TestServer, Who};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/openapi.json");

#[tokio::test]
async fn the_description_is_the_one_in_the_golden_file() {
    let server = TestServer::start().await;
    let schema = server.get(Who::Anonymous, "/api/schema/").await;
    let now = format!("{}\n", serde_json::to_string_pretty(&schema.expect(200)).unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &now).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    assert!(golden == now, "the API's description changed. If that is meant: UPDATE_GOLDEN=1 cargo nextest run schema");
    server.stop().await;
}

#[tokio::test]
async fn the_description_can_be_browsed() {
    let server = TestServer::start().await;
    let page = server.get(Who::Anonymous, "/api/docs/").await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("swagger"), "{}", page.text);
    // The page runs under its policy: its scripts are files of its own, and none stands in the text.
    let policy = page.header("content-security-policy");
    assert!(policy.contains("script-src 'self'; ") && policy.contains("frame-ancestors 'none'"), "{policy}");
    for tag in page.text.split("<script").skip(1) {
        assert!(tag.contains("src=\"./"), "a script in the page: {tag}");
    }
    let script = server.get(Who::Anonymous, "/api/docs/swagger-initializer.js").await;
    assert!(script.text.contains("/api/schema/"), "{}", script.text);
    server.stop().await;
}
