//! What is left until an allocation is restricted, over the period: it falls with what is used and steps up with a top-up,
//! beside the pace that would use all of it on the last day.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::{FromPrimitive, ToPrimitive};

use super::scale::{Area, Scale};
use super::{Label, Path, Series, Threshold};
use crate::ui::rows::px;
use crate::ui::words;

/// The measures of the two renderings.
const FORMS: [(&str, Area); 2] = [
    ("wide", Area { left: 50.0, right: 804.0, top: 24.0, bottom: 160.0 }),
    ("narrow", Area { left: 44.0, right: 344.0, top: 24.0, bottom: 160.0 }),
];

/// What is left, over time.
pub struct Burn {
    /// `Left until it is slowed down`.
    pub title: String,
    /// What it shows, in a sentence.
    pub description: String,
    /// For wide and for narrow places.
    pub drawings: Vec<Drawing>,
}

/// The picture in one rendering.
pub struct Drawing {
    /// `wide` or `narrow`.
    pub form: &'static str,
    /// Its width.
    pub width: String,
    /// Horizontal lines.
    pub grid: Vec<Path>,
    /// Marks on the axis.
    pub ticks: String,
    /// Amounts, days, the unit.
    pub labels: Vec<Label>,
    /// What is left, and the ideal pace.
    pub lines: Vec<Path>,
    /// Where now is.
    pub now: String,
}

/// What a threshold was at an instant.
fn at(rung: &Threshold, when: DateTime<Utc>) -> Decimal {
    let known = rung.points.iter().rfind(|(since, _)| *since <= when).or(rung.points.first());
    known.map(|(_, amount)| *amount).unwrap_or_default()
}

impl Series {
    /// The rung that restricts first: the lowest at which an account is slowed down or paused.
    fn restricts(&self) -> Option<&Threshold> {
        self.thresholds.iter().find(|rung| rung.effect != "notify" && !rung.points.is_empty())
    }

    /// Every instant at which what is left changed, with what was left from then on.
    fn left(&self, rung: &Threshold) -> Vec<(DateTime<Utc>, Decimal)> {
        let mut when: Vec<DateTime<Utc>> = self.steps.iter().map(|step| step.at).collect();
        when.extend(rung.points.iter().map(|(since, _)| *since));
        when.extend([self.start, self.now]);
        when.retain(|when| *when >= self.start && *when <= self.now);
        when.sort_unstable();
        when.dedup();
        let used = |when: DateTime<Utc>| self.steps.iter().rfind(|step| step.at <= when).map(|step| step.used);
        when.into_iter()
            .map(|when| (when, (at(rung, when) - used(when).unwrap_or_default()).max(Decimal::ZERO)))
            .collect()
    }

    /// The picture; nothing where no rung restricts.
    pub fn burn_down(&self) -> Option<Burn> {
        let rung = self.restricts()?;
        let highest = rung.points.iter().map(|(_, amount)| *amount).max()?;
        let left = self.left(rung);
        let does = crate::ui::allocation::done(&rung.effect);
        let (_, now) = left.last()?;
        Some(Burn {
            title: format!("Left until it is {does}"),
            description: format!(
                "{} {} left on {}.",
                words::amount(*now, 1),
                self.unit,
                words::day(self.now.date_naive())
            ),
            drawings: FORMS.iter().map(|(form, area)| self.burn_drawn(form, *area, rung, highest, &left)).collect(),
        })
    }

    fn burn_drawn(
        &self,
        form: &'static str,
        area: Area,
        rung: &Threshold,
        highest: Decimal,
        left: &[(DateTime<Utc>, Decimal)],
    ) -> Drawing {
        let scale = Scale::new(area, (self.start, self.end), highest);
        let narrow = form == "narrow";
        let mut course = String::new();
        for (index, (when, amount)) in left.iter().enumerate() {
            let (x, y) = (px(scale.x(*when)), px(scale.y(*amount)));
            let _ = if index == 0 { write!(course, "M{x} {y}") } else { write!(course, "H{x}V{y}") };
        }
        let lines = vec![
            Path { d: self.even(rung, &scale), class: "ideal".to_owned() },
            Path { d: course, class: "usage".to_owned() },
        ];
        Drawing {
            form,
            width: px(area.right + 16.0),
            grid: scale.lines().into_iter().map(|amount| line(area, &scale, amount)).collect(),
            ticks: scale.days(narrow).iter().fold(String::new(), |mut d, (when, _)| {
                let _ = write!(d, "M{} {}v4", px(scale.x(*when)), px(area.bottom));
                d
            }),
            labels: self.words(area, &scale, narrow),
            lines,
            now: px(scale.x(self.now)),
        }
    }

