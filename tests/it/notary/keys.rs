//! Who signs: a key hands over to another, proofs hold, and nothing is signed that another key began.

use sluice::events::checkpoint::CheckpointReason;
use sluice::notary::NotaryError;
use sluice::notary::checkpoint::SignedCheckpoint;
use sluice::notary::key::{Key, write};
use sluice::notary::leaf::Leaves;
use sluice::notary::options::{KeySource, NotaryOptions};
use tlog_tiles::{check_record, check_tree};

use super::bed::{Bed, ORIGIN, append, meta, said};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_hands_over_and_whoever_trusts_either_can_verify() {
    for bed in Bed::all().await {
        let engine = bed.name();
        let (key, secret) = Key::generate(ORIGIN).unwrap();
        let file = bed.folder.path().join("next.key");
        write(&file, &secret, key.public()).unwrap();
        let options = NotaryOptions { key: KeySource::File(file), ..bed.options.clone() };
        let next = bed.notary_with(&options).await;
        let early = next.checkpoint(CheckpointReason::Request, &meta()).await;
        assert!(matches!(early, Err(NotaryError::OtherKey)), "{engine}: {early:?}");
        let (rotation, made) = bed.notary().await.rotate(&key, &meta()).await.unwrap();
        assert_eq!((rotation.size, made.checkpoint.size), (38, 39), "{engine}: the statement is an event too");
        append(&*bed.open().await, 50..52).await;
        let next = bed.notary_with(&options).await;
        next.checkpoint(CheckpointReason::Schedule, &meta()).await.unwrap().unwrap();
        for trusted in [bed.key.public(), key.public()] {
            let verdict = bed.verdict_by(&[trusted], &[]).await;
            assert_eq!((said(&verdict), verdict.held), (vec![], 5), "{engine}: {:?}", verdict.findings);
        }
        // The old key signs nothing any more: neither does the notary with it, nor is it believed.
        let old = bed.notary().await.checkpoint(CheckpointReason::Request, &meta()).await;
        assert!(matches!(old, Err(NotaryError::OtherKey)), "{engine}: {old:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_hold_against_the_checkpoint_and_for_no_other_event() {
    for bed in Bed::all().await {
        let engine = bed.name();
        let (notary, log) = (bed.notary().await, bed.open().await);
        let events = log.read_all(sluice::events::envelope::Position::START, 100).await.unwrap();
        let of = async |size| SignedCheckpoint::read(&notary.checkpoint_of(size).await.unwrap().unwrap()).unwrap();
        let (first, newest) = (of(10).await, of(32).await);
        for (number, event) in events.iter().enumerate().take(32) {
            let number = number as u64;
            let (found, stored) = notary.number_of(event.position).await.unwrap();
            assert_eq!((found, &stored), (number, event), "{engine}");
            let proof = notary.inclusion(number, 32).await.unwrap();
            let leaf = Leaves::default().of(event);
            check_record(&proof, 32, newest.root, number, leaf).unwrap();
            assert!(check_record(&proof, 32, newest.root, (number + 1) % 32, leaf).is_err(), "{engine}");
        }
        let proof = notary.consistency(10, 32).await.unwrap();
        check_tree(&proof, 32, newest.root, 10, first.root).unwrap();
        assert!(check_tree(&proof, 32, newest.root, 10, newest.root).is_err(), "{engine}");
        for refused in
            [notary.inclusion(0, 39).await, notary.consistency(0, 32).await, notary.consistency(33, 32).await]
        {
            assert!(
                matches!(&refused, Err(NotaryError::NotThere(why)) if why.contains("1 to 32 is allowed")),
                "{refused:?}"
            );
        }
        let late = notary.number_of(events[37].position).await;
        assert!(matches!(&late, Err(NotaryError::NotThere(why)) if why.contains("yet")), "{engine}: {late:?}");
    }
}
