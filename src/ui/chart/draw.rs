//! Draws a series: shapes with computed coordinates, which the template only writes out.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::{FromPrimitive, ToPrimitive};

use super::scale::{Area, Scale};
use super::{Chart, Drawing, Label, Mark, Path, Rect, RungLabel, Series, Threshold, TwinRow};
use crate::ui::rows::px;
use crate::ui::standing;
use crate::ui::words::{self, Moment};

/// The measures of a form.
struct Form {
    name: &'static str,
    width: u32,
    height: u32,
    area: Area,
}

const WIDE: Form =
    Form { name: "wide", width: 820, height: 320, area: Area { left: 50.0, right: 680.0, top: 24.0, bottom: 270.0 } };
const NARROW: Form =
    Form { name: "narrow", width: 340, height: 240, area: Area { left: 42.0, right: 330.0, top: 14.0, bottom: 192.0 } };

/// The height of the strip of states, and how far below the plot it begins.
const STRIP: (f64, f64) = (16.0, 8.0);

/// Markers closer than this are one.
const MARKS_APART: f64 = 20.0;

/// Words at the right keep this distance.
const WORDS_APART: f64 = 16.0;

/// Reports further apart than this leave a dashed line between them.
const REPORTS_APART: TimeDelta = TimeDelta::hours(36);

impl Series {
    /// The largest amount that has to be seen.
    fn highest(&self) -> Decimal {
        let used = self.steps.iter().map(|step| step.used);
        let rungs = self.thresholds.iter().flat_map(|rung| rung.points.iter().map(|(_, amount)| *amount));
        let forecast = self.forecast.iter().flat_map(|(least, most)| [*least, *most]);
        used.chain(rungs).chain(forecast).max().unwrap_or_default()
    }

    /// The chart in both forms, with its twin.
    pub fn drawn(&self) -> Chart {
        let x = Scale::new(WIDE.area, (self.start, self.end), Decimal::ONE);
        let twin = self.steps.iter().rev().map(|step| TwinRow {
            x: px(x.x(step.at)),
            at: Moment::of(step.at),
            used: words::exact(step.used),
            may_use: step.may_use.map(words::exact).unwrap_or_default(),
            percent: step.percentage.map(words::percent).unwrap_or_default(),
            state: standing::state(&step.state),
        });
        Chart {
            drawings: [&WIDE, &NARROW].into_iter().map(|form| self.draw(form)).collect(),
            twin: twin.collect(),
            description: self.description(),
        }
    }

    fn description(&self) -> String {
        let mut text = format!("Usage in {} from {}", self.unit, words::day(self.start.date_naive()));
        let _ = write!(text, " to {}.", words::day(self.end.date_naive()));
        if let Some(last) = self.steps.last() {
            let _ = write!(text, " {} used by {}", words::amount(last.used, 1), Moment::of(last.at).short);
            if let Some(percentage) = last.percentage {
                let _ = write!(text, ", {}", words::percent(percentage));
            }
            text.push('.');
        }
        for rung in &self.thresholds {
            if let Some((_, amount)) = rung.points.last() {
                let word = standing::effect(&rung.effect).word;
                let _ = write!(text, " {word} at {}.", words::amount(*amount, 1));
            }
        }
        text
    }

    fn draw(&self, form: &Form) -> Drawing {
        let scale = Scale::new(form.area, (self.start, self.end), self.highest());
        let mut lines: Vec<Path> = self.thresholds.iter().map(|rung| self.rung_line(rung, &scale)).collect();
        lines.extend(self.ideal(&scale));
        lines.extend(self.usage(&scale));
        let dot = self.steps.last().map(|last| (scale.x(self.now.max(last.at)), scale.y(last.used)));
        let fan = dot.zip(self.forecast).map(|((x, y), (least, most))| {
            let (right, low, high) = (form.area.right, scale.y(least), scale.y(most));
            for end in [low, high] {
                lines.push(Path { d: format!("M{} {}L{} {}", px(x), px(y), px(right), px(end)), class: "edge".into() });
            }
            format!("M{} {}L{} {}V{}Z", px(x), px(y), px(right), px(high), px(low))
        });
        let strip_top = form.area.bottom + STRIP.1;
        Drawing {
            form: form.name,
            width: form.width,
            height: form.height,
            grid: grid(&scale, form),
            labels: self.labels(&scale, form),
            ticks: ticks(&scale, form),
            bands: self.bands(&scale, form),
            lines,
            fan,
            rungs: if form.name == "wide" { self.rungs(&scale) } else { Vec::new() },
            rungs_x: form.area.right.to_u32().unwrap_or_default() + 8,
            now: (px(scale.x(self.now)), form.area.top.to_u32().unwrap_or_default() - 6, strip_bottom(form)),
            dot: dot.map(|(x, y)| (px(x), px(y))),
            marks: self.marks(&scale),
            strip: self.strip(&scale, strip_top),
            track: Rect {
                x: px(form.area.left),
                y: px(strip_top),
                width: px(form.area.right - form.area.left),
                height: px(STRIP.0),
                class: "track",
                title: String::new(),
            },
        }
    }

