//! What a report is made of: tables of rows with named cells, each with the events that it comes of.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::domain::decimal::rounded;
use crate::events::envelope::{Position, RecordedEvent};

/// Events that a number names one by one; what is more is counted.
pub const REFS_MAX: usize = 20;

/// Rows that a table has at most unless asked otherwise.
pub const ROWS_MAX: usize = 100_000;

/// An event that something comes of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRef {
    /// Where it stands in the log.
    pub position: Position,
    /// What it is called.
    pub event: Uuid,
}

impl From<&RecordedEvent> for EventRef {
    fn from(event: &RecordedEvent) -> Self {
        Self { position: event.position, event: event.event_id }
    }
}

/// Events that a number comes of: the first ones, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refs {
    /// The first ones, in the order of the log.
    pub first: Vec<EventRef>,
    /// How many there are.
    pub count: u64,
}

impl Refs {
    /// Takes one more.
    pub fn add(&mut self, one: EventRef) {
        self.count += 1;
        if self.first.len() < REFS_MAX {
            self.first.push(one);
        }
    }

    /// One event of which only the place is known.
    pub fn at(position: Position) -> Self {
        EventRef { position, event: Uuid::nil() }.into()
    }

    /// Takes those of another number.
    pub fn add_all(&mut self, others: &Self) {
        self.count += others.count;
        self.first.extend(others.first.iter().take(REFS_MAX.saturating_sub(self.first.len())));
    }

    /// How many there are, with them.
    pub fn counted(&self) -> Cell {
        Cell { value: Value::Count(self.count), events: self.clone() }
    }
}

impl From<EventRef> for Refs {
    fn from(one: EventRef) -> Self {
        Self { first: vec![one], count: 1 }
    }
}

/// What a cell says.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing is known, or there is nothing.
    Nothing,
    /// Words.
    Text(String),
    /// An instant.
    Instant(DateTime<Utc>),
    /// A number.
    Number(Decimal),
    /// A number of things.
    Count(u64),
    /// A span of time, shown in hours.
    Hours(TimeDelta),
}

impl Value {
    /// A span in hours, to four places.
    pub fn hours(span: TimeDelta) -> Decimal {
        rounded(Decimal::from(span.num_seconds()) / Decimal::from(3_600), 4).normalize()
    }
}

/// A cell with the events that it comes of.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// What it says.
    pub value: Value,
    /// What it comes of.
    pub events: Refs,
}

impl Cell {
    /// A cell that says nothing.
    pub const NOTHING: Self = Self { value: Value::Nothing, events: Refs { first: Vec::new(), count: 0 } };

    /// Words; none if they are empty.
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        let value = if text.is_empty() { Value::Nothing } else { Value::Text(text) };
        Self { value, events: Refs::default() }
    }

    /// A number.
    pub fn number(number: Decimal) -> Self {
        Self { value: Value::Number(number.normalize()), events: Refs::default() }
    }

    /// A number of things.
    pub fn count(count: u64) -> Self {
        Self { value: Value::Count(count), events: Refs::default() }
    }

    /// A span of time.
    pub fn hours(span: TimeDelta) -> Self {
        Self { value: Value::Hours(span), events: Refs::default() }
    }

    /// When something happened, with the event that says so; nothing if it did not.
    pub fn at(happened: Option<(DateTime<Utc>, EventRef)>) -> Self {
        happened.map_or(Self::NOTHING, |(at, event)| Self { value: Value::Instant(at), events: event.into() })
    }

    /// An instant that no event stands for.
    pub fn instant(at: Option<DateTime<Utc>>) -> Self {
        Self { value: at.map_or(Value::Nothing, Value::Instant), events: Refs::default() }
    }

    /// The same, coming of these events.
    #[must_use]
    pub fn of(self, events: impl Into<Refs>) -> Self {
        Self { events: events.into(), ..self }
    }
}

/// A row: a cell for each column.
pub type Row = Vec<Cell>;

/// A table of a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// What it is called in a document.
    pub name: &'static str,
    /// Names of the columns.
    pub columns: &'static [&'static str],
    /// Its rows.
    pub rows: Vec<Row>,
    /// Rows that were left out because there are too many.
    pub omitted: u64,
    /// Sums over all rows, those that were left out too, by name.
    pub totals: Vec<(&'static str, Cell)>,
    /// What has to be known to read it.
    pub notes: Vec<String>,
}

impl Table {
    /// Without rows yet.
    pub fn new(name: &'static str, columns: &'static [&'static str]) -> Self {
        Self { name, columns, rows: Vec::new(), omitted: 0, totals: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row, or counts it where there are so many already.
    pub fn push(&mut self, row: Row, rows_max: usize) {
        debug_assert_eq!(row.len(), self.columns.len(), "a cell for each column of {}", self.name);
        if self.rows.len() < rows_max {
            self.rows.push(row);
        } else {
            self.omitted += 1;
        }
    }
}

/// Numbers of events by name, in the order of the names.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally(BTreeMap<String, u64>);

impl Tally {
    pub(super) fn add(&mut self, name: &str) {
        match self.0.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(name.to_owned(), 1);
            }
        }
    }

    /// `downscale 3, notify 1`.
    pub(super) fn said(&self) -> String {
        self.0.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    }
}
