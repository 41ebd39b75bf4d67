//! Thins a series of steps for a chart: keeps the steps of decisions, and otherwise the last step of each interval.

use chrono::{DateTime, Utc};

/// Something that holds from an instant on.
pub trait Step {
    /// From when on.
    fn at(&self) -> DateTime<Utc>;
    /// Whether something was decided there: it is never left out.
    fn decides(&self) -> bool;
}

/// At most `max` of the steps, in their order. The first, the last and every decision stay, even if those alone are more; of the
/// others the last one of each of equal stretches of time.
pub fn thinned<T: Step>(steps: Vec<T>, max: usize) -> Vec<T> {
    if steps.len() <= max {
        return steps;
    }
    let last = steps.len() - 1;
    let stays = |place: usize, step: &T| place == 0 || place == last || step.decides();
    let staying = steps.iter().enumerate().filter(|(place, step)| stays(*place, step)).count();
    let stretches = i64::try_from(max.saturating_sub(staying)).unwrap_or(i64::MAX);
    let (from, to) = (steps[0].at(), steps[last].at());
    let whole = (to - from).num_milliseconds().max(1);
    let stretch = |step: &T| {
        let part = i128::from((step.at() - from).num_milliseconds()) * i128::from(stretches) / i128::from(whole);
        i64::try_from(part).unwrap_or(i64::MAX).clamp(0, (stretches - 1).max(0))
    };
    // The last of a stretch is the one that no other follows there.
    let mut keep: Vec<bool> = vec![false; steps.len()];
    let mut following = None;
    for (place, step) in steps.iter().enumerate().rev() {
        if stays(place, step) {
            keep[place] = true;
        } else if stretches > 0 && following != Some(stretch(step)) {
            following = Some(stretch(step));
            keep[place] = true;
        }
    }
    steps.into_iter().zip(keep).filter_map(|(step, keep)| keep.then_some(step)).collect()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Point(i64, bool);

    impl Step for Point {
        fn at(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH + TimeDelta::minutes(self.0)
        }

        fn decides(&self) -> bool {
            self.1
        }
    }

    #[test]
    fn a_short_series_stays_as_it_is_and_a_long_one_keeps_the_last_of_each_stretch() {
        let plain: Vec<Point> = (0..=100).map(|minute| Point(minute, false)).collect();
        assert_eq!(thinned(plain.clone(), 101), plain);
        let places: Vec<i64> = thinned(plain, 7).iter().map(|point| point.0).collect();
        assert_eq!(places, [0, 19, 39, 59, 79, 99, 100]);
    }

    proptest! {
        #[test]
        fn decisions_and_both_ends_stay_and_the_bound_holds(
            gaps in prop::collection::vec((0..500_i64, prop::bool::weighted(0.05)), 1..600),
            max in 2..200_usize,
        ) {
            let mut minute = 0;
            let steps: Vec<Point> = gaps.into_iter().map(|(gap, decides)| { minute += gap; Point(minute, decides) }).collect();
            let kept = thinned(steps.clone(), max);
            let decisions = |steps: &[Point]| steps.iter().filter(|step| step.1).cloned().collect::<Vec<_>>();
            prop_assert_eq!(decisions(&kept), decisions(&steps));
            prop_assert_eq!((kept.first(), kept.last()), (steps.first(), steps.last()));
            prop_assert!(kept.len() <= max.max(decisions(&steps).len() + 2), "{} of {}", kept.len(), max);
            prop_assert!(kept.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        }
    }
}
