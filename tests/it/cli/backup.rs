//! `sluice backup`, `sluice restore` and `sluice store copy`: what is shown stays the same.

use serde_json::{Value, json};
use sluice::store::address::Database;

use super::archive::{json as shown_by, with_months};
use super::{Fixture, bare, failure};

fn shown(fixture: &Fixture) -> Vec<Value> {
    vec![
        shown_by(fixture, &["slurm_policy_status"])["policies"].clone(),
        shown_by(fixture, &["explain", "--resource", "climate-hpc1"]),
    ]
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_backup_made_in_use_is_put_back_with_its_archive() {
    let fixture = with_months().await;
    shown_by(&fixture, &["store", "archive", "--before", "2026-05"]);
    let before = shown(&fixture);
    let folder = fixture.folder.path().join("backup");
    let made = shown_by(&fixture, &["backup", text(&folder)]);
    assert_eq!(made["files"].as_array().unwrap().len(), 3, "the database and two months: {made}");
    let (status, said) = fixture.fails(&["backup", text(&folder)]);
    assert!(status == 1 && said.contains("is there already"), "{said}");
    let (status, said) = fixture.fails(&["restore", text(&folder)]);
    assert!(status == 1 && said.contains("is there already"), "{said}");

    // Everything is lost, and somebody begins anew beside what is left of the read models.
    let log = fixture.folder.path().join("sluice.db");
    for name in ["sluice.db", "sluice.db-wal", "sluice.db-shm"] {
        let _ = std::fs::remove_file(fixture.folder.path().join(name));
    }
    std::fs::remove_dir_all(fixture.folder.path().join("sluice-archive")).unwrap();
    let restored = shown_by(&fixture, &["restore", text(&folder)]);
    assert_eq!(restored["position"], made["position"]);
    assert_eq!(shown(&fixture), before);
    assert_eq!(shown_by(&fixture, &["store", "verify"])["sound"], true);
    assert!(log.exists());
}

#[tokio::test]
async fn a_backup_that_was_damaged_is_not_put_back() {
    let fixture = with_months().await;
    let folder = fixture.folder.path().join("backup");
    shown_by(&fixture, &["backup", text(&folder)]);
    let elsewhere = Fixture::new();
    let database = folder.join("sluice.db");
    let mut bytes = std::fs::read(&database).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&database, bytes).unwrap();
    let mut restore = bare(&["restore", text(&folder)]);
    let (status, said) = failure(restore.env("SLUICE_DATA_DIR", elsewhere.folder.path()));
    assert!(status == 1 && said.contains("is not the file that was backed up"), "{said}");
    assert!(!elsewhere.folder.path().join("sluice.db").exists());
}

#[tokio::test]
async fn a_database_is_copied_with_what_it_shows() {
    let fixture = with_months().await;
    let before = shown(&fixture);
    let there = Fixture::new();
    let url = |fixture: &Fixture| Database::from(fixture.folder.path().join("sluice.db")).to_string();
    let copied = shown_by(&fixture, &["store", "copy", &url(&fixture), &url(&there)]);
    assert!(copied["events"].as_u64().unwrap() > 50 && copied["copied"] == copied["events"], "{copied}");
    let again = shown_by(&fixture, &["store", "copy", &url(&fixture), &url(&there)]);
    assert_eq!((&again["copied"], &again["sha256"]), (&json!(0), &copied["sha256"]));
    let (status, said) = fixture.fails(&["store", "copy", &url(&there), &url(&there)]);
    assert!(status == 2 && said.contains("the same database"), "{said}");
    assert_eq!(shown(&there), before);
}
