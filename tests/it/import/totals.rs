//! The totals of the fixtures, whichever way their jobs are listed and divided into files.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use chrono_tz::Tz;
use rust_decimal::Decimal;
use sluice::import::{ImportOptions, ImportTotals, Progress, Window, read_all};

use super::{MONTHLY, WHOLE, import, month, node_seconds, rules};

/// Account, month, then seconds of nodes, CPUs, MB, GPUs and billing units.
const EXPECTED: [(&str, &str, [i64; 5]); 6] = [
    ("Phys", "2026-03", [1200, 1200, 614_400, 0, 1200]),
    ("bio", "2026-02", [126_776, 7_237_920, 58_679_410_688, 450_208, 18_014_112]),
    ("bio", "2026-03", [33_611, 1_444_888, 5_659_987_968, 0, 1_444_888]),
    ("phys", "2026-01", [367_201, 9_288_002, 18_402_812_200, 0, 9_288_002]),
    ("phys", "2026-02", [280_801, 8_985_602, 18_402_509_800, 0, 8_985_602]),
    ("phys", "2026-03", [658_800, 41_644_800, 170_577_100_800, 0, 41_644_800]),
];

const NAMES: [&str; 5] = ["node", "cpu", "mem", "gpu", "billing"];

fn seconds() -> ImportOptions {
    let seconds =
        ["node=node,seconds", "cpu=cpu,seconds", "mem=mem,seconds", "gpu=gres/gpu,seconds", "billing=billing,seconds"];
    ImportOptions::new(rules(&seconds), Tz::UTC)
}

fn assert_expected(totals: &ImportTotals) {
    let months = ["2026-01", "2026-02", "2026-03"].map(month);
    assert_eq!(totals.months, months);
    let accounts: Vec<_> = totals.per_account.keys().map(String::as_str).collect();
    assert_eq!(accounts, ["Phys", "bio", "idle", "phys"]);
    for (account, by_month) in &totals.per_account {
        for (month, components) in by_month {
            let expected = EXPECTED.iter().find(|(of, at, _)| of == account && *at == month.to_string());
            for (at, name) in NAMES.iter().enumerate() {
                let amount = expected.map_or(0, |(_, _, amounts)| amounts[at]);
                assert_eq!(components[*name], Decimal::from(amount), "{account} {month} {name}");
            }
        }
        assert_eq!(by_month.len(), months.len(), "{account} has a total, if only 0, for every month");
    }
    assert_eq!(totals.jobs, 17);
    assert_eq!(totals.jobs_per_account["idle"], 1);
}

#[test]
fn whole_jobs_are_split_at_the_edges_of_months() {
    let totals = import(&[WHOLE], seconds()).expect("well-formed");
    assert_expected(&totals);
    assert_eq!(totals.steps_skipped, 33);
    assert_eq!(totals.never_ran, 3);
    assert_eq!((totals.duplicates, totals.overlaps, totals.bad_lines), (0, 0, 0));
    assert_eq!(totals.first_time.map(|at| at.to_rfc3339()).as_deref(), Some("2026-01-30T22:00:00+00:00"));
    assert_eq!(totals.last_time.map(|at| at.to_rfc3339()).as_deref(), Some("2026-03-29T03:30:00+00:00"));
}

#[test]
fn monthly_files_add_up_to_the_same() {
    let totals = import(&MONTHLY, seconds()).expect("well-formed");
    assert_expected(&totals);
    assert_eq!((totals.duplicates, totals.steps_skipped), (0, 0));
}

#[test]
fn the_same_jobs_in_several_files_count_once() {
    let inputs = [MONTHLY[1], WHOLE, MONTHLY[2], MONTHLY[1], MONTHLY[0], WHOLE];
    let totals = import(&inputs, seconds()).expect("well-formed");
    assert_expected(&totals);
    assert_eq!(totals.overlaps, 0);
    assert!(totals.duplicates > 14, "{}", totals.duplicates);
}

#[test]
fn one_month_alone_covers_that_month_only() {
    let totals = import(&[MONTHLY[1]], seconds()).expect("well-formed");
    assert_eq!(totals.months, [month("2026-02")], "a job still waiting at the end does not touch March");
    assert_eq!(totals.per_account["bio"][&month("2026-02")]["node"], Decimal::from(126_776));
}

