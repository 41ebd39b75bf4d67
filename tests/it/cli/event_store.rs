//! A log in an event store, as whoever runs the service meets it: moving in and out, and a backup of what stands beside it.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sluice::store::address::Database;
use tempfile::TempDir;

use super::archive::{json as shown_by, with_months};
use super::{Fixture, bare, failure};
use crate::store::esdb;
use crate::support::database::on_postgres;

/// A database in a folder of its own, with its events in an event store.
struct Beside {
    folder: TempDir,
    address: String,
}

impl Beside {
    fn new(address: String) -> Self {
        Self { folder: TempDir::new().unwrap(), address }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("sluice.db")
    }

    fn url(&self) -> String {
        Database::from(self.file()).to_string()
    }

    fn command(&self, arguments: &[&str]) -> assert_cmd::Command {
        let mut command = bare(arguments);
        command.env("SLUICE_DATA_DIR", self.folder.path()).env("SLUICE_EVENT_STORE", &self.address);
        command
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let done = self.command(&[arguments, &["--format", "json"]].concat()).assert().success();
        serde_json::from_slice(&done.get_output().stdout).unwrap()
    }

    fn text(&self, arguments: &[&str]) -> String {
        let done = self.command(arguments).assert().success();
        String::from_utf8(done.get_output().stdout.clone()).unwrap()
    }

    fn fails(&self, arguments: &[&str]) -> String {
        failure(&mut self.command(arguments)).1
    }
}

const SHOWN: [&[&str]; 3] =
    [&["slurm_policy_status"], &["explain", "--resource", "climate-hpc1"], &["timeline", "--resource", "climate-hpc1"]];

