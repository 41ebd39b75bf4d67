//! The server's log: which request a line belongs to, and that no secret gets into it.

use serde_json::Value;
use sqlx::Connection;

use super::{Fixture, KEY, Serving};

fn lines(log: &str) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

#[tokio::test]
async fn what_fails_is_logged_with_the_request_it_belongs_to_at_every_level() {
    let fixture = Fixture::with_site();
    let mut command = fixture.command(&["token", "create", "--user", "root", "--role", "staff", "--key-env", "KEY"]);
    command.env("KEY", KEY).assert().success();
    let server = Serving::start(&fixture, &[("SLUICE_LOG__FORMAT", "json"), ("SLUICE_LOG__LEVEL", "warn")]);
    let file = format!("sqlite://{}", fixture.folder.path().join("sluice-read.db").display());
    let mut database = sqlx::SqliteConnection::connect(&file).await.unwrap();
    sqlx::query("DROP TABLE registry_resources").execute(&mut database).await.unwrap();
    database.close().await.unwrap();
    let answer = reqwest::Client::new()
        .get(format!("{}/api/marketplace-provider-resources/?name=private", server.url))
        .header("authorization", format!("Token {KEY}"))
        .header("x-request-id", "proxy-4711")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 500);
    let body = answer.text().await.unwrap();
    assert!(!body.contains("registry"), "the particulars are for the log: {body}");
    let log = server.stop();
    let failed = lines(&log).into_iter().find(|line| line["level"] == "ERROR").unwrap_or_else(|| panic!("{log}"));
    assert_eq!(failed["span"]["request_id"], "proxy-4711");
    assert_eq!(failed["span"]["correlation_id"].as_str().unwrap().len(), 32);
    assert_eq!(failed["span"]["path"], "/api/marketplace-provider-resources/");
    assert!(failed["fields"]["error"].as_str().unwrap().contains("failed"), "{failed}");
    assert!(!log.contains("private") && !log.contains(KEY), "{log}");
}

#[tokio::test]
async fn every_line_of_a_request_names_it_and_no_line_holds_a_secret() {
    let fixture = Fixture::with_site();
    let mut command = fixture.command(&["token", "create", "--user", "root", "--role", "staff", "--key-env", "KEY"]);
    command.env("KEY", KEY).assert().success();
    let secrets = [("SLUICE_MAIL_PASSWORD", "hunter2-hunter2-hunter2"), ("SLUICE_HOOK", "whsec-0123456789abcdef")];
    let config = fixture.file(
        "sluice.toml",
        "[mail]\ntransport = \"smtp\"\nhost = \"127.0.0.1\"\nport = 1\ntls = \"none\"\nusername = \"sluice\"\n\
         password_env = \"SLUICE_MAIL_PASSWORD\"\n[webhooks]\nendpoints = [{ name = \"portal\", \
         url = \"http://127.0.0.1:1/?key=url-key-in-query\", secret_env = \"SLUICE_HOOK\" }]\n",
    );
    let level = [("SLUICE_CONFIG", config.as_str()), ("SLUICE_LOG__FORMAT", "json"), ("SLUICE_LOG__LEVEL", "trace")];
    let server = Serving::start(&fixture, &[&level[..], &secrets[..]].concat());
    let client = reqwest::Client::new();
    let resources = format!("{}/api/marketplace-provider-resources/", server.url);
    for authorization in
        [format!("Token {KEY}"), "Token wrong-wrong-wrong-wrong".to_owned(), "Basic c2VjcmV0".to_owned()]
    {
        let request = client.get(format!("{resources}?key=in-the-query")).header("authorization", authorization);
        request.header("x-request-id", "of-the-test").send().await.unwrap();
    }
    let resource: Value = client
        .get(&resources)
        .header("authorization", format!("Token {KEY}"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    // A hold tells the webhook, which cannot be reached.
    let pause = serde_json::json!({"kind": "pause", "reason": "words-in-a-body"});
    let holds = format!("{resources}{}/holds/", resource[0]["uuid"].as_str().unwrap());
    let held = client.post(holds).header("authorization", format!("Token {KEY}")).json(&pause).send().await.unwrap();
    assert_eq!(held.status(), 201);
    server.logs("a notice was not delivered").await;
    let log = server.stop();
    let all = lines(&log);
    let ours = all.iter().filter(|line| line["target"].as_str().is_some_and(|target| target == "sluice::http::layers"));
    let of_the_test = ours.filter(|line| line["span"]["request_id"] == "of-the-test").count();
    assert_eq!(of_the_test, 3, "{log}");
    for secret in [
        KEY,
        "wrong-wrong",
        "c2VjcmV0",
        "in-the-query",
        "hunter2",
        "whsec-",
        "url-key-in-query",
        "words-in-a-body",
        "alice@",
    ] {
        assert!(
            !log.contains(secret),
            "{secret} stands in the log: {}",
            log.lines().find(|l| l.contains(secret)).unwrap()
        );
    }
}
