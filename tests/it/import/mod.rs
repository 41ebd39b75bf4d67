//! Reading `sacct` output as a whole: fixtures of invented jobs with every peculiarity that was met in real output, and
//! totals that were computed apart from this program.

mod demo_data;
mod json;
mod query;
mod reading;
mod refusals;
mod rows;
mod totals;

use std::collections::BTreeMap;

use chrono_tz::Tz;
use rust_decimal::Decimal;
use sluice::import::{ComponentRule, ImportError, ImportOptions, ImportTotals, Importer, MonthKey};

/// The jobs as `sacct -p` lists them without `-X` and `-T`: other columns, a trailing bar, steps.
const WHOLE: &str = include_str!("data/whole-unclipped.txt");
/// The same jobs from `sacct -X -P -T`, a file a month.
const MONTHLY: [&str; 3] = [
    include_str!("data/clipped-2026-01.txt"),
    include_str!("data/clipped-2026-02.txt"),
    include_str!("data/clipped-2026-03.txt"),
];

const HEADER: &str = "JobID|Account|State|Start|End|ElapsedRaw|AllocTRES";

fn rules(texts: &[&str]) -> Vec<ComponentRule> {
    texts.iter().map(|text| text.parse().expect("a rule")).collect()
}

/// Options that count nodes in seconds, so that totals are whole numbers.
fn node_seconds(zone: Tz) -> ImportOptions {
    ImportOptions::new(rules(&["node=node,seconds"]), zone)
}

fn import(inputs: &[&str], options: ImportOptions) -> Result<ImportTotals, ImportError> {
    let mut importer = Importer::new(options);
    for (number, input) in inputs.iter().enumerate() {
        importer.read(&format!("file{}", number + 1), input.as_bytes(), &mut |_| {})?;
    }
    importer.finish()
}

/// Rows under [`HEADER`], read in UTC.
fn import_rows(rows: &[&str]) -> ImportTotals {
    import(&[&table(rows)], node_seconds(Tz::UTC)).expect("well-formed rows")
}

fn table(rows: &[&str]) -> String {
    let mut text = format!("{HEADER}\n");
    for row in rows {
        text.push_str(row);
        text.push('\n');
    }
    text
}

fn month(text: &str) -> MonthKey {
    let (year, number) = text.split_once('-').expect("YYYY-MM");
    MonthKey::new(year.parse().expect("a year"), number.parse().expect("a number")).expect("a month")
}

/// The only component's total by month.
fn by_month(totals: &ImportTotals, account: &str) -> BTreeMap<String, Decimal> {
    totals.per_account[account]
        .iter()
        .map(|(month, components)| (month.to_string(), components.values().copied().sum()))
        .collect()
}

fn months<const N: usize>(amounts: [(&str, i64); N]) -> BTreeMap<String, Decimal> {
    amounts.into_iter().map(|(month, amount)| (month.to_owned(), Decimal::from(amount))).collect()
}
