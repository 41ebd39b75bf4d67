//! `sluice audit request|witness|cosigned`: a second machine vouches that the log only grew.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::audit::{failed, key_of};
use super::output::Out;
use super::session::{CliError, Session};
use crate::clock::real_now;
use crate::notary::cosign::{Refused, Request, Seen, Witness, WitnessKey};
use crate::notary::key::Key;
use crate::notary::{NotaryError, checkpoint::SignedCheckpoint};
use crate::store::private;

/// Options of `audit witness`.
#[derive(Debug, Args)]
pub(super) struct Vouch {
    /// The file of the witness's private key, as `audit keygen` makes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The public key of the log, or a file that holds it
    #[arg(long, value_name = "KEY")]
    log_key: String,
    /// Where the witness remembers what it saw of the log
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// The file with the request, as `audit request` prints it
    request: PathBuf,
}

fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path)
        .map_err(|error| CliError::because(format!("{} cannot be read", path.display()), error))
}

/// Prints what a witness is asked with.
pub(super) async fn request(session: &Session, old: u64, out: &Out) -> Result<(), CliError> {
    let notary = &session.app.notary;
    let none = || failed(NotaryError::NotThere("there is no checkpoint yet".to_owned()));
    let checkpoint = notary.newest().await.map_err(failed)?.ok_or_else(none)?;
    let proof = if old == 0 { Vec::new() } else { notary.consistency(old, checkpoint.size).await.map_err(failed)? };
    let request = Request { old, proof, checkpoint }.to_string();
    out.json(&json!({"old": old, "request": request}));
    out.text(request.trim_end());
    Ok(())
}

/// Vouches for a checkpoint, and prints the signature.
pub(super) fn witness(options: &Vouch, out: &Out) -> Result<(), CliError> {
    let refused = |error: Refused| CliError::because("the witness does not sign", error);
    let key = Key::of_file(&options.key).map_err(|error| CliError::because("there is no key of a witness", error))?;
    let witness = Witness::of(&key).map_err(|error| refused(error.into()))?;
    let log = key_of("--log-key", &options.log_key)?;
    let wrong = |what: &Path, problem: String| CliError::Usage(format!("{}: {problem}", what.display()));
    let request =
        Request::read(&read(&options.request)?).map_err(|error| wrong(&options.request, error.to_string()))?;
    let seen: Option<Seen> = if options.state.exists() {
        let text = read(&options.state)?;
        Some(serde_json::from_str(&text).map_err(|error| wrong(&options.state, error.to_string()))?)
    } else {
        None
    };
    let now = u64::try_from(real_now().timestamp()).unwrap_or_default();
    let (signature, seen) = witness.look(&request, &log, seen.as_ref(), now).map_err(refused)?;
    remember(&options.state, &seen)?;
    let line = String::from_utf8_lossy(&signature.to_bytes()).trim_end().to_owned();
    out.json(&json!({"cosignature": line, "key": witness.key().to_string(), "size": seen.size}));
    out.text(line);
    Ok(())
}

/// What was seen is on the disk before the signature leaves; beside it first, so that a stop in between leaves the old one.
fn remember(path: &Path, seen: &Seen) -> Result<(), CliError> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = private::new_file(&beside)?;
        file.write_all(serde_json::to_string(seen)?.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| CliError::because(format!("{} cannot be written", path.display()), error))
}

/// Keeps a witness's signature with the checkpoint that it is of.
pub(super) async fn cosigned(session: &Session, file: &Path, key: &str, out: &Out) -> Result<(), CliError> {
    let key = WitnessKey::read(key).map_err(|error| CliError::Usage(format!("--witness: {error}")))?;
    let line = read(file)?;
    let signature = signed_note::Signature::from_bytes(line.trim_end().as_bytes());
    let signature = signature.map_err(|error| CliError::Usage(format!("{}: {error}", file.display())))?;
    let tables = session.app.notary.tables();
    let kept = tables.checkpoints().await.map_err(|error| failed(error.into()))?;
    for mut one in kept.into_iter().rev() {
        let Ok(mut checkpoint) = SignedCheckpoint::read(&one.note) else { continue };
        if let Some(time) = key.vouched(checkpoint.note.text(), &signature) {
            checkpoint.note.add(signature);
            one.note = checkpoint.note.to_string();
            tables.keep(&one).await.map_err(|error| failed(error.into()))?;
            out.json(&json!({"size": one.size, "time": time, "note": one.note}));
            out.text(format!("kept with the checkpoint of {} events", one.size));
            return Ok(());
        }
    }
    Err(CliError::Failed(format!("{}: it is no signature of this witness of any checkpoint here", file.display())))
}
