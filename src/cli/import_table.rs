//! What an import says: totals by account and month, what was left out and why, accounts that nobody knows.

use std::collections::BTreeMap;

use serde_json::json;

use super::import_report::{Line, Lot, Report};
use super::output::{Out, amount, count};
use crate::import::{ImportTotals, Mappings, Window};

/// Rows of the table that are printed; JSON has them all.
const ROWS_MAX: usize = 200;

/// Unknown accounts that are printed.
const UNKNOWN_MAX: usize = 50;

pub(super) fn print(
    report: &Report,
    totals: &ImportTotals,
    mappings: &Mappings,
    window: Window,
    dry_run: bool,
    out: &Out,
) {
    document(report, totals, mappings, dry_run, out);
    let rows: Vec<[String; 5]> = report.lines.iter().take(ROWS_MAX).map(|line| row(line, dry_run)).collect();
    if !rows.is_empty() {
        out.table(["account", "month", "component", "total", "outcome"], rows);
    }
    if report.lines.len() > ROWS_MAX {
        out.text(format!("… and {} more; --format json lists them all", report.lines.len() - ROWS_MAX));
    }
    out.text(summary(report, totals, dry_run));
    for remark in remarks(report, totals, mappings, window) {
        out.remark(remark);
    }
    unknown(report, out);
}

fn row(line: &Line, dry_run: bool) -> [String; 5] {
    let outcome = match (line.outcome, line.previous) {
        (Lot::Unchanged, _) => "unchanged".to_owned(),
        (lot, previous) => {
            let word = if lot == Lot::Restated { "restated" } else { "reported" };
            let before = previous.map(|previous| format!(" (was {})", amount(previous))).unwrap_or_default();
            format!("{}{word}{before}", if dry_run { "would be " } else { "" })
        }
    };
    [line.account.clone(), line.month.to_string(), line.component.clone(), amount(line.amount), outcome]
}

fn summary(report: &Report, totals: &ImportTotals, dry_run: bool) -> String {
    let lots = |lot| report.lines.iter().filter(|line| line.outcome == lot).count();
    let months: Vec<String> = report.months.iter().map(ToString::to_string).collect();
    let months = if months.is_empty() { "no month".to_owned() } else { months.join(", ") };
    let jobs = count(usize::try_from(totals.jobs).unwrap_or(usize::MAX), "job", "jobs");
    format!(
        "{jobs}; months covered: {months}; {} reported, {} restated, {} unchanged{}",
        lots(Lot::Reported),
        lots(Lot::Restated),
        lots(Lot::Unchanged),
        if dry_run { " (dry run: nothing was recorded)" } else { "" }
    )
}

/// What somebody should know who trusts the totals.
fn remarks(report: &Report, totals: &ImportTotals, mappings: &Mappings, window: Window) -> Vec<String> {
    let mut remarks = Vec::new();
    let list =
        |months: &[crate::domain::period::Month]| months.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !report.edges.is_empty() {
        remarks.push(format!(
            "not reported: {}. Only jobs that reach in from a neighbouring month touch it, so its totals are probably fragments; say --from and --to to report it all the same",
            list(&report.edges)
        ));
    }
    for month in window.cut_months() {
        remarks.push(format!("the days given with --from and --to cut {month}: its total is of a part of the month"));
    }
    if !report.not_begun.is_empty() {
        remarks.push(format!("left out: {}, which has not begun and holds no usage", list(&report.not_begun)));
    }
    if !mappings.unmapped.is_empty() {
        remarks.push(format!(
            "not counted: {}; nothing says what TRES it stands for (slurm_tres of the component, or --component)",
            mappings.unmapped.join(", ")
        ));
    }
    let counted = [
        (totals.bad_lines, "malformed line was skipped", "malformed lines were skipped"),
        (totals.outside_window, "row lies outside --from and --to", "rows lie outside --from and --to"),
        (totals.duplicates, "row was there twice and counted once", "rows were there twice and counted once"),
    ];
    for (number, one, many) in counted.into_iter().filter(|(number, _, _)| *number > 0) {
        remarks.push(count(usize::try_from(number).unwrap_or(usize::MAX), one, many));
    }
    remarks.extend(totals.first_bad_lines.iter().map(|line| format!("  {line}")));
    for name in &totals.unterminated_inputs {
        remarks.push(format!("{name} does not end with a line end; it may have been cut off"));
    }
    remarks
}

fn unknown(report: &Report, out: &Out) {
    if report.unknown.is_empty() {
        return;
    }
    out.text(format!(
        "\n{} of no resource of this offering; nothing was reported for them:",
        count(report.unknown.len(), "account", "accounts")
    ));
    let rows = report.unknown.iter().take(UNKNOWN_MAX).map(|account| {
        let totals: Vec<String> =
            account.totals.iter().map(|(name, total)| format!("{name} {}", amount(*total))).collect();
        [
            if account.account.is_empty() { "(none)".to_owned() } else { account.account.clone() },
            account.jobs.to_string(),
            totals.join(", "),
            account.hint.as_ref().map(|hint| format!("there is {hint}")).unwrap_or_default(),
        ]
    });
    out.table(["unknown account", "jobs", "usage", ""], rows.collect());
    if report.unknown.len() > UNKNOWN_MAX {
        out.text(format!("… and {} more", report.unknown.len() - UNKNOWN_MAX));
    }
}

fn document(report: &Report, totals: &ImportTotals, mappings: &Mappings, dry_run: bool, out: &Out) {
    let unknown: Vec<_> = report
        .unknown
        .iter()
        .map(|a| json!({"account": a.account, "jobs": a.jobs, "totals": a.totals, "similar": a.hint}))
        .collect();
    let rules: BTreeMap<&str, &str> =
        mappings.rules.iter().map(|rule| (rule.component.as_str(), rule.tres.as_str())).collect();
    out.json(&json!({
        "dry_run": dry_run,
        "months": report.months,
        "edge_months_not_reported": report.edges,
        "months_not_begun": report.not_begun,
        "components": rules,
        "components_not_counted": mappings.unmapped,
        "totals": report.lines,
        "unknown_accounts": unknown,
        "jobs": totals.jobs,
        "never_ran": totals.never_ran,
        "bad_lines": totals.bad_lines,
        "duplicates": totals.duplicates,
        "outside_window": totals.outside_window,
    }));
}
