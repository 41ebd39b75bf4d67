//! Single rows and their rules: requeues, overlaps, suspensions, running jobs, clock changes, months in another zone.

use chrono_tz::Tz;
use rust_decimal::Decimal;
use sluice::import::{ImportOptions, Window};

use super::{by_month, import, import_rows, month, months, node_seconds, table};

#[test]
fn runs_of_a_requeued_job_are_added() {
    let totals = import_rows(&[
        "9|a|NODE_FAIL|2026-02-01T00:00:00|2026-02-01T01:00:00|3600|node=2",
        "9|a|COMPLETED|2026-02-01T05:00:00|2026-02-01T05:10:00|600|node=1",
    ]);
    assert_eq!(by_month(&totals, "a"), months([("2026-02", 7800)]));
    assert_eq!((totals.jobs, totals.duplicates), (1, 0));
}

#[test]
fn a_job_listed_while_it_ran_and_after_its_end_counts_once() {
    let running = "9|a|RUNNING|2026-02-28T23:00:00|Unknown|1800|node=2";
    let done = "9|a|COMPLETED|2026-02-28T23:00:00|2026-03-01T01:00:00|7200|node=2";
    assert_eq!(by_month(&import_rows(&[running]), "a"), months([("2026-02", 3600)]));
    for rows in [[running, done], [done, running]] {
        let totals = import_rows(&rows);
        assert_eq!(by_month(&totals, "a"), months([("2026-02", 7200), ("2026-03", 7200)]));
        assert_eq!(totals.duplicates, 1);
    }
}

#[test]
fn overlapping_rows_of_a_job_count_the_time_once() {
    let totals = import_rows(&[
        "9|a|COMPLETED|2026-02-01T00:30:00|2026-02-01T02:00:00|5400|node=1",
        "9|a|COMPLETED|2026-02-01T00:00:00|2026-02-01T01:00:00|3600|node=1",
    ]);
    assert_eq!(by_month(&totals, "a"), months([("2026-02", 7200)]));
    assert_eq!((totals.overlaps, totals.duplicates), (1, 0));
}

#[test]
fn of_two_versions_of_a_row_the_larger_allocation_counts_in_any_order() {
    let small = "9|a|COMPLETED|2026-02-01T00:00:00|2026-02-01T01:00:00|3600|node=1";
    let large = "9|a|COMPLETED|2026-02-01T00:00:00|2026-02-01T01:00:00|3600|node=3";
    for rows in [[small, large], [large, small]] {
        assert_eq!(by_month(&import_rows(&rows), "a"), months([("2026-02", 10_800)]));
    }
}

#[test]
fn a_job_in_rows_of_two_accounts_at_the_same_time_is_refused() {
    let one = "700|climate|COMPLETED|2026-03-02T00:00:00|2026-03-02T10:00:00|36000|node=1";
    let inside = "700|genomics|COMPLETED|2026-03-02T02:00:00|2026-03-02T08:00:00|21600|node=1";
    for rows in [[one, inside], [inside, one]] {
        let error = import(&[&table(&rows)], node_seconds(Tz::UTC)).expect_err("two accounts").to_string();
        assert!(
            error.starts_with("job 700 is in rows of two accounts at the same time, climate and genomics"),
            "{error}"
        );
    }
    // An id that began anew, or a job that was moved while it waited.
    let later = "700|genomics|COMPLETED|2026-03-02T10:00:00|2026-03-02T11:00:00|3600|node=1";
    let totals = import_rows(&[one, later]);
    assert_eq!(by_month(&totals, "climate"), months([("2026-03", 36_000)]));
    assert_eq!(by_month(&totals, "genomics"), months([("2026-03", 3600)]));
}

#[test]
fn clusters_tell_jobs_of_one_id_apart_and_only_those_of_the_offering_count() {
    let text = "JobID|Cluster|Account|Start|End|ElapsedRaw|AllocTRES\n\
                7|alpha|a|2026-03-02T00:00:00|2026-03-02T00:01:00|60|node=1\n\
                7|Beta|b|2026-03-02T00:00:00|2026-03-02T00:02:00|120|node=1\n\
                7|beta|a|2026-03-02T00:00:00|2026-03-02T00:02:00|120|node=1\n\
                8|gamma|a|not a time|at all|x|node\n";
    let clusters = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let options = ImportOptions { clusters: clusters(&["alpha", "gamma"]), ..node_seconds(Tz::UTC) };
    assert!(import(&[text], options).is_err(), "the row of gamma counts, and is malformed");
    let options = ImportOptions { clusters: clusters(&["alpha"]), ..node_seconds(Tz::UTC) };
    let totals = import(&[text], options).expect("the others are not looked at");
    assert_eq!(by_month(&totals, "a"), months([("2026-03", 60)]));
    let left_out: Vec<_> = totals.other_clusters.iter().map(|(name, rows)| (name.as_str(), *rows)).collect();
    assert_eq!(left_out, [("Beta", 1), ("beta", 1), ("gamma", 1)]);
}

