//! Monthly totals per resource: what retention keeps of the evaluation log, and how long the resource was restricted.
//!
//! Counts and peak refer to pruned rows; the restricted time is always current, so that it does not depend on when rows
//! were pruned. It is split at the month boundaries of the books.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::class::{EvaluationOutcome, verb_bits};
use crate::domain::ids::{CustomerId, OfferingId, ProjectId, ResourceId};
use crate::domain::period::Month;
use crate::projections::kit::{Page, id_list, in_list, month_code, month_of, query_in};
use crate::projections::registry::VisibilityFilter;
use crate::store::sql::{ReadDb, ReadTx, SqlError, SqlRow, SqlValue};

static SELECT: LazyLock<String> = LazyLock::new(|| {
    in_list(
        "SELECT key, evaluations, failures, pauses, downscales, notices, peak, restricted \
         FROM evaluation_log_totals{g} WHERE key IN",
        "",
    )
});
static RESTRICTED: LazyLock<String> =
    LazyLock::new(|| in_list("SELECT resource, since FROM evaluation_log_restricted{g} WHERE resource IN", ""));
static FREE: LazyLock<String> =
    LazyLock::new(|| in_list("DELETE FROM evaluation_log_restricted{g} WHERE resource IN", ""));

/// The key of a resource's month.
pub(in crate::projections) fn key(month: i64, resource: i64) -> i64 {
    month << 32 | resource
}

/// Something to add to a month.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::projections) struct Delta {
    evaluations: i64,
    failures: i64,
    pauses: i64,
    downscales: i64,
    notices: i64,
    peak: Option<Decimal>,
    restricted_micros: i64,
}

impl Delta {
    /// One row of the log.
    pub(in crate::projections) fn of(class: i64, percentage: Option<Decimal>) -> Self {
        let verbs = verb_bits(class);
        Self {
            evaluations: 1,
            failures: i64::from(EvaluationOutcome::of_class(class) == EvaluationOutcome::Failed),
            pauses: verbs & 1,
            downscales: verbs >> 1 & 1,
            notices: verbs >> 2 & 1,
            peak: percentage,
            restricted_micros: 0,
        }
    }

    pub(in crate::projections) fn add(&mut self, other: &Self) {
        self.evaluations += other.evaluations;
        self.failures += other.failures;
        self.pauses += other.pauses;
        self.downscales += other.downscales;
        self.notices += other.notices;
        self.peak = self.peak.max(other.peak);
        self.restricted_micros += other.restricted_micros;
    }

    fn read(row: &SqlRow, first: usize) -> Result<Self, SqlError> {
        Ok(Self {
            evaluations: row.i64(first)?,
            failures: row.i64(first + 1)?,
            pauses: row.i64(first + 2)?,
            downscales: row.i64(first + 3)?,
            notices: row.i64(first + 4)?,
            peak: row.opt_decimal(first + 5)?,
            restricted_micros: row.i64(first + 6)?,
        })
    }
}

/// Adds to months: reads those that are there, and writes all in one go.
pub(in crate::projections) async fn add(tx: &mut ReadTx, mut deltas: BTreeMap<i64, Delta>) -> Result<(), SqlError> {
    if deltas.is_empty() {
        return Ok(());
    }
    let keys: Vec<SqlValue> = deltas.keys().map(|key| SqlValue::I64(*key)).collect();
    for row in query_in(tx, &SELECT, &keys).await? {
        if let Some(delta) = deltas.get_mut(&row.i64(0)?) {
            delta.add(&Delta::read(&row, 1)?);
        }
    }
    let values = |(key, d): (i64, Delta)| -> [SqlValue; 8] {
        let Delta { evaluations, failures, pauses, downscales, notices, peak, restricted_micros } = d;
        let peak = peak.map(|peak| peak.normalize());
        [
            key.into(),
            evaluations.into(),
            failures.into(),
            pauses.into(),
            downscales.into(),
            notices.into(),
            peak.into(),
            restricted_micros.into(),
        ]
    };
    let rows = deltas.into_iter().flat_map(values).collect();
    let insert = "INSERT INTO evaluation_log_totals{g} \
                  (key, evaluations, failures, pauses, downscales, notices, peak, restricted)";
    let update = "ON CONFLICT (key) DO UPDATE SET evaluations = excluded.evaluations, failures = excluded.failures, \
                  pauses = excluded.pauses, downscales = excluded.downscales, notices = excluded.notices, \
                  peak = excluded.peak, restricted = excluded.restricted";
    tx.insert_many(insert, 8, rows, update).await?;
    Ok(())
}

/// A stretch of restriction ends, begins, or continues into another month.
pub(super) struct Restriction {
    pub(super) resource: i64,
    pub(super) at: DateTime<Utc>,
    /// The month that the stretch before `at` belongs to.
    pub(super) month: Month,
    pub(super) ended: bool,
    pub(super) goes_on: bool,
}

