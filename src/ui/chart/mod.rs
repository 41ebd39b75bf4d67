//! Usage against its thresholds as SVG: classes only, a wide and a narrow form, every marker a link.
//!
//! A table, the chart's twin, contains the same data; the script reads the crosshair's values from it.

mod burn;
mod draw;
mod scale;

pub use burn::Burn;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::standing::Tone;
use super::words::Moment;

/// What is known at an instant.
#[derive(Debug, Clone)]
pub struct Step {
    /// When.
    pub at: DateTime<Utc>,
    /// Used in the period by then.
    pub used: Decimal,
    /// What may be used in it, as it was then.
    pub may_use: Option<Decimal>,
    /// The engine's percentage.
    pub percentage: Option<Decimal>,
    /// The state from then on.
    pub state: String,
}

/// A rung as it was: where its amount changed.
#[derive(Debug, Clone)]
pub struct Threshold {
    /// Percent.
    pub percent: Decimal,
    /// `notify`, `downscale` or `pause`.
    pub effect: String,
    /// Since when which amount.
    pub points: Vec<(DateTime<Utc>, Decimal)>,
}

/// A time in one state.
#[derive(Debug, Clone)]
pub struct Band {
    /// From.
    pub from: DateTime<Utc>,
    /// Until.
    pub to: DateTime<Utc>,
    /// The state on the wire.
    pub state: String,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Marker {
    /// When.
    pub at: DateTime<Utc>,
    /// At which amount.
    pub used: Decimal,
    /// Its icon, class and what it is.
    pub tone: Tone,
    /// Hollow and dashed: something that was corrected later.
    pub hollow: bool,
    /// What happened, in words.
    pub title: String,
    /// Where it is shown.
    pub href: String,
}

/// All that the chart shows.
#[derive(Debug, Clone)]
pub struct Series {
    /// The period's first instant.
    pub start: DateTime<Utc>,
    /// Its end.
    pub end: DateTime<Utc>,
    /// Now.
    pub now: DateTime<Utc>,
    /// The unit of the amounts.
    pub unit: String,
    /// Oldest first.
    pub steps: Vec<Step>,
    /// Lowest first.
    pub thresholds: Vec<Threshold>,
    /// Oldest first.
    pub bands: Vec<Band>,
    /// Oldest first.
    pub markers: Vec<Marker>,
    /// Used when the period ends: the least and the most that the paces come to.
    pub forecast: Option<(Decimal, Decimal)>,
}

/// A line of text somewhere.
pub struct Label {
    /// Where.
    pub x: String,
    /// Where.
    pub y: String,
    /// What.
    pub text: String,
    /// Its class.
    pub class: &'static str,
}

/// A box.
pub struct Rect {
    /// Left edge.
    pub x: String,
    /// Upper edge.
    pub y: String,
    /// Width.
    pub width: String,
    /// Height.
    pub height: String,
    /// Its class.
    pub class: &'static str,
    /// What it is, in words.
    pub title: String,
}

/// A line.
pub struct Path {
    /// Its course.
    pub d: String,
    /// Its class.
    pub class: String,
}

/// What stands at the right end of a threshold.
pub struct RungLabel {
    /// Where.
    pub y: String,
    /// Its class.
    pub class: &'static str,
    /// `Pause 120 %`.
    pub words: String,
    /// The amount now.
    pub amount: String,
}

/// Something that happened, as it is drawn.
pub struct Mark {
    /// Where.
    pub x: String,
    /// Where.
    pub y: String,
    /// The left and upper edge of its icon.
    pub icon_at: (String, String),
    /// Its icon, class and word.
    pub tone: Tone,
    /// Hollow and dashed.
    pub hollow: bool,
    /// What happened.
    pub title: String,
    /// Where it is shown.
    pub href: String,
    /// How many happened there, if several did.
    pub count: Option<usize>,
}

/// One form of the chart.
pub struct Drawing {
    /// `wide` or `narrow`.
    pub form: &'static str,
    /// The whole width.
    pub width: u32,
    /// The whole height.
    pub height: u32,
    /// Horizontal lines.
    pub grid: Vec<Path>,
    /// Amounts, days, the unit.
    pub labels: Vec<Label>,
    /// Marks on the axis.
    pub ticks: String,
    /// States behind everything.
    pub bands: Vec<Rect>,
    /// Thresholds, the ideal pace, usage, the forecast's edges.
    pub lines: Vec<Path>,
    /// The range of the forecast.
    pub fan: Option<String>,
    /// Words at the thresholds' ends; wide only.
    pub rungs: Vec<RungLabel>,
    /// Where the words begin.
    pub rungs_x: u32,
    /// Where now is, and how far up its line goes.
    pub now: (String, u32, u32),
    /// Where usage is now.
    pub dot: Option<(String, String)>,
    /// Things that happened.
    pub marks: Vec<Mark>,
    /// The strip of states.
    pub strip: Vec<Rect>,
    /// The strip's track.
    pub track: Rect,
}

/// A row of the twin.
pub struct TwinRow {
    /// Where its step is, in the wide form.
    pub x: String,
    /// When.
    pub at: Moment,
    /// Used by then.
    pub used: String,
    /// What may be used.
    pub may_use: String,
    /// The percentage.
    pub percent: String,
    /// The state.
    pub state: Tone,
}

/// The chart with its twin.
pub struct Chart {
    /// Both forms.
    pub drawings: Vec<Drawing>,
    /// The twin, newest first.
    pub twin: Vec<TwinRow>,
    /// What the picture shows, in a sentence.
    pub description: String,
}
