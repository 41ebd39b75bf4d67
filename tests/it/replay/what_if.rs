//! What if: with the rules unchanged the timeline is the recorded one; under other rules it is what would have been recorded
//! had they been in force.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use chrono::{Days, NaiveDate};
use sluice::app::App;
use sluice::commands::allocation::{AllocationCommand, SiteRules};
use sluice::domain::ids::{HoldId, ResourceId};
use sluice::domain::policy::PolicyTerms;
use sluice::events::allocation::{AllocationEvent, HoldKind, ResourceState};
use sluice::events::envelope::Position;
use sluice::replay::what_if::{Asked, Outcome, Rules, Verdict, WhatIf, WhatIfError, what_if};
use uuid::Uuid;

use crate::execute::year::{Extent, Year, at, day, name};
use crate::support::fleet::meta;
use crate::support::world::{amounts, dec, policy_facts, policy_id, resource_id};

/// Months with everything that bears on decisions: reports, corrections, limits, holds that end and that run out, a policy
/// that changes, is disabled and comes back, an allocation that fails and comes back.
async fn eventful(of: Extent, change: impl Fn(&str, &mut PolicyTerms) + Copy) -> Year {
    let mut year = Year::under(of, change).await;
    for number in 0..of.days {
        let today = of.first + Days::new(number);
        year.live(today).await;
        happen(&year, number, today, change).await;
    }
    year
}

async fn happen(year: &Year, number: u64, today: NaiveDate, change: impl Fn(&str, &mut PolicyTerms)) {
    let hold = |id: u128, kind, expires_at| AllocationCommand::PlaceHold {
        hold: HoldId::from(Uuid::from_u128(id)),
        kind,
        reason: "an incident".into(),
        ticket: None,
        expires_at,
        public: false,
    };
    let release = |id: u128| AllocationCommand::ReleaseHold { hold: HoldId::from(Uuid::from_u128(id)), expired: false };
    let one = |n: u32, command| vec![(resource_id(&name(n)), command)];
    match number {
        7 => year.execute(one(0, AllocationCommand::ChangeLimits(amounts(&[("node", "4000")])))).await,
        9 => year.execute(one(1, hold(1, HoldKind::Exemption, None))).await,
        12 => year.execute(one(2, hold(2, HoldKind::Pause, Some(at(today + Days::new(4), 7))))).await,
        15 => year.execute(one(1, release(1))).await,
        18 => put_quarterly(&year.app, |terms| terms.grace_ratio = dec("0.35")).await,
        21 => put_quarterly(&year.app, |terms| terms.enabled = false).await,
        24 => {
            let back = |terms: &mut PolicyTerms| {
                terms.grace_ratio = dec("0.2");
                change("quarterly", terms);
            };
            put_quarterly(&year.app, back).await;
        }
        26 => year.execute(one(0, AllocationCommand::ChangeLimits(amounts(&[])))).await,
        30 => year.execute(one(3, AllocationCommand::ChangeState(ResourceState::Erred))).await,
        36 => year.execute(one(3, AllocationCommand::ChangeState(ResourceState::Ok))).await,
        33 => year.execute(one(2, hold(3, HoldKind::Downscale, None))).await,
        _ => {}
    }
    year.app.settle().await.unwrap();
}

async fn put_quarterly(app: &App, change: impl Fn(&mut PolicyTerms)) {
    let mut terms = {
        let state = app.registry.read();
        state.policy(policy_id("quarterly")).unwrap().facts.terms.clone()
    };
    terms.enabled = true;
    change(&mut terms);
    let facts = policy_facts("quarterly", terms);
    app.registry_commands.put_policy(policy_id("quarterly"), &meta(), &|_| Ok(facts.clone())).await.unwrap();
}

async fn asked(year: &Year, from: NaiveDate, to: NaiveDate, rules: Option<Rules>) -> Result<WhatIf, WhatIfError> {
    let asked = Asked {
        policy: policy_id("quarterly"),
        rules,
        from: at(from, 0),
        to: at(to, 0),
        resource: None,
        site: SiteRules::default(),
        workers: NonZeroUsize::new(2).unwrap(),
        decisions_max: 1_000_000,
    };
    what_if(&year.app.store, asked, |_| true).await
}

/// Evaluations on live allocations between two days, as they stand in the log.
async fn evaluations(year: &Year, from: NaiveDate, to: NaiveDate) -> u64 {
    let (mut after, mut count) = (Position::START, 0);
    loop {
        let page = year.app.store.read_all(after, 1_000).await.unwrap();
        let Some(last) = page.last() else { return count };
        after = last.position;
        count += page
            .iter()
            .filter(|event| (at(from, 0)..at(to, 0)).contains(&event.occurred_at))
            .filter(|event| &*event.event_type == "policy_evaluated.v1")
            .count() as u64;
    }
}

fn assert_as_recorded(lived: &WhatIf, expected: u64) {
    let total = &lived.total;
    let first = lived.allocations.iter().find_map(|one| one.first.as_ref());
    assert_eq!((total.differing, total.in_words), (0, 0), "{first:#?}");
    assert_eq!(total.outcomes[0], total.outcomes[1]);
    for one in &lived.allocations {
        assert_eq!(one.outcomes[0], one.outcomes[1], "{}", one.name);
        assert_eq!(one.verdict(), Verdict::Same);
    }
    assert_eq!(total.decisions, expected, "every evaluation was made again");
}

