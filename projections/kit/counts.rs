//! Maintained counts by class and time, and lists merged from a few ranges.
//!
//! Rows are indexed by (class, time) and counted by class, day and hour. A page therefore costs one look-up for each
//! class that can match, and a count costs a few sums and at most two hours' worth of index, however many rows there
//! are.

use std::collections::BTreeMap;

use super::{POLICY_SHIFT, Page, Span};
use crate::store::sql::{ReadDb, ReadTx, SqlError, SqlRow, SqlValue};

/// Microseconds in an hour.
const HOUR: i64 = 3_600_000_000;

/// Changes of counts by (kind, class, bucket), collected over a batch.
#[derive(Debug, Default)]
pub(in crate::projections) struct Counts(BTreeMap<(i64, i64, i64), i64>);

impl Counts {
    /// Adds `n` rows of a class at an instant (microseconds).
    pub(in crate::projections) fn add(&mut self, class: i64, at: i64, n: i64) {
        for (kind, bucket) in [(0, 0), (1, at.div_euclid(24 * HOUR)), (2, at.div_euclid(HOUR))] {
            *self.0.entry((kind, class, bucket)).or_default() += n;
        }
    }

    pub(in crate::projections) async fn save(self, tx: &mut ReadTx, sql: &CountSql) -> Result<(), SqlError> {
        let less = self.0.values().any(|n| *n < 0);
        let changed = self.0.into_iter().filter(|(_, n)| *n != 0);
        let rows: Vec<SqlValue> = changed
            .flat_map(|((kind, class, bucket), n)| [kind.into(), class.into(), bucket.into(), n.into()])
            .collect();
        if !rows.is_empty() {
            tx.insert_many(sql.add.0, 4, rows, sql.add.1).await?;
        }
        if less {
            tx.execute(sql.drop_empty, &[]).await?;
        }
        Ok(())
    }
}

/// The statements of counts and of lists by class over one table.
pub(in crate::projections) struct CountSql {
    pub(in crate::projections) add: (&'static str, &'static str),
    pub(in crate::projections) drop_empty: &'static str,
    /// class, n, newest instant before $3 of classes from $1 to below $2.
    pub(in crate::projections) heads: &'static str,
    /// at, no of class $1 from $2 to below $3, newest first, $4 at most.
    pub(in crate::projections) newest: &'static str,
    /// Rows of class $1 in: hours $2..$3, days $4..$5, hours $6..$7, instants $8..$9, instants $10..$11.
    pub(in crate::projections) count: &'static str,
}

/// The statements for a table with counts in `<table>_counts`.
macro_rules! count_sql {
    ($table:literal) => {
        $crate::projections::kit::CountSql {
            add: (
                concat!("INSERT INTO ", $table, "_counts{g} AS t (kind, class, bucket, n)"),
                "ON CONFLICT (kind, class, bucket) DO UPDATE SET n = t.n + excluded.n",
            ),
            drop_empty: concat!("DELETE FROM ", $table, "_counts{g} WHERE n = 0"),
            heads: concat!(
                "SELECT c.class, c.n, (SELECT e.at FROM ",
                $table,
                "{g} e WHERE e.class = c.class AND e.at < $3 ",
                "ORDER BY e.at DESC LIMIT 1) FROM ",
                $table,
                "_counts{g} c ",
                "WHERE c.kind = 0 AND c.class >= $1 AND c.class < $2"
            ),
            newest: concat!(
                "SELECT at, no FROM ",
                $table,
                "{g} WHERE class = $1 AND at >= $2 AND at < $3 ",
                "ORDER BY at DESC, no DESC LIMIT $4"
            ),
            count: concat!(
                "SELECT (SELECT coalesce(sum(n), 0) FROM ",
                $table,
                "_counts{g} WHERE kind = 2 AND class = $1 AND bucket >= $2 AND bucket < $3)",
                " + (SELECT coalesce(sum(n), 0) FROM ",
                $table,
                "_counts{g} WHERE kind = 1 AND class = $1 AND bucket >= $4 AND bucket < $5)",
                " + (SELECT coalesce(sum(n), 0) FROM ",
                $table,
                "_counts{g} WHERE kind = 2 AND class = $1 AND bucket >= $6 AND bucket < $7)",
                " + (SELECT count(*) FROM ",
                $table,
                "{g} WHERE class = $1 AND at >= $8 AND at < $9)",
                " + (SELECT count(*) FROM ",
                $table,
                "{g} WHERE class = $1 AND at >= $10 AND at < $11)"
            ),
        }
    };
}
pub(in crate::projections) use count_sql;

