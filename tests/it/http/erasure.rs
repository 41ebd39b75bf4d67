//! Erasing a person: nothing of the name and the address is left, in answers, events, read models or the files, and all goes on.

use serde_json::json;
use sluice::store::address::Database;

use crate::support::server::{POLICIES, TestServer, USAGES, Who, id};

const TRACES: [&str; 3] = ["bea@uni-b.example", "Bea B", "bea-at-hpc"];

/// Files of the database that hold the text; on a server, whose files are its own business, tables.
async fn places_with(server: &TestServer, text: &str) -> Vec<String> {
    if let Database::Postgres(url) = &server.app.options.database {
        let tables = crate::support::database::rows(url).await;
        let holds = |rows: &[String]| rows.iter().any(|row| row.contains(text));
        return tables.into_iter().filter(|(_, rows)| holds(rows)).map(|(name, _)| name).collect();
    }
    let files =
        std::fs::read_dir(server.folder()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let holds = |path: &std::path::PathBuf| {
        std::fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    };
    files.filter(holds).map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// A site that knows Bea as an owner, as an address in a policy, and as a user in reports.
async fn knowing_bea() -> (TestServer, String) {
    let server = TestServer::start().await;
    let (policy, _) = server
        .policy(|policy| {
            policy["carryover_enabled"] = json!(false);
            policy["actions"] = json!("notify_organization_owners,notify_external_user");
            policy["options"] = json!({"notify_external_user": "BEA@uni-b.example,ops@site.example"});
        })
        .await;
    server.report("bio-hpc1", "450", "2026-03-01").await;
    let totals = server.get(Who::Staff, &format!("{USAGES}?resource_uuid={}", id("resource", "bio-hpc1"))).await.ids();
    let shares = json!({"usages": [{"username": "bea-at-hpc", "usage": 400}, {"username": "otto", "usage": 50}]});
    let path = format!("{USAGES}{}/set_user_usages/", totals[0]);
    server.post(Who::Agent, &path, &shares).await.expect(201);
    (server, policy)
}

#[tokio::test]
async fn nothing_of_a_person_is_left_and_all_goes_on() {
    let (server, policy) = knowing_bea().await;
    assert!(!places_with(&server, TRACES[0]).await.is_empty(), "the test would prove nothing");
    let erase = async |body| server.post(Who::Staff, "/api/users/erase/", &body).await;
    let erased = erase(json!({"email": "bea@uni-b.example"})).await.expect(200);
    assert_eq!((erased["erased"].as_array().unwrap().len(), &erased["tokens_revoked"]), (2, &json!(1)));
    assert_eq!(erase(json!({"username": "bea-at-hpc"})).await.expect(200)["tokens_revoked"], 0);

    server.get(Who::Bea, "/api/users/me/").await.expect(401);
    server.get(Who::Staff, &format!("/api/users/{}/", id("user", "bea"))).await.expect(404);
    let shown = server.get(Who::Staff, &policy).await.expect(200);
    assert_eq!(shown["options"], json!({"notify_external_user": "ops@site.example"}));
    let shares = server.get(Who::Staff, "/api/marketplace-component-user-usages/").await.expect(200);
    let mut shares: Vec<_> =
        shares.as_array().unwrap().iter().map(|row| (row["username"].to_string(), row["usage"].to_string())).collect();
    shares.sort();
    assert_eq!(shares.len(), 2, "the amounts stay");
    assert_eq!(shares[0].0, "\"\"", "the name does not: {shares:?}");

    // The policy can be changed, the resource be evaluated, the rest of the people be told.
    server.patch(Who::Staff, &policy, &json!({"grace_ratio": 0.3})).await.expect(200);
    server.report("bio-hpc1", "600", "2026-03-01").await;
    server.put(Who::Staff, "/api/simulation/clock/", &json!({"now": "2026-03-15T13:00:00Z"})).await.expect(200);
    let failed = server.get(Who::Staff, "/api/notices/?state=failed").await.expect(200);
    assert!(!failed.as_array().unwrap().is_empty());
    assert!(
        failed.as_array().unwrap().iter().all(|row| row["error"].as_str().unwrap().contains("undeliverable")),
        "{failed}"
    );
    assert!(!server.get(Who::Staff, "/api/notices/?state=sent").await.expect(200).as_array().unwrap().is_empty());

    for path in [
        "/api/events/?page_size=100",
        "/api/users/?page_size=100",
        "/api/customers/?page_size=100",
        "/api/tokens/?page_size=100",
        "/api/notices/?page_size=100",
        POLICIES,
        "/api/marketplace-component-user-usages/",
    ] {
        let answer = server.get(Who::Staff, path).await.text.to_lowercase();
        for trace in TRACES {
            assert!(!answer.contains(&trace.to_lowercase()), "{trace} in {path}: {answer}");
        }
    }
    for name in sluice::projections::NAMES {
        sluice::projections::rebuild::one(&server.app.consumers, &server.app.read, name, |_| ()).await.unwrap();
    }
    for trace in TRACES.iter().chain(&["BEA@uni-b.example"]) {
        assert_eq!(places_with(&server, trace).await, Vec::<String>::new(), "{trace} is left");
    }
    server.stop().await;
}

#[tokio::test]
async fn exactly_one_subject_is_expected_and_has_to_exist() {
    let server = TestServer::start().await;
    let erase = async |body| server.post(Who::Staff, "/api/users/erase/", &body).await;
    for body in [json!({}), json!({"username": "bea", "email": "bea@uni-b.example"})] {
        assert!(erase(body).await.refusal("non_field_errors").contains("Exactly one of uuid, username and email"));
    }
    erase(json!({"uuid": "bea"})).await.refusal("uuid");
    erase(json!({"username": "nobody"})).await.expect(404);
    server.get(Who::Bea, "/api/users/me/").await.expect(200);
    server.stop().await;
}