    /// A line that steps where its amount changed, until the end of the period.
    fn rung_line(&self, rung: &Threshold, scale: &Scale) -> Path {
        let mut d = String::new();
        for (index, (at, amount)) in rung.points.iter().enumerate() {
            let (x, y) = (px(scale.x(*at)), px(scale.y(*amount)));
            let _ = if index == 0 { write!(d, "M{x} {y}") } else { write!(d, "H{x}V{y}") };
        }
        let _ = write!(d, "H{}", px(scale.x(self.end)));
        Path { d, class: format!("rung {}", standing::effect(&rung.effect).class) }
    }

    /// A straight line from nothing at the beginning to what may be used at the end, as that was at each time.
    fn ideal(&self, scale: &Scale) -> Option<Path> {
        let whole = (self.end - self.start).num_seconds().to_f64().filter(|whole| *whole > 0.0)?;
        let mut known: Vec<(DateTime<Utc>, Decimal)> = Vec::new();
        for step in &self.steps {
            if let Some(may) = step.may_use.filter(|may| known.last().is_none_or(|(_, last)| last != may)) {
                known.push((step.at, may));
            }
        }
        known.first_mut()?.0 = self.start;
        let at = |when: DateTime<Utc>, may: Decimal| {
            let share = (when - self.start).num_seconds().to_f64().unwrap_or_default() / whole;
            scale.y_of(may.to_f64().unwrap_or_default() * share)
        };
        let mut d = String::new();
        for (index, (from, may)) in known.iter().enumerate() {
            let to = known.get(index + 1).map_or(self.end, |(at, _)| *at);
            let (x1, x2) = (px(scale.x(*from)), px(scale.x(to)));
            let begin = if index == 0 { 'M' } else { 'L' };
            let _ = write!(d, "{begin}{x1} {}L{x2} {}", px(at(*from, *may)), px(at(to, *may)));
        }
        Some(Path { d, class: "ideal".to_owned() })
    }

    /// What was reported, as steps; dashed where nothing was for long.
    fn usage(&self, scale: &Scale) -> Vec<Path> {
        let mut whole = String::new();
        let mut gaps = String::new();
        let mut last: Option<(DateTime<Utc>, Decimal)> = None;
        for step in &self.steps {
            let (x, y) = (px(scale.x(step.at)), px(scale.y(step.used)));
            let _ = match last {
                None => write!(whole, "M{} {}H{x}V{y}", px(scale.x(self.start)), px(scale.y(Decimal::ZERO))),
                Some((at, used)) if step.at - at > REPORTS_APART => {
                    let _ = write!(gaps, "M{} {}H{x}", px(scale.x(at)), px(scale.y(used)));
                    write!(whole, "M{x} {}V{y}", px(scale.y(used)))
                }
                Some(_) => write!(whole, "H{x}V{y}"),
            };
            last = Some((step.at, step.used));
        }
        if let Some((at, used)) = last.filter(|(at, _)| *at < self.now) {
            let x = px(scale.x(self.now));
            let _ = if self.now - at > REPORTS_APART {
                write!(gaps, "M{} {}H{x}", px(scale.x(at)), px(scale.y(used)))
            } else {
                write!(whole, "H{x}")
            };
        }
        let line = |d: String, class: &str| Path { d, class: class.to_owned() };
        [line(whole, "usage"), line(gaps, "usage gap")].into_iter().filter(|path| !path.d.is_empty()).collect()
    }

