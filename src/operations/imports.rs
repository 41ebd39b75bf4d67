//! What Sluice remembers of an offering's imports beside their reports: how far they reached, and which jobs had no
//! end.
//!
//! There are few jobs without an end: a job that is later listed without an end, and started before the last import's
//! horizon, must be among them. Otherwise its end was known (ADR 27).

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::domain::ids::OfferingId;
use crate::store::sql::{ReadDb, SqlError};

/// Jobs without an end that are remembered; beyond that none is, and the check is not made.
const OPEN_JOBS_MAX: usize = 200_000;

/// A job that has no end yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenJobRef<'a> {
    /// Its cluster; empty if it is not known.
    pub cluster: &'a str,
    /// Its id.
    pub job: &'a str,
    /// When it started, at the latest.
    pub start: DateTime<Utc>,
    /// The listing begins at its start, so it may have started earlier.
    pub cut: bool,
}

/// What the import that reached furthest saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastImport {
    /// The end of what it covered, at most the instant at which it was measured.
    pub covered_until: DateTime<Utc>,
    /// When its numbers were taken.
    pub measured_at: DateTime<Utc>,
    /// Ids of jobs without an end by cluster; none if there were too many to remember.
    pub open_jobs: Option<BTreeMap<String, BTreeSet<String>>>,
}

impl LastImport {
    /// What an import saw that covered all until an instant.
    pub fn of<'a>(
        covered_until: DateTime<Utc>,
        measured_at: DateTime<Utc>,
        open: impl Iterator<Item = OpenJobRef<'a>>,
    ) -> Self {
        let mut jobs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut count = 0;
        for job in open {
            count += 1;
            if count > OPEN_JOBS_MAX {
                return Self { covered_until, measured_at, open_jobs: None };
            }
            jobs.entry(job.cluster.to_lowercase()).or_default().insert(job.job.to_owned());
        }
        Self { covered_until, measured_at, open_jobs: Some(jobs) }
    }

    /// Whether a job that has no end, as of `measured_at`, had one when this import was made.
    pub fn knew_end_of(&self, job: &OpenJobRef<'_>, measured_at: DateTime<Utc>) -> bool {
        let Some(open) = &self.open_jobs else { return false };
        let began = job.start < self.covered_until || (job.cut && job.start == self.covered_until);
        if measured_at < self.measured_at || !began {
            return false;
        }
        let cluster = job.cluster.to_lowercase();
        // Where one of the two does not name the cluster, the id alone has to do.
        let comparable = |name: &str| name == cluster || name.is_empty() || cluster.is_empty();
        !open.iter().any(|(name, jobs)| comparable(name) && jobs.contains(job.job))
    }
}

/// The table of imports.
#[derive(Debug, Clone)]
pub struct ImportLedger {
    db: ReadDb,
}

impl ImportLedger {
    /// The table in `db`.
    pub fn new(db: ReadDb) -> Self {
        Self { db }
    }

    /// What the import of an offering saw that reached furthest.
    pub async fn last(&self, offering: OfferingId) -> Result<Option<LastImport>, SqlError> {
        let select = "SELECT covered_until, measured_at, open_jobs FROM sacct_imports WHERE offering = $1";
        let Some(row) = self.db.query_one(select, &[offering.as_uuid().into()]).await? else { return Ok(None) };
        let unreadable = |_| SqlError::Column { index: 2, expected: "job ids by cluster" };
        let open_jobs = row.opt_text(2)?.map(serde_json::from_str).transpose().map_err(unreadable)?;
        Ok(Some(LastImport { covered_until: row.time(0)?, measured_at: row.time(1)?, open_jobs }))
    }

    /// Remembers an import, unless one is known that reached further, or as far and was measured later.
    pub async fn record(&self, offering: OfferingId, import: &LastImport, now: DateTime<Utc>) -> Result<(), SqlError> {
        let jobs = import.open_jobs.as_ref().map(|jobs| serde_json::json!(jobs).to_string());
        let upsert = "INSERT INTO sacct_imports (offering, covered_until, measured_at, imported_at, open_jobs) \
                      VALUES ($1, $2, $3, $4, $5) ON CONFLICT (offering) DO UPDATE SET \
                      covered_until = excluded.covered_until, measured_at = excluded.measured_at, \
                      imported_at = excluded.imported_at, open_jobs = excluded.open_jobs \
                      WHERE excluded.covered_until > sacct_imports.covered_until \
                      OR (excluded.covered_until = sacct_imports.covered_until \
                      AND excluded.measured_at >= sacct_imports.measured_at)";
        let mut tx = self.db.begin().await?;
        let (until, measured) = (import.covered_until.into(), import.measured_at.into());
        tx.execute(upsert, &[offering.as_uuid().into(), until, measured, now.into(), jobs.into()]).await?;
        tx.commit().await
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};

    use super::{LastImport, OpenJobRef};

    fn day(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(day)
    }

    fn job<'a>(cluster: &'a str, job: &'a str, start: i64) -> OpenJobRef<'a> {
        OpenJobRef { cluster, job, start: day(start), cut: false }
    }

    /// Covered until day 100, measured on day 110; jobs 1 and 2 had no end on the cluster alpha.
    fn last() -> LastImport {
        LastImport::of(day(100), day(110), [job("alpha", "1", 90), job("ALPHA", "2_7", 91)].into_iter())
    }

    #[test]
    fn a_job_without_an_end_that_was_not_open_had_one() {
        let later = day(120);
        assert!(last().knew_end_of(&job("alpha", "3", 95), later));
        assert!(last().knew_end_of(&job("alpha", "2", 95), later));
        for known in [job("alpha", "1", 90), job("Alpha", "2_7", 91), job("", "1", 90)] {
            assert!(!last().knew_end_of(&known, later), "{known:?}");
        }
        assert!(last().knew_end_of(&job("beta", "1", 95), later), "another cluster's job of that id");
    }

    #[test]
    fn what_began_later_or_was_seen_earlier_says_nothing() {
        assert!(!last().knew_end_of(&job("alpha", "3", 100), day(120)));
        assert!(last().knew_end_of(&OpenJobRef { cut: true, ..job("alpha", "3", 100) }, day(120)));
        assert!(!last().knew_end_of(&OpenJobRef { cut: true, ..job("alpha", "3", 101) }, day(120)));
        assert!(!last().knew_end_of(&job("alpha", "3", 95), day(109)));
        let unknown = LastImport { open_jobs: None, ..last() };
        assert!(!unknown.knew_end_of(&job("alpha", "3", 95), day(120)));
    }
}
