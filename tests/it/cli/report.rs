//! `sluice report`, as an operator and an auditor meet it.

use serde_json::Value;
use sluice::report::Kind;

use super::Fixture;
use super::archive::with_months;

fn on(fixture: &Fixture, arguments: &[&str]) -> (i32, String) {
    let mut command = fixture.command(&[&["report"], arguments].concat());
    let done = command.env_remove("SLUICE_SIMULATED_CLOCK").output().unwrap();
    (done.status.code().unwrap(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

#[tokio::test]
async fn each_report_comes_as_table_document_and_lines() {
    let fixture = with_months().await;
    for kind in Kind::ALL {
        let kind = kind.as_str();
        let (status, table) = on(&fixture, &[kind, "--period", "2026-Q2"]);
        assert!(status == 0 && table.contains("2026-Q2") && table.contains("TOTAL"), "{kind}: {table}");
        let (status, document) = on(&fixture, &[kind, "--period", "2026-Q2", "--format", "json"]);
        let document: Value = serde_json::from_str(&document).unwrap();
        assert!(
            status == 0 && document["report"] == kind && document["from"] == "2026-04-01T00:00:00Z",
            "{document:#}"
        );
        let rows = document["tables"][0]["rows"].as_array().unwrap().len();
        let (status, lines) = on(&fixture, &[kind, "--from", "2026-04-01", "--to", "2026-07-01T00:00:00Z", "--csv"]);
        let header = document["tables"][0]["columns"].as_array().unwrap();
        let header: Vec<&str> = header.iter().map(|name| name.as_str().unwrap()).collect();
        assert!(status == 0 && lines.starts_with(&format!("{},events\r\n", header.join(","))), "{lines}");
        assert!(lines.lines().count() > rows, "{kind}: {lines}");
    }
    let (_, few) = on(&fixture, &["statement", "--period", "2026", "--rows", "1", "--format", "json"]);
    let few: Value = serde_json::from_str(&few).unwrap();
    assert_eq!(few["tables"][0]["rows"].as_array().unwrap().len(), 1);
    assert!(few["tables"][0]["omitted"].as_u64().unwrap() > 0, "{few:#}");
    let (_, one) = on(&fixture, &["statement", "--period", "2026", "--resource", "bio-hpc1", "--format", "json"]);
    let one: Value = serde_json::from_str(&one).unwrap();
    let rows = one["tables"][0]["rows"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["allocation"] == "bio-hpc1"), "{one:#}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let fixture = Fixture::with_site();
    for (arguments, expected) in [
        (&["statement"][..], "--period PERIOD"),
        (&["statement", "--period", "2026-13"], "a period such as"),
        (&["statement", "--period", "total"], "has no edges"),
        (&["statement", "--from", "2026-03-01"], "--to"),
        (&["statement", "--from", "2026-03-02", "--to", "2026-03-01"], "must lie after --from"),
        (&["no-such", "--period", "2026"], "enforcement-register"),
        (&["drift", "--period", "2026", "--policy", "no-such"], "there is no policy"),
    ] {
        let (status, said) = on(&fixture, arguments);
        assert!((1..=2).contains(&status) && said.contains(expected), "{arguments:?}: {status} {said}");
    }
}
