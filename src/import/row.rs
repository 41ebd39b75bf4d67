//! One row of a job in either format, and its meaning: that the job ran, when, and for how long.
//!
//! A row of a job that never ran cannot stop an import, since its other columns are not read.

use std::borrow::Cow;

use chrono_tz::Tz;

use super::error::{BadLine, Column};
use super::header::{FIELD_COUNT, Field};
use super::job_id::{JobKey, RowKind};
use super::local_time::{Run, Stamp, ran_between};

/// States of `sacct` in which a job has no end yet.
const WITHOUT_END: [&str; 9] = [
    "RUNNING",
    "SUSPENDED",
    "COMPLETING",
    "CONFIGURING",
    "RESIZING",
    "SIGNALING",
    "STAGE_OUT",
    "STOPPED",
    "POWER_UP_NODE",
];

/// A row of a job, with its columns still as text; empty where there is no such column.
#[derive(Debug)]
pub struct JobRow<'a> {
    pub(super) texts: [&'a str; FIELD_COUNT],
    pub(super) place: Place<'a>,
}

/// Where a row stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) input: &'a str,
    /// Number of the line, or of the job in a JSON document.
    pub(super) number: u64,
    pub(super) columns: Columns<'a>,
}

/// How an error names a column.
#[derive(Debug, Clone, Copy)]
pub(super) enum Columns<'a> {
    /// By its place in the header.
    Table(&'a super::header::Header),
    /// By its name in the document.
    Json,
}

impl Place<'_> {
    pub(super) fn bad_line(&self, text: &str, problem: impl Into<String>) -> BadLine {
        BadLine {
            input: self.input.to_owned(),
            line: self.number,
            in_json: matches!(self.columns, Columns::Json),
            column: None,
            value: BadLine::shorten(text),
            problem: problem.into(),
        }
    }

    pub(super) fn bad_field(&self, field: Field, value: &str, problem: String) -> BadLine {
        let column = match self.columns {
            Columns::Table(header) => {
                header.place(field).map(|at| Column { position: at + 1, name: field.name().to_owned() })
            }
            Columns::Json => Some(Column { position: 0, name: json_name(field).to_owned() }),
        };
        BadLine { column, ..self.bad_line(value, problem) }
    }
}

fn json_name(field: Field) -> &'static str {
    match field {
        Field::JobId => "job_id",
        Field::Account => "account",
        Field::ElapsedRaw | Field::Elapsed => "time.elapsed",
        Field::AllocTres => "tres.allocated",
        Field::Start => "time.start",
        Field::End => "time.end",
        Field::Cluster => "cluster",
        Field::State => "state.current",
    }
}

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The job ran.
    Ran {
        /// Its id.
        job: JobKey,
        /// When.
        run: Run,
        /// It has no end yet.
        open: bool,
    },
    /// It did not run at all; its id, if it can be read.
    NeverRan(Option<JobKey>),
    /// A step, whose time is in its job's row.
    Step,
}

impl Reading {
    /// Whether time was used.
    pub(super) fn is_usage(self) -> bool {
        matches!(self, Self::Ran { .. })
    }
}

