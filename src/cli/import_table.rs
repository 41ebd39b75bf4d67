//! The output of an import: totals by account and month, what was omitted and why, and what needs a second look.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use serde_json::{Value, json};

use super::import_plan::{Finding, Line, Lot, Plan};
use super::import_window::{covered, local};
use super::output::{Out, amount, count, time};
use super::session::CliError;
use crate::domain::period::Month;
use crate::import::{Coverage, ImportTotals, Mappings, Window};

/// Rows of the table that are printed; JSON has them all.
const ROWS_MAX: usize = 200;

/// Unknown accounts that are printed.
const UNKNOWN_MAX: usize = 50;

/// Columns of the list of what needs `--restate`.
const FINDINGS: [&str; 3] = ["account", "month", "what"];

/// Names of TRES that are shown.
const NAMES_MAX: usize = 12;

/// An import, for display.
pub(super) struct Told<'a> {
    pub(super) plan: &'a Plan,
    pub(super) totals: &'a ImportTotals,
    pub(super) inputs: &'a [Coverage],
    pub(super) mappings: &'a Mappings,
    pub(super) window: Window,
    pub(super) said_by_sacct: &'a [String],
    /// The offering's clusters.
    pub(super) clusters: &'a [String],
    /// Zone of the times in the files.
    pub(super) file_zone: Tz,
    pub(super) zone: Tz,
    pub(super) dry_run: bool,
    /// Nothing is stored without `--restate`.
    pub(super) refused: bool,
}

