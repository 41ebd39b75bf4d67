//! What may know what, checked on the sources: each rule names who breaks it.

use std::path::{Path, PathBuf};

/// A source file: its path from the root of the project, and its text without comments and the tests at its end.
struct Source {
    path: String,
    text: String,
    code: String,
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    folders.iter().map(|f| root.join(f)).filter(|f| f.is_dir()).for_each(|f| collect(&f, &mut paths));
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code = code.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        Source { path: path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/"), text, code }
    };
    paths.into_iter().map(read).collect()
}

/// Files of these folders that contain one of the words, as `path: word`.
fn offenders(folders: &[&str], words: &[&str], allowed: &[&str]) -> Vec<String> {
    let forbidden = |source: &Source| {
        words.iter().filter(|w| source.code.contains(*w)).map(|w| format!("{}: {w}", source.path)).collect::<Vec<_>>()
    };
    let may = |path: &str| allowed.iter().any(|a| path.starts_with(a));
    sources(folders).iter().filter(|s| !may(&s.path)).flat_map(forbidden).collect()
}

const NONE: [String; 0] = [];

#[test]
fn the_domain_knows_nothing_but_itself_and_never_waits() {
    let mut words: Vec<String> = top_modules().into_iter().filter(|m| m != "domain").collect();
    words = words.iter().map(|m| format!("crate::{m}")).collect();
    words.extend(
        ["async ", ".await", "tokio", "sqlx", "rusqlite", "axum", "std::fs", "std::net", "tracing::"]
            .map(str::to_owned),
    );
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(offenders(&["src/domain"], &words, &[]), NONE);
}

/// Modules of the library.
fn top_modules() -> Vec<String> {
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules: Vec<String> = lib
        .lines()
        .filter_map(|l| l.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect();
    assert!(modules.len() > 5 && modules.iter().any(|m| m == "domain"), "{modules:?}");
    modules
}

#[test]
fn whatever_is_appended_was_read_back() {
    assert_eq!(offenders(&["src", "projections"], &["of_no_family("], &["src/events/envelope.rs"]), NONE);
}

#[test]
fn events_know_the_domain_only() {
    let words: Vec<String> =
        top_modules().into_iter().filter(|m| m != "domain" && m != "events").map(|m| format!("crate::{m}::")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(offenders(&["src/events"], &words, &[]), NONE);
}

#[test]
fn decisions_are_pure() {
    let words = ["async ", ".await", "tokio", "crate::store", "crate::registry", "sqlx", "rusqlite", "tracing::"];
    assert_eq!(offenders(&["src/commands/allocation"], &words, &[]), NONE);
}

#[test]
fn commands_never_read_a_read_model() {
    let words = ["projections", "ReadDb", "crate::http", "crate::cli", "crate::reactions", "crate::dispatch"];
    // The serving process says there how far its registry is; no decision reads it.
    assert_eq!(offenders(&["src/commands", "src/registry"], &words, &["src/registry/served.rs"]), NONE);
}

#[test]
fn projections_fold_and_never_decide() {
    let words = ["crate::commands", "crate::http", "crate::dispatch", "crate::operations", "crate::cli", "crate::app"];
    assert_eq!(offenders(&["projections"], &words, &[]), NONE);
}

#[test]
fn the_store_knows_the_vocabulary_and_nobody_above_it() {
    let above = ["commands", "registry", "projections", "http", "cli", "operations", "reactions", "app", "scheduler"];
    let words: Vec<String> = above.iter().map(|m| format!("crate::{m}::")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_eq!(offenders(&["src/store"], &words, &[]), NONE);
}

/// The log and its engines; the read models; users, addresses and tokens; the lists of re-evaluations, of manual holds and
/// of failed evaluations; notices and messages to agents that are owed; records of runs; the checkpoint of the server's
/// registry; what agents log; what is remembered of imports; the tree of the notary. Nobody else has tables.
const MAY_SPEAK_SQL: [&str; 11] = [
    "src/agent_logs.rs",
    "src/operations/imports.rs",
    "src/scheduler/records.rs",
    "src/dispatch/",
    "src/store/",
    "projections/",
    "src/directory/",
    "src/reactions/",
    "src/notify/",
    "src/notary/tables.rs",
    "src/registry/served.rs",
];

#[test]
fn sql_is_spoken_where_the_tables_are() {
    let words = ["sqlx::", "rusqlite::", "SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM", "CREATE TABLE"];
    assert_eq!(offenders(&["src"], &words, &MAY_SPEAK_SQL), NONE);
}

#[test]
fn nobody_looks_into_positions_but_who_keeps_them() {
    let keeps = ["src/events/position.rs", "src/store/numbers.rs", "src/store/sql/", "src/store/eventstoredb/"];
    assert_eq!(offenders(&["src", "projections"], &[".halves()", "from_halves("], &keeps), NONE);
}

/// Engines that number their events; and a copy, which numbers them in their order.
const NUMBERS_EVENTS: [&str; 7] = [
    "src/store/numbers.rs",
    "src/store/sqlite/",
    "src/store/postgres/",
    "src/store/archive/",
    "src/store/memory.rs",
    "src/store/tail.rs",
    "src/store/copy/",
];

#[test]
fn who_counts_with_positions_was_handed_the_right_by_a_log_that_counts() {
    assert_eq!(offenders(&["src", "projections"], &["NUMBERS"], &NUMBERS_EVENTS), NONE);
}

#[test]
fn the_wall_clock_and_random_ids_have_one_place() {
    let words = ["Utc::now", "Local::now", "SystemTime::now", "now_v7", "new_v4", "disallowed_methods"];
    assert_eq!(offenders(&["src", "projections"], &words, &["src/clock.rs"]), NONE);
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    assert_eq!(
        offenders(
            &["src", "projections"],
            &[".unwrap()"],
            &["src/domain/policy_tests.rs", "src/domain/carryover_tests.rs"]
        ),
        NONE
    );
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    let mut broken = Vec::new();
    for source in sources(&["src", "projections", "tests"]) {
        if !source.text.starts_with("//! ") {
            broken.push(format!("{} does not begin by saying what it is", source.path));
        }
        let lines = source.text.lines().count();
        if lines > 600 {
            broken.push(format!("{} has {lines} lines", source.path));
        }
    }
    assert_eq!(broken, NONE);
}
