//! What an input may look like: headers, banners, columns, line ends, packed files, UTF-16; and how others are refused.

use std::io::{Cursor, Write};

use chrono_tz::Tz;
use sluice::import::{ImportError, ImportLimits, ImportOptions, ImportTotals, Importer, Input};

use super::{HEADER, by_month, import, months, node_seconds, table};

const ROW: &str = "1|a|COMPLETED|2026-03-01T00:00:00|2026-03-01T00:01:00|60|node=1";

fn minute() -> std::collections::BTreeMap<String, rust_decimal::Decimal> {
    months([("2026-03", 60)])
}

fn read(text: &str) -> ImportTotals {
    import(&[text], node_seconds(Tz::UTC)).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn refused(text: &str) -> String {
    match import(&[text], node_seconds(Tz::UTC)) {
        Err(error) => error.to_string(),
        Ok(totals) => panic!("{text:?}: {totals:?}"),
    }
}

#[test]
fn columns_are_found_by_name_in_any_order_and_both_lines_end_in_a_bar_or_neither() {
    let text = "End|state|ALLOCTRES|User|Account|ElapsedRaw|JobID|Start|\n\
                2026-03-01T00:01:00||node=1|u|a|60|1|2026-03-01T00:00:00|\n|||u|b|6|1.0||\n";
    let totals = read(text);
    assert_eq!((by_month(&totals, "a"), totals.steps_skipped), (minute(), 1));
    assert!(refused(&format!("{HEADER}\n{ROW}|\n")).contains("8 columns where the header has 7"));
    assert!(refused(&format!("{HEADER}|\n{ROW}\n")).contains("7 columns where the header has 8"));
    assert!(refused(&format!("{HEADER}|\n{ROW}|x\n")).contains("text behind the last bar, where the header has none"));
    assert_eq!(by_month(&read(&format!("{HEADER}|\r\n{ROW}|\r\n")), "a"), minute());
}

#[test]
fn a_bar_in_a_free_text_never_moves_usage() {
    let text = "JobID|ElapsedRaw|Start|End|AllocTRES|JobName|Account|Comment\n\
                1|36000|2026-03-02T00:00:00|2026-03-02T10:00:00|cpu=64,node=1|x|climate|genomics|\n";
    assert!(refused(text).starts_with("file1, line 2"), "{}", refused(text));
}

#[test]
fn what_stands_before_the_header_does_not_matter() {
    let good = table(&[ROW]);
    for before in [
        "\n",
        "\r\n  \r\n",
        "Welcome to the cluster!\n\n* maintenance on Monday | see the wiki\n",
        "\u{feff}",
        "sacct: warning: something\n",
        "   ",
    ] {
        assert_eq!(by_month(&read(&format!("{before}{good}")), "a"), minute(), "{before:?}");
    }
    assert_eq!(by_month(&read(&good.replace('\n', "\r\n\r\n")), "a"), minute());
}

#[test]
fn a_second_header_starts_anew() {
    let text = format!("{}JobID|End|Start|AllocTRES|ElapsedRaw|Account\n", table(&[ROW]));
    let totals = read(&format!("{text}3|2026-03-01T00:02:00|2026-03-01T00:00:00|node=1|120|c\n"));
    assert_eq!((by_month(&totals, "a"), by_month(&totals, "c")), (minute(), months([("2026-03", 120)])));
}

#[test]
fn elapsed_is_read_where_the_raw_seconds_are_missing() {
    let rows = "1|a|2026-03-02T00:00:00|2026-03-03T02:03:04|1-02:03:04|node=1\n2|a|None|None|00:00:00|\n";
    let totals = read(&format!("JobID|Account|Start|End|Elapsed|AllocTRES\n{rows}"));
    assert_eq!(by_month(&totals, "a"), months([("2026-03", 93_784)]));
    let message = refused("JobID|Account|Start|End|Elapsed|AllocTRES\n1|a|2026-03-02T00:00:00|None|soon|node=1\n");
    assert!(message.contains("column 5 (Elapsed): \"soon\": not a duration"), "{message}");
}

#[test]
fn only_the_columns_that_are_read_have_to_be_utf_8() {
    let header = b"JobID|JobName|Account|Start|End|ElapsedRaw|AllocTRES\n";
    let rows = b"1|pr\xfcfung|a|2026-03-01T00:00:00|2026-03-01T00:01:00|60|node=1\n2|x|\xfcber|None|None|0|\n";
    let mut importer = Importer::new(node_seconds(Tz::UTC));
    importer.read("in", &[&header[..], rows].concat()[..], &mut |_| {}).expect("readable");
    assert_eq!(by_month(&importer.finish().expect("well-formed"), "a"), minute());
    let bad = b"1|x|\xfcber|2026-03-01T00:00:00|2026-03-01T00:01:00|60|node=1\n";
    let mut importer = Importer::new(node_seconds(Tz::UTC));
    let error = importer.read("in", &[&header[..], bad].concat()[..], &mut |_| {}).expect_err("whose is it?");
    assert!(error.to_string().starts_with("in, line 2, column 3 (Account): \"\u{fffd}ber\": not UTF-8"), "{error}");
}

#[test]
fn a_refusal_quotes_the_line_and_says_what_the_input_looks_like() {
    for (text, says) in [
        ("", "the input is empty"),
        ("\n\n", "the input is empty"),
        ("1|a|F|2026-03-01T00:00:00|5|6|\n", "leave out sacct's -n"),
        ("------\nCluster/Account/User Utilization 2026-03-01T00:00:00 - 2026-03-31T23:59:59\n", "sreport"),
        ("       JobID    Account\n------------ ----------\n", "without -P"),
        ("JobID,Account,State\n1,a,F\n", "separated by ','"),
        ("JobID|Account|Start\n", "line 1: no column ElapsedRaw, AllocTRES, End; use: sacct -a -D -P -X -T"),
    ] {
        let message = refused(text);
        assert!(message.contains(says), "{text:?}: {message}");
        if let Some(line) = text.lines().find(|line| !line.trim().is_empty()) {
            assert!(message.contains(&format!("the line is {:?}", line.trim())), "{text:?}: {message}");
        }
    }
}

#[test]
fn overlong_lines_are_malformed_and_never_held() {
    let limits = ImportLimits { line_bytes: 200, ..ImportLimits::default() };
    let text = table(&[&"x".repeat(100_000), ROW]);
    let options = ImportOptions { limits, skip_bad_lines: true, ..node_seconds(Tz::UTC) };
    let totals = import(&[&text], options).expect("one is skipped");
    assert_eq!((totals.bad_lines, by_month(&totals, "a")), (1, minute()));
    assert!(totals.first_bad_lines[0].to_string().ends_with("…\": the line has more than 200 bytes"));
}

fn import_bytes(bytes: Vec<u8>) -> Result<(ImportTotals, bool), ImportError> {
    let mut importer = Importer::new(node_seconds(Tz::UTC));
    importer.read_input(Input::of("in", Cursor::new(bytes), Some(5))?, &mut |_| {})?;
    let utf16 = importer.coverage()[0].utf16;
    Ok((importer.finish()?, utf16))
}

#[test]
fn packed_files_and_utf_16_are_read_as_they_are() {
    let text = table(&[ROW]);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(text.as_bytes()).expect("written");
    let gz = gz.finish().expect("finished");
    let zst = zstd::encode_all(text.as_bytes(), 3).expect("packed");
    let xz = include_bytes!("data/one-row.txt.xz").to_vec();
    for packed in [gz.clone(), zst, xz.clone()] {
        let (totals, utf16) = import_bytes(packed).expect("unpacked");
        assert_eq!((by_month(&totals, "a"), utf16), (minute(), false));
    }
    let utf16: Vec<u8> = [0xfeff].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let (totals, seen) = import_bytes(utf16).expect("decoded");
    assert_eq!((by_month(&totals, "a"), seen), (minute(), true));
    for cut in [gz, xz] {
        let error = import_bytes(cut[..cut.len() - 12].to_vec()).expect_err("cut off");
        assert!(matches!(error, ImportError::Io { .. }), "{error}");
    }
}
