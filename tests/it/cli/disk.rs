//! The disk under a server: one that is full or gone is not ready, and files that others may use are named at the start.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

use super::{Fixture, Serving};

async fn ready(serving: &Serving) -> (StatusCode, Value) {
    let answer = reqwest::get(format!("{}/health/ready", serving.url)).await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

/// Asks until the server is ready again: what was found a second ago may still be the answer.
async fn ready_again(serving: &Serving) {
    let until = tokio::time::Instant::now() + Duration::from_mins(1);
    loop {
        let (status, said) = ready(serving).await;
        if status == StatusCode::OK {
            return assert_eq!(said["writable"], true);
        }
        assert!(tokio::time::Instant::now() < until, "{said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_server_whose_folder_is_gone_is_not_ready() {
    let fixture = Fixture::with_site();
    let serving = Serving::start(&fixture, &[]);
    let folder = fixture.folder.path();
    let elsewhere = folder.with_extension("moved");
    std::fs::rename(folder, &elsewhere).unwrap();
    let (status, said) = ready(&serving).await;
    std::fs::rename(&elsewhere, folder).unwrap();
    assert_eq!((status, &said["status"]), (StatusCode::SERVICE_UNAVAILABLE, &"not_ready".into()), "{said}");
    assert_eq!((&said["writable"], &said["event_store"]), (&false.into(), &true.into()), "{said}");
    ready_again(&serving).await;
    assert!(!folder.join("sluice.db.probe").exists(), "what was written is taken away again");
    let log = serving.stop();
    assert!(log.contains("nothing can be written: not ready") && log.contains("can be written again"), "{log}");
}

/// On a file system of its own, of 64 MiB, in a mount namespace of its own: nobody need be root for that.
#[tokio::test]
#[ignore = "needs the right to make a mount namespace: in a full run only"]
async fn a_server_whose_disk_is_full_is_not_ready() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path();
    let mut command = std::process::Command::new("unshare");
    command.env("SLUICE_DATA_DIR", folder).env("SLUICE_SIMULATED_CLOCK", "2026-04-02T00:00:00Z");
    command.args(["--map-root-user", "--mount", "sh", "-ec"]);
    command.arg("mount -t tmpfs -o size=64m,mode=700 tmpfs \"$1\"; exec \"$2\" serve --listen 127.0.0.1:0");
    command.arg("sh").arg(folder).arg(assert_cmd::cargo::cargo_bin!("sluice"));
    let serving = Serving::of(command);
    ready_again(&serving).await;

    // The folder as the server sees it.
    let inside = format!("/proc/{}/root{}", serving.child.id(), folder.display());
    let filler = std::path::Path::new(&inside).join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    // A failed write of many bytes leaves room for fewer.
    for bytes in [64 << 10, 4 << 10, 1] {
        let error = loop {
            if let Err(error) = file.write_all(&vec![7; bytes]) {
                break error;
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }
    serving.until_not_ready().await;
    let (_, said) = ready(&serving).await;
    assert_eq!((&said["status"], &said["writable"]), (&"not_ready".into(), &false.into()), "{said}");
    // As long as a file is open, its room is taken.
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    ready_again(&serving).await;
    serving.stop();
}

impl Serving {
    async fn until_not_ready(&self) {
        let until = tokio::time::Instant::now() + Duration::from_mins(1);
        while ready(self).await.0 == StatusCode::OK {
            assert!(tokio::time::Instant::now() < until, "it is ready with a full disk");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_start_names_the_files_that_others_may_use() {
    let fixture = Fixture::with_site();
    let read = fixture.folder.path().join("sluice-read.db");
    std::fs::set_permissions(fixture.folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::set_permissions(&read, PermissionsExt::from_mode(0o640)).unwrap();
    let serving = Serving::start(&fixture, &[]);
    let said = format!("chmod 600 {}", read.display());
    serving.logs("(mode 640)").await;
    let log = serving.stop();
    assert!(log.contains(&said), "{log}");
    // Whatever the server made itself is its owner's alone; what SQLite makes beside a file has the mode of that file.
    std::fs::set_permissions(&read, PermissionsExt::from_mode(0o600)).unwrap();
    for entry in std::fs::read_dir(fixture.folder.path()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("sluice-read.db-") {
            std::fs::set_permissions(entry.path(), PermissionsExt::from_mode(0o600)).unwrap();
            continue;
        }
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", entry.path().display());
    }
    let log = Serving::start(&fixture, &[]).stop();
    assert!(!log.contains("others may"), "{log}");
}
