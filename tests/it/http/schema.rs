//! The API's description is a golden file: a change of the API shows in review.

use serde_json::Value;

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

/// Every operation of the description, with its method and path.
fn operations(description: &Value) -> Vec<(String, Value)> {
    let paths = description["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let item = item.as_object().unwrap().clone();
        let path = path.clone();
        item.into_iter()
            .filter(|(_, operation)| operation.get("responses").is_some())
            .map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test]
async fn every_operation_has_a_name_of_its_own_and_says_how_it_refuses() {
    let server = TestServer::start().await;
    let description = server.get(Who::Anonymous, "/api/schema/").await.expect(200);
    let operations = operations(&description);
    assert!(operations.len() > 100, "{}", operations.len());
    let mut names = std::collections::BTreeMap::new();
    for (operation, what) in &operations {
        let name = what["operationId"].as_str().unwrap().to_owned();
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(name.chars().all(word), "{name} is no name of a function");
        if let Some(other) = names.insert(name.clone(), operation.clone()) {
            panic!("{operation} and {other} are both called {name}");
        }
        let (access, answers) = (what["x-access"].as_str().unwrap(), &what["responses"]);
        assert_eq!(answers.get("401").is_some(), access != "public", "{operation}");
        if access.starts_with("staff") {
            assert!(answers.get("403").is_some(), "{operation}");
        }
    }
    let id_of = |operation: &str| {
        let found = operations.iter().find(|(known, _)| known == operation);
        found.unwrap_or_else(|| panic!("no {operation}")).1["operationId"].clone()
    };
    let policies = "/api/marketplace-slurm-periodic-usage-policies/";
    assert_eq!(id_of(&format!("GET {policies}")), "marketplace_slurm_periodic_usage_policies_list");
    assert_eq!(id_of(&format!("GET {policies}{{uuid}}/")), "marketplace_slurm_periodic_usage_policies_retrieve");
    assert_eq!(
        id_of(&format!("PATCH {policies}{{uuid}}/")),
        "marketplace_slurm_periodic_usage_policies_partial_update"
    );
}
