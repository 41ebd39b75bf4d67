//! What the read models share: marks, interned identities, counters by class, pages, and numbers that stand for words.
//!
//! A class is a number that packs everything a list can be filtered by but resource and time. Rows are indexed by
//! (class, time) and counted by class, day and hour, so that a page merges a few ranges and a count adds a few numbers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::evaluate::Flags;
use crate::domain::ids::ResourceId;
use crate::domain::period::{Month, Period};
use crate::events::Event;
use crate::events::envelope::{Position, StreamName};
use crate::store::consumer::Decoded;
use crate::store::sql::{ReadDb, ReadTx, SqlError, SqlRow, SqlValue};

/// Keys that one `IN` list holds; shorter lists repeat their last key.
const IN_LIST: usize = 128;

/// Identities that an [`Interner`] remembers, about 40 bytes each; more are looked up again.
const INTERNED_MAX: usize = 131_072;

/// Microseconds in an hour.
const HOUR: i64 = 3_600_000_000;

/// Where the policy begins in a class, and the period.
pub(super) const POLICY_SHIFT: u32 = 28;
const PERIOD_SHIFT: u32 = 8;
const PERIOD_MASK: i64 = (1 << (POLICY_SHIFT - PERIOD_SHIFT)) - 1;

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub number: u32,
    /// Rows in it.
    pub size: u32,
}

impl Page {
    /// The first page of so many rows.
    pub fn first(size: u32) -> Self {
        Self { number: 1, size }
    }

    /// Rows before it.
    pub fn offset(self) -> i64 {
        i64::from(self.number.saturating_sub(1)) * i64::from(self.size)
    }

    /// Rows up to its end.
    pub(super) fn end(self) -> i64 {
        self.offset() + i64::from(self.size)
    }
}

/// A span of time: from the one instant on, and before the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first instant in it.
    pub from: Option<DateTime<Utc>>,
    /// The first instant after it.
    pub to: Option<DateTime<Utc>>,
}

impl Span {
    /// Both ends in microseconds.
    pub(super) fn micros(self) -> (i64, i64) {
        let micros = |t: DateTime<Utc>| t.timestamp_micros();
        (self.from.map_or(i64::MIN, micros), self.to.map_or(i64::MAX, micros))
    }
}

/// `before ($1, …, $128) after`.
pub(super) fn in_list(before: &str, after: &str) -> String {
    let places: Vec<String> = (1..=IN_LIST).map(|n| format!("${n}")).collect();
    format!("{before} ({}) {after}", places.join(","))
}

fn padded(keys: &[SqlValue]) -> Vec<SqlValue> {
    let mut values = keys.to_vec();
    if let Some(last) = keys.last() {
        values.resize(IN_LIST, last.clone());
    }
    values
}

/// Rows for keys, by a text made with [`in_list`], as the transaction sees them.
pub(super) async fn query_in(
    tx: &mut ReadTx,
    text: &'static LazyLock<String>,
    keys: &[SqlValue],
) -> Result<Vec<SqlRow>, SqlError> {
    let mut rows = Vec::new();
    for some in keys.chunks(IN_LIST) {
        rows.extend(tx.query(text.as_str(), &padded(some)).await?);
    }
    Ok(rows)
}

/// The same, as of the last commit.
pub(super) async fn read_in(
    db: &ReadDb,
    text: &'static LazyLock<String>,
    keys: &[SqlValue],
) -> Result<Vec<SqlRow>, SqlError> {
    let mut rows = Vec::new();
    for some in keys.chunks(IN_LIST) {
        rows.extend(db.query(text.as_str(), &padded(some)).await?);
    }
    Ok(rows)
}

/// Runs a statement made with [`in_list`] for all keys.
pub(super) async fn execute_in(
    tx: &mut ReadTx,
    text: &'static LazyLock<String>,
    keys: &[SqlValue],
) -> Result<(), SqlError> {
    for some in keys.chunks(IN_LIST) {
        tx.execute(text.as_str(), &padded(some)).await?;
    }
    Ok(())
}

/// How far a read model's tables are, in the tables themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// The last event that mattered.
    pub(super) position: Position,
    /// Numbers given to rows.
    pub(super) rows: i64,
    /// Rows strictly older are pruned, or about to be.
    pub(super) horizon: Option<DateTime<Utc>>,
}

/// The statements of a mark; see [`mark_sql`].
pub(super) struct MarkSql {
    pub(super) load: &'static str,
    pub(super) save: &'static str,
}

/// The statements of the mark in a table.
macro_rules! mark_sql {
    ($table:literal) => {
        $crate::projections::kit::MarkSql {
            load: concat!("SELECT position_hi, position_lo, rows, horizon FROM ", $table, "{g}"),
            save: concat!(
                "INSERT INTO ",
                $table,
                "{g} (one, position_hi, position_lo, rows, horizon) VALUES (1, $1, $2, $3, $4) ",
                "ON CONFLICT (one) DO UPDATE SET position_hi = excluded.position_hi, position_lo = excluded.position_lo, ",
                "rows = excluded.rows, horizon = excluded.horizon"
            ),
        }
    };
}
pub(super) use mark_sql;

