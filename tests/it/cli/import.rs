//! `sluice import sacct`: month totals once, restatements, what is left out and why.

use serde_json::{Value, json};

use super::Fixture;

const HEADER: &str = "JobID|Account|State|Start|End|ElapsedRaw|AllocTRES\n";

pub(super) fn job(id: u32, account: &str, start: &str, end: &str, seconds: u32) -> String {
    format!("{id}|{account}|COMPLETED|{start}|{end}|{seconds}|billing=1,cpu=64,mem=1M,node=1\n")
}

pub(super) fn jobs(rows: &[String]) -> String {
    format!("{HEADER}{}", rows.concat())
}

pub(super) fn total(document: &Value, account: &str, month: &str) -> Value {
    let lines = document["totals"].as_array().unwrap();
    let found = lines.iter().find(|line| line["account"] == account && line["month"] == month);
    found.map_or(Value::Null, |line| json!([line["amount"], line["outcome"]]))
}

pub(super) fn head(fixture: &Fixture) -> Value {
    fixture.json(&["projections", "status"])["head"].clone()
}

pub(super) const QUARTER: [&str; 4] = ["--from", "2026-01-01", "--to", "2026-03-31"];

/// The command for a file, with further arguments.
pub(super) fn import<'a>(file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["import", "sacct", file, "--offering", "hpc1"], more].concat()
}

#[test]
fn totals_are_reported_once_and_a_corrected_file_is_a_restatement() {
    let fixture = Fixture::with_site();
    let arguments = import("src/demo/data/2026-q1.txt", &QUARTER);
    let first = fixture.json(&arguments);
    assert_eq!(first["months"], json!(["2026-01", "2026-02", "2026-03"]));
    assert_eq!(total(&first, "hpc_climate", "2026-01"), json!(["507.6", "reported"]));
    let before = head(&fixture);
    let again = fixture.json(&arguments);
    assert!(again["totals"].as_array().unwrap().iter().all(|line| line["outcome"] == "unchanged"));
    assert_eq!(head(&fixture), before);

    let text = std::fs::read_to_string("src/demo/data/2026-q1.txt").unwrap();
    let fewer: String = text.lines().take(text.lines().count() - 40).flat_map(|line| [line, "\n"]).collect();
    let file = fixture.file("corrected.txt", &fewer);
    let corrected = fixture.json(&import(&file, &[&QUARTER[..], &["--restate"]].concat()));
    assert!(corrected["totals"].as_array().unwrap().iter().any(|line| line["outcome"] == "restated"));
    assert_eq!(corrected["stored"], true);
}

#[test]
fn a_dry_run_records_nothing() {
    let fixture = Fixture::with_site();
    let before = head(&fixture);
    let arguments = import("src/demo/data/2026-q1.txt", &[&QUARTER[..], &["--dry_run"]].concat());
    let text = fixture.run(&arguments);
    assert!(text.contains("would be reported") && text.contains("dry run: nothing was recorded"), "{text}");
    assert_eq!(head(&fixture), before);
    let since = fixture.fails(&["import", "sacct", "--offering", "hpc1", "--since-last"]);
    assert!(since.1.contains("nothing has been imported for hpc1 yet"), "{}", since.1);
}

#[test]
fn unknown_accounts_are_listed_with_what_they_used_and_not_guessed() {
    let fixture = Fixture::with_site();
    let rows = [
        job(1, "hpc_climate", "2026-02-10T00:00:00", "2026-02-10T01:00:00", 3600),
        job(2, "HPC_Climate", "2026-02-10T00:00:00", "2026-02-10T02:00:00", 7200),
    ];
    let file = fixture.file("jobs.txt", &jobs(&rows));
    let document = fixture.json(&import(&file, &["--month", "2026-02"]));
    let unknown =
        json!([{"account": "HPC_Climate", "jobs": 1, "totals": {"node_hours": "2"}, "similar": "hpc_climate"}]);
    assert_eq!(document["unknown_accounts"], unknown);
    assert_eq!(total(&document, "hpc_climate", "2026-02"), json!(["1", "reported"]));
}

