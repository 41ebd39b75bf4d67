//! A report as a document, and its tables as lines of comma-separated values.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value as Json, json};

use super::{Cell, Refs, Report, Table, Value};
use crate::domain::decimal::number;

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

impl Value {
    /// As text; empty where nothing is known.
    pub fn text(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Text(text) => text.clone(),
            Self::Instant(at) => instant(*at),
            Self::Number(number) => number.to_string(),
            Self::Count(count) => count.to_string(),
            Self::Hours(span) => Self::hours(*span).to_string(),
        }
    }

    /// As part of a document.
    pub fn json(&self) -> Json {
        match self {
            Self::Nothing => Json::Null,
            Self::Text(text) => text.clone().into(),
            Self::Instant(at) => instant(*at).into(),
            Self::Number(value) => number(*value),
            Self::Count(count) => (*count).into(),
            Self::Hours(span) => number(Self::hours(*span)),
        }
    }
}

impl Refs {
    /// Positions, and how many more there are: `12 15 +3`.
    pub fn text(&self) -> String {
        let mut positions: Vec<String> = self.first.iter().map(|one| one.position.plain()).collect();
        let more = self.count.saturating_sub(self.first.len() as u64);
        positions.extend((more > 0).then(|| format!("+{more}")));
        positions.join(" ")
    }

    fn json(&self) -> Json {
        let id = |event: &uuid::Uuid| (!event.is_nil()).then(|| event.as_simple().to_string());
        let one = |one: &super::EventRef| json!({"position": one.position.plain(), "event": id(&one.event)});
        json!({"count": self.count, "first": self.first.iter().map(one).collect::<Vec<_>>()})
    }
}

/// Cells by name, and under `events` what each of them comes of.
fn object<'a>(cells: impl Iterator<Item = (&'a str, &'a Cell)>) -> Json {
    let (mut values, mut events) = (Map::new(), Map::new());
    for (name, cell) in cells {
        values.insert(name.to_owned(), cell.value.json());
        if cell.events.count > 0 {
            events.insert(name.to_owned(), cell.events.json());
        }
    }
    values.insert("events".to_owned(), events.into());
    values.into()
}

/// A field of a line: quoted where it must be. What a spreadsheet would take for a formula is made a text by a quote.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

impl Table {
    fn named<'a>(&'a self, row: &'a [Cell]) -> impl Iterator<Item = (&'a str, &'a Cell)> {
        self.columns.iter().copied().zip(row)
    }

    /// What the cells of a row come of: `started=12; ended=19`.
    pub fn events_of(&self, row: &[Cell]) -> String {
        let linked = self.named(row).filter(|(_, cell)| cell.events.count > 0);
        linked.map(|(name, cell)| format!("{name}={}", cell.events.text())).collect::<Vec<_>>().join("; ")
    }

    /// As a document.
    pub fn json(&self) -> Json {
        json!({
            "name": self.name,
            "columns": self.columns,
            "rows": self.rows.iter().map(|row| object(self.named(row))).collect::<Vec<_>>(),
            "omitted": self.omitted,
            "totals": object(self.totals.iter().map(|(name, cell)| (*name, cell))),
            "notes": self.notes,
        })
    }

    /// As lines of comma-separated values with a line of names; the last column says what the others come of.
    pub fn csv(&self) -> String {
        let mut text = self.columns.join(",");
        text.push_str(",events\r\n");
        for row in &self.rows {
            let cells = row.iter().map(|cell| field(&cell.value.text())).chain([field(&self.events_of(row))]);
            // Writing to a text never fails.
            let _ = write!(text, "{}\r\n", cells.collect::<Vec<_>>().join(","));
        }
        text
    }
}

impl Report {
    /// As a document.
    pub fn json(&self) -> Json {
        let asked = &self.asked;
        json!({
            "report": asked.kind.as_str(),
            "title": asked.kind.title(),
            "period": asked.span.period.map(|period| period.to_string()),
            "from": instant(asked.span.from),
            "to": instant(asked.span.to),
            "resource_uuid": asked.resource.map(|id| id.to_string()),
            "policy_uuid": asked.policy.map(|id| id.to_string()),
            "through": self.through.plain(),
            "tables": self.tables.iter().map(Table::json).collect::<Vec<_>>(),
        })
    }

    /// As lines of comma-separated values: table after table, an empty line between them.
    pub fn csv(&self) -> String {
        self.tables.iter().map(Table::csv).collect::<Vec<_>>().join("\r\n")
    }
}
