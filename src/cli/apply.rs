//! `sluice apply`: makes a site match its file.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::{Out, count};
use super::session::{CliError, Session, config_of};
use super::{Globals, database};
use crate::app::App;
use crate::clock::IdSource;
use crate::config::{Config, Database};
use crate::site::{Change, ChangeKind, MadeKey, Plan, SiteFile};

/// Lines of the plan that are printed per kind of object and lot; a fleet has more, and nobody reads them.
const SHOWN_MAX: usize = 40;

/// Characters of a field's value that are printed.
const VALUE_CHARS: usize = 100;

/// Options of `apply`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The site file (YAML); - is standard input
    #[arg(short, long, value_name = "FILE", required = true)]
    file: PathBuf,
    /// Show the plan only
    #[arg(long, alias = "dry_run")]
    dry_run: bool,
    /// Also take out of use objects that the file does not name, of the kinds that it lists
    #[arg(long)]
    prune: bool,
}

/// Applies to a database, which is made if there is none and the file is valid.
pub(super) async fn start(globals: &Globals, options: &Options, out: &Out) -> Result<(), CliError> {
    let name = options.file.display();
    let text = read(&options.file).map_err(|error| CliError::because(format!("{name} cannot be read"), error))?;
    let config = config_of(globals, None)?;
    let app_options = config.app_options()?;
    if App::is_made(&app_options).await? {
        return run(&Session::of(config).await?, options, &text, options.dry_run, out).await;
    }
    if app_options.database.file().is_some() && app_options.event_store.is_none() {
        // Plans first, on a temporary database: a file that is not applied must not create one.
        let silent = Out::silent();
        plan_elsewhere(&config, options, &text, if options.dry_run { out } else { &silent }).await?;
        if options.dry_run {
            return Ok(());
        }
    }
    let session = Session::of(config.clone()).await?;
    database::made(&config, &app_options.database, out);
    run(&session, options, &text, options.dry_run, out).await
}

async fn plan_elsewhere(config: &Config, options: &Options, text: &str, out: &Out) -> Result<(), CliError> {
    let folder = std::env::temp_dir().join(format!("sluice-plan-{}", IdSource.fresh().as_simple()));
    let elsewhere = Config { database: Some(Database::Sqlite(folder.join("sluice.db"))), ..config.clone() };
    let planned = async { run(&Session::of(elsewhere).await?, options, text, true, out).await }.await;
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        tracing::warn!(%error, folder = %folder.display(), "the folder of the plan cannot be removed");
    }
    planned
}

async fn run(session: &Session, options: &Options, text: &str, dry_run: bool, out: &Out) -> Result<(), CliError> {
    let name = options.file.display();
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let wrong =
        |error: &dyn std::fmt::Display| CliError::Failed(format!("{name} is not valid; nothing was changed\n{error}"));
    let file = SiteFile::read(text, session.config.time_zone, &variable).map_err(|error| wrong(&error))?;
    // Accounts are looked up in the read models; what another process registers waits until this is done.
    let _alone = session.app.registering().await?;
    session.settle().await?;
    let (site, now) = (session.site(), session.now());
    let failed = |error| match error {
        crate::site::ApplyError::Invalid(errors) => wrong(&errors),
        other => CliError::because(format!("{name} was not applied to its end"), other),
    };
    let (plan, keys) = if dry_run {
        (site.plan(&file, options.prune, now).await.map_err(failed)?, Vec::new())
    } else {
        let bar = out.progress(0, "applying");
        let progress = |done: usize, total: usize| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        };
        let applied = site.apply(&file, options.prune, &session.meta(), now, &progress).await.map_err(failed)?;
        bar.finish_and_clear();
        session.settle().await?;
        (applied.plan, applied.keys)
    };
    print(&plan, &keys, dry_run, out);
    Ok(())
}

fn read(path: &PathBuf) -> std::io::Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(path)
}

fn print(plan: &Plan, keys: &[MadeKey], dry_run: bool, out: &Out) {
    let [create, change, prune, unchanged] =
        [ChangeKind::Create, ChangeKind::Change, ChangeKind::Prune, ChangeKind::Unchanged].map(|kind| plan.count(kind));
    let changes: Vec<&Change> =
        plan.changes.iter().filter(|c| c.action != ChangeKind::Unchanged || !c.notes.is_empty()).collect();
    out.json(&json!({
        "dry_run": dry_run,
        "applied": !dry_run,
        "summary": {"create": create, "change": change, "prune": prune, "unchanged": unchanged},
        "changes": changes,
        "tokens": keys,
    }));
    let mut shown: std::collections::HashMap<_, usize> = std::collections::HashMap::new();
    for change in &changes {
        let lines = shown.entry((change.kind, change.action)).or_default();
        *lines += 1;
        if *lines <= SHOWN_MAX {
            out.text(described(change));
        }
    }
    for ((kind, action), lines) in shown.into_iter().filter(|(_, lines)| *lines > SHOWN_MAX) {
        out.text(format!("{} … and {} more of kind {}", action.mark(), lines - SHOWN_MAX, kind.word()));
    }
    let out_of_use = plan.changes.iter().filter(|change| change.out_of_use).count();
    let (verb, tail) = if dry_run { ("to ", " (dry run: nothing was changed)") } else { ("", "") };
    if plan.is_empty() {
        let as_said = count(unchanged - out_of_use, "object is", "objects are");
        let stays = match out_of_use {
            0 => String::new(),
            1 => "; 1 is out of use and stays so, see above".to_owned(),
            n => format!("; {n} are out of use and stay so, see above"),
        };
        out.text(format!("nothing to do: {as_said} as the file says{stays}{tail}"));
    } else {
        let word = |plain: &str, done: &str| if dry_run { format!("{verb}{plain}") } else { done.to_owned() };
        out.text(format!(
            "{create} {}, {change} {}, {prune} {}, {unchanged} unchanged{tail}",
            word("create", "created"),
            word("change", "changed"),
            word("take out of use", "taken out of use"),
        ));
    }
    for key in keys {
        out.text(format!("\ntoken of {}, shown this once:\n  {}", key.token, key.key));
    }
}

/// `~ policy hpc1-quarterly`, its fields below it.
fn described(change: &Change) -> String {
    let mut text = format!("{} {} {}", change.action.mark(), change.kind.word().replace('_', " "), change.slug);
    for field in &change.fields {
        let to = shortened(&field.to);
        let from = field.from.as_deref().map(|from| format!("{} -> ", shortened(from))).unwrap_or_default();
        text.extend(["\n    ", &field.field, ": ", &from, &to]);
    }
    for note in &change.notes {
        text.extend(["\n    (", note, ")"]);
    }
    text
}

fn shortened(value: &str) -> String {
    if value.is_empty() {
        return "none".to_owned();
    }
    let mut shown: String = value.chars().take(VALUE_CHARS).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    shown
}
