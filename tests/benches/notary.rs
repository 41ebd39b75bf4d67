//! The notary: what a checkpoint costs for each event, how large the tree is, how long a verification and a proof take.

use std::sync::Arc;
use std::time::Instant;

use sluice::app::{App, AppOptions};
use sluice::commands::execute::CommandMeta;
use sluice::events::checkpoint::CheckpointReason;
use sluice::notary::key::{Key, write};
use sluice::notary::options::{KeySource, NotaryOptions};
use sluice::notary::trust::Trust;
use sluice::notary::verify::verify;
use uuid::Uuid;

use crate::Options;
use crate::report::{Table, median};
use crate::{fleet, site};

/// Reports of each resource.
const ROUNDS: usize = 5;

/// Proofs of each kind.
const PROOFS: u64 = 1_000;

pub async fn run(options: &Options) {
    let size = options.sizes.iter().copied().max().unwrap_or(10_000);
    let folder = tempfile::tempdir_in(&options.folder).unwrap();
    let (key, secret) = Key::generate("sluice.bench/log").unwrap();
    let file = folder.path().join("notary.key");
    write(&file, &secret, key.public()).unwrap();
    let mut app_options = AppOptions::at(folder.path().join("sluice.db"));
    app_options.notary = NotaryOptions { key: KeySource::File(file), ..NotaryOptions::default() };
    let app = App::open(app_options).await.unwrap();
    site::lay_out(&app, size).await;
    for round in 0..ROUNDS {
        fleet::bulk(&app, size, round).await;
    }
    let log = Arc::clone(app.guard.log());
    let meta = CommandMeta::system(Uuid::from_u128(1));
    let (mut signing, mut verifying, mut proving) = (Vec::new(), Vec::new(), Vec::new());
    let (mut events, mut hashes) = (0, 0);
    for _ in 0..options.runs {
        app.notary.tables().forget_tree().await.unwrap();
        let begun = Instant::now();
        let made = app.notary.checkpoint(CheckpointReason::Request, &meta).await.unwrap().unwrap();
        signing.push(begun.elapsed().as_secs_f64());
        events = made.checkpoint.size;
        let begun = Instant::now();
        let trust = Trust::of(vec![key.public().clone()]);
        let verdict = verify(&*log, app.notary.tables(), trust, Vec::new(), |_| ()).await.unwrap();
        verifying.push(begun.elapsed().as_secs_f64());
        assert!(verdict.is_sound(), "{:?}", verdict.findings);
        let begun = Instant::now();
        for number in 0..PROOFS {
            let proof = app.notary.inclusion(number * (events / PROOFS).max(1) % events, events).await.unwrap();
            hashes = hashes.max(proof.len());
        }
        proving.push(begun.elapsed().as_secs_f64());
    }
    let (signing, verifying, proving) = (median(signing), median(verifying), median(proving));
    let tiles = events.div_ceil(256) + events.div_ceil(65_536) + events.div_ceil(1 << 24);
    let table = Table::new(&[
        "events",
        "sign all s",
        "µs/event",
        "verify s",
        "verify a million s",
        "tiles MB/million",
        "proof ms",
        "proof bytes",
    ]);
    let millions = events as f64 / 1e6;
    table.row(&[
        events.to_string(),
        format!("{signing:.2}"),
        format!("{:.2}", signing * 1e6 / events as f64),
        format!("{verifying:.2}"),
        format!("{:.2}", verifying / millions),
        format!("{:.1}", tiles as f64 * 8_192.0 / 1e6 / millions),
        format!("{:.2}", proving * 1e3 / PROOFS as f64),
        (hashes * 32).to_string(),
    ]);
}
