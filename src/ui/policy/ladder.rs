//! The ladder of a policy with its allocations: one dot for each on 0 to 140 %.

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::Policy;
use crate::ui::problem::Problem;
use crate::ui::rows::px;
use crate::ui::standing;
use crate::ui::visit::Visit;
use crate::ui::words;

/// Allocations that are read for the picture, in pages of a hundred; of more the picture says that it shows a part.
const PAGES_MAX: u64 = 20;

/// The plot: its left edge, the line on which dots stand, and the percentage at its right end.
const LEFT: f64 = 12.0;
const FLOOR: f64 = 104.0;
const MOST: f64 = 140.0;

/// The distance of two dots in a column, the width of a letter, and the dots that fit.
const APART: f64 = 9.5;
const LETTER: f64 = 6.2;
const DOTS_MAX: usize = 8;

/// What the picture reads of an allocation.
#[derive(Deserialize)]
struct Standing {
    state: String,
    #[serde(default, deserialize_with = "crate::ui::read::maybe")]
    usage_percentage: Option<Decimal>,
}

/// A part of the ladder with its effect.
pub struct Zone {
    /// Left edge.
    pub x: String,
    /// Width.
    pub width: String,
    /// Where its word stands.
    pub word_x: String,
    /// Its class.
    pub class: &'static str,
    /// Its word.
    pub word: &'static str,
}

/// An allocation, or several.
pub struct Dot {
    /// Where.
    pub x: String,
    /// Where.
    pub y: String,
    /// Its class.
    pub class: &'static str,
    /// How many more stand there than fit.
    pub more: Option<String>,
}

/// A rendering: its words keep their size where there is less room.
struct Form {
    name: &'static str,
    right: f64,
    /// Percent that share a column of dots.
    column: f64,
}

const FORMS: [Form; 2] =
    [Form { name: "wide", right: 750.0, column: 1.8 }, Form { name: "narrow", right: 340.0, column: 4.0 }];

/// The picture in one rendering.
pub struct Drawing {
    /// `wide` or `narrow`.
    pub form: &'static str,
    /// The width of the picture, and the right edge of its plot.
    pub width: String,
    /// See above.
    pub right: String,
    /// Parts of it, lowest first.
    pub zones: Vec<Zone>,
    /// Allocations.
    pub dots: Vec<Dot>,
    /// Marks of the axis: where, and which percentage.
    pub ticks: Vec<(String, String)>,
}

/// The picture.
pub struct Ladder {
    /// For wide and for narrow places.
    pub drawings: Vec<Drawing>,
    /// It in words.
    pub description: String,
    /// What the axis is.
    pub foot: String,
}