    fn labels(&self, scale: &Scale, form: &Form) -> Vec<Label> {
        let mut labels: Vec<Label> = scale
            .lines()
            .into_iter()
            .map(|amount| Label {
                x: px(form.area.left - 8.0),
                y: px(scale.y_of(amount) + 4.0),
                text: words::amount(Decimal::from_f64(amount).unwrap_or_default(), 2),
                class: "end",
            })
            .collect();
        let narrow = form.name == "narrow";
        let mut last = f64::NEG_INFINITY;
        for (at, month) in scale.days(narrow) {
            let (x, date) = (scale.x(at), at.date_naive());
            if x - last < if narrow { 34.0 } else { 26.0 } && !month {
                continue;
            }
            last = x;
            let text = if month { words::day(date) } else { date.format("%-d").to_string() };
            let class = if at == self.start { "start" } else { "middle" };
            let x = if narrow && at == self.end { x - 8.0 } else { x };
            labels.push(Label { x: px(x), y: px(form.area.bottom + STRIP.0 + STRIP.1 + 16.0), text, class });
        }
        if !narrow {
            labels.push(Label { x: "8".into(), y: "14".into(), text: self.unit.clone(), class: "start" });
            let y = px(form.area.bottom + STRIP.1 + 12.0);
            labels.push(Label { x: px(form.area.left - 8.0), y, text: "state".into(), class: "end" });
        }
        labels.push(Label {
            x: px(scale.x(self.now)),
            y: px(form.area.top - 10.0),
            text: "now".into(),
            class: "middle strong",
        });
        labels
    }

    fn bands(&self, scale: &Scale, form: &Form) -> Vec<Rect> {
        let seen = self.bands.iter().filter(|band| standing::level(&band.state) > 7);
        let rect = |band: &super::Band| {
            let (left, right) = (scale.x(band.from), scale.x(band.to));
            let tone = standing::state(&band.state);
            Rect {
                x: px(left),
                y: px(form.area.top),
                width: px((right - left).max(1.0)),
                height: px(form.area.bottom - form.area.top),
                class: tone.class,
                title: format!("{} {} to {}", tone.word, Moment::of(band.from).short, Moment::of(band.to).short),
            }
        };
        seen.map(rect).collect()
    }

    fn strip(&self, scale: &Scale, top: f64) -> Vec<Rect> {
        let rect = |band: &super::Band| {
            let (left, right) = (scale.x(band.from), scale.x(band.to));
            let (tone, height) = (standing::state(&band.state), f64::from(standing::level(&band.state)));
            Rect {
                x: px(left),
                y: px(top + STRIP.0 - height),
                width: px((right - left).max(1.0)),
                height: px(height),
                class: tone.class,
                title: format!("{} {} to {}", tone.word, Moment::of(band.from).short, Moment::of(band.to).short),
            }
        };
        self.bands.iter().map(rect).collect()
    }

    /// Words at the ends of thresholds, moved apart where they would overlap.
    fn rungs(&self, scale: &Scale) -> Vec<RungLabel> {
        let mut ends: Vec<(f64, &Threshold, Decimal)> = self
            .thresholds
            .iter()
            .filter_map(|rung| rung.points.last().map(|(_, amount)| (scale.y(*amount) + 4.0, rung, *amount)))
            .collect();
        ends.sort_by(|a, b| b.0.total_cmp(&a.0));
        for index in 1..ends.len() {
            ends[index].0 = ends[index].0.min(ends[index - 1].0 - WORDS_APART);
        }
        let label = |(y, rung, amount): (f64, &Threshold, Decimal)| {
            let tone = standing::effect(&rung.effect);
            let word = if rung.effect == "downscale" { "Slow" } else { tone.word };
            RungLabel {
                y: px(y),
                class: tone.class,
                words: format!("{word} {}", words::rung(rung.percent)),
                amount: words::amount(amount, 1),
            }
        };
        ends.into_iter().map(label).collect()
    }

    /// What happened; where things are too close to each other, one with their number.
    fn marks(&self, scale: &Scale) -> Vec<Mark> {
        let mut marks: Vec<(f64, f64, Vec<&super::Marker>)> = Vec::new();
        for marker in &self.markers {
            let (x, y) = (scale.x(marker.at), scale.y(marker.used));
            match marks.last_mut() {
                Some((before, height, group)) if (x - *before).hypot(y - *height) < MARKS_APART => group.push(marker),
                _ => marks.push((x, y, vec![marker])),
            }
        }
        let mark = |(x, y, group): (f64, f64, Vec<&super::Marker>)| {
            let titles: Vec<&str> = group.iter().map(|marker| marker.title.as_str()).collect();
            // The newest of them says where things stand now.
            let newest = group[group.len() - 1];
            Mark {
                x: px(x),
                y: px(y),
                icon_at: (px(x - 6.0), px(y - 6.0)),
                tone: newest.tone,
                hollow: newest.hollow,
                title: titles.join(". "),
                href: newest.href.clone(),
                count: (group.len() > 1).then_some(group.len()),
            }
        };
        marks.into_iter().map(mark).collect()
    }
}

