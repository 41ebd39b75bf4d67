//! Code that the read models share: marks, interned identities, pages, and numbers that stand for words.
//!
//! A class is a number that packs everything by which a list can be filtered except resource and time; `counts`
//! explains why.

mod counts;
mod reports;

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::evaluate::Flags;
use crate::domain::ids::ResourceId;
use crate::domain::period::{Month, Period};
use crate::events::Event;
use crate::events::envelope::{Position, StreamName};
use crate::store::consumer::Decoded;
use crate::store::sql::{ReadTx, SqlError, SqlValue};

pub(super) use crate::store::sql::{execute_in, in_list, query_in, read_in};
pub(super) use counts::{CountSql, Counts, Head, count, count_sql, heads, newest, on_page};
pub(super) use reports::{Reported, Reports, reported};

/// Identities that an [`Interner`] remembers, about 40 bytes each; more are looked up again.
const INTERNED_MAX: usize = 131_072;

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
        Ok(Self { position: row.position(0)?, rows: row.i64(2)?, horizon: row.opt_time(3)? })
    }

    pub(super) async fn save(&self, tx: &mut ReadTx, sql: &MarkSql) -> Result<(), SqlError> {
        let [hi, lo] = SqlValue::position(self.position);
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
        1 => Month::recorded(year, part).map_or(Period::Total, Period::Month),
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
    Month::recorded(i32::try_from(code / 100).ok()?, u32::try_from(code % 100).ok()?)
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
    Some((resource.parse().ok()?, Month::read_recorded(month.strip_prefix('-')?)?))
}

/// Identities as a JSON list of hex digits, for `IN (SELECT unhex(value) FROM json_each(…))`.
pub(crate) fn id_list(ids: impl IntoIterator<Item = Uuid>) -> String {
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
}