/// The word of a rung: it stands between its line and the next one, is shortened to its first word where that is too
/// narrow, and left out where even that is.
fn word_between(from: f64, to: f64, word: &'static str) -> &'static str {
    let short = word.split(' ').next().unwrap_or(word);
    let fits = |word: &&str| from + 8.0 + word.len().to_f64().unwrap_or_default() * LETTER <= to;
    [word, short].into_iter().find(fits).unwrap_or_default()
}

impl Form {
    fn x(&self, percent: f64) -> f64 {
        LEFT + percent.clamp(0.0, MOST) / MOST * (self.right - LEFT)
    }

    fn zones(&self, rungs: &[(Decimal, &str)]) -> Vec<Zone> {
        let rungs: Vec<(f64, &str)> =
            rungs.iter().map(|(percent, effect)| (percent.to_f64().unwrap_or_default(), *effect)).collect();
        let zone = |(index, (percent, effect)): (usize, &(f64, &str))| {
            let end = rungs.get(index + 1).map_or(MOST, |(next, _)| *next);
            let (tone, left, right) = (standing::effect(effect), self.x(*percent), self.x(end));
            Zone {
                x: px(left),
                width: px((right - left).max(0.0)),
                word_x: px(left + 4.0),
                class: tone.class,
                word: word_between(left, right, tone.word),
            }
        };
        rungs.iter().enumerate().map(zone).collect()
    }

    fn dots(&self, standings: &[Standing]) -> Vec<Dot> {
        let mut columns: BTreeMap<i64, Vec<&'static str>> = BTreeMap::new();
        for of in standings {
            let Some(percent) = of.usage_percentage.and_then(|percent| percent.to_f64()) else { continue };
            let column = (percent.min(MOST) / self.column).floor().to_i64().unwrap_or_default();
            let class = if of.state == "normal" { "plain" } else { standing::state(&of.state).class };
            columns.entry(column).or_default().push(class);
        }
        let mut dots = Vec::new();
        for (column, classes) in columns {
            let at = self.x((column.to_f64().unwrap_or_default() + 0.5) * self.column);
            let shown = if classes.len() > DOTS_MAX { DOTS_MAX - 1 } else { classes.len() };
            for (index, class) in classes.iter().take(shown).enumerate() {
                let y = FLOOR - 6.0 - index.to_f64().unwrap_or_default() * APART;
                dots.push(Dot { x: px(at), y: px(y), class, more: None });
            }
            if shown < classes.len() {
                let y = FLOOR - 6.0 - shown.to_f64().unwrap_or_default() * APART;
                let more = Some(format!("+{}", classes.len() - shown));
                dots.push(Dot { x: px(at), y: px(y), class: "plain", more });
            }
        }
        dots
    }

    fn drawn(&self, rungs: &[(Decimal, &str)], standings: &[Standing]) -> Drawing {
        // A narrow axis has room for every other percentage.
        let step = if self.name == "narrow" { 40 } else { 20 };
        let tick = |n: i32| (px(self.x(f64::from(n))), if n == 0 { "0\u{a0}%".into() } else { n.to_string() });
        Drawing {
            form: self.name,
            width: px(self.right + LEFT),
            right: px(self.right),
            zones: self.zones(rungs),
            dots: self.dots(standings),
            ticks: (0..=140).step_by(step).map(tick).collect(),
        }
    }
}

/// The ladder of a policy with everybody on it.
pub async fn of(visit: &Visit, policy: &Policy, period: &str) -> Result<Ladder, Problem> {
    let mut standings: Vec<Standing> = Vec::new();
    let mut total = 0;
    for page in 1..=PAGES_MAX {
        let path = format!(
            "/api/allocation-states/?policy_uuid={}&page={page}&page_size=100&field=state&field=usage_percentage",
            policy.uuid
        );
        let found = visit.api.list::<Standing>(&path).await?;
        total = found.total;
        standings.extend(found.rows);
        if page * 100 >= total {
            break;
        }
    }
    let rungs = policy.rungs();
    let shown = standings.len() as u64;
    let part = if shown < total {
        format!(" The first {} of {} are drawn.", words::whole(shown), words::whole(total))
    } else {
        String::new()
    };
    let stand = format!(" {} stand on it.{part}", words::count(total, "allocation"));
    Ok(drawn(&rungs, &standings, &stand, format!("usage of what each may use in {period}, a dot each")))
}

/// A ladder that nobody stands on.
pub fn alone(rungs: &[(Decimal, &str)]) -> Ladder {
    drawn(rungs, &[], "", "usage of what an allocation may use in a period".to_owned())
}

fn drawn(rungs: &[(Decimal, &str)], standings: &[Standing], stand: &str, foot: String) -> Ladder {
    let words: Vec<String> = rungs
        .iter()
        .map(|(percent, effect)| format!("{} at {}", standing::effect(effect).word, words::rung(*percent)))
        .collect();
    let words = if words.is_empty() { "No rungs".to_owned() } else { words.join(", ") };
    Ladder {
        drawings: FORMS.iter().map(|form| form.drawn(rungs, standings)).collect(),
        description: format!("{words}.{stand}"),
        foot,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(percent: i64, state: &str) -> Standing {
        Standing { state: state.to_owned(), usage_percentage: Some(percent.into()) }
    }

    #[test]
    fn dots_of_one_column_stand_on_each_other_and_too_many_are_counted() {
        let wide = &FORMS[0];
        let two = wide.dots(&[standing(50, "normal"), standing(50, "warned")]);
        assert_eq!(two.iter().map(|dot| dot.class).collect::<Vec<_>>(), ["plain", "warn"]);
        assert!(two[0].x == two[1].x && two[0].y != two[1].y);
        let many: Vec<Standing> = (0..20).map(|_| standing(50, "normal")).collect();
        let dots = wide.dots(&many);
        assert_eq!((dots.len(), dots[7].more.as_deref()), (8, Some("+13")));
        assert!(wide.dots(&[Standing { state: "normal".into(), usage_percentage: None }]).is_empty());
    }
    #[test]
    fn a_word_stands_between_its_line_and_the_next_or_is_shorter_or_left_out() {
        let rungs = [(80.into(), "notify"), (95.into(), "notify"), (100.into(), "downscale"), (120.into(), "pause")];
        for form in &FORMS {
            let words: Vec<&str> = form.zones(&rungs).iter().map(|zone| zone.word).collect();
            let slow = if form.name == "wide" { "Slow down" } else { "Slow" };
            assert_eq!(words, ["Warn", "", slow, "Pause"], "{}", form.name);
        }
    }
}
