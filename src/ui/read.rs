//! Readers for the API's answers that several pages share.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// A decimal, which the API writes as a JSON number.
#[derive(Deserialize)]
#[serde(try_from = "serde_json::Number")]
struct Exact(Decimal);

impl TryFrom<serde_json::Number> for Exact {
    type Error = rust_decimal::Error;

    fn try_from(number: serde_json::Number) -> Result<Self, Self::Error> {
        let text = number.to_string();
        text.parse().or_else(|_| Decimal::from_scientific(&text)).map(Self)
    }
}

/// Reads a decimal.
pub fn decimal<'de, D: Deserializer<'de>>(from: D) -> Result<Decimal, D::Error> {
    Exact::deserialize(from).map(|exact| exact.0)
}

/// Reads a decimal, or none.
pub fn maybe<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Decimal>, D::Error> {
    Ok(Option::<Exact>::deserialize(from)?.map(|exact| exact.0))
}

/// Reads several decimals.
pub fn many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Decimal>, D::Error> {
    Ok(Vec::<Exact>::deserialize(from)?.into_iter().map(|exact| exact.0).collect())
}

/// Reads decimals by name.
pub fn by_name<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Decimal>, D::Error> {
    let read = BTreeMap::<String, Exact>::deserialize(from)?;
    Ok(read.into_iter().map(|(name, exact)| (name, exact.0)).collect())
}

/// When an amount is reached at a pace.
#[derive(Debug, Clone, Deserialize)]
pub struct Forecast {
    /// The day; none when never.
    pub date: Option<NaiveDate>,
    /// Whether the period lasts that long.
    pub in_period: bool,
}

/// A rung of the ladder.
#[derive(Debug, Clone, Deserialize)]
pub struct Rung {
    /// Percent.
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    pub percent: Decimal,
    /// `notify`, `downscale` or `pause`.
    pub effect: String,
    /// The same as an amount.
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    pub amount: Decimal,
    /// Whether it is reached.
    #[serde(default)]
    pub reached: bool,
}

/// A rung that is still ahead.
#[derive(Debug, Clone, Deserialize)]
pub struct Ahead {
    /// Percent.
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    pub percent: Decimal,
    /// `notify`, `downscale` or `pause`.
    pub effect: String,
    /// The same as an amount.
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    pub amount: Decimal,
    /// Until it is reached.
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    pub left: Decimal,
    /// At the average pace.
    pub at_average: Forecast,
    /// At the pace of the last seven days.
    pub at_last_7_days: Forecast,
    /// The earlier of both days in the period.
    pub soonest: Option<NaiveDate>,
}

/// What is used in a day.
#[derive(Debug, Clone, Deserialize)]
pub struct Pace {
    /// Since the period began.
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    pub average: Decimal,
    /// In the last seven days.
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    pub last_7_days: Decimal,
    /// What would last exactly.
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    pub ideal: Option<Decimal>,
    /// The last seven days over the ideal.
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    pub multiple_of_ideal: Option<Decimal>,
    /// Used when the period ends, at the average pace.
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    pub at_period_end_average: Option<Decimal>,
    /// The same at the pace of the last seven days.
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    pub at_period_end_last_7_days: Option<Decimal>,
}

/// A manual hold.
#[derive(Debug, Clone, Deserialize)]
pub struct Hold {
    /// Why, where one may know.
    pub reason: Option<String>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The account as the site says it is.
#[derive(Debug, Clone, Deserialize)]
pub struct Site {
    /// The class of service that it should have.
    #[serde(rename = "qos_expected")]
    pub expected: Option<String>,
    /// The one that it has, as the site said last.
    #[serde(rename = "qos_confirmed")]
    pub confirmed: Option<String>,
    /// When it said so.
    #[serde(rename = "qos_confirmed_at")]
    pub confirmed_at: Option<DateTime<Utc>>,
}

/// An allocation under one of its policies.
#[derive(Debug, Clone, Deserialize)]
pub struct AllocationState {
    /// Its id.
    pub resource_uuid: String,
    /// Its name.
    pub resource_name: String,
    /// Its short name, of which there is one.
    pub resource_slug: String,
    /// The SLURM account.
    pub backend_id: String,
    /// Its project.
    pub project_name: String,
    /// Its organisation.
    pub customer_name: String,
    /// The offering.
    pub offering_name: String,
    /// The policy, if one applies.
    pub policy_uuid: Option<String>,
    /// The policy's short name.
    pub policy_slug: Option<String>,
    /// The policy's version that was evaluated last.
    pub policy_version: Option<u64>,
    /// The period that is counted now: `2026-Q1`.
    pub billing_period: Option<String>,
    /// Its first day.
    pub period_start: Option<NaiveDate>,
    /// Its last day.
    pub period_end: Option<NaiveDate>,
    /// The state on the wire.
    pub state: String,
    /// Since when.
    pub state_since: Option<DateTime<Utc>>,
    /// The unit of the amounts, if they have one.
    pub unit: Option<String>,
    /// Used in the period.
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    pub used: Option<Decimal>,
    /// What may be used in it.
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    pub may_use: Option<Decimal>,
    /// The engine's percentage.
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    pub usage_percentage: Option<Decimal>,
    /// The last report that said something new.
    pub reported_at: Option<DateTime<Utc>>,
    /// The ladder, lowest first.
    pub rungs: Vec<Rung>,
    /// What of it is still ahead, the next one first.
    pub ahead: Vec<Ahead>,
    /// What is used in a day.
    pub pace: Option<Pace>,
    /// What the agent made of the newest commands.
    pub agent_status: String,
    /// Holds in force.
    pub manual_holds: Vec<Hold>,
    /// What the site says.
    pub site: Site,
}

impl AllocationState {
    /// The last segment of its page's address.
    pub fn key(&self) -> &str {
        if self.resource_slug.is_empty() { &self.resource_uuid } else { &self.resource_slug }
    }
}

/// Something that has a name.
#[derive(Debug, Clone, Deserialize)]
pub struct Named {
    /// Its id.
    pub uuid: String,
    /// Its name.
    pub name: String,
}