impl Mark {
    pub(super) async fn load(tx: &mut ReadTx, sql: &MarkSql) -> Result<Self, SqlError> {
        let Some(row) = tx.query_one(sql.load, &[]).await? else { return Ok(Self::default()) };
        Ok(Self { position: position(&row, 0)?, rows: row.i64(2)?, horizon: row.opt_time(3)? })
    }

    pub(super) async fn save(&self, tx: &mut ReadTx, sql: &MarkSql) -> Result<(), SqlError> {
        let [hi, lo] = halves(self.position);
        tx.execute(sql.save, &[hi, lo, self.rows.into(), self.horizon.into()]).await?;
        Ok(())
    }

    /// The events of a batch that matter and were not applied before, in order; the mark moves to the last of them.
    pub(super) fn unseen<'b>(
        &mut self,
        batch: &'b [Decoded<Event>],
        matters: impl Fn(&str) -> bool,
    ) -> Vec<&'b Decoded<Event>> {
        let mut events = Vec::with_capacity(batch.len());
        for event in batch {
            if event.recorded.position > self.position && matters(&event.recorded.event_type) {
                self.position = event.recorded.position;
                events.push(event);
            }
        }
        events
    }

    /// Takes a number for a row.
    pub(super) fn number(&mut self) -> i64 {
        self.rows += 1;
        self.rows
    }

    /// Moves the horizon on; it never goes back.
    pub(super) fn prune_before(&mut self, horizon: DateTime<Utc>) {
        self.horizon = self.horizon.max(Some(horizon));
    }

    /// True for what is strictly older than the horizon.
    pub(super) fn is_pruned(&self, at: DateTime<Utc>) -> bool {
        self.horizon.is_some_and(|horizon| at < horizon)
    }
}

/// The two halves of a position as columns.
pub(super) fn halves(position: Position) -> [SqlValue; 2] {
    let (hi, lo) = position.parts();
    [SqlValue::I64(hi.cast_signed()), SqlValue::I64(lo.cast_signed())]
}

/// A position from two columns.
pub(super) fn position(row: &SqlRow, at: usize) -> Result<Position, SqlError> {
    Ok(Position::from_parts(row.i64(at)?.cast_unsigned(), row.i64(at + 1)?.cast_unsigned()))
}

/// Small numbers for identities, in the order of their first appearance: rows of one order of arrival then lie together
/// in every index, and each costs 3 bytes instead of 16.
#[derive(Debug)]
pub(super) struct Interner {
    find: &'static LazyLock<String>,
    insert: &'static str,
    last: &'static str,
    known: HashMap<Uuid, i64>,
    next: i64,
}

impl Interner {
    /// On a table `(no, id)`: a text that finds `no, id` by ids, the head of an insert, and the highest number.
    pub(super) fn new(find: &'static LazyLock<String>, insert: &'static str, last: &'static str) -> Self {
        Self { find, insert, last, known: HashMap::new(), next: 1 }
    }

    pub(super) async fn reload(&mut self, tx: &mut ReadTx) -> Result<(), SqlError> {
        self.known.clear();
        let row = tx.query_one(self.last, &[]).await?;
        self.next = row.map(|row| row.i64(0)).transpose()?.unwrap_or_default() + 1;
        Ok(())
    }

    /// Makes sure that `get` knows these; new ones get numbers in this order.
    pub(super) async fn ensure(&mut self, tx: &mut ReadTx, ids: &[Uuid]) -> Result<(), SqlError> {
        if self.known.len() > INTERNED_MAX {
            self.known.clear();
        }
        let mut seen = HashSet::new();
        let missing: Vec<Uuid> =
            ids.iter().copied().filter(|id| !self.known.contains_key(id) && seen.insert(*id)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let keys: Vec<SqlValue> = missing.iter().map(|id| SqlValue::Uuid(*id)).collect();
        for row in query_in(tx, self.find, &keys).await? {
            self.known.insert(row.uuid(1)?, row.i64(0)?);
        }
        let mut rows = Vec::new();
        for id in missing {
            if let std::collections::hash_map::Entry::Vacant(place) = self.known.entry(id) {
                place.insert(self.next);
                rows.extend([SqlValue::I64(self.next), SqlValue::Uuid(id)]);
                self.next += 1;
            }
        }
        if !rows.is_empty() {
            tx.insert_many(self.insert, 2, rows, "").await?;
        }
        Ok(())
    }

    /// The number of an identity that `ensure` has seen in this batch.
    pub(super) fn get(&self, id: Uuid) -> Option<i64> {
        self.known.get(&id).copied()
    }
}

/// Changes of counts by (kind, class, bucket), collected over a batch.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<(i64, i64, i64), i64>);

impl Counts {
    /// Adds `n` rows of a class at an instant (microseconds).
    pub(super) fn add(&mut self, class: i64, at: i64, n: i64) {
        for (kind, bucket) in [(0, 0), (1, at.div_euclid(24 * HOUR)), (2, at.div_euclid(HOUR))] {
            *self.0.entry((kind, class, bucket)).or_default() += n;
        }
    }