#[test]
fn without_a_window_a_pipe_gets_the_flags_to_use_and_nothing_is_stored() {
    let fixture = Fixture::with_site();
    let rows = [
        job(1, "hpc_climate", "2026-01-31T22:00:00", "2026-02-01T02:00:00", 14_400),
        job(2, "hpc_climate", "2026-02-10T00:00:00", "2026-02-10T01:00:00", 3600),
    ];
    let file = fixture.file("february.txt", &jobs(&rows));
    let before = head(&fixture);
    let (status, stderr) = fixture.fails(&import(&file, &[]));
    assert_eq!(status, 2);
    let flags = format!("  sluice import sacct {file} --offering hpc1 --month 2026-02");
    assert!(stderr.lines().any(|line| line == flags), "{stderr}");
    assert!(stderr.contains("from 2026-01-31 22:00 to 2026-02-10 01:00 (2 rows)"), "{stderr}");
    assert_eq!(head(&fixture), before);

    let document = fixture.json(&import(&file, &["--month", "2026-02"]));
    assert_eq!(document["months"], json!(["2026-02"]));
    assert_eq!(total(&document, "hpc_climate", "2026-02"), json!(["3", "reported"]));
    let document = fixture.json(&import(&file, &["--from", "2026-01-01", "--to", "2026-02-28"]));
    assert_eq!(total(&document, "hpc_climate", "2026-01"), json!(["2", "reported"]));
}

#[test]
fn a_month_is_replaced_only_by_all_of_it() {
    let fixture = Fixture::with_site();
    let rows = [
        job(1, "hpc_climate", "2026-01-20T00:00:00", "2026-01-20T02:00:00", 7200),
        job(2, "hpc_climate", "2026-02-10T00:00:00", "2026-02-10T01:00:00", 3600),
    ];
    let file = fixture.file("days.txt", &jobs(&rows));
    let document = fixture.json(&import(&file, &["--from", "2026-01-15", "--to", "2026-02-28"]));
    assert_eq!((&document["months"], &document["months_cut"]), (&json!(["2026-02"]), &json!(["2026-01"])));
    assert_eq!(total(&document, "hpc_climate", "2026-01"), Value::Null);
    let (status, stderr) = fixture.fails(&import(&file, &["--from", "2026-01-15", "--to", "2026-01-31"]));
    assert_eq!(status, 1);
    assert!(stderr.contains("covers no month whole, only a part of 2026-01"), "{stderr}");
    let (status, stderr) = fixture.fails(&import(&file, &["--month", "2026-05"]));
    assert_eq!(status, 1);
    assert!(stderr.contains("--month 2026-05 covers no month whole, 2026-05 had not begun"), "{stderr}");
    // The running month, until now and until yesterday: it is the first instant of 2 April.
    let today = [job(3, "hpc_climate", "2026-04-01T00:00:00", "2026-04-01T01:00:00", 3600)];
    let mut command =
        fixture.command(&import("-", &["--from", "2026-04-01", "--to", "2026-04-01", "--format", "json"]));
    let done = command.write_stdin(jobs(&today)).assert().success();
    let document: Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    assert_eq!(total(&document, "hpc_climate", "2026-04"), json!(["1", "reported"]));
}

#[test]
fn what_falls_or_is_missing_is_listed_first_and_restated_only_when_it_is_said() {
    let fixture = Fixture::with_site();
    let climate = job(9, "hpc_climate", "2026-03-01T00:00:00", "2026-04-01T00:00:00", 2_678_400);
    let genomics = |seconds| job(10, "hpc_genomics", "2026-03-02T00:00:00", "2026-03-02T10:00:00", seconds);
    let march = ["--month", "2026-03"];
    let file = fixture.file("before.txt", &jobs(&[climate, genomics(36_000)]));
    fixture.run(&import(&file, &march));
    let after = fixture.file("after.txt", &jobs(&[genomics(18_000)]));
    let before = head(&fixture);
    let findings = json!([
        {"kind": "missing", "account": "hpc_climate", "month": "2026-03", "component": "node_hours", "previous": "744"},
        {"kind": "falls", "account": "hpc_genomics", "month": "2026-03", "component": "node_hours", "amount": "5", "previous": "10"},
    ]);
    let (status, stderr) = fixture.fails(&import(&after, &march));
    assert_eq!(status, 1);
    assert!(stderr.contains("nothing was imported: 2 things to look at first"), "{stderr}");
    assert!(stderr.contains("node_hours was 744; no job used any now: it goes to 0"), "{stderr}");
    assert!(stderr.contains("node_hours falls from 10 to 5"), "{stderr}");
    let dry = fixture.json(&import(&after, &["--month", "2026-03", "--dry-run"]));
    assert_eq!((&dry["needs_restate"], &dry["stored"]), (&findings, &json!(false)), "a dry run shows the same list");
    assert_eq!(head(&fixture), before);
    let stored = fixture.json(&import(&after, &["--month", "2026-03", "--restate"]));
    assert_eq!(total(&stored, "hpc_climate", "2026-03"), json!(["0", "restated"]));
    assert_eq!(total(&stored, "hpc_genomics", "2026-03"), json!(["5", "restated"]));
    let again = fixture.json(&import(&after, &march));
    assert_eq!(again["needs_restate"], json!([]));
}