#[test]
fn accounts_of_one_name_on_two_clusters_are_one_and_their_jobs_are_not() {
    let text = "JobID|Cluster|Account|Start|End|ElapsedRaw|AllocTRES\n\
                7|alpha|a|2026-03-02T00:00:00|2026-03-02T00:01:00|60|node=1\n\
                7|beta|a|2026-03-02T00:00:00|2026-03-02T00:02:00|120|node=1\n";
    let clusters = vec!["alpha".to_owned(), "beta".to_owned()];
    let options = ImportOptions { clusters, ..node_seconds(Tz::UTC) };
    let totals = import(&[text], options.clone()).expect("told apart");
    assert_eq!((by_month(&totals, "a"), totals.jobs), (months([("2026-03", 180)]), 2));
    let without = table(&["7|a|COMPLETED|2026-03-02T00:00:00|2026-03-02T00:01:00|60|node=1"]);
    let error = import(&[&without], options).expect_err("of which cluster?").to_string();
    assert!(error.contains("no Cluster in the row, where the offering counts those of alpha, beta"), "{error}");
}

#[test]
fn rows_that_never_ran_cannot_stop_an_import() {
    let totals = import_rows(&[
        "7001_[1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31,33,35,37,39,41,43...]|a|PENDING|Unknown|Unknown|0|",
        "7002_[1,3,5,7,9...%5]|a|CANCELLED by 1001|None|2026-03-05T00:00:00|0|",
        "7003_[1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31,33,35,37,39,4|a|PENDING|Unknown|Unknown|0|",
        "7004|a|PENDING|N/A|N/A|0|N/A",
        "7005|a|PENDING|0|0|0|",
        "7006|a|CANCELLED|1969-12-31T19:00:00|1969-12-31T19:00:00|0|cpu",
        "7007|a|PENDING|Unknown|Unknown||",
        "7008|a|PENDING|Unknown|Unknown|Unknown|",
        "7009|a|PENDING|soon|later|-5|cpu=-1",
        "whatever|a|CANCELLED|someday|never|0|",
        "1|a|COMPLETED|2026-03-02T00:00:00|2026-03-02T00:01:00|60|node=1",
    ]);
    assert_eq!(by_month(&totals, "a"), months([("2026-03", 60)]));
    assert_eq!((totals.jobs, totals.never_ran, totals.bad_lines), (10, 10, 0));
}

#[test]
fn what_lies_after_now_is_told_and_not_counted() {
    let rows = table(&[
        "1|a|RUNNING|2026-03-10T00:00:00|2026-04-01T00:00:00|1900800|node=1",
        "2|b|COMPLETED|2026-03-20T00:00:00|2026-03-20T00:01:00|60|node=1",
    ]);
    let now_s = chrono::DateTime::parse_from_rfc3339("2026-03-15T00:00:00Z").expect("an instant").timestamp();
    let options = ImportOptions { now_s: Some(now_s), ..node_seconds(Tz::UTC) };
    let totals = import(&[&rows], options).expect("well-formed");
    assert_eq!(by_month(&totals, "a"), months([("2026-03", 5 * 86_400)]));
    assert_eq!(by_month(&totals, "b"), months([("2026-03", 0)]));
    let after: Vec<_> = totals.after_now.iter().map(|(name, after)| (name.as_str(), after.rows)).collect();
    assert_eq!(after, [("a", 1), ("b", 1)]);
}

#[test]
fn a_suspended_job_is_spread_over_its_span_without_losing_a_second() {
    // Half an hour in each month, 1001 of 3600 seconds on the processor: 500 by midnight, 501 after it.
    let totals = import_rows(&["9|a|COMPLETED|2026-02-28T23:30:00|2026-03-01T00:30:00|1001|node=1"]);
    assert_eq!(by_month(&totals, "a"), months([("2026-02", 500), ("2026-03", 501)]));
}

