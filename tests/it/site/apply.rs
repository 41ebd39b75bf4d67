//! Applying a file: everything once, nothing twice, only what differs, and out of use what is pruned.

use rust_decimal::Decimal;
use sluice::domain::ids::{OfferingId, PolicyId, ResourceId, slug_uuid};
use sluice::domain::period::PeriodKind;
use sluice::events::allocation::ResourceState;
use sluice::site::ChangeKind;

use super::{Fixture, SITE, lines};

fn resource() -> ResourceId {
    slug_uuid("resource", "climate-hpc1").into()
}

fn policy() -> PolicyId {
    slug_uuid("policy", "quarterly").into()
}

#[tokio::test]
async fn a_site_is_brought_about_and_a_second_run_changes_nothing() {
    let fixture = Fixture::new().await;
    let dry = fixture.plan(SITE, false).await.unwrap();
    assert_eq!(fixture.events().await, 0, "a plan appended something");

    let applied = fixture.apply(SITE).await;
    assert_eq!(lines(&applied.plan), lines(&dry));
    assert_eq!(applied.plan.count(ChangeKind::Create), 12);
    assert_eq!(applied.keys.len(), 1, "the agent's key is made, the other was given");
    let events = fixture.events().await;

    let again = fixture.apply(SITE).await;
    assert!(again.plan.is_empty(), "{:?}", lines(&again.plan));
    assert_eq!((fixture.events().await, again.keys.len()), (events, 0));

    let book = fixture.app.allocations.book(resource()).await.unwrap();
    assert_eq!(book.facts.limits["node_hours"].to_string(), "0.1");
    assert_eq!(book.facts.created.to_rfc3339(), "2025-11-01T00:00:00+00:00");
    let key = "0123456789abcdef0123456789abcdef01234567";
    let principal = fixture.app.directory.authenticate(key, fixture.app.clock.now()).await.unwrap().unwrap();
    assert_eq!(principal.username, "root");
}

#[tokio::test]
async fn defaults_are_those_of_the_documentation() {
    let fixture = Fixture::new().await;
    fixture.apply(SITE).await;
    let state = fixture.app.registry.read();
    let offering = state.offering(OfferingId::from(slug_uuid("offering", "hpc1"))).unwrap();
    let minutes: Vec<String> = offering.facts.facts.components.iter().map(|c| c.minutes_per_unit.to_string()).collect();
    assert_eq!(minutes, ["60", "61440"], "hours, and GB-hours of memory");
    assert_eq!(offering.facts.facts.qos.paused, "blocked");
    let policy = state.policy(policy()).unwrap();
    assert_eq!(policy.facts.terms.period, PeriodKind::Quarter);
    assert_eq!(policy.facts.terms.grace_ratio, Decimal::new(2, 1));
    assert_eq!(policy.facts.external_recipients.len(), 2);
}

#[tokio::test]
async fn clusters_of_an_offering_are_set_kept_and_emptied() {
    let fixture = Fixture::new().await;
    fixture.apply(SITE).await;
    let clusters = |fixture: &Fixture| {
        let state = fixture.app.registry.read();
        let offering = state.offering(OfferingId::from(slug_uuid("offering", "hpc1"))).unwrap();
        offering.facts.facts.slurm_clusters.clone()
    };
    let offering = |more: &str| format!("offerings: [{{slug: hpc1, customer: uni-a{more}}}]\n");
    for (more, changes, now) in [
        (", slurm_clusters: [alpha, beta]", true, &["alpha", "beta"][..]),
        (", slurm_clusters: [alpha, beta]", false, &["alpha", "beta"]),
        ("", false, &["alpha", "beta"]),
        (", slurm_clusters: []", true, &[]),
    ] {
        let applied = fixture.apply(&offering(more)).await;
        assert_eq!(
            (!applied.plan.is_empty(), clusters(&fixture)),
            (changes, now.iter().map(|name| (*name).to_owned()).collect())
        );
    }
}

#[tokio::test]
async fn only_what_differs_changes_and_what_is_left_out_stays() {
    let fixture = Fixture::new().await;
    fixture.apply(SITE).await;
    let text = "policies: [{slug: quarterly, offering: hpc1, grace_ratio: 0.5, notification_threshold: [50, 80]}]\n\
                resources: [{slug: climate-hpc1, project: climate, offering: hpc1, limits: {node_hours: 2000}, backend_id: other}]\n";
    let applied = fixture.apply(text).await;
    assert_eq!(lines(&applied.plan), ["~ policy quarterly", "~ resource climate-hpc1"]);
    let fields: Vec<(&str, Option<&str>, &str)> =
        applied.plan.changes[0].fields.iter().map(|f| (f.field.as_str(), f.from.as_deref(), f.to.as_str())).collect();
    assert_eq!(fields, [("grace_ratio", Some("0.2"), "0.5"), ("notification_threshold", Some("80"), "50, 80")]);
    let book = fixture.app.allocations.book(resource()).await.unwrap();
    assert_eq!((book.facts.backend_id.as_str(), book.facts.limits["node_hours"]), ("other", Decimal::from(2000)));
    let state = fixture.app.registry.read();
    assert_eq!(state.policy(policy()).unwrap().facts.terms.actions.len(), 2, "the actions were not named and stay");
}

