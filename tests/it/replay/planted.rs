//! A decision that was changed after it was made is named with its position, its field and both values; and whatever part of a
//! log is replayed, by however many workers, the answer is the same.

use sluice::domain::ids::ResourceId;
use sluice::replay::{Report, Wanted};

use super::{Line, climate, effort, lines, log_of, replayed, replayed_with, start, told};
use crate::support::positions;
use crate::support::world::{policy_id, resource_id};

/// The recorded events with one of them changed, and where it stands.
fn changed(lines: &[Line], kind: &str, nth: usize, from: &str, to: &str) -> (Vec<Line>, u64) {
    let fits = |line: &&(usize, &Line)| line.1.event_type == kind && line.1.payload.contains(from);
    let all: Vec<(usize, &Line)> = lines.iter().enumerate().collect();
    let (index, _) =
        **all.iter().filter(fits).collect::<Vec<_>>().get(nth).unwrap_or_else(|| panic!("no {kind} has {from}"));
    let mut changed = lines.to_vec();
    changed[index].payload = changed[index].payload.replacen(from, to, 1);
    (changed, index as u64 + 1)
}

#[tokio::test]
async fn each_change_of_a_decision_is_named() {
    let recorded = lines(&told(), climate());
    let (evaluated, commanded) = ("policy_evaluated.v1", "settings_commanded.v2");
    for (kind, from, to, field) in [
        (evaluated, r#""percentage":"31.05""#, r#""percentage":"31.050""#, "outcome.percentage"),
        (evaluated, r#""verbs":["pause","#, r#""verbs":["downscale","#, "outcome.verbs[0]"),
        (evaluated, r#""holds":["paused"#, r#""holds":["downscaled"#, "outcome.holds"),
        (evaluated, "nothing to do", "nothing to be done", "outcome.explanation"),
        (evaluated, r#""full":true"#, r#""full":false"#, "outcome.full"),
        (evaluated, r#""weighted":""#, r#""weighted":"1"#, "basis.allocation.weighted"),
        (commanded, r#""fairshare":"#, r#""fairshare":1"#, "settings.fairshare"),
        (commanded, "sacctmgr --immediate", "sacctmgr --quiet", "commands[0].shell_command"),
        (commanded, r#""qos_name":""#, r#""qos_name":"x"#, "qos_name"),
    ] {
        let (log, position) = changed(&recorded, kind, 0, from, to);
        let report = replayed(&log_of(&log).await).await;
        let found = report.differences.iter().find(|one| one.field.starts_with(field));
        let found = found.unwrap_or_else(|| panic!("{field}: {report:?}"));
        assert_eq!((found.position, found.event_type.as_str()), (positions::at(position), kind), "{field}");
        assert!(found.recorded != found.recomputed && report.total().different >= 1, "{found:?}");
        assert!(report.complaint().is_some_and(|said| said.contains(&format!("position {position} "))), "{report:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_recomputed_is_named() {
    let recorded = lines(&told(), climate());
    let (log, position) = changed(&recorded, "policy_evaluated.v1", 2, "{", "[");
    let report = replayed(&log_of(&log).await).await;
    let first = &report.not_recomputed[0];
    assert!(!report.agrees() && first.position == positions::at(position), "{report:?}");

    let (log, position) = changed(&recorded, "policy_evaluated.v1", 0, r#""same_as":"#, r#""same_as":9"#);
    let report = replayed(&log_of(&log).await).await;
    let first = &report.not_recomputed[0];
    assert!(first.position == positions::at(position) && first.problem.contains("refers to"), "{first}");
}

/// Two resources to whom the same happens, one event of the one after the other's.
fn two() -> Vec<Line> {
    let world = told();
    let both = lines(&world, climate()).into_iter().zip(lines(&world, resource_id("ocean")));
    both.flat_map(|(one, other)| [one, other]).collect()
}

#[tokio::test]
async fn workers_memory_and_breaks_change_nothing() {
    let (log, _) = changed(&two(), "policy_evaluated.v1", 5, r#""percentage":""#, r#""percentage":"1"#);
    let log = log_of(&log).await;
    let whole = replayed(&log).await;
    assert_eq!(whole.differences.len(), 1, "{whole:?}");
    for how in [effort(1, 1), effort(3, 1), effort(5, 3)] {
        assert_eq!(replayed_with(&log, Wanted::default(), Report::default(), u64::MAX, how).await, whole);
    }
    let middle = whole.events / 2;
    let half = replayed_with(&log, Wanted::default(), Report::default(), middle, effort(2, 9)).await;
    assert_eq!(half.through, positions::at(middle));
    assert_eq!(replayed_with(&log, Wanted::default(), half, u64::MAX, effort(1, 2)).await, whole);
}

#[tokio::test]
async fn a_pass_may_begin_anywhere() {
    let log = log_of(&two()).await;
    let whole = replayed(&log).await;
    for after in 1..whole.events {
        let at = positions::at(after);
        let fresh = Report { after: at, through: at, ..Report::default() };
        let rest = replayed_with(&log, Wanted::default(), fresh, u64::MAX, effort(2, 4)).await;
        assert_eq!(rest.complaint(), None, "after {after}");
        assert_eq!(rest.events, whole.events - after);
    }
}

#[tokio::test]
async fn only_what_was_asked_for_is_made_again() {
    let recorded = two();
    let log = log_of(&recorded).await;
    let same = |report: Report| {
        assert_eq!(report.complaint(), None);
        report.total().total()
    };
    let decisions = |of: &dyn Fn(usize, &Line) -> bool| {
        let is = |line: &Line| ["policy_evaluated.v1", "settings_commanded.v2"].contains(&line.event_type);
        recorded.iter().enumerate().filter(|(index, line)| is(line) && of(*index, line)).count() as u64
    };
    let ask = async |wanted| same(replayed_with(&log, wanted, Report::default(), u64::MAX, effort(2, 9)).await);

    let climate: ResourceId = climate();
    let wanted = Wanted { resource: Some(climate), ..Wanted::default() };
    assert_eq!(ask(wanted).await, decisions(&|_, line| line.stream.contains(&climate.to_string())));

    let policy = policy_id("monthly");
    let evaluated = |line: &Line| line.payload.contains(&format!(r#"{{"policy":"{policy}""#));
    let told = |line: &Line| {
        let payload: serde_json::Value = serde_json::from_str(&line.payload).unwrap();
        payload["policy"] == policy.to_string()
            || payload["others"].as_array().is_some_and(|others| others.contains(&policy.to_string().into()))
    };
    let wanted = Wanted { policy: Some(policy), ..Wanted::default() };
    let concerned = decisions(&|_, line| {
        if line.event_type == "policy_evaluated.v1" { evaluated(line) } else { told(line) }
    });
    assert!(concerned > 5 && concerned < decisions(&|_, _| true), "{concerned}");
    assert_eq!(ask(wanted).await, concerned);

    let (from, to) = (start() + chrono::TimeDelta::hours(10), start() + chrono::TimeDelta::hours(30));
    let wanted = Wanted { from: Some(from), to: Some(to), ..Wanted::default() };
    assert_eq!(ask(wanted).await, decisions(&|index, _| (10..30).contains(&index)));
}
