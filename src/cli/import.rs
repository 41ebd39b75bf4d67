//! `sluice import sacct`: reports monthly totals from SLURM's accounting through the same command as the API.

use std::io::IsTerminal;

use chrono_tz::Tz;
use clap::{Args, Subcommand};

use super::import_plan::{Basis, Plan};
use super::import_report;
use super::import_table::Told;
use super::import_window::{WindowArgs, of_files};
use super::output::Out;
use super::session::{CliError, Session};
use crate::domain::ids::OfferingId;
use crate::domain::period::Month;
use crate::import::{
    ComponentRule, DeclaredComponent, ImportError, ImportOptions, ImportTotals, Importer, Mappings, MonthKey, Progress,
    Query, Window, read_all,
};
use crate::operations::imports::{ImportLedger, LastImport};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Month totals from SLURM's sacct: runs it, or reads files that it wrote
    ///
    /// Without FILE, sacct is run here, once a month and cluster, in the site's time zone:
    ///   sluice import sacct --offering hpc --month 2026-03
    ///
    /// A month is replaced only if the days that are said cover all of it (of the running month: all until now). Totals that
    /// would fall, accounts that had usage and have no job now, usage after now, and jobs that have lost their end are
    /// listed before anything is stored, and need --restate.
    #[command(verbatim_doc_comment)]
    Sacct(Options),
}

/// Options of `import sacct`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Files of sacct -P or sacct --json, plain or packed (gz, xz, zst); - is standard input
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// The offering to which the accounts belong, by slug or id
    #[arg(long, value_name = "SLUG")]
    offering: String,
    #[command(flatten)]
    window: WindowArgs,
    /// Store totals listed as falling, missing or after now; accounts missing from a whole month go to zero
    #[arg(long)]
    restate: bool,
    /// Where sacct is
    #[arg(long, value_name = "PROGRAM", env = "SLUICE_SACCT", default_value = "sacct")]
    sacct: String,
    /// Time zone of the times in the files; the site's without it
    #[arg(long, value_name = "ZONE", alias = "time-zone", requires = "files")]
    timezone: Option<Tz>,
    /// Count malformed lines and continue, instead of stopping at the first
    #[arg(long, alias = "skip_bad_lines")]
    skip_bad_lines: bool,
    /// Override how the offering counts a component: `gpu_hours=gres/gpu`, `mem=mem,gb-hours`
    #[arg(long = "component", value_name = "COMPONENT=TRES[,UNIT]")]
    components: Vec<ComponentRule>,
    /// Say what would be reported, and what needs --restate; record nothing
    #[arg(long, alias = "dry_run")]
    dry_run: bool,
}

pub(super) async fn run(session: &Session, command: Command, out: &Out) -> Result<(), CliError> {
    let Command::Sacct(options) = command;
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
    let ledger = ImportLedger::new(session.app.meta.tables().clone());
    let last = ledger.last(offering).await;
    let last = last.map_err(|error| CliError::because("the record of imports cannot be read", error))?;
    let zone = session.config.time_zone;
    let last_month = last.as_ref().map(|last| last_month(last, zone));
    let said = options.window.window(&options.offering, last_month)?;
    let read = read(session, &options, &mappings, (offering, said), out).await?;
    let basis = Basis {
        session,
        offering,
        window: read.window,
        totals: &read.totals,
        inputs: &read.inputs,
        last: last.as_ref(),
        restate: options.restate,
    };
    let plan = Plan::of(&basis).await?;
    let told = Told {
        plan: &plan,
        totals: &read.totals,
        inputs: &read.inputs,
        mappings: &mappings,
        window: read.window,
        said_by_sacct: &read.said,
        clusters: &clusters(session, offering),
        file_zone: options.timezone.unwrap_or(zone),
        zone,
        dry_run: options.dry_run,
        refused: !plan.findings.is_empty() && !options.restate,
    };
    covers_something(&plan, read.window)?;
    if told.refused || options.dry_run {
        told.print(out);
        return told.verdict();
    }
    import_report::carry_out(&plan, session, out).await?;
    remember(&ledger, &basis, &plan).await?;
    session.settle().await?;
    told.print(out);
    Ok(())
}

/// Refuses days of which nothing can be stored: a command that does nothing must not look like one that did.
fn covers_something(plan: &Plan, window: Window) -> Result<(), CliError> {
    if !plan.months.is_empty() || !plan.findings.is_empty() {
        return Ok(());
    }
    let list = |months: &[Month]| months.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let why = match (plan.cut.as_slice(), plan.not_begun.as_slice()) {
        ([], []) => return Ok(()),
        ([], not_begun) => format!("{} had not begun", list(not_begun)),
        (cut, _) => format!("only a part of {}", list(cut)),
    };
    Err(CliError::Failed(format!(
        "nothing was imported: {} covers no month whole, {why}; a month is replaced only by all of it (the running month: from \
         its first day until now)",
        window.flags()
    )))
}

/// Notes how far the import reached, and which jobs had no end then.
async fn remember(ledger: &ImportLedger, basis: &Basis<'_>, plan: &Plan) -> Result<(), CliError> {
    let Some(month) = plan.months.last() else { return Ok(()) };
    let (session, measured_at) = (basis.session, basis.newest());
    let covered_until = month.next().starts_at(session.config.time_zone).min(measured_at);
    let open = basis.totals.open_jobs.iter().filter_map(|job| basis.open_job(job));
    let import = LastImport::of(covered_until, measured_at, open);
    let recorded = ledger.record(basis.offering, &import, session.now()).await;
    recorded.map_err(|error| CliError::because("the import is stored, but not that it was made; run it again", error))
}