#[test]
fn units_are_hours_with_six_places() {
    let options = ImportOptions::new(rules(&["node_hours=node", "mem_gb_hours=mem", "gpu_hours=gres/gpu"]), Tz::UTC);
    let totals = import(&[WHOLE], options).expect("well-formed");
    let bio = &totals.per_account["bio"][&month("2026-02")];
    // 126776 / 3600, 58679410688 / 1024 / 3600, 450208 / 3600
    assert_eq!(bio["node_hours"].to_string(), "35.215556");
    assert_eq!(bio["mem_gb_hours"].to_string(), "15917.808889");
    assert_eq!(bio["gpu_hours"].to_string(), "125.057778");
    assert_eq!(bio.len(), 3, "only what there are rules for");
}

fn day(month: u32, day: u32) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(2026, month, day)
}

#[test]
fn a_window_clips_jobs_and_covers_its_months() {
    let window = Window { from: day(1, 31), to: day(2, 1) };
    let totals = import(&[WHOLE], ImportOptions { window, ..node_seconds(Tz::UTC) }).expect("well-formed");
    assert_eq!(totals.months, ["2026-01", "2026-02"].map(month));
    // Job 700 runs through both days, 701 and 703 end with January, 702 runs in February's first second.
    assert_eq!(totals.per_account["phys"][&month("2026-01")]["node"], Decimal::from(3 * 86_400 + 1 + 2 * 43_200));
    assert_eq!(totals.per_account["phys"][&month("2026-02")]["node"], Decimal::from(3 * 86_400 + 1));
    assert_eq!(totals.per_account["bio"][&month("2026-02")]["node"], Decimal::ZERO, "none of its jobs is inside");
    assert_eq!(totals.outside_window, 10);
}

#[test]
fn an_open_window_covers_what_ran_inside() {
    let window = Window { from: day(3, 1), to: None };
    let totals = import(&[WHOLE], ImportOptions { window, ..node_seconds(Tz::UTC) }).expect("well-formed");
    assert_eq!(totals.months, [month("2026-03")]);
    assert_eq!(totals.per_account["bio"][&month("2026-03")]["node"], Decimal::from(33_611));
}

#[test]
fn unknown_accounts_are_listed_and_never_matched_by_case() {
    let totals = import(&[WHOLE], node_seconds(Tz::UTC)).expect("well-formed");
    let known = BTreeSet::from(["bio".to_owned(), "phys".to_owned()]);
    let unknown = totals.unknown_accounts(&known);
    let listed: Vec<_> = unknown.iter().map(|of| (of.account.as_str(), of.jobs, of.hint.as_deref())).collect();
    assert_eq!(listed, [("Phys", 1, Some("phys")), ("idle", 1, None)]);
    assert_eq!(unknown[0].totals["node"], Decimal::from(1200));
}

#[test]
fn files_are_read_by_name_with_progress() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut names = Vec::new();
    for (number, text) in MONTHLY.iter().enumerate() {
        let path = folder.path().join(format!("{number}.txt"));
        std::fs::write(&path, text).expect("written");
        names.push(path.to_str().expect("UTF-8").to_owned());
    }
    let mut last = Progress::default();
    let importer = read_all(&names, seconds(), &mut |now| {
        assert!(now.bytes > last.bytes && now.lines > last.lines);
        last = now;
    });
    let importer = importer.expect("readable");
    let rows: Vec<u64> = importer.coverage().iter().map(|input| input.rows).collect();
    assert_eq!((rows.len(), rows.iter().all(|rows| *rows > 0)), (3, true));
    assert!(importer.coverage().iter().all(|input| input.modified_s.is_some()));
    assert_expected(&importer.finish().expect("well-formed"));
    let bytes: usize = MONTHLY.iter().map(|text| text.len()).sum();
    let lines: usize = MONTHLY.iter().map(|text| text.lines().count()).sum();
    assert_eq!((last.bytes, last.lines), (bytes as u64, lines as u64));
}