    /// From all of it at the beginning to nothing at the end, anew where the amount changed.
    fn even(&self, rung: &Threshold, scale: &Scale) -> String {
        let whole = (self.end - self.start).num_seconds().max(1).to_f64().unwrap_or(1.0);
        let y = |when: DateTime<Utc>, amount: Decimal| {
            let left = (self.end - when).num_seconds().to_f64().unwrap_or_default() / whole;
            px(scale.y_of(amount.to_f64().unwrap_or_default() * left))
        };
        let mut d = String::new();
        for (index, (since, amount)) in rung.points.iter().enumerate() {
            let (from, to) = ((*since).max(self.start), rung.points.get(index + 1).map_or(self.end, |(next, _)| *next));
            let begin = if index == 0 { 'M' } else { 'L' };
            let _ =
                write!(d, "{begin}{} {}L{} {}", px(scale.x(from)), y(from, *amount), px(scale.x(to)), y(to, *amount));
        }
        d
    }

    fn words(&self, area: Area, scale: &Scale, narrow: bool) -> Vec<Label> {
        let label = |x: f64, y: f64, text: String, class| Label { x: px(x), y: px(y), text, class };
        let mut labels: Vec<Label> = scale
            .lines()
            .into_iter()
            .map(|amount| {
                let text = words::amount(Decimal::from_f64(amount).unwrap_or_default(), 2);
                label(area.left - 8.0, scale.y_of(amount) + 4.0, text, "end")
            })
            .collect();
        for (when, month) in scale.days(narrow) {
            let date = when.date_naive();
            let text = if month { words::day(date) } else { date.format("%-d").to_string() };
            labels.push(label(scale.x(when), area.bottom + 18.0, text, "middle"));
        }
        labels.push(label(8.0, 14.0, self.unit.clone(), "start"));
        labels
    }
}

fn line(area: Area, scale: &Scale, amount: f64) -> Path {
    let class = if amount == 0.0 { "base" } else { "grid" };
    let y = px(scale.y_of(amount));
    Path { d: format!("M{} {y}H{}", px(area.left), px(area.right)), class: class.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::Step;
    use super::*;

    fn when(text: &str) -> DateTime<Utc> {
        format!("2026-{text}T00:00:00Z").parse().unwrap()
    }

    fn series(thresholds: Vec<Threshold>) -> Series {
        let step = |day: &str, used: i64| Step {
            at: when(day),
            used: used.into(),
            may_use: None,
            percentage: None,
            state: "normal".into(),
        };
        Series {
            start: when("01-01"),
            end: when("04-01"),
            now: when("02-10"),
            unit: "node-hours".into(),
            steps: vec![step("01-10", 300), step("02-01", 1_200)],
            thresholds,
            bands: Vec::new(),
            markers: Vec::new(),
            forecast: None,
        }
    }

    fn rung(effect: &str, points: &[(&str, i64)]) -> Threshold {
        Threshold {
            percent: 100.into(),
            effect: effect.into(),
            points: points.iter().map(|(day, amount)| (when(day), (*amount).into())).collect(),
        }
    }

    #[test]
    fn what_is_left_falls_with_usage_steps_up_with_a_top_up_and_is_never_below_nothing() {
        let slow = rung("downscale", &[("01-01", 1_000), ("02-05", 1_500)]);
        let series = series(vec![rung("notify", &[("01-01", 800)]), slow.clone()]);
        let left: Vec<String> =
            series.left(&slow).iter().map(|(when, left)| format!("{} {left}", when.format("%m-%d"))).collect();
        assert_eq!(left, ["01-01 1000", "01-10 700", "02-01 0", "02-05 300", "02-10 300"]);
        let burn = series.burn_down().unwrap();
        assert_eq!(burn.description.replace(words::NBSP, " "), "300 node-hours left on 10 Feb.");
        assert_eq!(burn.title, "Left until it is slowed down");
        let ideal = &burn.drawings[0].lines[0].d;
        assert_eq!(ideal.matches('L').count(), 3, "{ideal}");
        assert_eq!(burn.drawings.iter().map(|drawing| drawing.form).collect::<Vec<_>>(), ["wide", "narrow"]);
    }

    #[test]
    fn nothing_is_drawn_where_nothing_restricts() {
        assert!(series(vec![rung("notify", &[("01-01", 800)])]).burn_down().is_none());
    }
}