/// The last month that an import covered.
fn last_month(last: &LastImport, zone: Tz) -> MonthKey {
    // An import of all of March ends with the first instant of April.
    MonthKey::of_epoch(last.covered_until.timestamp() - 1, zone)
}

/// The rows that were read.
struct Read {
    totals: ImportTotals,
    inputs: Vec<crate::import::Coverage>,
    window: Window,
    said: Vec<String>,
}

async fn read(
    session: &Session,
    options: &Options,
    mappings: &Mappings,
    (offering, said): (OfferingId, Option<Window>),
    out: &Out,
) -> Result<Read, CliError> {
    let site = session.config.time_zone;
    let mut import = ImportOptions::new(mappings.rules.clone(), options.timezone.unwrap_or(site));
    import.month_zone = site;
    import.now_s = Some(session.now().timestamp());
    import.clusters = clusters(session, offering);
    import.skip_bad_lines = options.skip_bad_lines;
    let (mut importer, warnings) = if options.files.is_empty() {
        let Some(window) = said else {
            return Err(CliError::Usage(format!(
                "say which days: --month 2026-03, --from 2026-01-01 (until now), or --since-last; or name a file\n\n  sluice \
                 import sacct --offering {} --month 2026-03",
                options.offering
            )));
        };
        let queries = queries(&options.sacct, &import.clusters, window, site, session.now().timestamp());
        ask_sacct(queries, import, out).await?
    } else {
        (read_files(options.files.clone(), import, out).await?, Vec::new())
    };
    let inputs = importer.coverage().to_vec();
    let window = match said {
        Some(window) => window,
        None => of_files(&inputs, &importer.months(), site, &again(options), out)?,
    };
    importer.set_window(window);
    let totals = importer.finish().map_err(|error| CliError::because("nothing was imported", error))?;
    Ok(Read { totals, inputs, window, said: warnings })
}

/// One query a month and cluster, as far as the months have begun.
fn queries(program: &str, clusters: &[String], window: Window, zone: Tz, now_s: i64) -> Vec<Query> {
    let (begin, end) = window.instants(zone);
    let end = end.min(now_s);
    let clusters: Vec<Option<String>> =
        if clusters.is_empty() { vec![None] } else { clusters.iter().cloned().map(Some).collect() };
    let first = MonthKey::of_epoch(begin.max(0), zone);
    std::iter::successors(Some(first), |month| Some(month.next()))
        .map(|month| (month.starts_at(zone).max(begin), month.next().starts_at(zone).min(end)))
        .take_while(|(begin, _)| *begin < end)
        .flat_map(|(begin_s, end_s)| {
            clusters.iter().map(move |cluster| Query {
                program: program.to_owned(),
                cluster: cluster.clone(),
                begin_s,
                end_s,
                zone,
            })
        })
        .collect()
}

/// Runs the queries on a thread of its own.
async fn ask_sacct(
    queries: Vec<Query>,
    options: ImportOptions,
    out: &Out,
) -> Result<(Importer, Vec<String>), CliError> {
    let bar = out.progress(queries.len() as u64, "asking sacct");
    let shown = bar.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut importer = Importer::new(options);
        let mut warnings = Vec::new();
        for query in queries {
            warnings.extend(query.run(&mut importer, &mut |_| ())?);
            shown.inc(1);
        }
        Ok::<_, ImportError>((importer, warnings))
    });
    let read = read.await.map_err(|error| CliError::because("the import stopped", error))?;
    bar.finish_and_clear();
    read.map_err(|error| CliError::because("nothing was imported", error))
}

/// Reads the files on a thread of its own.
async fn read_files(files: Vec<String>, options: ImportOptions, out: &Out) -> Result<Importer, CliError> {
    let size = |name: &String| std::fs::metadata(name).map_or(0, |file| file.len());
    if files.iter().any(|name| name == "-") && std::io::stdin().is_terminal() {
        out.remark("reading what is typed, until Ctrl-D");
    }
    let bar = out.progress(files.iter().map(size).sum(), "reading (bytes)");
    let shown = bar.clone();
    let read = tokio::task::spawn_blocking(move || {
        read_all(&files, options, &mut |progress: Progress| shown.set_position(progress.bytes))
    });
    let read = read.await.map_err(|error| CliError::because("the import stopped", error))?;
    bar.finish_and_clear();
    read.map_err(|error| CliError::because("nothing was imported", error))
}

/// The command once more, for people to add to.
fn again(options: &Options) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    let quoted = |word: &str| {
        if !word.is_empty() && word.chars().all(plain) {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let mut words = vec!["sluice import sacct".to_owned()];
    words.extend(options.files.iter().map(|file| quoted(file)));
    words.push(format!("--offering {}", quoted(&options.offering)));
    words.extend(options.timezone.map(|zone| format!("--timezone {}", zone.name())));
    words.join(" ")
}

fn clusters(session: &Session, offering: OfferingId) -> Vec<String> {
    let state = session.app.registry.read();
    state.offering(offering).map(|offering| offering.facts.facts.slurm_clusters.clone()).unwrap_or_default()
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