impl<'a> JobRow<'a> {
    /// The text of a column; empty where the input has no such column.
    pub fn text(&self, field: Field) -> &'a str {
        self.texts[field.index()]
    }

    /// The error that points at a column of this row.
    pub fn bad(&self, field: Field, problem: String) -> Box<BadLine> {
        Box::new(self.place.bad_field(field, self.text(field), problem))
    }

    /// Reads the row.
    ///
    /// # Errors
    /// A row that ran with an id, a duration or times that cannot be read.
    pub(super) fn read(&self, zone: Tz) -> Result<Reading, Box<BadLine>> {
        let job = match RowKind::parse(self.text(Field::JobId)) {
            Ok(RowKind::Job(job)) => Ok(job),
            Ok(RowKind::Step) => return Ok(Reading::Step),
            Err(allowed) => Err(self.bad(Field::JobId, allowed.to_owned())),
        };
        let ran = self.ran(zone);
        let state = self.text(Field::State).split_whitespace().next().unwrap_or_default();
        match ran {
            Ok(None) => Ok(Reading::NeverRan(job.ok())),
            // A job that waits has not run, whatever stands in its other columns.
            Err(_) if state == "PENDING" => Ok(Reading::NeverRan(job.ok())),
            Err(bad) => Err(job.err().unwrap_or(bad)),
            Ok(Some((run, ended))) => Ok(Reading::Ran { job: job?, run, open: !ended || WITHOUT_END.contains(&state) }),
        }
    }

    /// When the job ran, and whether an end is given.
    fn ran(&self, zone: Tz) -> Result<Option<(Run, bool)>, Box<BadLine>> {
        let Some(elapsed_s) = self.elapsed_s()? else { return Ok(None) };
        let stamp = |field| Stamp::parse(self.text(field)).map_err(|problem| self.bad(field, problem.to_owned()));
        let (start, end) = (stamp(Field::Start)?, stamp(Field::End)?);
        let run = ran_between(start, end, elapsed_s, zone).map_err(|wrong| self.bad(wrong.field, wrong.problem))?;
        Ok(run.map(|run| (run, end != Stamp::Missing)))
    }

    /// Seconds that the job ran; none if it did not run.
    fn elapsed_s(&self) -> Result<Option<u32>, Box<BadLine>> {
        let (field, text) = match self.text(Field::ElapsedRaw) {
            "" if !self.text(Field::Elapsed).is_empty() => (Field::Elapsed, self.text(Field::Elapsed)),
            raw => (Field::ElapsedRaw, raw),
        };
        let nothing = matches!(text, "" | "None" | "Unknown" | "N/A" | "INVALID");
        if nothing && Stamp::parse(self.text(Field::Start)) == Ok(Stamp::Missing) {
            return Ok(None);
        }
        let seconds = if field == Field::Elapsed { duration(text) } else { whole(text) };
        let allowed = match field {
            Field::Elapsed => "not a duration such as 1-02:03:04 or 02:03:04",
            _ => "not a whole number of seconds of at most 10 digits",
        };
        match seconds {
            Some(0) => Ok(None),
            Some(seconds) => Ok(Some(seconds)),
            None => Err(self.bad(field, allowed.to_owned())),
        }
    }
}

/// Digits only: `u32::from_str` alone would take a sign.
fn whole(digits: &str) -> Option<u32> {
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// `[DAYS-][HOURS:]MINUTES:SECONDS`, with or without a fraction, in whole seconds.
fn duration(text: &str) -> Option<u32> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (whole(days)?, clock),
        None => (0, text),
    };
    let clock = match clock.split_once('.') {
        Some((clock, fraction)) => {
            whole(fraction)?;
            clock
        }
        None => clock,
    };
    let mut parts = clock.split(':').map(whole).collect::<Option<Vec<u32>>>()?;
    if !(2..=3).contains(&parts.len()) {
        return None;
    }
    if parts.len() == 2 {
        parts.insert(0, 0);
    }
    if parts[0] > 23 && days > 0 || parts[1] > 59 || parts[2] > 59 {
        return None;
    }
    days.checked_mul(86_400)?.checked_add(parts[0].checked_mul(3600)?)?.checked_add(parts[1] * 60 + parts[2])
}

/// Texts that a row borrows where no line holds them.
#[derive(Debug, Default)]
pub(super) struct OwnTexts<'a>(pub(super) [Cow<'a, str>; FIELD_COUNT]);

impl<'a> OwnTexts<'a> {
    pub(super) fn set(&mut self, field: Field, text: impl Into<Cow<'a, str>>) {
        self.0[field.index()] = text.into();
    }

    pub(super) fn row<'b>(&'b self, place: Place<'b>) -> JobRow<'b> {
        JobRow { texts: std::array::from_fn(|at| &*self.0[at]), place }
    }
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_read_as_sacct_writes_them() {
        let cases = [
            ("1-02:03:04", Some(93_784)),
            ("02:03:04", Some(7384)),
            ("27:00:00", Some(97_200)),
            ("03:04", Some(184)),
            ("00:00:00", Some(0)),
            ("00:01:00.500", Some(60)),
            ("366-00:00:00", Some(31_622_400)),
        ];
        for (text, seconds) in cases {
            assert_eq!(duration(text), seconds, "{text}");
        }
        for text in
            ["", "5", "1-", "1-5", "-1:00", "00:60", "1-24:00:00", "00:00:00:00", "a:b", "99999999-00:00:00", "1:2."]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
