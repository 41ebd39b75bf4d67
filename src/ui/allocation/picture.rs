//! The chart of an allocation, drawn from the API's series.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::Deserialize;

use crate::domain::period::Period;
use crate::ui::assets;
use crate::ui::chart::{Band, Burn, Chart, Marker, Series, Step, Threshold};
use crate::ui::problem::Problem;
use crate::ui::read::{AllocationState, Pace};
use crate::ui::standing::Tone;
use crate::ui::visit::Visit;
use crate::ui::words::{self, Moment};

#[derive(Deserialize)]
struct StepRead {
    at: DateTime<Utc>,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    used: Decimal,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    may_use: Decimal,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    usage_percentage: Decimal,
    state: String,
}

#[derive(Deserialize)]
struct RungRead {
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    percent: Decimal,
    effect: String,
    #[serde(deserialize_with = "crate::ui::read::decimal")]
    amount: Decimal,
}

#[derive(Deserialize)]
struct ThresholdsRead {
    at: DateTime<Utc>,
    rungs: Vec<RungRead>,
}

#[derive(Deserialize)]
struct BandRead {
    state: String,
    from: DateTime<Utc>,
    to: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct MarkerRead {
    at: DateTime<Utc>,
    kind: String,
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    usage_percentage: Option<Decimal>,
    hold_kind: Option<String>,
}

#[derive(Deserialize)]
struct ForecastRead {
    pace: Pace,
}

#[derive(Deserialize)]
struct SeriesRead {
    starts_at: Option<DateTime<Utc>>,
    ends_before: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    unit: Option<String>,
    steps: Vec<StepRead>,
    steps_left_out: u64,
    thresholds: Vec<ThresholdsRead>,
    bands: Vec<BandRead>,
    markers: Vec<MarkerRead>,
    forecast: Option<ForecastRead>,
}

/// The chart, and what its legend names.
#[expect(clippy::struct_excessive_bools, reason = "each is an entry of the legend")]
pub struct Picture {
    /// The chart.
    pub chart: Chart,
    /// What is left until it is restricted; none where nothing restricts.
    pub burn: Option<Burn>,
    /// It was slowed down at some time.
    pub slowed: bool,
    /// It was paused at some time.
    pub paused: bool,
    /// It was held at some time.
    pub held: bool,
    /// There is a forecast.
    pub forecast: bool,
    /// Steps between those that are shown.
    pub left_out: u64,
    /// Address of the icons.
    pub icons: &'static str,
}

/// How something that happened is marked.
fn tone(marker: &MarkerRead) -> Tone {
    let plain = |class, icon, word| Tone { class, icon, word };
    match marker.kind.as_str() {
        "warned" => plain("warn", "bell", "Warned"),
        "slowed_down" => plain("slow", "chevrons-down", "Slowed down"),
        "paused" => plain("pause", "pause", "Paused"),
        "restored" => plain("normal", "check", "Restored"),
        "limits_changed" => plain("link", "arrow-up", "Limit changed"),
        "policy_changed" => plain("link", "scroll-text", "Policy changed"),
        "hold_placed" if marker.hold_kind.as_deref() == Some("exemption") => plain("exempt", "shield", "Exempted"),
        "hold_placed" => plain("hold", "lock", "Hold placed"),
        "hold_ended" => plain("hold", "check", "Hold ended"),
        "restated" => plain("link", "undo-2", "Usage corrected"),
        _ => plain("plain", "info", "Changed"),
    }
}

/// What was used at an instant.
fn used_at(steps: &[StepRead], at: DateTime<Utc>) -> Decimal {
    steps.iter().rfind(|step| step.at <= at).map(|step| step.used).unwrap_or_default()
}

/// The rungs as lines: a rung is the same as long as percent and effect are.
fn thresholds(read: &[ThresholdsRead], start: DateTime<Utc>) -> Vec<Threshold> {
    let mut lines: Vec<Threshold> = Vec::new();
    for (index, step) in read.iter().enumerate() {
        // What the first evaluation found was so from the beginning.
        let at = if index == 0 { start } else { step.at };
        for rung in &step.rungs {
            let known = lines.iter_mut().find(|line| line.percent == rung.percent && line.effect == rung.effect);
            match known {
                Some(line) => line.points.push((at, rung.amount)),
                None => lines.push(Threshold {
                    percent: rung.percent,
                    effect: rung.effect.clone(),
                    points: vec![(at, rung.amount)],
                }),
            }
        }
    }
    lines.sort_by_key(|line| line.percent);
    lines
}

fn markers(visit: &Visit, read: &SeriesRead) -> Vec<Marker> {
    let marker = |marker: &MarkerRead| {
        let tone = tone(marker);
        let percent = marker.usage_percentage.map(|p| format!(" at {}", words::percent(p))).unwrap_or_default();
        Marker {
            at: marker.at,
            used: used_at(&read.steps, marker.at),
            tone,
            hollow: marker.kind == "restated",
            title: format!("{}{percent}, {}", tone.word, Moment::of(marker.at).short),
            href: format!("{}#happened-{}", visit.path.trim_end_matches("/statement"), marker.at.timestamp_micros()),
        }
    };
    read.markers.iter().map(marker).collect()
}

/// The chart of an allocation under the policy of its row; none where no policy has been evaluated.
pub async fn of(visit: &Visit, of: &AllocationState) -> Result<Option<Picture>, Problem> {
    in_period(visit, of, None).await
}

/// The same of a period that is over, where one is given.
pub async fn in_period(visit: &Visit, of: &AllocationState, past: Option<&Period>) -> Result<Option<Picture>, Problem> {
    let Some(policy) = &of.policy_uuid else { return Ok(None) };
    let id = &of.resource_uuid;
    let period = past.map(|period| format!("&billing_period={period}")).unwrap_or_default();
    let path = format!("/api/marketplace-provider-resources/{id}/usage-series/?policy_uuid={policy}{period}");
    let Some(read) = visit.api.find::<SeriesRead>(&path).await? else { return Ok(None) };
    let Some(start) = read.starts_at.or_else(|| read.steps.first().map(|step| step.at)) else { return Ok(None) };
    // A period without an end is shown until today, with some room.
    let end = read.ends_before.unwrap_or_else(|| {
        let tomorrow = read.now.date_naive().and_time(NaiveTime::MIN).and_utc() + TimeDelta::days(1);
        tomorrow + (tomorrow - start) / 10
    });
    let ends = read.forecast.as_ref().and_then(|f| f.pace.at_period_end_average.zip(f.pace.at_period_end_last_7_days));
    let has = |state: &str| read.bands.iter().any(|band| band.state == state);
    let (slowed, paused, held) = (has("slowed_down"), has("paused"), has("on_hold"));
    let series = Series {
        start,
        end,
        now: read.now.min(end),
        unit: read.unit.as_deref().map(words::unit).unwrap_or_default(),
        thresholds: thresholds(&read.thresholds, start),
        markers: markers(visit, &read),
        forecast: ends.map(|(a, b)| (a.min(b), a.max(b))),
        bands: read
            .bands
            .iter()
            .map(|band| Band {
                from: band.from.max(start),
                to: band.to.unwrap_or(read.now).min(end),
                state: band.state.clone(),
            })
            .collect(),
        steps: read
            .steps
            .iter()
            .map(|step| Step {
                at: step.at,
                used: step.used,
                may_use: Some(step.may_use),
                percentage: Some(step.usage_percentage),
                state: step.state.clone(),
            })
            .collect(),
    };
    Ok(Some(Picture {
        burn: series.burn_down(),
        chart: series.drawn(),
        slowed,
        paused,
        held,
        forecast: ends.is_some(),
        left_out: read.steps_left_out,
        icons: assets::address("icons.svg"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_goes_on_where_its_amount_changes_and_a_new_one_begins_where_it_appears() {
        let at = |text: &str| format!("2026-{text}T00:00:00Z").parse::<DateTime<Utc>>().unwrap();
        let rung = |percent: i64, amount: i64| RungRead {
            percent: percent.into(),
            effect: "pause".into(),
            amount: amount.into(),
        };
        let read = [
            ThresholdsRead { at: at("01-02"), rungs: vec![rung(120, 1_200)] },
            ThresholdsRead { at: at("02-01"), rungs: vec![rung(120, 1_800), rung(100, 1_500)] },
        ];
        let lines = thresholds(&read, at("01-01"));
        assert_eq!(lines.iter().map(|line| line.percent).collect::<Vec<_>>(), [100.into(), 120.into()]);
        assert_eq!(lines[1].points, [(at("01-01"), 1_200.into()), (at("02-01"), 1_800.into())]);
    }
}
