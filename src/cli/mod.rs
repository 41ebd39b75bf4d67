//! The command line: one file per command, common flags, tables or JSON, errors on standard error.
//!
//! Commands work on the same database beside a running server. Status: 0 done, 1 failed, 2 wrong usage.

mod account;
mod agent;
mod agent_config;
mod apply;
mod audit;
mod audit_pack;
mod audit_witness;
mod backup;
mod cleanup;
mod database;
mod demo;
mod doctor;
mod end;
mod evaluate;
mod explain;
mod hold;
mod import;
mod import_plan;
mod import_report;
mod import_table;
mod import_window;
mod left_restricted;
mod login_link;
mod notices;
mod output;
mod paging;
mod projections;
mod replay;
mod report;
mod scheduler;
mod serve;
mod session;
mod settings;
mod standings;
mod status;
mod store;
mod store_copy;
mod store_soundness;
mod table;
mod timeline;
mod token;
mod totals;
mod users;
mod what_if;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use output::Out;
use session::Session;

use crate::domain::text::unseen_in;

pub use session::CliError;

/// Decides, enforces and explains periodic usage policies on SLURM allocations.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, about, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Flags that every command takes. Their names in the environment: `SLUICE_CONFIG`, `SLUICE_DATABASE` and so on.
#[derive(Debug, Args)]
#[expect(clippy::doc_markdown, reason = "these are help texts")]
struct Globals {
    /// Configuration file (TOML) [env: SLUICE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Where the database is: `sqlite:///path/to/sluice.db` [env: SLUICE_DATABASE]
    #[arg(long, global = true, value_name = "URL")]
    database: Option<String>,
    /// Where the events are, if not in the database: `esdb://user:password@host:2113` [env: SLUICE_EVENT_STORE]
    #[arg(long, global = true, value_name = "URL", alias = "event_store")]
    event_store: Option<String>,
    /// Folder of the database, unless --database names one [env: SLUICE_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR", alias = "data_dir")]
    data_dir: Option<String>,
    /// Use a simulated clock that starts at this instant and moves only on request [env: SLUICE_SIMULATED_CLOCK]
    #[arg(long, global = true, value_name = "INSTANT", alias = "simulated_clock")]
    simulated_clock: Option<String>,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables for people.
    Table,
    /// One JSON document.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Options),
    /// Play through two quarters and a half of a small cluster
    Demo(demo::Options),
    /// Make a site match its file
    Apply(apply::Options),
    /// Evaluate a policy, here or by the running server
    #[command(name = "evaluate_slurm_policy", alias = "evaluate-slurm-policy")]
    Evaluate(evaluate::Options),
    /// Show the status of policies and resources
    #[command(name = "slurm_policy_status", alias = "slurm-policy-status")]
    Status(status::Options),
    /// Show the history of a resource, newest first
    Timeline(timeline::Options),
    /// Order a manual reset of an account's raw usage
    #[command(name = "reset_raw_usage", alias = "reset-raw-usage")]
    ResetRawUsage(timeline::Reset),
    /// List monthly totals of pruned evaluations
    #[command(name = "evaluation_totals", alias = "evaluation-totals")]
    Totals(totals::Options),
    /// Prune old rows of the evaluation log and the command history
    #[command(name = "cleanup_slurm_logs", alias = "cleanup-slurm-logs")]
    Cleanup(cleanup::Options),
    /// Place, list and release manual holds
    #[command(subcommand)]
    Hold(hold::Command),
    /// Show scheduled jobs: runs, due times, re-evaluations
    #[command(subcommand)]
    Scheduler(scheduler::Command),
    /// Show and change the settings that may change while the service runs
    #[command(subcommand)]
    Settings(settings::Command),
    /// Create, list and revoke API tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Create a link that signs somebody in to the web interface once
    LoginLink(login_link::Options),
    /// List users, confirm pending owners and members, erase people
    #[command(subcommand)]
    Users(users::Command),
    /// List notices, and resend those that could not be delivered
    #[command(subcommand)]
    Notices(notices::Command),
    /// Manage the read models
    #[command(subcommand)]
    Projections(projections::Command),
    /// Manage the event log: copy it, archive old months, verify
    #[command(subcommand)]
    Store(store::Command),
    /// Recompute recorded decisions from their recorded inputs, and compare; or replay a span under other rules
    Replay(replay::Options),
    /// Sign the log, verify it, prove what it holds, export it
    #[command(subcommand)]
    Audit(audit::Command),
    /// Report on a period; each number links to its events
    Report(report::Options),
    /// Back the database up to a folder while the server runs
    Backup(backup::Options),
    /// Restore a backup where there is no database
    Restore(backup::RestoreOptions),
    /// Import usage from other systems
    #[command(subcommand)]
    Import(import::Command),
    /// Show and resend messages to site agents
    #[command(subcommand)]
    Agent(agent::Command),
    /// Print a configuration of the site agent for an offering
    AgentConfig(agent_config::Options),
    /// Find what is wrong with the installation, and what to do about it
    Doctor(doctor::Options),
    /// Show a resource's usage, allocation, carryover and thresholds term by term
    Explain(explain::Options),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    crate::store::private::from_the_start();
    run(std::env::args_os())
}