#[test]
fn usage_after_now_is_cut_and_only_with_restate() {
    let fixture = Fixture::with_site();
    let rows = [job(7, "hpc_climate", "2026-04-01T00:00:00", "2026-05-01T00:00:00", 2_592_000)];
    let file = fixture.file("april.txt", &jobs(&rows));
    let (status, stderr) = fixture.fails(&import(&file, &["--month", "2026-04"]));
    assert_eq!((status, stderr.contains("--restate")), (1, true), "{stderr}");
    let stored = fixture.json(&import(&file, &["--month", "2026-04", "--restate"]));
    assert_eq!(stored["needs_restate"][0]["kind"], "after_now");
    assert_eq!(total(&stored, "hpc_climate", "2026-04"), json!(["24", "reported"]));
    // Clocks of two machines are never quite the same.
    let rows = [job(7, "hpc_climate", "2026-04-01T00:00:00", "2026-04-02T00:00:30", 86_430)];
    let file = fixture.file("skewed.txt", &jobs(&rows));
    let document = fixture.json(&import(&file, &["--month", "2026-04"]));
    assert_eq!(total(&document, "hpc_climate", "2026-04"), json!(["24", "unchanged"]));
}

#[test]
fn a_job_that_lost_its_end_is_listed_first() {
    let fixture = Fixture::with_site();
    let ended = job(9, "hpc_climate", "2026-03-01T00:00:00", "2026-03-02T00:00:00", 86_400);
    let running =
        |id: u32| format!("{id}|hpc_genomics|RUNNING|2026-03-31T00:00:00|2026-04-01T00:00:00|86400|cpu=64,node=1\n");
    let march = ["--month", "2026-03"];
    let file = fixture.file("march.txt", &jobs(&[ended.clone(), running(10)]));
    fixture.run(&import(&file, &march));
    let lost = "9|hpc_climate|RUNNING|2026-03-01T00:00:00|Unknown|2678400|cpu=64,node=1\n".to_owned();
    let file = fixture.file("later.txt", &jobs(&[lost, running(10)]));
    let (status, stderr) = fixture.fails(&import(&file, &march));
    assert_eq!((status, stderr.contains("1 thing to look at first")), (1, true), "{stderr}");
    let dry = fixture.json(&import(&file, &["--month", "2026-03", "--dry-run"]));
    let finding = json!({"kind": "reopened", "account": "hpc_climate", "job": "9", "start": "2026-03-01T00:00:00Z"});
    assert_eq!(dry["needs_restate"], json!([finding]), "job 10 was running then, too");
    fixture.run(&import(&file, &["--month", "2026-03", "--restate"]));
    let again = fixture.json(&import(&file, &march));
    assert_eq!(again["needs_restate"], json!([]), "it is known as running now");
}