/// Follows restrictions, and adds the time of each stretch that ended to its month.
pub(super) async fn restrictions(
    tx: &mut ReadTx,
    changes: Vec<Restriction>,
    totals: &mut BTreeMap<i64, Delta>,
) -> Result<(), SqlError> {
    if changes.is_empty() {
        return Ok(());
    }
    let keys: Vec<SqlValue> = changes.iter().map(|change| SqlValue::I64(change.resource)).collect();
    let mut since: BTreeMap<i64, Option<i64>> = BTreeMap::new();
    for row in query_in(tx, &RESTRICTED, &keys).await? {
        since.insert(row.i64(0)?, Some(row.i64(1)?));
    }
    for change in changes {
        let start = since.entry(change.resource).or_default();
        let at = change.at.timestamp_micros();
        if let Some(start) = start.filter(|_| change.ended) {
            let delta = Delta { restricted_micros: (at - start).max(0), ..Delta::default() };
            totals.entry(key(month_code(change.month), change.resource)).or_default().add(&delta);
        }
        *start = change.goes_on.then_some(at);
    }
    let (restricted, free): (Vec<_>, Vec<_>) = since.into_iter().partition(|(_, since)| since.is_some());
    let free: Vec<SqlValue> = free.into_iter().map(|(resource, _)| SqlValue::I64(resource)).collect();
    crate::projections::kit::execute_in(tx, &FREE, &free).await?;
    let rows: Vec<SqlValue> =
        restricted.into_iter().flat_map(|(resource, since)| [resource.into(), since.into()]).collect();
    if !rows.is_empty() {
        let insert = "INSERT INTO evaluation_log_restricted{g} (resource, since)";
        tx.insert_many(insert, 2, rows, "ON CONFLICT (resource) DO UPDATE SET since = excluded.since").await?;
    }
    Ok(())
}

/// Which monthly totals to list.
#[derive(Debug, Clone, Default)]
pub struct TotalsFilter {
    /// Of one resource.
    pub resource: Option<ResourceId>,
    /// Of one month.
    pub month: Option<Month>,
    /// Of the resources of one offering.
    pub offering: Option<OfferingId>,
    /// Of the resources of one customer.
    pub customer: Option<CustomerId>,
    /// What the asker may see; none: everything.
    pub visible: Option<VisibilityFilter>,
}

/// What is left of a month of a resource's evaluations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonthlyTotal {
    /// The resource.
    pub resource: ResourceId,
    /// Its present name; empty if the registry does not know it.
    pub resource_name: String,
    /// The month, at the site.
    pub month: Month,
    /// Pruned evaluations.
    pub evaluations: i64,
    /// Those that failed.
    pub failures: i64,
    /// Those that called for a pause.
    pub pauses: i64,
    /// Those that called for a slowdown.
    pub downscales: i64,
    /// Those that called for a notice.
    pub notices: i64,
    /// Highest percentage among them.
    pub peak_percentage: Option<Decimal>,
    /// Minutes for which the resource was paused or slowed down, as far as the stretches have ended.
    pub minutes_restricted: i64,
}

/// The conditions of [`TotalsFilter`].
macro_rules! matching {
    ($select:literal, $end:literal) => {
        concat!(
            $select,
            " FROM evaluation_log_totals t JOIN evaluation_log_resources r ON r.no = (t.key & 4294967295) \
             LEFT JOIN registry_resources x ON x.id = r.id \
             WHERE ($1 IS NULL OR r.id = $1) AND ($2 IS NULL OR (t.key >> 32) = $2) AND ($3 IS NULL OR x.offering = $3) \
             AND ($4 IS NULL OR x.customer = $4) \
             AND ($5 IS NULL OR x.customer IN (SELECT unhex(value) FROM json_each($5)) \
             OR x.project IN (SELECT unhex(value) FROM json_each($6)) \
             OR x.offering IN (SELECT unhex(value) FROM json_each($7))) ",
            $end
        )
    };
}

/// Monthly totals, newest month first, and how many there are.
pub async fn list(db: &ReadDb, filter: &TotalsFilter, page: Page) -> Result<(Vec<MonthlyTotal>, i64), SqlError> {
    let visible = filter.visible.as_ref();
    let mut values = vec![
        SqlValue::from(filter.resource.map(|r| r.as_uuid())),
        filter.month.map(month_code).into(),
        filter.offering.map(|o| o.as_uuid()).into(),
        filter.customer.map(|c| c.as_uuid()).into(),
        visible.map(|v| id_list(v.customers.iter().map(CustomerId::as_uuid))).into(),
        visible.map(|v| id_list(v.projects.iter().map(ProjectId::as_uuid))).into(),
        visible.map(|v| id_list(v.offerings.iter().map(OfferingId::as_uuid))).into(),
    ];
    let count = db.query_one(matching!("SELECT count(*)", ""), &values).await?;
    let total = count.map_or(Ok(0), |row| row.i64(0))?;
    let select = matching!(
        "SELECT t.key, t.evaluations, t.failures, t.pauses, t.downscales, t.notices, t.peak, t.restricted, r.id, x.name",
        "ORDER BY t.key DESC LIMIT $8 OFFSET $9"
    );
    values.extend([page.size.into(), page.offset().into()]);
    let rows = db.query(select, &values).await?;
    let total_of = |row: &SqlRow| {
        let delta = Delta::read(row, 1)?;
        let month = month_of(row.i64(0)? >> 32).ok_or(SqlError::Column { index: 0, expected: "a month" })?;
        Ok(MonthlyTotal {
            resource: row.uuid(8)?.into(),
            resource_name: row.opt_text(9)?.unwrap_or_default().to_owned(),
            month,
            evaluations: delta.evaluations,
            failures: delta.failures,
            pauses: delta.pauses,
            downscales: delta.downscales,
            notices: delta.notices,
            peak_percentage: delta.peak,
            minutes_restricted: delta.restricted_micros / 60_000_000,
        })
    };
    Ok((rows.iter().map(total_of).collect::<Result<_, SqlError>>()?, total))
}
