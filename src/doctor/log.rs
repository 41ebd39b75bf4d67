//! The log itself: every event is readable and matches its commitment, and none is missing. Checks the newest events
//! and a sample of the others, or all.

use std::sync::Arc;

use super::{DoctorOptions, Finding, chain};
use crate::app::{App, AppError, AppOptions, soundness};
use crate::clock::SystemClock;
use crate::events::envelope::Position;
use crate::notary::tables::Tables;
use crate::replay::{Standing, Verifier};
use crate::store::meta::Meta;
use crate::store::sound::{self, Findings};
use crate::store::sql::ReadDb;

const AREA: &str = "log";

/// The newest events that are looked at in any case: a second's work.
const NEWEST: u64 = 100_000;

/// Runs of a hundred older ones that chance chooses.
const RUNS: u64 = 100;

const LOST: &str = "restore the newest backup from before the damage; or, if it is worth less than what came after it, go on without \
                    the event: sluice store quarantine --position P --reason TEXT";

/// Looks at the log; and again at what somebody could not rely on before.
pub(super) async fn examine(options: &AppOptions, asked: DoctorOptions) -> Vec<Finding> {
    match look(options, asked).await {
        Ok((found, standing)) => {
            let mut said = say(&found, asked.deep);
            said.extend(verdict(&standing));
            said.push(signed(options).await);
            said
        }
        Err(error) => vec![Finding::trouble(AREA, format!("it cannot be read: {}", chain(&error)), LOST)],
    }
}

async fn look(options: &AppOptions, asked: DoctorOptions) -> Result<(Findings, Standing), AppError> {
    let log = App::open_log(options).await?;
    let mut found = if asked.deep {
        let head = log.head().await?;
        sound::examine(&*log, Position::START, head, |_| ()).await?
    } else if asked.integrity {
        sound::sample(&*log, NEWEST, RUNS).await?
    } else {
        Findings::default()
    };
    let meta = Meta::new(ReadDb::open_beside_log(&options.database, &options.limits).await?);
    let aside = sound::SetAside::of(&*log).await?;
    for one in soundness::still(&*log, soundness::known(&meta).await?).await {
        if !aside.holds_in(&one.stream, one.version) && !found.unsound.contains(&one) {
            found.unsound_count += 1;
            found.unsound.push(one);
        }
    }
    let standing = Verifier::new(Arc::clone(&log), log, Arc::new(SystemClock), 1).standing().await?;
    Ok((found, standing))
}

/// What the newest verdicts say of recorded decisions, if there is one.
fn verdict(standing: &Standing) -> Option<Finding> {
    if standing.release.is_empty() {
        return None;
    }
    let Standing { release, same, different, not_recomputed, .. } = standing;
    let through = standing.through.plain();
    if standing.agrees() {
        let what =
            format!("up to position {through}, {same} recorded decisions come out as recorded (sluice {release})");
        return Some(Finding::ok(AREA, what));
    }
    let first = standing.first.map(|first| format!("; the first stands at position {}", first.plain()));
    let what = format!(
        "up to position {through}, {different} recorded decisions come out otherwise and {not_recomputed} cannot be made \
         again (sluice {release}){}",
        first.unwrap_or_default()
    );
    Some(Finding::trouble(AREA, what, "sluice replay --verify names each; docs/AUDIT.md says what it means"))
}

/// When the log was signed last, and whether it can be again.
async fn signed(options: &AppOptions) -> Finding {
    let key = match options.notary.key.key() {
        Ok(Some(key)) => key,
        Ok(None) => {
            let what = "it is not signed: nobody could tell if it was edited (sluice audit keygen, notary.key_file)";
            return Finding::ok(AREA, what);
        }
        Err(error) => {
            let fix =
                "correct notary.key_file, notary.signer or notary.public_key_file; sluice audit keygen makes a key";
            return Finding::trouble(AREA, format!("it cannot be signed: {}", chain(&error)), fix);
        }
    };
    let newest =
        async { Tables::new(ReadDb::open_beside_log(&options.database, &options.limits).await?).newest().await };
    match newest.await {
        Ok(Some(newest)) => {
            let (size, at, key) = (newest.size, newest.made_at.format("%Y-%m-%d %H:%M:%S UTC"), key.public().as_str());
            Finding::ok(AREA, format!("its first {size} events were signed at {at}; the key is {key}"))
        }
        Ok(None) => Finding::warning(AREA, "there is a key, and nothing is signed yet", "sluice audit checkpoint"),
        Err(error) => Finding::trouble(AREA, format!("its checkpoints cannot be read: {}", chain(&error)), LOST),
    }
}

fn say(found: &Findings, deep: bool) -> Vec<Finding> {
    let mut said: Vec<Finding> =
        found.problems().into_iter().map(|problem| Finding::trouble(AREA, problem, LOST)).collect();
    if said.is_empty() {
        let which = if deep { "all" } else { "the newest and some of the others (--deep reads all)" };
        let what = format!("{} events can be read and are what was committed to: {which}", found.events);
        said.push(Finding::ok(AREA, what));
    }
    if found.set_aside > 0 {
        said.push(Finding::ok(AREA, format!("{} events were set aside; nobody goes by them", found.set_aside)));
    }
    said
}