/// What is shown, without the positions that another log has other ones of.
fn without_positions(mut shown: Value) -> Value {
    match &mut shown {
        Value::Object(fields) => {
            fields.remove("position");
            // When jobs ran stands with the read models, and is not copied.
            fields.remove("scheduled");
            fields.values_mut().for_each(|value| *value = without_positions(value.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_positions(item.take())),
        _ => {}
    }
    shown
}

#[tokio::test]
async fn a_site_moves_into_an_event_store_and_out_again() {
    let fixture = with_months().await;
    let before: Vec<Value> = SHOWN.map(|shown| without_positions(shown_by(&fixture, shown))).to_vec();
    let held = shown_by(&fixture, &["projections", "status"])["events"].clone();
    let from = crate::support::database::database(&fixture.folder.path().join("sluice.db"));
    let from = if let Database::Postgres(url) = from { url } else { from.to_string() };
    let server = esdb::Fixture::start();
    // Its events stand among those of others.
    server.others_write(500);
    let there = Beside::new(format!("esdb://op:geheim@127.0.0.1:{}?tls=false&discoveryInterval=1", server.port()));
    let copy = ["store", "copy", &from, &there.url(), "--to-event-store", &there.address];
    let copied = shown_by(&fixture, &copy);
    assert_eq!((&copied["events"], &copied["positions_changed"]), (&held, &json!(true)), "{copied}");
    assert!(!copied.to_string().contains("geheim"), "{copied}");
    let again = shown_by(&fixture, &copy);
    assert_eq!((&again["copied"], &again["sha256"]), (&json!(0), &copied["sha256"]));

    let after: Vec<Value> = SHOWN.map(|shown| without_positions(there.json(shown))).to_vec();
    assert_eq!(after, before);
    let status = there.json(&["projections", "status"]);
    assert_eq!((&status["events"], &status["events_is"]), (&held, &json!("exact")), "nothing was done again: {status}");
    assert_eq!(there.json(&["store", "verify"])["sound"], true);

    // And out again, as the site that it was.
    let home = Fixture::new();
    let into = Database::from(home.folder.path().join("sluice.db")).to_string();
    let back = ["store", "copy", &there.url(), &into, "--from-event-store", &there.address];
    let returned = there.json(&back);
    assert_eq!(returned["sha256"], copied["sha256"]);
    if !on_postgres() {
        let after: Vec<Value> = SHOWN.map(|shown| without_positions(shown_by(&home, shown))).to_vec();
        assert_eq!(after, before);
        assert_eq!(shown_by(&home, &["projections", "status"])["events"], held);
    }

    let wrong =
        there.fails(&["store", "copy", &there.url(), &into, "--from-event-store", "esdb://op:geheim@host?tlss=1"]);
    assert!(wrong.contains("--from-event-store") && wrong.contains("tlss") && !wrong.contains("geheim"), "{wrong}");
}

#[test]
fn a_backup_names_the_log_that_it_goes_with_and_a_restore_asks_for_it() {
    let server = esdb::Fixture::start();
    let site = Beside::new(server.address());
    site.command(&["apply", "-f", "src/demo/site.yaml"]).assert().success();
    let older = server.log().clone();
    site.command(&["settings", "set", "fairshare_divisor", "12"]).assert().success();
    let head = site.json(&["projections", "status"])["head"].clone();
    let folder = site.folder.path().join("backup");
    let folder = folder.to_str().unwrap();

    let unnamed = failure(site.command(&["backup", folder]).env_remove("SLUICE_EVENT_STORE")).1;
    assert!(unnamed.contains("name it with --event-store"), "{unnamed}");
    let said = site.text(&["backup", folder]);
    for part in ["it does not hold the events", "back up the event store too", &server.port().to_string()] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert!(!said.contains("up to event 0"), "{said}");
    let listed: Value = serde_json::from_slice(&std::fs::read(format!("{folder}/backup.json")).unwrap()).unwrap();
    assert_eq!((&listed["event_store"]["position"], &listed["position"]), (&head, &Value::Null), "{listed}");
    let log = listed["event_store"]["log"].as_str().unwrap();
    assert!(said.contains(log), "{said}");

    // Put back beside the same log.
    let again = Beside::new(server.address());
    let unnamed = failure(again.command(&["restore", folder]).env_remove("SLUICE_EVENT_STORE")).1;
    assert!(unnamed.contains("name it with --event-store") && unnamed.contains(log), "{unnamed}");
    let restored = again.text(&["restore", folder]);
    assert!(restored.contains(log), "{restored}");
    assert_eq!(again.json(&["projections", "status"])["head"], head);

    // Beside none, another, an older one, and one that was put back and gone on with.
    let beside = |address: String| Beside::new(address);
    let none = beside(format!("{}&streamPrefix=none.", server.address()));
    assert!(none.fails(&["restore", folder]).contains("holds no log"));
    let other = beside(format!("{}&streamPrefix=other.", server.address()));
    other.command(&["apply", "-f", "src/demo/site.yaml"]).assert().success();
    let elsewhere = beside(other.address.clone());
    let said = elsewhere.fails(&["restore", folder]);
    assert!(said.contains("holds another") && said.contains(log), "{said}");
    let put_back = esdb::Fixture::on(Arc::new(Mutex::new(older)));
    let short = beside(put_back.address());
    let said = short.fails(&["restore", folder]);
    assert!(said.contains("is older than the backup") && said.contains("--older-log"), "{said}");
    assert!(!short.file().exists(), "nothing was restored");
    let said = short.text(&["restore", folder, "--older-log"]);
    assert!(said.contains("what was recorded after it is gone"), "{said}");
    short.json(&["projections", "status"]);
    for divisor in ["13", "14", "15"] {
        short.command(&["settings", "set", "fairshare_divisor", divisor]).assert().success();
    }
    let said = beside(put_back.address()).fails(&["restore", folder]);
    assert!(said.contains("it was put back from an older state and then gone on with"), "{said}");
}

#[tokio::test]
async fn a_backup_with_its_own_events_wants_no_event_store() {
    let fixture = with_months().await;
    if on_postgres() {
        return;
    }
    let folder = fixture.folder.path().join("backup");
    let folder = folder.to_str().unwrap();
    let made = shown_by(&fixture, &["backup", folder]);
    assert!(made["position"].as_u64().unwrap() > 50 && made["event_store"].is_null(), "{made}");
    let server = esdb::Fixture::start();
    let said = Beside::new(server.address()).fails(&["restore", folder]);
    assert!(said.contains("holds its events itself") && said.contains("leave out --event-store"), "{said}");
}