#[test]
fn a_file_is_as_old_as_its_last_change_and_comes_late() {
    let fixture = Fixture::with_site();
    let rows = |seconds| [job(1, "hpc_climate", "2026-03-01T00:00:00", "2026-03-05T00:00:00", seconds)];
    let file = fixture.file("new.txt", &jobs(&rows(7200)));
    fixture.run(&import(&file, &["--month", "2026-03"]));
    let old = fixture.file("old.txt", &jobs(&rows(3600)));
    let written = std::time::SystemTime::from("2026-03-10T00:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap());
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(written).unwrap();
    let document = fixture.json(&import(&old, &["--month", "2026-03"]));
    assert_eq!(total(&document, "hpc_climate", "2026-03"), json!(["1", "late"]));
    let text = fixture.run(&import(&old, &["--month", "2026-03"]));
    assert!(text.contains("late: stays 2"), "{text}");
    let restated = fixture.json(&import(&old, &["--month", "2026-03", "--restate"]));
    assert_eq!(total(&restated, "hpc_climate", "2026-03"), json!(["1", "restated"]), "--restate counts as now");
}

#[test]
fn a_malformed_line_stops_before_anything_is_stored_unless_it_is_skipped() {
    let fixture = Fixture::with_site();
    let good = job(1, "hpc_climate", "2026-02-10T00:00:00", "2026-02-10T01:00:00", 3600);
    let file = fixture.file("bad.txt", &jobs(&[good, job(2, "hpc_climate", "soon", "later", 60)]));
    let before = head(&fixture);
    let (status, stderr) = fixture.fails(&import(&file, &["--month", "2026-02"]));
    assert_eq!(status, 1);
    assert!(stderr.contains("bad.txt, line 3, column 4 (Start)"), "{stderr}");
    assert_eq!(head(&fixture), before);
    let document = fixture.json(&import(&file, &["--month", "2026-02", "--skip_bad_lines"]));
    assert_eq!(
        (&document["bad_lines"], total(&document, "hpc_climate", "2026-02")),
        (&json!(1), json!(["1", "reported"]))
    );
}

#[test]
fn what_counts_as_nothing_is_told() {
    let fixture = Fixture::with_site();
    let month = ["--month", "2026-02"];
    let row = |id: u32, tres: &str| {
        format!("{id}|hpc_climate|COMPLETED|2026-02-10T00:00:00|2026-02-10T01:00:00|3600|{tres}\n")
    };
    let stderr = |text: &str, more: &[&str]| {
        let file = fixture.file("jobs.txt", text);
        let done = fixture.command(&import(&file, &[&month[..], more].concat())).output().unwrap();
        String::from_utf8(done.stderr).unwrap()
    };
    let said = stderr(&jobs(&[row(1, ""), row(2, "cpu=64, node=1")]), &["--dry-run"]);
    assert!(said.contains("1 of 2 rows ran without AllocTRES and count as nothing (1 h in all)"), "{said}");
    assert!(said.contains("1 row has blanks in AllocTRES"), "{said}");
    let said = stderr(&jobs(&[row(1, "cpu=64,mem=1M")]), &["--dry-run"]);
    assert!(said.contains("none of 1 row has node, so node_hours is 0 for all; they have cpu, mem"), "{said}");
    let said = stderr(&jobs(&[row(1, "")]), &[]);
    assert!(said.contains("none of the 1 rows of jobs that ran has AllocTRES"), "{said}");
    let said = stderr(&jobs(&[row(1, "gres/gpu=4,node=1")]), &["--component", "node_hours=gres/gpu:a100"]);
    assert!(said.contains("no row has gres/gpu:a100") && said.contains("node_hours=gres/gpu"), "{said}");
    let said = stderr(&format!("{HEADER}1.batch|hpc_climate|COMPLETED|x|y|z|\n"), &[]);
    assert!(said.contains("no row of a job; 1 row of a step was skipped"), "{said}");
}

#[test]
fn standard_input_works_and_only_declared_components_are_counted() {
    let fixture = Fixture::with_site();
    let text = jobs(&[job(1, "hpc_climate", "2026-02-10T00:00:00", "2026-02-10T01:00:00", 3600)]);
    let mut command = fixture.command(&import("-", &["--month", "2026-02", "--format", "json"]));
    let done = command.write_stdin(text).assert().success();
    let document: Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    assert_eq!(document["components"], json!({"node_hours": "node"}));
    let (status, stderr) = fixture.fails(&import("-", &["--component", "gpu=gres/gpu"]));
    assert_eq!(status, 2);
    assert!(stderr.contains("the offering has no component \"gpu\"; it has node_hours"), "{stderr}");
}

#[test]
fn windows_that_contradict_each_other_are_refused() {
    let fixture = Fixture::with_site();
    for more in [
        &["--month", "2026-02", "--from", "2026-02-01"][..],
        &["--since-last", "--month", "2026-02"],
        &["--to", "2026-02-01"],
        &["--from", "2026-02-02", "--to", "2026-02-01"],
        &["--month", "2026-13"],
        &["--timezone", "UTC", "--month", "2026-02"],
        &[],
    ] {
        let (status, stderr) = fixture.fails(&[&["import", "sacct", "--offering", "hpc1"], more].concat());
        assert_eq!(status, 2, "{more:?}: {stderr}");
    }
}
