//! Job ids as `sacct` prints them, packed into eight bytes.
//!
//! SLURM's job ids are 32-bit numbers, array tasks stay below four million and the parts of a heterogeneous job are
//! few, so every id fits exactly and no hash (and no collision) is needed.

use std::fmt;

/// A job id without its step: plain `123`, array task `123_4`, part of a heterogeneous job `123+1`, or the waiting
/// rest of an array `123_[5-9]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey(u64);

/// What the `JobID` column of a row means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// The row of a whole job.
    Job(JobKey),
    /// A step (`123.batch`, `123_4.0`): its time is contained in its job's row.
    Step,
}

const PLAIN: u64 = 0;
const ARRAY_TASK: u64 = 1;
const HET_PART: u64 = 2;
const WAITING_ARRAY: u64 = 3;
const INDEX_BITS: u32 = 30;

/// What a `JobID` may look like; the text of the error for anything else.
pub const ALLOWED: &str = "not a job id such as 123, 123_4, 123+1 or 123_[5-9]";

impl RowKind {
    /// Reads the `JobID` column.
    ///
    /// # Errors
    /// [`ALLOWED`], for anything that `sacct` does not print there.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        // The tasks of a waiting array may be shortened with dots.
        let (job, step) = match text.split_once('.') {
            Some((job, step)) if !job.contains('[') => (job, Some(step)),
            _ => (text, None),
        };
        let key = JobKey::parse(job).ok_or(ALLOWED)?;
        match step {
            None => Ok(Self::Job(key)),
            Some("") => Err(ALLOWED),
            Some(_) => Ok(Self::Step),
        }
    }
}

impl JobKey {
    fn parse(text: &str) -> Option<Self> {
        if let Some((base, task)) = text.split_once('_') {
            // SLURM cuts a long list of tasks off, with or without its bracket.
            return if task.starts_with('[') {
                Self::pack(base, WAITING_ARRAY, "0")
            } else {
                Self::pack(base, ARRAY_TASK, task)
            };
        }
        match text.split_once('+') {
            Some((base, part)) => Self::pack(base, HET_PART, part),
            None => Self::pack(text, PLAIN, "0"),
        }
    }

    fn pack(base: &str, kind: u64, index: &str) -> Option<Self> {
        let base = number(base)?;
        let index = u64::from(number(index)?);
        (index < 1 << INDEX_BITS).then_some(Self(u64::from(base) << 32 | kind << INDEX_BITS | index))
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (base, index) = (self.0 >> 32, self.0 & ((1 << INDEX_BITS) - 1));
        match self.0 >> INDEX_BITS & 3 {
            PLAIN => write!(f, "{base}"),
            ARRAY_TASK => write!(f, "{base}_{index}"),
            HET_PART => write!(f, "{base}+{index}"),
            _ => write!(f, "{base}_[…]"),
        }
    }
}

/// Digits only: `u32::from_str` alone would take a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::{JobKey, RowKind};

    fn job(text: &str) -> JobKey {
        match RowKind::parse(text) {
            Ok(RowKind::Job(key)) => key,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn ids_of_different_jobs_differ() {
        let ids = ["1", "2", "1_0", "1_1", "1+0", "1+1", "1_[2-9%4]", "4294967295", "4294967295_4000001"];
        let mut keys: Vec<_> = ids.iter().map(|id| job(id)).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), ids.len());
    }

    #[test]
    fn a_job_is_named_as_it_was_read() {
        for id in ["1", "1_0", "12+3", "4294967295_1073741823"] {
            assert_eq!(job(id).to_string(), id);
        }
        for id in ["7001_[1,3,5...]", "7001_[1,3,5...%5]", "7001_[1,3,5..."] {
            assert_eq!(job(id).to_string(), "7001_[…]", "{id}");
        }
    }

    #[test]
    fn steps_are_told_from_jobs() {
        for id in ["1.batch", "1.extern", "1.interactive", "1.0", "1_4.0", "1+0.batch", "1.0+1"] {
            assert_eq!(RowKind::parse(id), Ok(RowKind::Step), "{id}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for id in ["", "x", "-1", "+1", "1_", "_1", "1+", "1_x", "1.", "4294967296", "1_4294967295", " 1"] {
            assert!(RowKind::parse(id).is_err(), "{id}");
        }
    }
}
