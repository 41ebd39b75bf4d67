//! What carryover rests on: the base of the previous period as it stood when that period ended.

use sluice::domain::carryover::CarryoverBase;
use sluice::domain::evaluate::Trigger;
use sluice::domain::period::PeriodKind;
use sluice::domain::policy::PolicyTerms;
use sluice::events::allocation::{AllocationEvent, BooksOpened};

use crate::support::world::{ALL_THREE, World, amounts, dec, message, policy_id, reread, terms};

fn capped(period: PeriodKind, factor: &str) -> PolicyTerms {
    PolicyTerms { period, carryover_enabled: true, carryover_factor: Some(dec(factor)), ..terms(ALL_THREE) }
}

/// Base, base of the previous period, carryover and total of the node hours, as an evaluation now records them.
fn carried(world: &mut World) -> String {
    world.evaluate(Trigger::Requested);
    let (recorded, _) = world.book().policies[&policy_id("main")].basis.clone().unwrap();
    let terms = &recorded.allocation.carryover.per_component["node"];
    let was = terms.previous_base.map_or_else(|| "-".to_owned(), |base| base.to_string());
    format!("{} after {was}: {} + {} = {}", terms.base, terms.base, terms.carryover, terms.total)
}

fn note(world: &World) -> Option<String> {
    let (recorded, _) = world.book().policies[&policy_id("main")].basis.clone().unwrap();
    recorded.allocation.carryover.note.clone()
}

#[test]
fn a_raise_in_mid_quarter_creates_no_unused_hours_of_the_past() {
    for (base, expected) in [
        (CarryoverBase::Previous, "1500 after 1000: 1500 + 110 = 1610"),
        (CarryoverBase::Current, "1500 after -: 1500 + 610 = 2110"),
    ] {
        let terms = PolicyTerms { carryover_base: Some(base), ..capped(PeriodKind::Quarter, "100") };
        let mut world = World::governed("2026-03-10", terms);
        world.used("890");
        world.day("2026-05-15");
        world.limits(&[("node", "1500")]);
        assert_eq!(carried(&mut world), expected, "{base:?}");
    }
    let mut world = World::governed("2026-03-10", capped(PeriodKind::Quarter, "50"));
    world.used("1000");
    world.day("2026-04-02");
    world.limits(&[("node", "3000")]);
    assert_eq!(carried(&mut world), "3000 after 1000: 3000 + 0 = 3000");
    assert_eq!(
        note(&world).unwrap(),
        "Carryover rests on the allocation at the end of 2026-Q1: node had 1000 (now 3000)."
    );
}

#[test]
fn a_policy_that_says_nothing_stays_with_the_base_of_now() {
    let silent = PolicyTerms { carryover_base: None, ..capped(PeriodKind::Quarter, "100") };
    let mut world = World::governed("2026-03-10", silent.clone());
    world.used("890");
    world.day("2026-05-15");
    world.limits(&[("node", "1500")]);
    assert_eq!(carried(&mut world), "1500 after -: 1500 + 610 = 2110");
    let formula = world.policies[0].facts.terms.carryover_formula();
    assert_eq!(formula.id(), "capped_unused/1");
    assert!(!serde_json::to_string(&silent).unwrap().contains("carryover_base"), "an old payload stays as it is");
    let warning = silent.base_warning(PeriodKind::Quarter).unwrap();
    assert!(warning.contains("carries 600 over") && warning.contains("it would carry 100"), "{warning}");
    for said in [
        PolicyTerms { carryover_base: Some(CarryoverBase::Current), ..silent.clone() },
        PolicyTerms { carryover_base: Some(CarryoverBase::Previous), ..silent.clone() },
        PolicyTerms { carryover_enabled: false, ..silent.clone() },
        PolicyTerms { carryover_factor: Some(dec("0")), ..silent.clone() },
    ] {
        assert_eq!(said.base_warning(PeriodKind::Quarter), None);
    }
    assert_eq!(silent.base_warning(PeriodKind::Total), None);
    world.put_policy("main", PolicyTerms { carryover_base: Some(CarryoverBase::Previous), ..silent });
    assert_eq!(carried(&mut world), "1500 after 1000: 1500 + 110 = 1610", "from the change on");
}

#[test]
fn each_kind_of_period_looks_at_its_own_end() {
    for (kind, expected) in [
        (PeriodKind::Month, "6000 after 5000: 6000 + 5000 = 11000"),
        (PeriodKind::Quarter, "6000 after 4000: 6000 + 4000 = 10000"),
        (PeriodKind::Year, "6000 after 2000: 6000 + 2000 = 8000"),
    ] {
        let mut world = World::governed("2025-10-10", capped(kind, "100"));
        for (day, limit) in [
            ("2025-12-05", "2000"),
            ("2026-01-20", "3000"),
            ("2026-03-31", "4000"),
            ("2026-05-01", "5000"),
            ("2026-06-01", "6000"),
        ] {
            world.day(day);
            world.limits(&[("node", limit)]);
        }
        assert_eq!(carried(&mut world), expected, "{kind:?}");
        let left = expected.rsplit(" + ").next().unwrap().split(' ').next().map(dec).unwrap();
        world.day("2026-06-20");
        world.limits(&[("node", "7000")]);
        assert!(carried(&mut world).ends_with(&format!(": 7000 + {left} = {}", left + dec("7000"))), "{kind:?}");
    }
    let mut total = World::governed("2026-03-10", capped(PeriodKind::Total, "100"));
    total.day("2026-04-10");
    total.limits(&[("node", "1500")]);
    let (recorded, _) = total.book().policies[&policy_id("main")].basis.clone().unwrap();
    assert_eq!((recorded.basis.previous_base.len(), recorded.allocation.weighted), (0, dec("1500")));
}

