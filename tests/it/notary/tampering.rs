//! Each change of a signed log is found, with its kind and its place, on each store.

use sluice::events::checkpoint::CheckpointReason;
use sluice::notary::checkpoint::SignedCheckpoint;
use sluice::notary::key::Key;
use sluice::notary::tables::KeptCheckpoint;
use sluice::notary::tree::Tile;
use sluice::notary::{Kind, NotaryError};
use tlog_tiles::Hash;
use uuid::Uuid;

use super::bed::{Bed, ORIGIN, append, meta, said};
use super::edits::{ALL, Change};

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_log_holds_and_goes_on() {
    for bed in Bed::all().await {
        let engine = bed.name();
        let verdict = bed.verdict(&[]).await;
        assert_eq!((said(&verdict), verdict.held, verdict.covered, verdict.events), (vec![], 3, 32, 38), "{engine}");
        let made = bed.sign(CheckpointReason::Schedule).await.unwrap();
        assert_eq!((made.checkpoint.size, made.failed.len()), (38, 0), "{engine}");
        let again = bed.sign(CheckpointReason::Schedule).await;
        assert!(again.is_none(), "{engine}: nothing happened but that it was signed");
        assert_eq!(
            bed.sign(CheckpointReason::Request).await.unwrap().checkpoint.size,
            39,
            "{engine}: it was asked for"
        );
        // The tree can be made again, and is the same.
        bed.tables.forget_tree().await.unwrap();
        let before = bed.verdict(&[]).await;
        assert!(before.is_sound(), "{engine}: {:?}", before.findings);
        append(&*bed.open().await, 40..41).await;
        assert_eq!(bed.sign(CheckpointReason::Schedule).await.unwrap().checkpoint.size, 41, "{engine}");
        // What was sent to the file is what is kept, note by note.
        let file = std::fs::read_to_string(bed.options.file.clone().unwrap()).unwrap();
        let notes = sluice::notary::sink::notes_in(&file).unwrap();
        let kept: Vec<String> = bed.tables.checkpoints().await.unwrap().into_iter().map(|kept| kept.note).collect();
        assert_eq!(notes, kept, "{engine}");
        let verdict = bed.verdict(&notes).await;
        assert_eq!((said(&verdict), verdict.held), (vec![], 12), "{engine}");
    }
}