async fn unchanged(of: Extent) {
    let year = eventful(of, |_, _| ()).await;
    let end = of.first + Days::new(of.days);
    // From the beginning; from within a month; a part.
    for (from, to) in [
        (of.first, end),
        (of.first + Days::new(of.days / 3), end),
        (of.first + Days::new(of.days / 4), of.first + Days::new(of.days / 2)),
    ] {
        let lived = asked(&year, from, to, None).await.unwrap();
        assert_as_recorded(&lived, evaluations(&year, from, to).await);
        let restricted = lived.total.outcomes[0];
        let all_of_it = !restricted.slowed.is_zero() && !restricted.paused.is_zero() && restricted.notices > 0;
        assert!(all_of_it || from > of.first, "{restricted:?}");
    }
}

fn by_allocation(lived: &WhatIf, which: usize) -> BTreeMap<ResourceId, (u64, Outcome)> {
    lived.allocations.iter().map(|one| (one.resource, (one.decisions, one.outcomes[which]))).collect()
}

/// Lives the same facts under these rules and under others, and holds what would have been against what then is.
async fn would_have_been(of: Extent, change: impl Fn(&str, &mut PolicyTerms) + Copy + Send + Sync + 'static) {
    let recorded = eventful(of, |_, _| ()).await;
    let truly = eventful(of, change).await;
    let (from, to) = (of.first, of.first + Days::new(of.days));
    // The policy has these rules in every version; that of the 18th day has a grace of its own.
    let rules: Rules = Arc::new(move |terms: &PolicyTerms| {
        let mut other = terms.clone();
        change("quarterly", &mut other);
        if terms.grace_ratio == dec("0.35") {
            other.grace_ratio = terms.grace_ratio;
        }
        other
    });
    let lived = asked(&recorded, from, to, Some(rules)).await.unwrap();
    let truth = asked(&truly, from, to, None).await.unwrap();
    assert_as_recorded(&truth, evaluations(&truly, from, to).await);
    assert_eq!(by_allocation(&lived, 1), by_allocation(&truth, 0), "what would have been is what is");
    assert_eq!(by_allocation(&lived, 0).len(), of.resources as usize);
    assert!(lived.total.differing > 0 && lived.decisions.len() as u64 == lived.total.differing);
    let first = lived.allocations.iter().filter_map(|one| one.first.as_ref()).map(|first| first.position).min();
    assert_eq!(first, lived.decisions.first().map(|decision| decision.position));
    let fare = |verdict| lived.allocations.iter().filter(|one| one.verdict() == verdict).count() as u64;
    assert_eq!((fare(Verdict::Better), fare(Verdict::Worse)), (lived.total.better, lived.total.worse));
    assert!(lived.total.better + lived.total.worse > 0, "{:?}", lived.total);
}

fn months() -> Extent {
    Extent { resources: 5, first: day("2026-05-20"), days: 48 }
}

#[tokio::test]
async fn with_the_rules_unchanged_months_are_the_recorded_ones() {
    unchanged(months()).await;
}

#[tokio::test]
#[ignore = "a whole year of fifty resources: minutes, in a full run only"]
async fn with_the_rules_unchanged_a_year_is_the_recorded_one() {
    unchanged(Extent { resources: 50, first: day("2026-01-01"), days: 365 }).await;
}

#[tokio::test]
async fn another_grace_gives_what_it_would_have_given() {
    would_have_been(months(), |slug, terms| {
        if slug == "quarterly" {
            terms.grace_ratio = dec("0.05");
            terms.notification_thresholds = vec![dec("70")];
        }
    })
    .await;
}

#[tokio::test]
async fn another_carryover_gives_what_it_would_have_given() {
    would_have_been(months(), |slug, terms| {
        if slug == "quarterly" {
            terms.carryover_factor = Some(dec("10"));
            terms.component_limits = amounts(&[("node", "2000")]);
        }
    })
    .await;
}

#[tokio::test]
async fn who_asks_for_what_is_none_is_told() {
    let of = Extent { resources: 1, first: day("2026-05-20"), days: 1 };
    let year = eventful(of, |_, _| ()).await;
    let wrong: Rules = Arc::new(|terms: &PolicyTerms| PolicyTerms { grace_ratio: dec("7"), ..terms.clone() });
    let refused = asked(&year, of.first, day("2026-06-01"), Some(wrong)).await.unwrap_err();
    assert!(matches!(&refused, WhatIfError::Rules(said) if said.contains("grace_ratio")), "{refused}");
    let before = asked(&year, day("2026-01-01"), day("2026-02-01"), None).await.unwrap_err();
    assert!(matches!(before, WhatIfError::NoSuchPolicy(_)), "{before}");
    let stopped = Asked {
        policy: policy_id("quarterly"),
        rules: None,
        from: at(of.first, 0),
        to: at(day("2026-06-01"), 0),
        resource: None,
        site: SiteRules::default(),
        workers: NonZeroUsize::MIN,
        decisions_max: 0,
    };
    let stopped = what_if(&year.app.store, stopped, |_| false).await.unwrap_err();
    assert!(matches!(stopped, WhatIfError::Stopped), "{stopped}");
}

/// Whatever is decided again, nothing of it is recorded.
#[tokio::test]
async fn nothing_is_recorded() {
    let of = Extent { resources: 1, first: day("2026-05-20"), days: 3 };
    let year = eventful(of, |_, _| ()).await;
    let before = year.app.store.head().await.unwrap();
    let rules: Rules = Arc::new(|terms: &PolicyTerms| PolicyTerms { grace_ratio: dec("0"), ..terms.clone() });
    asked(&year, of.first, day("2026-06-01"), Some(rules)).await.unwrap();
    year.app.settle().await.unwrap();
    assert_eq!(year.app.store.head().await.unwrap(), before);
    let log = crate::execute::log(&year.app).await;
    assert!(log.iter().any(|(_, event)| matches!(event, AllocationEvent::PolicyEvaluated(_))));
}