/// Whole hours, whole days, whole hours, and the ends that are counted one by one.
fn buckets(from: i64, to: i64) -> [(i64, i64); 5] {
    let first_hour =
        if from == i64::MIN { i64::MIN / HOUR } else { from.div_euclid(HOUR) + i64::from(from.rem_euclid(HOUR) > 0) };
    let end_hour = to.div_euclid(HOUR);
    if first_hour >= end_hour {
        return [(0, 0), (0, 0), (0, 0), (from, to), (0, 0)];
    }
    let first_day = first_hour.div_euclid(24) + i64::from(first_hour.rem_euclid(24) > 0);
    let end_day = end_hour.div_euclid(24);
    let ends = [(from, first_hour.saturating_mul(HOUR)), (end_hour.saturating_mul(HOUR), to)];
    if first_day >= end_day {
        return [(first_hour, end_hour), (0, 0), (0, 0), ends[0], ends[1]];
    }
    [(first_hour, first_day * 24), (first_day, end_day), (end_day * 24, end_hour), ends[0], ends[1]]
}

/// A class with rows, and how many.
#[derive(Debug, Clone, Copy)]
pub(in crate::projections) struct Head {
    pub(in crate::projections) class: i64,
    pub(in crate::projections) rows: i64,
    newest: Option<i64>,
}

/// The classes of a policy (or all) that have rows.
pub(in crate::projections) async fn heads(
    db: &ReadDb,
    sql: &CountSql,
    policy: Option<i64>,
    span: Span,
    wanted: impl Fn(i64) -> bool,
) -> Result<Vec<Head>, SqlError> {
    let (low, high) = policy.map_or((0, i64::MAX), |p| (p << POLICY_SHIFT, (p + 1) << POLICY_SHIFT));
    let rows = db.query(sql.heads, &[low.into(), high.into(), span.micros().1.into()]).await?;
    let head = |row: &SqlRow| Ok(Head { class: row.i64(0)?, rows: row.i64(1)?, newest: row.opt_i64(2)? });
    let mut heads = rows.iter().map(head).collect::<Result<Vec<Head>, SqlError>>()?;
    heads.retain(|head| wanted(head.class));
    Ok(heads)
}

/// Rows of a class in a span.
pub(in crate::projections) async fn count(
    db: &ReadDb,
    sql: &CountSql,
    head: Head,
    span: Span,
) -> Result<i64, SqlError> {
    if span == Span::default() {
        return Ok(head.rows);
    }
    let (from, to) = span.micros();
    if head.newest.is_none_or(|newest| newest < from) {
        return Ok(0);
    }
    let mut values = vec![SqlValue::I64(head.class)];
    values.extend(buckets(from, to).into_iter().flat_map(|(from, to)| [from.into(), to.into()]));
    db.query_one(sql.count, &values).await?.map_or(Ok(0), |row| row.i64(0))
}

/// The newest rows of some classes, newest first: (instant, number), `most` at most.
pub(in crate::projections) async fn newest(
    db: &ReadDb,
    sql: &CountSql,
    mut heads: Vec<Head>,
    span: Span,
    most: i64,
) -> Result<Vec<(i64, i64)>, SqlError> {
    let (from, to) = span.micros();
    heads.sort_by_key(|head| std::cmp::Reverse(head.newest));
    let most_rows = usize::try_from(most).unwrap_or(usize::MAX);
    let mut found: Vec<(i64, i64)> = Vec::new();
    for head in heads {
        let Some(newest) = head.newest.filter(|newest| *newest >= from) else { continue };
        let from = match found.get(most_rows.saturating_sub(1)) {
            // Nothing older than the last of a full page can get onto it.
            Some((last, _)) if newest < *last => break,
            Some((last, _)) => (*last).max(from),
            None => from,
        };
        for row in db.query(sql.newest, &[head.class.into(), from.into(), to.into(), most.into()]).await? {
            found.push((row.i64(0)?, row.i64(1)?));
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.truncate(most_rows);
    }
    Ok(found)
}

/// The numbers of the rows on a page, from the newest rows up to its end.
pub(in crate::projections) fn on_page(found: Vec<(i64, i64)>, page: Page) -> Vec<SqlValue> {
    let skip = usize::try_from(page.offset()).unwrap_or(usize::MAX);
    found.into_iter().skip(skip).map(|(_, no)| SqlValue::I64(no)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_ends_cover_a_span_once() {
        let spans = [
            (0, 1),
            (5, HOUR + 5),
            (HOUR, 2 * HOUR),
            (7, 50 * HOUR + 3),
            (-30 * HOUR - 1, 99 * HOUR),
            (24 * HOUR, 48 * HOUR),
        ];
        for (from, to) in spans {
            let [hours, days, more_hours, start, end] = buckets(from, to);
            let width = |(a, b): (i64, i64), unit: i64| (b - a).max(0) * unit;
            let covered =
                width(hours, HOUR) + width(days, 24 * HOUR) + width(more_hours, HOUR) + width(start, 1) + width(end, 1);
            assert_eq!(covered, to - from, "{from}..{to}");
        }
    }
}