/// What each change is, by its kind and the number of the event.
fn expected(change: Change) -> Vec<(Kind, u64)> {
    match change {
        Change::Payload => vec![(Kind::PayloadChanged, 7)],
        Change::Header => vec![(Kind::EventChanged, 7)],
        Change::Delete | Change::Close => vec![(Kind::Deleted, 7)],
        Change::Insert => vec![(Kind::Inserted, 7)],
        Change::Swap => vec![(Kind::Reordered, 7), (Kind::Reordered, 8)],
        Change::Truncate => vec![(Kind::Truncated, 25)],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_is_named_with_kind_and_place() {
    for change in ALL {
        for bed in Bed::all().await {
            bed.change(change).await;
            let verdict = bed.verdict(&[]).await;
            assert_eq!(said(&verdict), expected(change), "{} {change:?}: {:?}", bed.name(), verdict.findings);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_takes_the_tree_along_is_found_between_two_checkpoints_and_never_signed() {
    for change in ALL {
        for bed in Bed::all().await {
            let engine = bed.name();
            bed.change(change).await;
            bed.tables.forget_tree().await.unwrap();
            bed.notary().await.extend().await.unwrap();
            let verdict = bed.verdict(&[]).await;
            let kinds: Vec<Kind> = verdict.findings.iter().map(|finding| finding.kind).collect();
            let expected = match change {
                Change::Payload => Kind::PayloadChanged,
                // A hole is seen without any tree.
                Change::Delete if matches!(engine, "memory" | "sqlite" | "postgres") => Kind::Deleted,
                Change::Truncate => Kind::Truncated,
                _ => Kind::Rewritten,
            };
            assert!(kinds.contains(&expected), "{engine} {change:?}: {:?}", verdict.findings);
            if expected == Kind::Rewritten {
                assert_eq!(verdict.findings[0].index, Some(10), "{engine} {change:?}");
                assert!(verdict.findings[0].what.contains("the first 0 are"), "{:?}", verdict.findings);
            }
            let signed = bed.notary().await.checkpoint(CheckpointReason::Request, &meta()).await;
            match (change, signed) {
                // What was committed to did not change with the payload.
                (Change::Payload, Ok(Some(_)))
                | (Change::Truncate, Err(NotaryError::Shorter { events: 25, size: 32 }))
                | (_, Err(NotaryError::Differs(32))) => {}
                (_, other) => panic!("{engine} {change:?}: {other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_checkpoint_and_one_of_another_key_are_named() {
    for bed in Bed::all().await {
        let engine = bed.name();
        let newest = bed.tables.newest().await.unwrap().unwrap();
        let forged = newest.note.replacen("\n32\n", "\n33\n", 1);
        bed.tables
            .keep(&KeptCheckpoint { size: 33, id: Uuid::from_u128(1), note: forged, ..newest.clone() })
            .await
            .unwrap();
        let verdict = bed.verdict(&[]).await;
        assert_eq!(said(&verdict), [(Kind::ForgedCheckpoint, 33)], "{engine}");

        let bed = Bed::sqlite().await;
        let (other, _) = Key::generate(ORIGIN).unwrap();
        let signed = SignedCheckpoint::sign(33, Hash([1; 32]), &other).unwrap().note.to_string();
        let swapped = KeptCheckpoint { size: 33, id: Uuid::from_u128(2), note: signed, ..newest };
        bed.tables.keep(&swapped).await.unwrap();
        assert_eq!(said(&bed.verdict(&[]).await), [(Kind::SwappedKey, 33)], "{engine}");
        let by_other = bed.verdict_by(&[other.public()], &[]).await;
        assert!(said(&by_other).contains(&(Kind::SwappedKey, 10)), "{engine}: the log was signed by the first key");
        let garbage = bed.verdict(&["no note".to_owned()]).await;
        assert!(said(&garbage).contains(&(Kind::ForgedCheckpoint, u64::MAX)), "{engine}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_logs_that_one_key_signed_are_a_split_view() {
    for bed in Bed::all().await {
        let engine = bed.name();
        // Another reader is shown a log of its own, which is as consistent, and signed by the same key.
        let other = Bed::sqlite().await;
        let another = other.notary_with(&bed.options).await;
        other.tables.forget_tree().await.unwrap();
        let edge = another.extend().await.unwrap();
        let longer = SignedCheckpoint::sign(edge.size() - 8, edge.root(), &bed.key).unwrap();
        let same_size = SignedCheckpoint::sign(32, edge.root(), &bed.key).unwrap();
        for (shown, size) in [(longer, 30), (same_size, 32)] {
            let verdict = bed.verdict(&[shown.note.to_string()]).await;
            assert_eq!(said(&verdict), [(Kind::SplitView, size)], "{engine}: {:?}", verdict.findings);
        }
        // One that is longer than this log says that this one was cut short.
        let beyond = SignedCheckpoint::sign(500, edge.root(), &bed.key).unwrap();
        let verdict = bed.verdict(&[beyond.note.to_string()]).await;
        assert_eq!(said(&verdict), [(Kind::Truncated, 38)], "{engine}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_tree_is_told_from_a_changed_log() {
    let bed = Bed::sqlite().await;
    let kept = bed.tables.kept().await.unwrap();
    let mut hashes = bed.tables.tile(0, 0).await.unwrap().unwrap();
    hashes[7] = Hash([1; 32]);
    let tile = Tile { level: 0, number: 0, hashes };
    assert!(bed.tables.extend(kept, kept, vec![(tile, kept.position)]).await.unwrap());
    assert_eq!(said(&bed.verdict(&[]).await), [(Kind::TreeDamaged, 7)]);
    let signed = bed.notary().await.checkpoint(CheckpointReason::Request, &meta()).await;
    assert!(matches!(signed, Err(NotaryError::Differs(32))), "a damaged tree is not signed: {signed:?}");
    bed.tables.forget_tree().await.unwrap();
    bed.sign(CheckpointReason::Request).await.unwrap();
    assert!(bed.verdict(&[]).await.is_sound());
}