#[tokio::test]
async fn null_goes_back_to_the_default() {
    let fixture = Fixture::new().await;
    fixture.apply(SITE).await;
    fixture.apply("policies: [{slug: quarterly, offering: hpc1, carryover_factor: 50, grace_ratio: 0.7}]").await;
    fixture.apply("policies: [{slug: quarterly, offering: hpc1, carryover_factor: null, grace_ratio: ~}]").await;
    let state = fixture.app.registry.read();
    let terms = &state.policy(policy()).unwrap().facts.terms;
    assert_eq!((terms.carryover_factor, terms.grace_ratio), (None, Decimal::new(2, 1)));
}

#[tokio::test]
async fn an_offerings_limit_period_wins_and_the_plan_says_so() {
    let fixture = Fixture::new().await;
    fixture.apply(SITE).await;
    let monthly = SITE
        .replace("limit_period: quarterly", "limit_period: month")
        .replace("    apply_to_all", "    period: 3\n    apply_to_all");
    let applied = fixture.apply(&monthly).await;
    let notes: Vec<&String> = applied.plan.changes.iter().flat_map(|change| &change.notes).collect();
    assert!(
        notes.iter().any(|note| note.contains("the policy quarterly counts by month instead of by quarter")),
        "{notes:?}"
    );
    let period = fixture.app.registry.read().policy(policy()).unwrap().period;
    assert_eq!(period, PeriodKind::Month);
    assert!(fixture.apply(&monthly).await.plan.is_empty());
}

#[tokio::test]
async fn pruning_takes_out_of_use_only_kinds_that_the_file_lists() {
    let fixture = Fixture::new().await;
    fixture.apply(SITE).await;
    let kept = fixture.plan("organization_groups: []\n", false).await.unwrap();
    assert!(kept.is_empty(), "without --prune nothing goes");
    let pruned = fixture.try_apply("resources: []\npolicies: []\ntokens: []\n", true).await.unwrap();
    let mut gone = lines(&pruned.plan);
    gone.sort();
    let tokens = ["- token agent-hpc1 (agent)", "- token root (staff)"];
    assert_eq!(gone, [["- policy quarterly", "- resource climate-hpc1"], tokens].concat());
    assert_eq!(fixture.app.allocations.book(resource()).await.unwrap().facts.state, ResourceState::Terminated);
    {
        let state = fixture.app.registry.read();
        assert!(!state.policy(policy()).unwrap().facts.terms.enabled);
        assert!(state.customers().all(|customer| !customer.facts.retired), "customers were not listed");
    }
    let again = fixture.plan("resources: []\npolicies: []\ntokens: []\n", true).await.unwrap();
    assert!(again.is_empty(), "{:?}", lines(&again));
}

#[tokio::test]
async fn addresses_are_compared_as_addresses_and_never_stand_in_events() {
    let fixture = Fixture::new().await;
    fixture.apply(SITE).await;
    let shuffled = SITE.replace("'ops@hpc.example, Billing@hpc.example'", "['billing@hpc.example', 'ops@hpc.example']");
    assert!(fixture.apply(&shuffled).await.plan.is_empty());
    let fewer = SITE.replace("'ops@hpc.example, Billing@hpc.example'", "ops@hpc.example");
    let applied = fixture.apply(&fewer).await;
    assert_eq!(lines(&applied.plan), ["~ policy quarterly"]);
    let events = fixture.app.store.read_all(sluice::events::envelope::Position::START, 1000).await.unwrap();
    assert!(events.iter().all(|event| !event.payload.contains("example")), "an address stands in an event");
}

#[tokio::test]
async fn a_token_is_renewed_by_giving_another_key() {
    let fixture = Fixture::new().await;
    fixture.apply(SITE).await;
    let renewed = SITE.replace("key_env: STAFF_TOKEN", "key: fedcba9876543210fedcba9876543210fedcba98");
    let applied = fixture.try_apply(&renewed, true).await.unwrap();
    assert_eq!(lines(&applied.plan), ["+ token root (staff)", "- token root (staff)"]);
    let now = fixture.app.clock.now();
    let old = fixture.app.directory.authenticate("0123456789abcdef0123456789abcdef01234567", now).await.unwrap();
    let new = fixture.app.directory.authenticate("fedcba9876543210fedcba9876543210fedcba98", now).await.unwrap();
    assert!(old.is_none() && new.is_some());
}

#[tokio::test]
async fn a_fleet_is_applied_in_bulk() {
    let fixture = Fixture::new().await;
    let row = |n: u32| {
        format!("  - {{slug: r{n}, project: climate, offering: hpc1, backend_id: a{n}, limits: {{node_hours: {n}}}}}\n")
    };
    let rows: Vec<String> = (0..1200).map(row).collect();
    let text = SITE.replace("policies:\n", &format!("{}policies:\n", rows.concat()));
    let applied = fixture.apply(&text).await;
    assert_eq!(applied.plan.count(ChangeKind::Create), 1212);
    assert!(fixture.apply(&text).await.plan.is_empty());
    assert_eq!(fixture.app.registry.read().resource_count(), 1201);
}
