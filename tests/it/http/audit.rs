//! The signed log over the API: checkpoints by the clock, at the end of a period and on demand; the key; proofs.

use serde_json::json;
use sluice::app::AppOptions;
use sluice::notary::checkpoint::SignedCheckpoint;
use sluice::notary::key::{Key, write};
use sluice::notary::leaf::unhex;
use sluice::notary::options::{KeySource, NotaryOptions};
use sluice::scheduler::{CronTexts, Schedule};
use tempfile::TempDir;
use tlog_tiles::{Hash, check_record, check_tree};

use crate::support::server::{TestServer, Who};

const CHECKPOINTS: &str = "/api/audit-checkpoints/";

/// A key in a folder, and options that sign with it every hour.
fn signing(folder: &TempDir) -> (Key, impl FnOnce(&mut AppOptions)) {
    let (key, secret) = Key::generate("sluice.test/log").unwrap();
    let file = folder.path().join("notary.key");
    write(&file, &secret, key.public()).unwrap();
    let notary = NotaryOptions { key: KeySource::File(file), file: None, log: true };
    let texts = CronTexts { checkpoint: Some("0 * * * *"), ..CronTexts::default() };
    let schedule = Schedule::new(chrono_tz::Tz::UTC, texts).unwrap();
    (key, move |options: &mut AppOptions| (options.notary, options.schedule) = (notary, schedule))
}

fn hashes(proof: &serde_json::Value) -> Vec<Hash> {
    proof["hashes"].as_array().unwrap().iter().map(|hash| unhex(hash.as_str().unwrap()).unwrap()).collect()
}

#[tokio::test]
async fn the_clock_signs_and_proofs_hold() {
    let folder = tempfile::tempdir().unwrap();
    let (key, options) = signing(&folder);
    let server = TestServer::customized(options).await;
    server.policy(|_| ()).await;
    server.report("climate-hpc1", "100", "2026-03-15").await;
    for (now, date) in [("2026-04-01T12:00:00Z", "2026-04-01"), ("2026-04-01T14:00:00Z", "2026-04-01")] {
        server.put(Who::Staff, "/api/simulation/clock/", &json!({"now": now})).await.expect(200);
        server.report("climate-hpc1", if now.contains("T12") { "50" } else { "60" }, date).await;
    }
    let listed = server.get(Who::Support, CHECKPOINTS).await;
    let rows = listed.expect(200);
    let reasons: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["reason"].as_str().unwrap()).collect();
    assert!(
        reasons.first() == Some(&"schedule") && reasons.iter().filter(|reason| **reason == "period_close").count() == 1,
        "{reasons:?}"
    );
    assert_eq!(listed.header("x-result-count"), reasons.len().to_string());
    let shown = server.get(Who::Support, "/api/audit-key/").await.expect(200);
    assert_eq!(shown["key"], key.public().as_str());

    let made = server.post(Who::Staff, CHECKPOINTS, &json!({})).await.expect(201);
    let newest = SignedCheckpoint::read(made["note"].as_str().unwrap()).unwrap();
    assert!(newest.note.is_signed_by(key.public()) && made["size"] == newest.size && made["reason"] == "request");
    let events = server.get(Who::Support, "/api/events/?page_size=5").await.expect(200);
    let position = events[2]["position"].as_str().unwrap();
    let proof =
        server.get(Who::Support, &format!("/api/audit-proofs/inclusion/?position={position}")).await.expect(200);
    assert_eq!((&proof["index"], &proof["checkpoint"]), (&json!(2), &made["note"]));
    let leaf = unhex(proof["leaf"].as_str().unwrap()).unwrap();
    check_record(&hashes(&proof), newest.size, newest.root, 2, leaf).unwrap();

    let oldest = SignedCheckpoint::read(rows.as_array().unwrap().last().unwrap()["note"].as_str().unwrap()).unwrap();
    let path = format!("/api/audit-proofs/consistency/?from={}&size={}", oldest.size, newest.size);
    let proof = server.get(Who::Staff, &path).await.expect(200);
    check_tree(&hashes(&proof), newest.size, newest.root, oldest.size, oldest.root).unwrap();
    for (path, field, said) in [
        ("inclusion/", "position", "a position of the event log"),
        ("inclusion/?position=7fffffff-0", "non_field_errors", "yet"),
        ("consistency/", "from", "the number of events of a checkpoint"),
        ("consistency/?from=0", "non_field_errors", "is allowed"),
        ("consistency/?from=1&size=x", "size", "the number of events of a checkpoint"),
    ] {
        let refusal = server.get(Who::Staff, &format!("/api/audit-proofs/{path}")).await.refusal(field);
        assert!(refusal.contains(said), "{path}: {refusal}");
    }
    server.stop().await;
}

#[tokio::test]
async fn without_a_key_nothing_is_signed_and_that_is_said() {
    let server = TestServer::start().await;
    assert_eq!(server.get(Who::Staff, CHECKPOINTS).await.expect(200), json!([]));
    assert_eq!(server.get(Who::Staff, "/api/audit-key/").await.expect(200)["key"], json!(null));
    let refusal = server.post(Who::Staff, CHECKPOINTS, &json!({})).await.refusal("non_field_errors");
    assert!(refusal.contains("There is no key to sign with"), "{refusal}");
    let refusal = server.get(Who::Staff, "/api/audit-proofs/consistency/?from=1").await.refusal("non_field_errors");
    assert!(refusal.contains("There is no checkpoint yet"), "{refusal}");
    server.stop().await;
}