fn grid(scale: &Scale, form: &Form) -> Vec<Path> {
    let line = |amount: f64| Path {
        d: format!("M{} {}H{}", px(form.area.left), px(scale.y_of(amount)), px(form.area.right)),
        class: if amount == 0.0 { "base".to_owned() } else { "grid".to_owned() },
    };
    scale.lines().into_iter().map(line).collect()
}

fn ticks(scale: &Scale, form: &Form) -> String {
    let mut d = String::new();
    for (at, _) in scale.days(form.name == "narrow") {
        let _ = write!(d, "M{} {}v4", px(scale.x(at)), px(form.area.bottom));
    }
    d
}

fn strip_bottom(form: &Form) -> u32 {
    (form.area.bottom + STRIP.0 + STRIP.1).to_u32().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::{Marker, Step};
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-{text}:00Z").parse().unwrap()
    }

    fn series() -> Series {
        let step = |when: &str, used: i64, may: i64| Step {
            at: at(when),
            used: used.into(),
            may_use: Some(may.into()),
            percentage: Some(Decimal::from(used * 100) / Decimal::from(may)),
            state: "normal".into(),
        };
        let marker = |when: &str, used: i64| Marker {
            at: at(when),
            used: used.into(),
            tone: standing::effect("notify"),
            hollow: false,
            title: "warned".into(),
            href: "/x".into(),
        };
        Series {
            start: at("01-01T00:00"),
            end: at("04-01T00:00"),
            now: at("02-10T00:00"),
            unit: "node-hours".into(),
            steps: vec![step("01-02T00:00", 10, 1000), step("01-03T00:00", 20, 1000), step("02-09T00:00", 500, 1500)],
            thresholds: vec![
                Threshold {
                    percent: 100.into(),
                    effect: "downscale".into(),
                    points: vec![(at("01-01T00:00"), 1000.into()), (at("02-09T00:00"), 1500.into())],
                },
                Threshold {
                    percent: 101.into(),
                    effect: "pause".into(),
                    points: vec![(at("01-01T00:00"), 1010.into())],
                },
            ],
            bands: Vec::new(),
            markers: vec![marker("01-03T00:00", 20), marker("01-03T02:00", 20), marker("02-09T00:00", 500)],
            forecast: Some((900.into(), 1700.into())),
        }
    }

    #[test]
    fn a_gap_in_reports_is_dashed_and_thresholds_step() {
        let chart = series().drawn();
        let wide = &chart.drawings[0];
        let of = |class: &str| wide.lines.iter().filter(|line| line.class == class).count();
        assert_eq!((of("usage"), of("usage gap"), of("ideal"), of("edge")), (1, 1, 1, 2));
        let slow = wide.lines.iter().find(|line| line.class == "rung slow").unwrap();
        assert_eq!(slow.d.matches('V').count(), 1, "{}", slow.d);
    }

    #[test]
    fn close_markers_are_one_with_a_count_and_words_do_not_overlap() {
        let chart = series().drawn();
        let wide = &chart.drawings[0];
        assert_eq!(wide.marks.iter().map(|mark| mark.count).collect::<Vec<_>>(), [Some(2), None]);
        let ys: Vec<f64> = wide.rungs.iter().map(|rung| rung.y.parse().unwrap()).collect();
        assert!((ys[0] - ys[1]).abs() >= WORDS_APART, "{ys:?}");
    }

    #[test]
    fn the_twin_has_every_step_newest_first() {
        let chart = series().drawn();
        assert_eq!(chart.twin.iter().map(|row| row.used.as_str()).collect::<Vec<_>>(), ["500.00", "20.00", "10.00"]);
        assert!(chart.description.contains("500 used by"), "{}", chart.description);
    }

    #[test]
    fn a_series_without_anything_is_drawn() {
        let empty =
            Series { steps: Vec::new(), thresholds: Vec::new(), markers: Vec::new(), forecast: None, ..series() };
        let chart = empty.drawn();
        assert!(chart.twin.is_empty() && chart.drawings.len() == 2);
    }
}
