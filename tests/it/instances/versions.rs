//! Databases on a server of another version: told apart by the doctor, which changes nothing, upgraded by a start, refused if
//! they are newer.

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use sluice::app::App;
use sluice::store::address::Database;
use sqlx::{AssertSqlSafe, Connection};

use crate::support::database::{connect, postgres, server, with_name};

fn sluice(url: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("sluice"));
    command.env_clear().env("SLUICE_DATABASE", url).env("SLUICE_DATA_DIR", folder).args(arguments);
    command
}

/// What the doctor finds about the database: state and text.
fn doctor(url: &str, folder: &Path) -> Vec<(String, String)> {
    let done = sluice(url, folder, &["doctor", "--offline", "--format", "json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    let about = |finding: &&Value| finding["area"] == "database";
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap();
    findings.iter().filter(about).map(|finding| (text(&finding["state"]), text(&finding["what"]))).collect()
}

fn found(findings: &[(String, String)], state: &str, what: &str) {
    assert!(findings.iter().any(|(s, w)| s == state && w.contains(what)), "no {state} {what:?} in {findings:?}");
}

async fn sql(url: &str, text: &str) {
    let mut connection = connect(url).await;
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the PostgreSQL of a full run"]
async fn a_new_database_is_left_alone_by_the_doctor_and_one_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = server().expect("SLUICE_TEST_POSTGRES names a server");
    let name = format!("empty_{}", std::process::id());
    sql(&server, &format!("DROP DATABASE IF EXISTS {name}")).await;
    let url = with_name(&server, &name);
    let missing = doctor(&url, folder.path());
    found(&missing, "trouble", "does not answer");
    sql(&server, &format!("CREATE DATABASE {name}")).await;
    for _ in 0..2 {
        found(&doctor(&url, folder.path()), "warning", "there are no tables yet");
    }
    let site = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config/academic-quarterly.yaml");
    sluice(&url, folder.path(), &["apply", "-f", site]).assert().success();
    found(&doctor(&url, folder.path()), "ok", "of this version");
}

/// Waits until the database is served, or is no longer.
async fn until(database: &Database, served: bool) {
    while App::is_served(database).await != served {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the PostgreSQL of a full run"]
async fn several_may_serve_but_not_beside_one_alone_and_a_claim_outlives_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let database = postgres(&folder.path().join("site.db"));
    let Database::Postgres(url) = &database else { unreachable!() };
    let alone = App::claim(&database).await.unwrap();
    assert!(App::claim_beside_others(&database).await.is_err());
    drop(alone);
    let mut several = Vec::new();
    while several.len() < 2 {
        // The server needs a moment to see that a connection is gone.
        several.extend(App::claim_beside_others(&database).await);
    }
    assert!(App::claim(&database).await.is_err(), "one alone comes too late");
    sql(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        .await;
    for served in [false, true] {
        until(&database, served).await;
    }
    drop(several);
    until(&database, false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the PostgreSQL of a full run"]
async fn an_older_database_is_upgraded_by_a_start_and_a_newer_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Database::Postgres(url) = postgres(&folder.path().join("site.db")) else { unreachable!() };
    found(&doctor(&url, folder.path()), "ok", "of this version");
    let older = "DROP TABLE sluice_read.broker_readers, sluice_read.broker_taken; \
                 DELETE FROM sluice_read._sqlx_migrations WHERE version = 120";
    sql(&url, older).await;
    for _ in 0..2 {
        found(&doctor(&url, folder.path()), "warning", "of an older version (1 migration behind)");
    }
    sluice(&url, folder.path(), &["settings", "show"]).assert().success();
    found(&doctor(&url, folder.path()), "ok", "of this version");
    let newer = "INSERT INTO sluice._sqlx_migrations SELECT 999999, 'later', installed_on, success, checksum, execution_time \
                 FROM sluice._sqlx_migrations LIMIT 1";
    sql(&url, newer).await;
    found(&doctor(&url, folder.path()), "trouble", "made by a newer version (1 migration ahead)");
    let refused = sluice(&url, folder.path(), &["serve", "--listen", "127.0.0.1:0"]).assert().code(1);
    let said = String::from_utf8(refused.get_output().stderr.clone()).unwrap();
    assert!(said.contains("999999"), "{said}");
    let other = "DELETE FROM sluice._sqlx_migrations WHERE version = 999999; \
                 UPDATE sluice._sqlx_migrations SET checksum = '\\x00' WHERE version = 1";
    sql(&url, other).await;
    found(&doctor(&url, folder.path()), "trouble", "made by another build");
}