#[test]
fn the_month_of_the_boundary_counts_by_the_side_on_which_the_change_is() {
    let mut world = World::governed("2026-01-10", capped(PeriodKind::Quarter, "100"));
    world.at("2026-03-31T23:59:59Z");
    world.limits(&[("node", "1200")]);
    world.at("2026-04-01T00:00:00Z");
    world.limits(&[("node", "1500")]);
    assert_eq!(carried(&mut world), "1500 after 1200: 1500 + 1200 = 2700");
    world.limits(&[("node", "900")]);
    world.limits(&[("node", "1600")]);
    assert_eq!(carried(&mut world), "1600 after 1200: 1600 + 1200 = 2800", "several changes in one month");
}

#[test]
fn a_record_that_begins_later_gives_the_first_base_that_it_knows() {
    let mut world = World::on("2026-05-10");
    world.put_policy("main", capped(PeriodKind::Quarter, "100"));
    world.register(&[("node", "1000")]);
    world.limits(&[("node", "1500")]);
    assert_eq!(carried(&mut world), "1500 after 1000: 1500 + 1000 = 2500");
    let said = note(&world).unwrap();
    assert!(said.starts_with("2026-Q1 is older than the record, so the first allocation known"), "{said}");
    world.day("2026-07-02");
    assert_eq!(carried(&mut world), "1500 after 1500: 1500 + 1500 = 3000");
    assert_eq!(note(&world), None);
}

#[test]
fn limits_of_the_policy_are_remembered_too() {
    let with =
        |node: &str| PolicyTerms { component_limits: amounts(&[("node", node)]), ..capped(PeriodKind::Quarter, "100") };
    let mut world = World::on("2026-01-10");
    world.put_policy("main", with("1000"));
    world.register(&[]);
    world.used("890");
    world.day("2026-05-10");
    world.put_policy("main", with("1500"));
    assert_eq!(carried(&mut world), "1500 after 1000: 1500 + 110 = 1610");
    world.limits(&[("node", "4000")]);
    assert_eq!(carried(&mut world), "4000 after 1000: 4000 + 110 = 4110", "then it was the policy's");
}

#[test]
fn a_policy_made_in_mid_period_looks_at_what_the_resource_had_and_at_its_own_first_limits() {
    let mut world = World::on("2026-01-10");
    world.offering.components = ["node", "cpu"].map(crate::support::world::component).into();
    world.register(&[("node", "1000")]);
    world.day("2026-04-10");
    world.limits(&[("node", "1500")]);
    world.day("2026-05-10");
    let cpu = |amount: &str| PolicyTerms {
        component_limits: amounts(&[("cpu", amount)]),
        ..capped(PeriodKind::Quarter, "100")
    };
    world.put_policy("main", cpu("10"));
    assert_eq!(carried(&mut world), "1500 after 1000: 1500 + 1000 = 2500");
    assert!(note(&world).unwrap().contains("older than the record"), "the policy's own limits are");
    world.put_policy("main", cpu("50"));
    world.evaluate(Trigger::PolicyChanged);
    let (recorded, _) = world.book().policies[&policy_id("main")].basis.clone().unwrap();
    assert_eq!(recorded.allocation.carryover.per_component["cpu"].previous_base, Some(dec("10")));
}

#[test]
fn a_component_without_a_limit_in_the_previous_period_leaves_nothing_over() {
    let mut world = World::on("2026-01-10");
    world.put_policy("main", capped(PeriodKind::Quarter, "100"));
    world.register(&[]);
    world.used("50");
    world.day("2026-04-10");
    world.limits(&[("node", "1000")]);
    assert_eq!(carried(&mut world), "1000 after 0: 1000 + 0 = 1000");
    assert!(note(&world).unwrap().contains("node had no limit (now 1000)"));
    // The other way round there is no allocation to which anything could be added.
    world.day("2026-07-10");
    world.limits(&[]);
    world.evaluate(Trigger::Requested);
    let (recorded, _) = world.book().policies[&policy_id("main")].basis.clone().unwrap();
    assert!(!recorded.allocation.carryover.carryover_applied);
}

#[test]
fn what_the_agent_is_told_names_the_base() {
    let mut world = World::governed("2026-03-10", capped(PeriodKind::Quarter, "100"));
    world.used("890");
    world.day("2026-04-15");
    let events = world.limits(&[("node", "1500")]);
    let wire = message(&events).unwrap().settings.carryover_details.as_ref().unwrap().to_wire();
    let node = &wire["per_component"]["node"];
    assert_eq!((&node["base"], &node["previous_base"], &node["carryover"]), (&1500.into(), &1000.into(), &110.into()));
}

#[test]
fn a_book_that_an_older_version_opened_still_reads_and_says_what_it_does_not_know() {
    let mut world = World::governed("2026-03-10", capped(PeriodKind::Quarter, "100"));
    world.limits(&[("node", "1500")]);
    let mut carried = world.book().carried();
    assert!(carried.limit_history.as_ref().is_some_and(|known| known.whole && known.earlier.len() == 1));
    carried.limit_history = None;
    let opened = AllocationEvent::BooksOpened(Box::new(BooksOpened { previous: world.book().month, carried }));
    assert!(!opened.payload().contains("limit_history"));
    let book = sluice::commands::allocation::Book::begin("2026-05".parse().unwrap(), &reread(&opened)).unwrap();
    assert!(!book.limit_history.whole);
    let reaches = |month: &str| book.limit_history.reaches(month.parse().unwrap());
    assert!(reaches("2026-03") && reaches("2026-04") && !reaches("2026-02"));
}
