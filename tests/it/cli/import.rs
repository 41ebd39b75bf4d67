//! `sluice import sacct`: month totals once, restatements, what is left out and why.

use serde_json::{Value, json};

use super::Fixture;

const HEADER: &str = "JobID|Account|Start|End|ElapsedRaw|AllocTRES\n";

fn job(id: u32, account: &str, start: &str, end: &str, seconds: u32) -> String {
    format!("{id}|{account}|{start}|{end}|{seconds}|billing=1,cpu=64,mem=1M,node=1\n")
}

fn total(document: &Value, account: &str, month: &str) -> Value {
    let lines = document["totals"].as_array().unwrap();
    let found = lines.iter().find(|line| line["account"] == account && line["month"] == month);
    found.map_or(Value::Null, |line| json!([line["amount"], line["outcome"]]))
}

#[test]
fn totals_are_reported_once_and_a_corrected_file_is_a_restatement() {
    let fixture = Fixture::with_site();
    let arguments = ["import", "sacct", "src/demo/data/2026-q1.txt", "--offering", "hpc1"];
    let first = fixture.json(&arguments);
    assert_eq!(first["months"], json!(["2026-01", "2026-02", "2026-03"]));
    assert_eq!(total(&first, "hpc_climate", "2026-01"), json!(["507.6", "reported"]));
    let head = fixture.json(&["projections", "status"])["head"].clone();
    let again = fixture.json(&arguments);
    assert!(again["totals"].as_array().unwrap().iter().all(|line| line["outcome"] == "unchanged"));
    assert_eq!(fixture.json(&["projections", "status"])["head"], head);

    let text = std::fs::read_to_string("src/demo/data/2026-q1.txt").unwrap();
    let fewer: String = text.lines().take(text.lines().count() - 40).flat_map(|line| [line, "\n"]).collect();
    let file = fixture.file("corrected.txt", &fewer);
    let corrected =
        fixture.json(&["import", "sacct", &file, "--offering", "hpc1", "--from", "2026-01-01", "--to", "2026-03-31"]);
    assert!(corrected["totals"].as_array().unwrap().iter().any(|line| line["outcome"] == "restated"));
}

#[test]
fn a_dry_run_records_nothing() {
    let fixture = Fixture::with_site();
    let head = fixture.json(&["projections", "status"])["head"].clone();
    let text = fixture.run(&["import", "sacct", "src/demo/data/2026-q1.txt", "--offering", "hpc1", "--dry_run"]);
    assert!(text.contains("would be reported") && text.contains("dry run: nothing was recorded"), "{text}");
    assert_eq!(fixture.json(&["projections", "status"])["head"], head);
}

#[test]
fn unknown_accounts_are_listed_with_what_they_used_and_not_guessed() {
    let fixture = Fixture::with_site();
    let rows = [
        job(1, "hpc_climate", "2026-02-10T00:00:00", "2026-02-10T01:00:00", 3600),
        job(2, "HPC_Climate", "2026-02-10T00:00:00", "2026-02-10T02:00:00", 7200),
    ];
    let file = fixture.file("jobs.txt", &format!("{HEADER}{}", rows.concat()));
    let document = fixture.json(&["import", "sacct", &file, "--offering", "hpc1"]);
    let unknown =
        json!([{"account": "HPC_Climate", "jobs": 1, "totals": {"node_hours": "2"}, "similar": "hpc_climate"}]);
    assert_eq!(document["unknown_accounts"], unknown);
    assert_eq!(total(&document, "hpc_climate", "2026-02"), json!(["1", "reported"]));
}

#[test]
fn months_at_the_edges_are_left_out_unless_the_window_names_them() {
    let fixture = Fixture::with_site();
    let rows = [
        job(1, "hpc_climate", "2026-01-31T22:00:00", "2026-02-01T02:00:00", 14_400),
        job(2, "hpc_climate", "2026-02-10T00:00:00", "2026-02-10T01:00:00", 3600),
    ];
    let file = fixture.file("february.txt", &format!("{HEADER}{}", rows.concat()));
    let document = fixture.json(&["import", "sacct", &file, "--offering", "hpc1"]);
    assert_eq!(
        (&document["months"], &document["edge_months_not_reported"]),
        (&json!(["2026-02"]), &json!(["2026-01"]))
    );
    assert_eq!(total(&document, "hpc_climate", "2026-02"), json!(["3", "reported"]));
    let window = ["import", "sacct", &file, "--offering", "hpc1", "--from", "2026-01-01", "--to", "2026-02-28"];
    let document = fixture.json(&window);
    assert_eq!(document["months"], json!(["2026-01", "2026-02"]));
    assert_eq!(total(&document, "hpc_climate", "2026-01"), json!(["2", "reported"]));
}

#[test]
fn a_malformed_line_stops_before_anything_is_stored_unless_it_is_skipped() {
    let fixture = Fixture::with_site();
    let good = job(1, "hpc_climate", "2026-02-10T00:00:00", "2026-02-10T01:00:00", 3600);
    let file = fixture.file("bad.txt", &format!("{HEADER}{good}{}", job(2, "hpc_climate", "soon", "later", 60)));
    let head = fixture.json(&["projections", "status"])["head"].clone();
    let (status, stderr) = fixture.fails(&["import", "sacct", &file, "--offering", "hpc1"]);
    assert_eq!(status, 1);
    assert!(stderr.contains("bad.txt, line 3, column 3 (Start)"), "{stderr}");
    assert_eq!(fixture.json(&["projections", "status"])["head"], head);
    let document = fixture.json(&["import", "sacct", &file, "--offering", "hpc1", "--skip_bad_lines"]);
    assert_eq!(
        (&document["bad_lines"], total(&document, "hpc_climate", "2026-02")),
        (&json!(1), json!(["1", "reported"]))
    );
}

#[test]
fn usage_of_a_month_that_has_not_begun_stops_the_import() {
    let fixture = Fixture::with_site();
    let rows = [
        job(1, "hpc_climate", "2026-03-10T00:00:00", "2026-03-10T01:00:00", 3600),
        job(2, "hpc_climate", "2026-05-10T00:00:00", "2026-05-10T01:00:00", 3600),
    ];
    let file = fixture.file("future.txt", &format!("{HEADER}{}", rows.concat()));
    let (status, stderr) = fixture.fails(&["import", "sacct", &file, "--offering", "hpc1"]);
    assert_eq!(status, 1);
    assert!(stderr.contains("usage of 2026-05, which has not begun: it is 2026-04 at the site"), "{stderr}");
    let window = ["import", "sacct", &file, "--offering", "hpc1", "--from", "2026-03-01", "--to", "2026-04-30"];
    assert_eq!(total(&fixture.json(&window), "hpc_climate", "2026-03"), json!(["1", "reported"]));
}

#[test]
fn standard_input_works_and_only_declared_components_are_counted() {
    let fixture = Fixture::with_site();
    let text = format!("{HEADER}{}", job(1, "hpc_climate", "2026-02-10T00:00:00", "2026-02-10T01:00:00", 3600));
    let mut command = fixture.command(&["import", "sacct", "-", "--offering", "hpc1", "--format", "json"]);
    let done = command.write_stdin(text).assert().success();
    let document: Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    assert_eq!(document["components"], json!({"node_hours": "node"}));
    let (status, stderr) =
        fixture.fails(&["import", "sacct", "-", "--offering", "hpc1", "--component", "gpu=gres/gpu"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("the offering has no component \"gpu\"; it has node_hours"), "{stderr}");
}
