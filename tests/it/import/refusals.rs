//! Malformed input: where it is, what is wrong, and what skipping does.

use chrono_tz::Tz;
use sluice::import::{ImportError, ImportLimits, ImportOptions, read_all};

use super::{by_month, import, months, node_seconds, table};

const GOOD: &str = "1|a|COMPLETED|2026-03-01T00:00:00|2026-03-01T00:01:00|60|node=1";

#[test]
fn a_malformed_line_names_file_line_column_and_value() {
    let cases = [
        ("x|a|F|2026-03-01T00:00:00|2026-03-01T00:01:00|60|node=1", "column 1 (JobID): \"x\": not a job id"),
        ("2|a|F|2026-03-01|2026-03-01T00:01:00|60|node=1", "column 4 (Start): \"2026-03-01\": not a time such as"),
        ("2|a|F|2026-03-01T00:00:00|soon|60|node=1", "column 5 (End): \"soon\": not a time such as"),
        ("2|a|F|2026-03-01T00:00:00|2026-03-01T00:01:00|-1|node=1", "column 6 (ElapsedRaw): \"-1\": not a whole"),
        ("2|a|F|2026-03-01T00:00:00|2026-03-01T00:01:00|00:01:00|node=1", "column 6 (ElapsedRaw): \"00:01:00\""),
        ("2|a|F|2026-03-01T00:00:00|2026-03-01T00:01:00|+5|node=1", "column 6 (ElapsedRaw): \"+5\""),
        ("2|a|F|2026-03-01T00:00:00|2026-03-01T00:01:00|61|node=1", "column 6 (ElapsedRaw): \"61\": not between 0"),
        ("2|a|F|2026-03-01T00:01:00|2026-03-01T00:00:00|60|node=1", "column 6 (ElapsedRaw): \"60\": not between 0"),
        ("2|a|F|None|2026-03-01T00:00:00|60|node=1", "column 4 (Start): \"None\": a job with ElapsedRaw above 0"),
        ("2|a|F|2026-03-01T00:00:00|2026-03-01T00:01:00|60|node", "column 7 (AllocTRES): \"node\": \"node\" is not of"),
        (
            "2|a|F|2026-03-01T00:00:00|2026-03-01T00:01:00|60|node=1.5",
            "column 7 (AllocTRES): \"node=1.5\": node=1.5: not",
        ),
        ("2|a|F|2026-03-01T00:00:00|2026-03-01T00:01:00|60", ": 6 columns where the header has 7"),
        ("2|a|F|G|2026-03-01T00:00:00|2026-03-01T00:01:00|60|node=1", ": 8 columns where the header has 7"),
    ];
    for (row, says) in cases {
        let text = table(&[GOOD, row, GOOD]);
        let message = import(&[GOOD_FILE, &text], node_seconds(Tz::UTC)).expect_err(row).to_string();
        assert!(message.starts_with("file2, line 3"), "{message}");
        assert!(message.contains(says), "{message}");
    }
}

const GOOD_FILE: &str = "ElapsedRaw|AllocTRES|JobID|Account|Start|End\n";

#[test]
fn skipped_lines_are_counted_and_the_first_are_kept() {
    let text =
        table(&[GOOD, "x|||||5|", "y", GOOD, "z|||||5|", "2|a|F|2026-03-01T00:00:00|2026-03-01T00:00:01|1|node=1"]);
    let limits = ImportLimits { kept_bad_lines: 2, ..ImportLimits::default() };
    let options = ImportOptions { skip_bad_lines: true, limits, ..node_seconds(Tz::UTC) };
    let totals = import(&[&text], options).expect("malformed lines are skipped");
    assert_eq!(totals.bad_lines, 3);
    let lines: Vec<_> = totals.first_bad_lines.iter().map(|bad| (bad.line, bad.value.as_str())).collect();
    assert_eq!(lines, [(3, "x"), (4, "y")]);
    assert_eq!(by_month(&totals, "a"), months([("2026-03", 61)]));
}

#[test]
fn rows_of_a_second_cluster_are_refused() {
    let text = "JobID|Cluster|Account|Start|End|ElapsedRaw|AllocTRES\n1|alpha|a|None|None|0|\n2|beta|a|None|None|0|\n";
    let message = import(&[text], node_seconds(Tz::UTC)).expect_err("two clusters").to_string();
    assert!(
        message.starts_with("file1, line 3, column 2 (Cluster): \"beta\": earlier rows are of the cluster \"alpha\""),
        "{message}"
    );
    assert!(message.contains("slurm_clusters"), "{message}");
}

#[test]
fn a_bad_header_stops_even_when_lines_are_skipped() {
    let options = ImportOptions { skip_bad_lines: true, ..node_seconds(Tz::UTC) };
    let message = import(&["JobID|Account\n"], options).expect_err("columns are missing").to_string();
    assert!(message.starts_with("file1, line 1: no column ElapsedRaw, AllocTRES, Start, End; use: "), "{message}");
}

#[test]
fn there_is_a_limit_on_rows() {
    let limits = ImportLimits { rows: 2, ..ImportLimits::default() };
    let error = import(&[&table(&[GOOD, GOOD, GOOD])], ImportOptions { limits, ..node_seconds(Tz::UTC) });
    assert!(matches!(error, Err(ImportError::TooManyRows { limit: 2 })), "{error:?}");
}

#[test]
fn a_cut_off_input_is_reported() {
    let text = table(&[GOOD]);
    let totals = import(&[&text, text.trim_end()], node_seconds(Tz::UTC)).expect("well-formed");
    assert_eq!(totals.unterminated_inputs, ["file2"]);
}

#[test]
fn inputs_that_cannot_be_opened_and_standard_input_twice_are_refused() {
    let missing = read_all(&["/nonexistent/sacct.txt".to_owned()], node_seconds(Tz::UTC), &mut |_| {});
    assert_eq!(missing.expect_err("no such file").to_string(), "cannot read /nonexistent/sacct.txt");
    let twice = read_all(&["-".to_owned(), "-".to_owned()], node_seconds(Tz::UTC), &mut |_| {});
    assert!(matches!(twice, Err(ImportError::StandardInputTwice)));
}

#[test]
fn totals_beyond_a_decimal_are_refused() {
    let text = table(&["1|a|F|1971-01-01T00:00:00|2100-01-01T00:00:00|4070908800|node=1000000000000"]);
    let mut options = node_seconds(Tz::UTC);
    options.rules[0].tres_seconds_per_unit = rust_decimal::Decimal::new(1, 20);
    assert!(matches!(import(&[&text], options), Err(ImportError::TooLarge { .. })));
}