/// Runs a command line, its first word being the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().map(dashed).collect();
    // Names, reasons and the like come this way too; a character that cannot be seen is in none of them on purpose.
    let seen = |argument: &OsString| argument.to_str().and_then(unseen_in);
    if let Some((argument, problem)) = arguments.iter().find_map(|argument| Some((argument, seen(argument)?))) {
        Out::new(false).error(&CliError::Usage(format!(
            "the argument {:?} cannot be used: {problem}",
            argument.to_string_lossy()
        )));
        return ExitCode::from(2);
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, with status 0; wrong usage has 2.
            let status = u8::try_from(error.exit_code()).unwrap_or(2);
            // Nowhere to complain if the terminal is gone.
            drop(error.print());
            return ExitCode::from(status);
        }
    };
    let out = Out::new(cli.globals.format == Format::Json);
    match execute(cli, &out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out.error(&error);
            ExitCode::from(error.status())
        }
    }
}

/// A flag with dashes where it was written with underscores; both spellings are known, as of commands.
fn dashed(argument: OsString) -> OsString {
    match argument.to_str().and_then(|text| text.strip_prefix("--")) {
        Some(flag) if !flag.is_empty() => {
            let (name, value) = flag.split_at(flag.find('=').unwrap_or(flag.len()));
            format!("--{}{value}", name.replace('_', "-")).into()
        }
        _ => argument,
    }
}

/// How long what a command left on other threads may take to end.
const LEFT_BEHIND: Duration = Duration::from_millis(200);

fn execute(cli: Cli, out: &Out) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime)?;
    let done = runtime.block_on(async {
        match cli.command {
            Command::Serve(options) => serve::run(&cli.globals, options, out).await,
            Command::Demo(options) => demo::run(&cli.globals, options, out).await,
            Command::Apply(options) => Box::pin(apply::start(&cli.globals, &options, out)).await,
            Command::Evaluate(options) => evaluate::run(&Session::open(&cli.globals).await?, &options, out).await,
            Command::Status(options) => status::run(&Session::open(&cli.globals).await?, &options, out).await,
            Command::Timeline(options) => timeline::run(&Session::open(&cli.globals).await?, &options, out).await,
            Command::ResetRawUsage(options) => {
                timeline::reset(&Session::open(&cli.globals).await?, &options, out).await
            }
            Command::Totals(options) => totals::run(&Session::open(&cli.globals).await?, &options, out).await,
            Command::Cleanup(options) => cleanup::run(&Session::open(&cli.globals).await?, &options, out).await,
            Command::Hold(command) => hold::run(&Session::open(&cli.globals).await?, command, out).await,
            Command::Scheduler(command) => scheduler::run(&Session::open(&cli.globals).await?, command, out).await,
            Command::Settings(command) => settings::run(&Session::open(&cli.globals).await?, command, out).await,
            Command::Token(command) => token::run(&Session::open(&cli.globals).await?, command, out).await,
            Command::LoginLink(options) => login_link::run(&Session::open(&cli.globals).await?, options, out).await,
            Command::Users(command) => users::run(&Session::open(&cli.globals).await?, command, out).await,
            Command::Notices(command) => notices::run(&Session::open(&cli.globals).await?, command, out).await,
            Command::Projections(command) => Box::pin(projections::start(&cli.globals, command, out)).await,
            Command::Store(command) => Box::pin(store::start(&cli.globals, command, out)).await,
            Command::Replay(options) => Box::pin(replay::run(&cli.globals, &options, out)).await,
            Command::Audit(command) => Box::pin(audit::start(&cli.globals, command, out)).await,
            Command::Report(options) => Box::pin(report::run(&cli.globals, &options, out)).await,
            Command::Backup(options) => backup::make(&cli.globals, &options, out).await,
            Command::Restore(options) => backup::put_back(&cli.globals, &options, out).await,
            Command::Import(command) => import::run(&Session::open(&cli.globals).await?, command, out).await,
            Command::Agent(command) => agent::run(&Session::open(&cli.globals).await?, command, out).await,
            Command::AgentConfig(options) => agent_config::run(&Session::open(&cli.globals).await?, &options, out),
            Command::Doctor(options) => Box::pin(doctor::run(&cli.globals, &options, out)).await,
            Command::Explain(options) => explain::run(&Session::open(&cli.globals).await?, &options, out).await,
        }
    });
    // Whoever was told to end while it waited for a host may have left a thread that still looks for the name.
    runtime.shutdown_timeout(LEFT_BEHIND);
    done
}
