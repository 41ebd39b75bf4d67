//! The days that an import covers: from flags, from the last import, or asked for on a terminal.

use std::io::{IsTerminal, Write};

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use clap::Args;

use super::output::Out;
use super::session::CliError;
use crate::domain::period::{Month, day_complaint};
use crate::import::{Coverage, MonthKey, Window};

/// The flags that select the days.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct WindowArgs {
    /// The month to count, at the site: 2026-03
    #[arg(long, value_name = "MONTH", conflicts_with_all = ["from", "to", "since_last"])]
    month: Option<Month>,
    /// First day to count, at the site
    #[arg(long, value_name = "DAY", value_parser = day, conflicts_with = "since_last")]
    from: Option<NaiveDate>,
    /// Last day to count, at the site; until now without it
    #[arg(long, value_name = "DAY", value_parser = day, requires = "from")]
    to: Option<NaiveDate>,
    /// From the first of the last month that was imported for the offering, until now
    #[arg(long, alias = "since_last")]
    since_last: bool,
}

fn day(text: &str) -> Result<NaiveDate, String> {
    let day: NaiveDate = text.parse().map_err(|_| "a day such as 2026-03-01 is expected".to_owned())?;
    day_complaint(day).map_or(Ok(day), Err)
}

impl WindowArgs {
    /// The days that were said; `last` is the last month that was imported.
    pub(super) fn window(&self, offering: &str, last: Option<MonthKey>) -> Result<Option<Window>, CliError> {
        if let (Some(from), Some(to)) = (self.from, self.to)
            && from > to
        {
            return Err(CliError::Usage(format!("--from {from} is after --to {to}")));
        }
        if let Some(month) = self.month {
            return Ok(Some(Window { from: Some(month.first_day()), to: Some(month.last_day()) }));
        }
        if self.since_last {
            let Some(last) = last else {
                let problem = format!(
                    "nothing has been imported for {offering} yet, so there is no last import: say --month or --from"
                );
                return Err(CliError::Failed(problem));
            };
            return Ok(Some(Window { from: Window::of_months(last, last).from, to: None }));
        }
        Ok(self.from.map(|from| Window { from: Some(from), to: self.to }))
    }
}

/// The window of files that were read, when no flag says it: asked for on a terminal, else an error with the flags.
pub(super) fn of_files(
    inputs: &[Coverage],
    totals_months: &[MonthKey],
    zone: Tz,
    command: &str,
    out: &Out,
) -> Result<Window, CliError> {
    let covered: Vec<String> = inputs.iter().map(|input| covered(input, zone)).collect();
    let (Some(first), Some(last)) = (totals_months.first(), totals_months.last()) else {
        let shown = covered.join("\n");
        return Err(CliError::Failed(format!("{shown}\nsay which month the file is of, for instance --month 2026-03")));
    };
    let proposal = Window::of_months(*first, *last);
    let from_standard_input = inputs.iter().any(|input| input.modified_s.is_none());
    if from_standard_input || out.is_json() || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(CliError::Usage(refusal(&covered, totals_months, command)));
    }
    out.remark(covered.join("\n"));
    ask(proposal, out)
}

/// `march.txt: 12 rows of jobs that ran, from 2026-03-01 00:30 to 2026-03-31 23:10`.
pub(super) fn covered(input: &Coverage, zone: Tz) -> String {
    let name = if input.json { format!("{} (JSON)", input.name) } else { input.name.clone() };
    match (input.first_s.and_then(instant), input.last_s.and_then(instant)) {
        (Some(first), Some(last)) => format!(
            "{name}: jobs that ran from {} to {} ({} {})",
            local(first, zone),
            local(last, zone),
            input.rows,
            if input.rows == 1 { "row" } else { "rows" }
        ),
        _ => format!("{name}: no row of a job that ran"),
    }
}

fn instant(epoch_s: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(epoch_s, 0)
}

/// An instant by the site's clock.
pub(super) fn local(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%Y-%m-%d %H:%M").to_string()
}

fn refusal(covered: &[String], months: &[MonthKey], command: &str) -> String {
    let mut lines = vec![
        "say which days the file covers whole, since a month is replaced only by all of it".to_owned(),
        String::new(),
    ];
    lines.extend(covered.iter().map(|line| format!("  {line}, by the site's clock")));
    lines.push(String::new());
    let run: Vec<&MonthKey> = months.iter().collect();
    if let [first, .., last] = run.as_slice() {
        lines.push(format!("if it covers all of {first} to {last}:"));
        lines.push(format!("  {command} {}", Window::of_months(**first, **last).flags()));
        lines.push("if it covers one of these months:".to_owned());
    } else {
        lines.push("if it covers the whole month (of the running month: all until now):".to_owned());
    }
    lines.extend(months.iter().take(12).map(|month| format!("  {command} --month {month}")));
    lines.join("\n")
}

/// Asks until the answer is a month, two months, or nothing.
fn ask(proposal: Window, out: &Out) -> Result<Window, CliError> {
    let proposed = match (proposal.from.map(MonthKey::of), proposal.to.map(MonthKey::of)) {
        (Some(first), Some(last)) if first != last => format!("{first} {last}"),
        (Some(first), _) => first.to_string(),
        _ => String::new(),
    };
    loop {
        let mut stderr = std::io::stderr().lock();
        // Without a terminal nobody is asked.
        drop(write!(stderr, "Which month, or first and last month, does it cover whole? [{proposed}] "));
        drop(stderr.flush());
        drop(stderr);
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer);
        if read.map_err(|error| CliError::because("the answer cannot be read", error))? == 0 {
            return Err(CliError::Failed("nothing was imported: no answer".to_owned()));
        }
        let answer = if answer.trim().is_empty() { &proposed } else { &answer };
        let months: Result<Vec<Month>, _> = answer.split_whitespace().map(str::parse).collect();
        match months.as_deref() {
            Ok([one]) => return Ok(Window { from: Some(one.first_day()), to: Some(one.last_day()) }),
            Ok([first, last]) if first <= last => {
                return Ok(Window { from: Some(first.first_day()), to: Some(last.last_day()) });
            }
            _ => out.remark("a month is written 2026-03; two of them with a blank between, the earlier first"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::refusal;
    use crate::import::MonthKey;

    #[test]
    fn a_pipe_is_told_the_flags() {
        let month = |number| MonthKey::new(2026, number).expect("a month");
        let one = refusal(&["a.txt: jobs".to_owned()], &[month(4)], "sluice import sacct a.txt --offering hpc");
        assert!(one.ends_with("\n  sluice import sacct a.txt --offering hpc --month 2026-04"), "{one}");
        let two = refusal(&[], &[month(3), month(4)], "X");
        assert!(two.contains("\n  X --from 2026-03-01 --to 2026-04-30\n"), "{two}");
        assert!(two.contains("\n  X --month 2026-03\n  X --month 2026-04"), "{two}");
    }
}
