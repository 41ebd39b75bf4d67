//! `sluice audit keygen|checkpoint|verify|prove|rotate`: the signed log.
//!
//! To verify opens the log alone, as it is stored, beside a running server or without one.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Globals;
use super::audit_pack::{self, Export};
use super::audit_witness::{self, Vouch};
use super::output::{Out, count};
use super::session::{CliError, Session, config_of};
use super::store_soundness::{open, options_of, unread};
use crate::app::AppOptions;
use crate::events::checkpoint::CheckpointReason;
use crate::events::envelope::Position;
use crate::notary::examination::{Claim, Verdict};
use crate::notary::key::{self, Key, PublicKey};
use crate::notary::leaf::hex;
use crate::notary::options::KeySource;
use crate::notary::sink::notes_in;
use crate::notary::tables::Tables;
use crate::notary::trust::Trust;
use crate::notary::{Finding, Made, NotaryError, verify as examine};
use crate::store::sql::ReadDb;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key that signs the log
    Keygen {
        /// The name of the log, which each checkpoint begins with, as in sluice.site.example/log
        #[arg(long)]
        name: String,
        /// Where the private key goes; the public one goes beside it, with .pub at the end
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Sign how the log stands now
    Checkpoint {
        /// Make the tree beside the log anew first
        #[arg(long)]
        rebuild: bool,
    },
    /// Hold the whole log against the tree and every checkpoint: status 1 if it is another than was signed
    Verify(Verify),
    /// Prove that the log holds an event, or that it only grew
    Prove(Prove),
    /// Write events, checkpoints and proofs into a folder that can be verified without anything else
    Export(Export),
    /// Take a whole pack into a new database
    Import {
        /// The folder of the pack
        pack: PathBuf,
        /// A public key that is trusted, or a file that holds it [default: the one of the configuration]
        #[arg(long, value_name = "KEY")]
        key: Vec<String>,
    },
    /// Print what a witness is asked with: the newest checkpoint, and the proof that it goes on from an earlier one
    Request {
        /// The size of the checkpoint that the witness signed last
        #[arg(long, value_name = "SIZE", default_value_t = 0)]
        old: u64,
    },
    /// Be a witness of another log: sign its checkpoint if it only grew since the last one, and print the signature
    Witness(Vouch),
    /// Keep the signature of a witness with its checkpoint
    Cosigned {
        /// The file with the signature, as the witness printed it
        file: PathBuf,
        /// The public key of the witness
        #[arg(long, value_name = "KEY")]
        witness: String,
    },
    /// Hand over to another key, which both sign; afterwards `notary.key_file` must name the new one
    Rotate {
        /// The file of the new private key
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

/// Options of `audit verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// A public key that is trusted, or a file that holds it [default: the one of the configuration]
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// Checkpoints from elsewhere: a note, or the file that notary.file names
    #[arg(long, value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// A pack, in the place of the log of the configuration
    #[arg(long, value_name = "FOLDER")]
    pack: Option<PathBuf>,
}

/// Options of `audit prove`.
#[derive(Debug, Args)]
pub(super) struct Prove {
    /// The position of the event
    #[arg(long, value_name = "POSITION", value_parser = Position::read_plain, required_unless_present = "from")]
    position: Option<Position>,
    /// The size of an earlier checkpoint: proves that the log still begins with what that was about
    #[arg(long, value_name = "SIZE", conflicts_with = "position")]
    from: Option<u64>,
    /// The size of the checkpoint to prove against [default: the newest]
    #[arg(long, value_name = "SIZE")]
    size: Option<u64>,
}

pub(super) async fn start(globals: &Globals, command: Command, out: &Out) -> Result<(), CliError> {
    match command {
        Command::Keygen { name, out: file } => keygen(&name, &file, out),
        Command::Checkpoint { rebuild } => checkpoint(&Session::open(globals).await?, rebuild, out).await,
        Command::Verify(options) => verify(globals, &options, out).await,
        Command::Prove(options) => prove(&Session::open(globals).await?, &options, out).await,
        Command::Export(options) => audit_pack::export(&Session::open(globals).await?, &options, out).await,
        Command::Import { pack, key } => {
            let trust = trust(&key, &key_source(globals)?)?;
            Box::pin(audit_pack::import(globals, &pack, trust, out)).await
        }
        Command::Request { old } => audit_witness::request(&Session::open(globals).await?, old, out).await,
        Command::Witness(options) => audit_witness::witness(&options, out),
        Command::Cosigned { file, witness } => {
            audit_witness::cosigned(&Session::open(globals).await?, &file, &witness, out).await
        }
        Command::Rotate { to } => rotate(&Session::open(globals).await?, &to, out).await,
    }
}

pub(super) fn failed(error: NotaryError) -> CliError {
    match error {
        NotaryError::NoKey | NotaryError::NotThere(_) => CliError::Usage(error.to_string()),
        error => CliError::because("the notary failed", error),
    }
}

fn keygen(name: &str, file: &Path, out: &Out) -> Result<(), CliError> {
    let unfit = |error| CliError::because("there is no new key", error);
    let (key, secret) = Key::generate(name).map_err(unfit)?;
    let public = key::write(file, &secret, key.public()).map_err(unfit)?;
    let text = key.public().as_str();
    out.json(&json!({"private_key": file, "public_key": public, "key": text}));
    out.text(format!("private key: {}", file.display()));
    out.text(format!("public key:  {}", public.display()));
    out.text(text);
    out.text(
        "Name the private key in notary.key_file; give the public one to whoever is to verify, now and not later.",
    );
    Ok(())
}

async fn checkpoint(session: &Session, rebuild: bool, out: &Out) -> Result<(), CliError> {
    let notary = &session.app.notary;
    if rebuild {
        notary.tables().forget_tree().await.map_err(|error| failed(error.into()))?;
    }
    let made = notary.checkpoint(CheckpointReason::Request, &session.meta()).await.map_err(failed)?;
    let Some(made) = made else { return Ok(()) };
    tell(&made, out);
    handed_on(&made)
}

fn tell(made: &Made, out: &Out) {
    let Made { id, checkpoint, failed } = made;
    out.json(&json!({
        "event": id.as_simple().to_string(), "origin": checkpoint.origin, "size": checkpoint.size,
        "root": hex(&checkpoint.root), "note": checkpoint.note.to_string(), "not_handed_on": failed,
    }));
    // Beside the note, which alone can go into a file.
    out.remark(format!("signed: the first {}", events_of(checkpoint.size)));
    out.text(checkpoint.note.to_string().trim_end());
}

fn handed_on(made: &Made) -> Result<(), CliError> {
    if made.failed.is_empty() {
        return Ok(());
    }
    Err(CliError::Failed(format!("it was signed and recorded, and not handed on: {}", made.failed.join("; "))))
}

async fn rotate(session: &Session, to: &Path, out: &Out) -> Result<(), CliError> {
    let to = Key::of_file(to).map_err(|error| CliError::because("there is no new key", error))?;
    let (rotation, made) = session.app.notary.rotate(&to, &session.meta()).await.map_err(failed)?;
    out.json(&json!({
        "from": rotation.from.as_str(), "to": rotation.to.as_str(), "size": rotation.size,
        "note": rotation.note.to_string(), "checkpoint": made.checkpoint.note.to_string(),
    }));
    out.text(format!("{} hands over to {}", rotation.from.as_str(), rotation.to.as_str()));
    out.text(made.checkpoint.note.to_string().trim_end());
    out.text("Name the new key in notary.key_file before the next checkpoint, and keep the old public key.");
    handed_on(&made)
}

/// Who signs, by the configuration.
fn key_source(globals: &Globals) -> Result<KeySource, CliError> {
    Ok(config_of(globals, None)?.notary.options().key)
}

pub(super) fn events_of(events: u64) -> String {
    count(usize::try_from(events).unwrap_or(usize::MAX), "event", "events")
}

/// A public key by its line, or by the file that holds it.
pub(super) fn key_of(option: &str, text: &str) -> Result<PublicKey, CliError> {
    let path = Path::new(text);
    let key = if path.is_file() { key::public_of_file(path) } else { PublicKey::read(text) };
    key.map_err(|error| CliError::Usage(format!("{option}: {}", crate::events::envelope::chain(&error))))
}

/// The keys that were given, each as its line or as a file; else that of the configuration.
fn trust(given: &[String], source: &KeySource) -> Result<Trust, CliError> {
    let mut keys = given.iter().map(|text| key_of("--key", text)).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        let own = source.key().map_err(|error| CliError::because("the key cannot be used", error))?;
        keys.extend(own.map(|key| key.public().clone()));
    }
    if keys.is_empty() {
        let what =
            "a key is missing: --key names the public key, or the file of it, that checkpoints must be signed with";
        return Err(CliError::Usage(what.to_owned()));
    }
    Ok(Trust::of(keys))
}

