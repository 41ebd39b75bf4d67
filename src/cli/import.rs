//! `sluice import sacct`: month totals out of SLURM's accounting, reported through the same command as the API's.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use chrono_tz::Tz;
use clap::{Args, Subcommand};

use super::import_report::{Account, Report};
use super::import_table;
use super::output::Out;
use super::session::{CliError, Session};
use crate::domain::ids::{OfferingId, ResourceId};
use crate::import::{
    ComponentRule, DeclaredComponent, ImportOptions, ImportTotals, Mappings, Progress, Window, import_all,
};

/// Resources whose books are read together.
const BATCH: usize = 500;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Read parsable output of sacct, for instance of
    /// `sacct -a -X -P --noconvert -T -S 2026-01-01 -E 2026-04-01 -o JobID,Account,Start,End,ElapsedRaw,AllocTRES`
    Sacct(Options),
}

/// Options of `import sacct`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Files; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<String>,
    /// The offering whose accounts the file speaks of, by slug or id
    #[arg(long, value_name = "SLUG")]
    offering: String,
    /// First day to count, at the site
    #[arg(long, value_name = "DAY")]
    from: Option<NaiveDate>,
    /// Last day to count, at the site
    #[arg(long, value_name = "DAY")]
    to: Option<NaiveDate>,
    /// Time zone of the times in the files; the site's without it
    #[arg(long, value_name = "ZONE", alias = "time-zone")]
    timezone: Option<Tz>,
    /// Count malformed lines and go on, instead of stopping at the first
    #[arg(long, alias = "skip_bad_lines")]
    skip_bad_lines: bool,
    /// How a component is counted, instead of what the offering says: `gpu_hours=gres/gpu`, `mem=mem,gb-hours`
    #[arg(long = "component", value_name = "COMPONENT=TRES[,UNIT]")]
    components: Vec<ComponentRule>,
    /// Say what would be reported; record nothing
    #[arg(long, alias = "dry_run")]
    dry_run: bool,
}

pub(super) async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    let Command::Sacct(options) = command;
    if let (Some(from), Some(to)) = (options.from, options.to)
        && from > to
    {
        return Err(CliError::Usage(format!("--from {from} is after --to {to}")));
    }
    let offering = session.offering(&options.offering)?;
    let mappings = Mappings::choose(&declared(session, offering), &options.components)
        .map_err(|error| CliError::Usage(error.to_string()))?;
    if mappings.rules.is_empty() {
        let names = mappings.unmapped.join(", ");
        let problem = format!(
            "no component of the offering can be counted from sacct ({names}); say how with --component COMPONENT=TRES"
        );
        return Err(CliError::Failed(problem));
    }
    let site = session.config.time_zone;
    let window = Window { from: options.from, to: options.to };
    let mut import = ImportOptions::new(mappings.rules.clone(), options.timezone.unwrap_or(site));
    import.month_zone = site;
    import.window = window;
    import.skip_bad_lines = options.skip_bad_lines;
    let totals = read(options.files.clone(), import, out).await?;
    let accounts = accounts(session, offering).await?;
    let report = Report::of(&totals, window, &accounts, session, options.dry_run, out).await?;
    if !options.dry_run {
        session.settle().await?;
    }
    import_table::print(&report, &totals, &mappings, window, options.dry_run, out);
    Ok(())
}

/// Reads the files on a thread of its own.
async fn read(files: Vec<String>, options: ImportOptions, out: &Out) -> Result<ImportTotals, CliError> {
    let size = |name: &String| std::fs::metadata(name).map_or(0, |file| file.len());
    let bar = out.progress(files.iter().map(size).sum(), "reading (bytes)");
    let shown = bar.clone();
    let read = tokio::task::spawn_blocking(move || {
        import_all(&files, options, &mut |progress: Progress| shown.set_position(progress.bytes))
    });
    let totals = read.await.map_err(|error| CliError::because("the import stopped", error))?;
    bar.finish_and_clear();
    totals.map_err(|error| CliError::because("nothing was imported", error))
}

fn declared(session: &Session, offering: OfferingId) -> Vec<DeclaredComponent> {
    let state = session.app.registry.read();
    let facts = state.offering(offering).map(|offering| offering.facts.facts.components.clone()).unwrap_or_default();
    facts
        .into_iter()
        .map(|component| DeclaredComponent {
            component: component.component_type,
            slurm_tres: component.slurm_tres,
            minutes_per_unit: Some(component.minutes_per_unit),
        })
        .collect()
}

/// The resource behind each SLURM account of the offering. A live resource goes before one that is gone.
async fn accounts(session: &Session, offering: OfferingId) -> Result<BTreeMap<String, Account>, CliError> {
    let ids: Vec<ResourceId> = {
        let state = session.app.registry.read();
        state.resources().filter(|(_, entry)| entry.offering == offering).map(|(id, _)| id).collect()
    };
    let mut accounts: BTreeMap<String, Account> = BTreeMap::new();
    for some in ids.chunks(BATCH) {
        let books = session.app.allocations.books_of(some).await;
        let books = books.map_err(|error| CliError::because("the allocations cannot be read", error))?;
        for book in books.into_iter().flatten() {
            let facts = &book.facts;
            let live = facts.state.is_live();
            let account = Account { resource: facts.resource, slug: facts.slug.clone(), live };
            match accounts.get(facts.account()) {
                Some(other) if other.live && live => {
                    return Err(CliError::Failed(format!(
                        "the account {:?} belongs to two resources, {} and {}; correct one backend_id",
                        facts.account(),
                        other.slug,
                        account.slug
                    )));
                }
                Some(other) if other.live || !live => {}
                _ => drop(accounts.insert(facts.account().to_owned(), account)),
            }
        }
    }
    Ok(accounts)
}
