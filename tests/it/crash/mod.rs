//! Killed at any moment: a process that writes as fast as it can is killed again and again, and afterwards the log holds
//! every fact that it acknowledged, once, and the read models hold what a rebuild from the log gives.
//!
//! The process is this test binary again: the variable names the folder of the database, and makes the test below the
//! writer. It tells each accepted fact on its standard output, which the kill does not take back.

mod bulk;
mod check;
mod witness;
mod writer;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Names the folder in which the writer finds or makes its database.
const FOLDER: &str = "SLUICE_CRASH_FOLDER";

/// How often the writer is killed.
const ROUNDS: &str = "SLUICE_CRASH_ROUNDS";

/// Acknowledged commands after which the writer is killed at the latest.
const ACKNOWLEDGED_MAX: usize = 250;

#[test]
fn no_acknowledged_fact_is_lost_and_none_applied_twice_when_the_process_is_killed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(folder) = std::env::var_os(FOLDER) {
        return runtime.block_on(writer::write_until_killed(Path::new(&folder)));
    }
    let rounds = std::env::var(ROUNDS).map_or(12, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let seed = rand::random();
    println!("seed {seed}"); // shown if the test fails
    let mut random = StdRng::seed_from_u64(seed);
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        // Every fourth time it dies while it opens, lays out the site or catches up.
        let after = if round % 4 == 1 { 0 } else { random.random_range(1..ACKNOWLEDGED_MAX) };
        acknowledged.extend(write_and_kill(folder.path(), after));
        runtime.block_on(check::recovered(folder.path(), &acknowledged));
    }
    assert!(acknowledged.len() >= rounds / 2, "the writer hardly got to write: {} facts", acknowledged.len());
    runtime.block_on(check::same_as_rebuilt(folder.path()));
}

/// Runs the writer until it has acknowledged so many commands, kills it, and gives what it acknowledged.
fn write_and_kill(folder: &Path, after: usize) -> Vec<uuid::Uuid> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("{}::{}", module(), TEST)])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(writer.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    let mut commands = 0;
    let mut alive = true;
    // Reading goes on after the kill: what was said before it counts, but for a line that was cut short.
    for line in output.split(b'\n') {
        let line = String::from_utf8(line.unwrap()).unwrap();
        if line == writer::READY && after == 0 {
            writer.kill().unwrap();
            alive = false;
        }
        let Some(said) = line.strip_prefix(writer::ACKNOWLEDGED) else { continue };
        let Some(ids) = said.strip_suffix(writer::END) else { continue };
        acknowledged.extend(ids.split_whitespace().map(|id| id.parse::<uuid::Uuid>().unwrap()));
        commands += 1;
        if alive && commands >= after {
            writer.kill().unwrap();
            alive = false;
        }
    }
    let status = writer.wait().unwrap();
    assert!(!alive && status.code().is_none(), "the writer ended by itself, {status}");
    acknowledged
}

const TEST: &str = "no_acknowledged_fact_is_lost_and_none_applied_twice_when_the_process_is_killed";

/// The path of this module within the test binary.
fn module() -> &'static str {
    module_path!().split_once("::").map_or("", |(_, path)| path)
}