/// The checkpoints in files.
fn shown(files: &[PathBuf]) -> Result<Vec<Claim>, CliError> {
    let mut claims = Vec::new();
    for file in files {
        let wrong = |problem: String| CliError::Usage(format!("--checkpoints {}: {problem}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let notes = notes_in(&text).map_err(wrong)?;
        claims.extend(notes.into_iter().map(|note| Claim { note, shown: Some(file.display().to_string()) }));
    }
    Ok(claims)
}

/// The notary's tables beside a log.
async fn tables(options: &AppOptions) -> Result<Tables, CliError> {
    let beside = ReadDb::open_beside_log(&options.database, &options.limits).await;
    beside.map(Tables::new).map_err(|error| failed(error.into()))
}

async fn verify(globals: &Globals, options: &Verify, out: &Out) -> Result<(), CliError> {
    let (trust, shown) = (trust(&options.key, &key_source(globals)?)?, shown(&options.checkpoints)?);
    if let Some(pack) = &options.pack {
        return audit_pack::verify(pack, trust, shown, out);
    }
    let app = options_of(globals)?;
    let log = open(&app).await?;
    let tables = tables(&app).await?;
    let head = log.head().await.map_err(unread)?;
    let bar = out.progress_over(log.distance(Position::START, head).await, "verifying");
    let begun = std::time::Instant::now();
    let verdict = examine::verify(&*log, &tables, trust, shown, |events| bar.inc(events)).await;
    bar.finish_and_clear();
    judged(&verdict.map_err(failed)?, begun.elapsed().as_secs_f64(), out)
}

/// A finding as a document.
pub(super) fn document(finding: &Finding) -> Value {
    json!({
        "kind": finding.kind.as_str(),
        "index": finding.index,
        "position": finding.position.map(Position::plain),
        "stream": finding.event.as_ref().map(|event| event.stream.as_str()),
        "version": finding.event.as_ref().map(|event| event.version),
        "what": finding.what,
    })
}

/// Prints what came of a verification.
pub(super) fn judged(verdict: &Verdict, seconds: f64, out: &Out) -> Result<(), CliError> {
    out.json(&json!({
        "sound": verdict.is_sound(),
        "events": verdict.events,
        "root": hex(&verdict.root),
        "checkpoints": verdict.held,
        "signed_events": verdict.covered,
        "findings": verdict.findings.iter().map(document).collect::<Vec<_>>(),
        "findings_count": verdict.count,
        "keys": verdict.keys,
        "seconds": seconds,
    }));
    for finding in &verdict.findings {
        out.text(finding.to_string());
    }
    if verdict.is_sound() {
        let checkpoints =
            count(usize::try_from(verdict.held).unwrap_or(usize::MAX), "checkpoint holds", "checkpoints hold");
        out.text(format!(
            "{}: {checkpoints}; the first {} are signed, and are what was signed",
            events_of(verdict.events),
            verdict.covered
        ));
        return Ok(());
    }
    let first = verdict.findings.first().map(ToString::to_string).unwrap_or_default();
    let more = verdict.count.saturating_sub(1);
    let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
    Err(CliError::Failed(format!("the log is not what was signed: {first}{more}")))
}

async fn prove(session: &Session, options: &Prove, out: &Out) -> Result<(), CliError> {
    let notary = &session.app.notary;
    let document = match (options.position, options.from) {
        (Some(position), _) => json!(notary.prove_event(position, options.size).await.map_err(failed)?),
        (None, from) => json!(notary.prove_growth(from.unwrap_or(1), options.size).await.map_err(failed)?),
    };
    out.json(&document);
    out.text(serde_json::to_string_pretty(&document).unwrap_or_default());
    Ok(())
}