impl Told<'_> {
    pub(super) fn print(&self, out: &Out) {
        for remark in self.remarks() {
            out.remark(super::table::prose(&remark, super::table::width()));
        }
        // What goes with an error is no result.
        if self.refused && !self.dry_run {
            out.remark("\nneeds --restate:");
            out.remark_table(FINDINGS, self.finding_rows());
            return;
        }
        self.document(out);
        self.table(out);
        self.unknown(out);
        self.findings(out);
    }

    /// An error if nothing was stored that was to be.
    pub(super) fn verdict(&self) -> Result<(), CliError> {
        if self.refused && !self.dry_run {
            let things = count(self.plan.findings.len(), "thing", "things");
            let problem = format!(
                "nothing was imported: {things} to look at first; the same command with --restate stores the totals as they \
                 are now, and sets what is missing from a whole month to 0"
            );
            return Err(CliError::Failed(problem));
        }
        Ok(())
    }

    /// Whether this is a dry run.
    fn would(&self) -> bool {
        self.dry_run || self.refused
    }

    fn table(&self, out: &Out) {
        let lines = &self.plan.lines;
        let rows: Vec<[String; 5]> = lines.iter().take(ROWS_MAX).map(|line| self.row(line)).collect();
        if !rows.is_empty() {
            out.table(["account", "month", "component", "total", "outcome"], rows);
        }
        if lines.len() > ROWS_MAX {
            out.text(format!("… and {} more; --format json lists them all", lines.len() - ROWS_MAX));
        }
        out.text(self.summary());
    }

    fn row(&self, line: &Line) -> [String; 5] {
        let outcome = match (line.outcome, line.previous) {
            (Lot::Unchanged, _) => "unchanged".to_owned(),
            (Lot::Late, previous) => {
                format!("late: stays {}", previous.map(amount).unwrap_or_default())
            }
            (lot, previous) => {
                let word = if lot == Lot::Restated { "restated" } else { "reported" };
                let before = previous.map(|previous| format!(" (was {})", amount(previous))).unwrap_or_default();
                format!("{}{word}{before}", if self.would() { "would be " } else { "" })
            }
        };
        [line.account.clone(), line.month.to_string(), line.component.clone(), amount(line.amount), outcome]
    }

    fn summary(&self) -> String {
        let lots = |lot| self.plan.lines.iter().filter(|line| line.outcome == lot).count();
        let months = if self.plan.months.is_empty() { "no month".to_owned() } else { list(&self.plan.months) };
        let late = match lots(Lot::Late) {
            0 => String::new(),
            late => format!(", {late} late (measured before what is recorded)"),
        };
        format!(
            "{}; months covered: {months}; {} reported, {} restated, {} unchanged{late}{}",
            many(self.totals.jobs, "job", "jobs"),
            lots(Lot::Reported),
            lots(Lot::Restated),
            lots(Lot::Unchanged),
            if self.dry_run { " (dry run: nothing was recorded)" } else { "" }
        )
    }

    /// What somebody should know who trusts the totals.
    fn remarks(&self) -> Vec<String> {
        let mut remarks: Vec<String> = self.inputs.iter().map(|input| covered(input, self.zone)).collect();
        // One query a month and cluster; the months are in the summary.
        if self.inputs.len() > NAMES_MAX {
            remarks.clear();
        }
        remarks.extend(self.said_by_sacct.iter().map(|said| format!("sacct said: {said}")));
        self.about_months(&mut remarks);
        self.about_rows(&mut remarks);
        self.about_tres(&mut remarks);
        remarks
    }

    fn about_months(&self, remarks: &mut Vec<String>) {
        let plan = self.plan;
        if !plan.cut.is_empty() {
            remarks.push(format!(
                "not reported: {}. {} covers a part of it only, and a month is replaced only by all of it",
                list(&plan.cut),
                self.window.flags()
            ));
        }
        for (month, measured_at) in &plan.early {
            remarks.push(format!(
                "{month} is counted as it was on {}, when the file was written",
                local(*measured_at, self.zone)
            ));
        }
        if !plan.not_begun.is_empty() {
            remarks.push(format!("left out: {} and later, which had not begun", list(&plan.not_begun)));
        }
        self.about_zones(remarks);
        if plan.clocks_apart_s > 0 {
            let seconds = plan.clocks_apart_s;
            remarks.push(format!("rows end up to {seconds} s after now; what lies after now was not counted"));
        }
    }

    /// Files that were cut at the months of another zone hold a part of a site's month only.
    fn about_zones(&self, remarks: &mut Vec<String>) {
        let (begin, end) = self.window.instants(self.zone);
        let (file_begin, file_end) = self.window.instants(self.file_zone);
        let last = self.inputs.iter().filter_map(|input| input.last_s).max();
        let first = self.inputs.iter().filter_map(|input| input.first_s).min();
        let zone = self.file_zone.name();
        if file_end < end && last == Some(file_end) {
            remarks.push(format!(
                "the files were cut where the month ends in {zone}, {} before it does at the site: import the next month's \
                 file together with them",
                hours(end - file_end)
            ));
        }
        if file_begin > begin && first == Some(file_begin) {
            remarks.push(format!(
                "the files were cut where the month begins in {zone}, {} after it does at the site: import the former \
                 month's file together with them",
                hours(file_begin - begin)
            ));
        }
    }

    fn about_rows(&self, remarks: &mut Vec<String>) {
        let totals = self.totals;
        if totals.jobs == 0 {
            let steps = match totals.steps_skipped {
                0 => String::new(),
                steps => format!("; {}", many(steps, "row of a step was skipped", "rows of steps were skipped")),
            };
            remarks.push(format!("no row of a job{steps}"));
        }
        let counted = [
            (totals.bad_lines, "malformed line was skipped", "malformed lines were skipped"),
            (totals.outside_window, "row lies outside the days that count", "rows lie outside the days that count"),
            (totals.duplicates, "row was there twice and counted once", "rows were there twice and counted once"),
        ];
        remarks.extend(
            counted.into_iter().filter(|(number, ..)| *number > 0).map(|(number, one, more)| many(number, one, more)),
        );
        remarks.extend(totals.first_bad_lines.iter().map(|line| format!("  {line}")));
        if !totals.other_clusters.is_empty() {
            let clusters: Vec<String> = totals
                .other_clusters
                .iter()
                .map(|(name, rows)| format!("{name} ({})", many(*rows, "row", "rows")))
                .collect();
            remarks.push(format!("not counted, since the offering is of other clusters: {}", clusters.join(", ")));
        }
        self.about_clusters(remarks);
        for input in self.inputs.iter().filter(|input| input.utf16) {
            remarks.push(format!("{} is UTF-16; it was read as such", input.name));
        }
        for name in &totals.unterminated_inputs {
            remarks.push(format!("{name} does not end with a line end; it may have been cut off"));
        }
    }

    fn about_clusters(&self, remarks: &mut Vec<String>) {
        for cluster in self.clusters {
            let mut asked = self.inputs.iter().filter(|input| input.asked.as_ref() == Some(cluster)).peekable();
            if asked.peek().is_some() && asked.all(|input| input.rows == 0) {
                remarks.push(format!(
                    "sacct knows no job of the cluster {cluster} in these days (sacctmgr show cluster has the names)"
                ));
            }
        }
        if let [cluster] = self.clusters {
            for input in self.inputs.iter().filter(|input| !input.names_clusters && input.rows > 0) {
                remarks
                    .push(format!("{} does not name the cluster of its rows; they count as {cluster}'s", input.name));
            }
        }
    }

    fn about_tres(&self, remarks: &mut Vec<String>) {
        let seen = &self.totals.allocations;
        if seen.without > 0 {
            remarks.push(format!(
                "{} of {} ran without AllocTRES and count as nothing ({} h in all)",
                seen.without,
                many(seen.rows, "row", "rows"),
                amount(rust_decimal::Decimal::from(seen.without_s) / rust_decimal::Decimal::from(3600))
            ));
        }
        if seen.with_blanks > 0 {
            remarks.push(many(seen.with_blanks, "row has blanks in AllocTRES", "rows have blanks in AllocTRES"));
        }
        if !self.mappings.unmapped.is_empty() {
            remarks.push(format!(
                "not counted: {}; nothing says what TRES it stands for (slurm_tres of the component, or --component)",
                self.mappings.unmapped.join(", ")
            ));
        }
        if seen.nowhere.is_empty() {
            return;
        }
        let mut names: Vec<&str> = seen.names.iter().take(NAMES_MAX).map(String::as_str).collect();
        if seen.names.len() > NAMES_MAX {
            names.push("…");
        }
        for (component, tres) in &seen.nowhere {
            remarks.push(format!(
                "none of {} has {tres}, so {component} is 0 for all; they have {}",
                many(seen.rows, "row", "rows"),
                names.join(", ")
            ));
        }
    }

    fn findings(&self, out: &Out) {
        if self.plan.findings.is_empty() {
            return;
        }
        out.text(if self.refused { "\nneeds --restate:" } else { "\nrestated all the same:" });
        out.table(FINDINGS, self.finding_rows());
        if self.plan.findings.len() > ROWS_MAX {
            out.text(format!("… and {} more; --format json lists them all", self.plan.findings.len() - ROWS_MAX));
        }
    }

    fn finding_rows(&self) -> Vec<[String; 3]> {
        self.plan.findings.iter().take(ROWS_MAX).map(|finding| self.finding(finding)).collect()
    }

    fn finding(&self, finding: &Finding) -> [String; 3] {
        let at = |instant| local(instant, self.zone);
        let named = |account: &String| if account.is_empty() { "(none)".to_owned() } else { account.clone() };
        match finding {
            Finding::Falls { account, month, component, amount: to, previous } => [
                named(account),
                month.to_string(),
                format!("{component} falls from {} to {}", amount(*previous), amount(*to)),
            ],
            Finding::Missing { account, month, component, previous } => [
                named(account),
                month.to_string(),
                format!("{component} was {}; no job used any now: it goes to 0", amount(*previous)),
            ],
            Finding::AfterNow { account, rows, last_end } => [
                named(account),
                String::new(),
                format!(
                    "{} after now, the last {}; only usage until now counts",
                    many(*rows, "row ends", "rows end"),
                    at(*last_end)
                ),
            ],
            Finding::Reopened { account, job, start, .. } => [
                named(account),
                String::new(),
                format!("job {job} of {} has no end; at the last import it had one", at(*start)),
            ],
        }
    }

    fn unknown(&self, out: &Out) {
        let unknown = &self.plan.unknown;
        if unknown.is_empty() {
            return;
        }
        out.text(format!(
            "\n{} of no resource of this offering; nothing {} reported for them:",
            count(unknown.len(), "account", "accounts"),
            if self.would() { "would be" } else { "was" }
        ));
        let rows = unknown.iter().take(UNKNOWN_MAX).map(|account| {
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
        if unknown.len() > UNKNOWN_MAX {
            out.text(format!("… and {} more", unknown.len() - UNKNOWN_MAX));
        }
    }

    fn document(&self, out: &Out) {
        if !out.is_json() {
            return;
        }
        let (plan, totals) = (self.plan, self.totals);
        let unknown: Vec<Value> = plan
            .unknown
            .iter()
            .map(|a| json!({"account": a.account, "jobs": a.jobs, "totals": a.totals, "similar": a.hint}))
            .collect();
        let rules: BTreeMap<&str, &str> =
            self.mappings.rules.iter().map(|rule| (rule.component.as_str(), rule.tres.as_str())).collect();
        let instant = |epoch_s: Option<i64>| epoch_s.and_then(|at| chrono::DateTime::from_timestamp(at, 0)).map(time);
        let inputs: Vec<Value> = self
            .inputs
            .iter()
            .map(|input| {
                json!({"name": input.name, "rows": input.rows, "first_start": instant(input.first_s), "last_end": instant(input.last_s)})
            })
            .collect();
        out.json(&json!({
            "dry_run": self.dry_run,
            "stored": !self.would(),
            "from": self.window.from,
            "to": self.window.to,
            "inputs": inputs,
            "months": plan.months,
            "months_cut": plan.cut,
            "months_not_begun": plan.not_begun,
            "components": rules,
            "components_not_counted": self.mappings.unmapped,
            "components_nowhere": totals.allocations.nowhere.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "totals": plan.lines,
            "needs_restate": plan.findings,
            "unknown_accounts": unknown,
            "jobs": totals.jobs,
            "never_ran": totals.never_ran,
            "steps_skipped": totals.steps_skipped,
            "without_alloctres": totals.allocations.without,
            "other_clusters": totals.other_clusters,
            "bad_lines": totals.bad_lines,
            "duplicates": totals.duplicates,
            "outside_window": totals.outside_window,
        }));
    }
}

fn hours(seconds: i64) -> String {
    format!("{} h", amount(rust_decimal::Decimal::from(seconds) / rust_decimal::Decimal::from(3600)))
}

fn list(months: &[Month]) -> String {
    months.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn many(number: u64, one: &str, many: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), one, many)
}