    pub(super) async fn save(self, tx: &mut ReadTx, sql: &CountSql) -> Result<(), SqlError> {
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
pub(super) struct CountSql {
    pub(super) add: (&'static str, &'static str),
    pub(super) drop_empty: &'static str,
    /// class, n, newest instant before $3 of classes from $1 to below $2.
    pub(super) heads: &'static str,
    /// at, no of class $1 from $2 to below $3, newest first, $4 at most.
    pub(super) newest: &'static str,
    /// Rows of class $1 in: hours $2..$3, days $4..$5, hours $6..$7, instants $8..$9, instants $10..$11.
    pub(super) count: &'static str,
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
pub(super) use count_sql;

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
pub(super) struct Head {
    pub(super) class: i64,
    pub(super) rows: i64,
    newest: Option<i64>,
}

/// The classes of a policy (or all) that have rows.
pub(super) async fn heads(
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
pub(super) async fn count(db: &ReadDb, sql: &CountSql, head: Head, span: Span) -> Result<i64, SqlError> {
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
pub(super) async fn newest(
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
pub(super) fn on_page(found: Vec<(i64, i64)>, page: Page) -> Vec<SqlValue> {
    let skip = usize::try_from(page.offset()).unwrap_or(usize::MAX);
    found.into_iter().skip(skip).map(|(_, no)| SqlValue::I64(no)).collect()
}

/// Policy and period in a class.
pub(super) fn class_of(policy: i64, period: Period, rest: i64) -> i64 {
    policy << POLICY_SHIFT | period_code(period) << PERIOD_SHIFT | rest
}

/// The number of the policy in a class.
pub(super) fn policy_in(class: i64) -> i64 {
    class >> POLICY_SHIFT
}

/// The period in a class.
pub(super) fn period_in(class: i64) -> Period {
    let code = (class >> PERIOD_SHIFT) & PERIOD_MASK;
    let (kind, year, part) =
        (code >> 18, i32::try_from((code >> 4) & 0x3fff).unwrap_or_default(), (code & 15).unsigned_abs());
    let part = u32::try_from(part).unwrap_or_default();
    match kind {
        1 => Month::new(year, part).map_or(Period::Total, Period::Month),
        2 => Period::Quarter { year, quarter: part },
        3 => Period::Year(year),
        _ => Period::Total,
    }
}

/// A period as a number of 20 bits.
pub(super) fn period_code(period: Period) -> i64 {
    let code = |kind: i64, year: i32, part: u32| kind << 18 | i64::from(year) << 4 | i64::from(part);
    match period {
        Period::Total => 0,
        Period::Month(month) => code(1, month.year(), month.number()),
        Period::Quarter { year, quarter } => code(2, year, quarter),
        Period::Year(year) => code(3, year, 0),
    }
}

/// A month as year × 100 + month.
pub(super) fn month_code(month: Month) -> i64 {
    i64::from(month.year()) * 100 + i64::from(month.number())
}

/// The month of such a number.
pub(super) fn month_of(code: i64) -> Option<Month> {
    Month::new(i32::try_from(code / 100).ok()?, u32::try_from(code % 100).ok()?)
}

/// Flags as bits: 1 paused, 2 downscaled.
pub(super) fn flag_bits(flags: Flags) -> i64 {
    i64::from(flags.paused) | i64::from(flags.downscaled) << 1
}

/// Flags from bits.
pub(super) fn flags_of(bits: i64) -> Flags {
    Flags { paused: bits & 1 != 0, downscaled: bits & 2 != 0 }
}

/// Resource and month of an allocation book's stream.
pub(super) fn book_of(stream: &StreamName) -> Option<(ResourceId, Month)> {
    let (resource, month) = stream.as_str().strip_prefix("allocation-")?.split_at_checked(32)?;
    Some((resource.parse().ok()?, month.strip_prefix('-')?.parse().ok()?))
}

/// Identities as a JSON list of hex digits, for `IN (SELECT unhex(value) FROM json_each(…))`.
pub(super) fn id_list(ids: impl IntoIterator<Item = Uuid>) -> String {
    let ids: Vec<String> = ids.into_iter().map(|id| format!("\"{}\"", id.as_simple())).collect();
    format!("[{}]", ids.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_gives_back_what_was_packed_into_it() {
        for period in ["total", "2026-03", "9999-12", "2026-Q4", "0001-Q1", "2026"] {
            let period: Period = period.parse().unwrap();
            let class = class_of(1_234_567, period, 0xff);
            assert_eq!((policy_in(class), period_in(class), class & 0xff), (1_234_567, period, 0xff));
        }
    }

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
