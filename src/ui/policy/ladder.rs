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

/// The plot: left and right edge, the line on which dots stand, and the percentage at its right end.
const LEFT: f64 = 12.0;
const RIGHT: f64 = 750.0;
const FLOOR: f64 = 104.0;
const MOST: f64 = 140.0;

/// Percent that share a column, the distance of two dots in it, and the dots that fit.
const COLUMN: f64 = 1.8;
const APART: f64 = 9.5;
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

/// The picture.
pub struct Ladder {
    /// Parts of it, lowest first.
    pub zones: Vec<Zone>,
    /// Allocations.
    pub dots: Vec<Dot>,
    /// Marks of the axis: where, and which percentage.
    pub ticks: Vec<(String, String)>,
    /// It in words.
    pub description: String,
    /// What the axis is.
    pub foot: String,
}

fn x(percent: f64) -> f64 {
    LEFT + percent.clamp(0.0, MOST) / MOST * (RIGHT - LEFT)
}

fn zones(rungs: &[(Decimal, &str)]) -> Vec<Zone> {
    let rungs: Vec<(f64, &str)> =
        rungs.iter().map(|(percent, effect)| (percent.to_f64().unwrap_or_default(), *effect)).collect();
    let mut zones = Vec::new();
    let mut last_word = f64::NEG_INFINITY;
    for (index, (percent, effect)) in rungs.iter().enumerate() {
        let end = rungs.get(index + 1).map_or(MOST, |(next, _)| *next);
        let tone = standing::effect(effect);
        let left = x(*percent);
        // Words that would overlap are left out; the line of the rung stays.
        let word = if left - last_word > 64.0 { tone.word } else { "" };
        last_word = if word.is_empty() { last_word } else { left };
        zones.push(Zone {
            x: px(left),
            width: px((x(end) - left).max(0.0)),
            word_x: px(left + 4.0),
            class: tone.class,
            word,
        });
    }
    zones
}

fn dots(standings: &[Standing]) -> Vec<Dot> {
    let mut columns: BTreeMap<i64, Vec<&'static str>> = BTreeMap::new();
    for of in standings {
        let Some(percent) = of.usage_percentage.and_then(|percent| percent.to_f64()) else { continue };
        let column = (percent.min(MOST) / COLUMN).floor().to_i64().unwrap_or_default();
        let class = if of.state == "normal" { "plain" } else { standing::state(&of.state).class };
        columns.entry(column).or_default().push(class);
    }
    let mut dots = Vec::new();
    for (column, classes) in columns {
        let at = x((column.to_f64().unwrap_or_default() + 0.5) * COLUMN);
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
    Ok(drawn(
        &rungs,
        dots(&standings),
        &stand,
        format!("usage of what each may use in {period}, every dot is an allocation"),
    ))
}

/// A ladder that nobody stands on.
pub fn alone(rungs: &[(Decimal, &str)]) -> Ladder {
    drawn(rungs, Vec::new(), "", "usage of what an allocation may use in a period".to_owned())
}

fn drawn(rungs: &[(Decimal, &str)], dots: Vec<Dot>, stand: &str, foot: String) -> Ladder {
    let words: Vec<String> = rungs
        .iter()
        .map(|(percent, effect)| format!("{} at {}", standing::effect(effect).word, words::rung(*percent)))
        .collect();
    let words = if words.is_empty() { "No rungs".to_owned() } else { words.join(", ") };
    Ladder {
        zones: zones(rungs),
        dots,
        ticks: (0..=7)
            .map(|n| n * 20)
            .map(|n: i32| (px(x(f64::from(n))), if n == 0 { "0\u{a0}%".into() } else { n.to_string() }))
            .collect(),
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
        let two = dots(&[standing(50, "normal"), standing(50, "warned")]);
        assert_eq!(two.iter().map(|dot| dot.class).collect::<Vec<_>>(), ["plain", "warn"]);
        assert!(two[0].x == two[1].x && two[0].y != two[1].y);
        let many: Vec<Standing> = (0..20).map(|_| standing(50, "normal")).collect();
        let dots = dots(&many);
        assert_eq!((dots.len(), dots[7].more.as_deref()), (8, Some("+13")));
        assert!(super::dots(&[Standing { state: "normal".into(), usage_percentage: None }]).is_empty());
    }
}