#[test]
fn a_job_may_last_for_several_months() {
    let totals = import_rows(&["9|a|COMPLETED|2026-01-31T23:59:50|2026-04-01T00:00:05|5097615|node=1"]);
    let days = |days: i64| days * 86_400;
    let expected = [("2026-01", 10), ("2026-02", days(28)), ("2026-03", days(31)), ("2026-04", 5)];
    assert_eq!(by_month(&totals, "a"), months(expected));
    assert_eq!(totals.edge_months.len(), 4, "every month is reached into or out of");
}

#[test]
fn months_at_the_ends_that_only_crossing_jobs_touch_are_marked_and_nobody_is_set_to_zero_there() {
    let rows = [
        "1|a|COMPLETED|2026-01-31T23:00:00|2026-02-01T01:00:00|7200|node=1",
        "2|b|COMPLETED|2026-02-03T00:00:00|2026-02-03T00:01:00|60|node=1",
    ];
    let totals = import_rows(&rows);
    assert_eq!(totals.edge_months, [month("2026-01")]);
    assert_eq!(by_month(&totals, "a"), months([("2026-01", 3600), ("2026-02", 3600)]));
    assert_eq!(by_month(&totals, "b"), months([("2026-02", 60)]));

    let window =
        Window { from: chrono::NaiveDate::from_ymd_opt(2026, 1, 1), to: chrono::NaiveDate::from_ymd_opt(2026, 2, 28) };
    let totals = import(&[&table(&rows)], ImportOptions { window, ..node_seconds(Tz::UTC) }).expect("well-formed");
    assert_eq!(by_month(&totals, "b"), months([("2026-01", 0), ("2026-02", 60)]), "a window says what is complete");
    assert!(totals.edge_months.is_empty());
}

#[test]
fn local_times_across_both_clock_changes_keep_their_seconds() {
    let rows = table(&[
        "1|a|COMPLETED|2026-03-29T01:00:00|2026-03-29T04:00:00|7200|node=1",
        "2|a|COMPLETED|2026-10-25T01:00:00|2026-10-25T04:00:00|14400|node=1",
    ]);
    let totals = import(&[&rows], node_seconds(Tz::Europe__Berlin)).expect("well-formed");
    assert_eq!(by_month(&totals, "a"), months([("2026-03", 7200), ("2026-10", 14_400)]));
}

#[test]
fn months_are_those_of_the_site_whatever_the_zone_of_the_file() {
    // 22:30 to 23:30 UTC on 31 March is half past midnight to half past one in Berlin's April.
    let rows = table(&["1|a|COMPLETED|2026-03-31T21:30:00|2026-03-31T23:00:00|5400|node=1"]);
    let options = ImportOptions { month_zone: Tz::Europe__Berlin, ..node_seconds(Tz::UTC) };
    let totals = import(&[&rows], options).expect("well-formed");
    assert_eq!(by_month(&totals, "a"), months([("2026-03", 1800), ("2026-04", 3600)]));
}

#[test]
fn a_job_without_an_account_is_counted_under_the_empty_name() {
    let totals = import_rows(&["1||COMPLETED|2026-03-01T00:00:00|2026-03-01T00:01:00|60|node=1"]);
    assert_eq!(totals.unknown_accounts(&std::collections::BTreeSet::new())[0].account, "");
}

#[test]
fn waiting_arrays_and_waiting_jobs_use_nothing_and_cover_no_month() {
    let totals = import_rows(&["5_[1-9%3]|a|PENDING|Unknown|Unknown|0|", "6|a|PENDING|None|Unknown|0|"]);
    assert_eq!((totals.jobs, totals.never_ran), (2, 2));
    assert!(totals.months.is_empty());
    assert!(totals.per_account["a"].is_empty());
}

#[test]
fn halves_are_rounded_away_from_zero() {
    let rows = table(&["1|a|COMPLETED|2026-03-01T00:00:00|2026-03-01T00:00:01|1|node=1"]);
    // One second in units of 2,000,000 is 0.0000005, half of the last place.
    let mut half = node_seconds(Tz::UTC);
    half.rules[0].tres_seconds_per_unit = Decimal::from(2_000_000);
    assert_eq!(by_month(&import(&[&rows], half).expect("well-formed"), "a")["2026-03"], Decimal::new(1, 6));
}
