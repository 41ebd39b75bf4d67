//! The example sites of docs/config: each applies, and does at some levels of usage what its comments say.

use std::path::Path;

use sluice::commands::allocation::{AllocationCommand, UsageReport};
use sluice::domain::ids::{ResourceId, slug_uuid};
use sluice::domain::tres::Amounts;
use sluice::events::allocation::AllocationEvent;

use super::{Fixture, lines, meta};

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// Reports month totals and says what was called for and how the resource stands: "notify downscale | slowed".
async fn report(fixture: &Fixture, resource: &str, amounts: &[(&str, &str)]) -> String {
    let id: ResourceId = slug_uuid("resource", resource).into();
    let amounts: Amounts = amounts.iter().map(|(name, n)| ((*name).to_owned(), n.parse().unwrap())).collect();
    let command = AllocationCommand::ReportUsage(UsageReport::new("2026-02".parse().unwrap(), amounts));
    let done = fixture.app.allocations.execute(id, &command, &meta()).await.unwrap();
    let mut verbs = Vec::new();
    for (_, event) in &done.events {
        if let AllocationEvent::PolicyEvaluated(evaluated) = event {
            verbs.extend(evaluated.outcome.verbs.iter().copied());
        }
    }
    // Policies of the same age come in the order of their ids; what they call for is one list here.
    verbs.sort();
    let verbs: Vec<&str> = verbs.iter().map(|verb| verb.as_str()).collect();
    let flags = match (done.book.flags.paused, done.book.flags.downscaled) {
        (true, _) => "paused",
        (false, true) => "slowed",
        (false, false) => "free",
    };
    format!("{} | {flags}", verbs.join(" "))
}

async fn node_hours(name: &str, resource: &str, levels: &[(&str, &str)]) {
    let fixture = Fixture::new().await;
    fixture.apply(&example(name)).await;
    for (hours, expected) in levels {
        assert_eq!(report(&fixture, resource, &[("node_hours", hours)]).await, *expected, "{name}: {hours} h");
    }
}

#[tokio::test]
async fn each_example_applies_and_a_second_run_changes_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    names.sort();
    let expected = [
        "academic-quarterly.yaml",
        "commercial-strict.yaml",
        "full-enforcement.yaml",
        "notification-only.yaml",
        "organisation-groups.yaml",
        "progressive-qos.yaml",
        "research-consortium.yaml",
    ];
    assert_eq!(names, expected, "an example without a test of what it does, or the other way round");
    for name in names {
        let fixture = Fixture::new().await;
        fixture.apply(&example(&name)).await;
        let again = fixture.apply(&example(&name)).await;
        assert!(again.plan.is_empty(), "{name}: {:?}", lines(&again.plan));
    }
}

#[tokio::test]
async fn notification_only_restricts_nobody() {
    let levels = [
        ("499", " | free"),
        ("500", "notify | free"),
        ("501", " | free"),
        ("960", "notify | free"),
        ("5000", " | free"),
    ];
    // A newly created carryover of the quarter before makes the allocation larger; switch it off to count in round numbers.
    let fixture = Fixture::new().await;
    let text = example("notification-only.yaml")
        .replace("tres_billing_enabled: false", "tres_billing_enabled: false\n    carryover_enabled: false");
    fixture.apply(&text).await;
    for (hours, expected) in levels {
        assert_eq!(report(&fixture, "lattice-cluster", &[("node_hours", hours)]).await, expected, "{hours} h");
    }
}

#[tokio::test]
async fn progressive_qos_goes_down_in_steps() {
    let levels = [
        ("249", " | free"),
        ("250", "notify | free"),
        ("350", "downscale | slowed"),
        ("450", "downscale | slowed"),
        ("649", "downscale | slowed"),
        ("650", "pause downscale | paused"),
        ("300", " | free"),
    ];
    node_hours("progressive-qos.yaml", "catalysis-cluster", &levels).await;
}

#[tokio::test]
async fn full_enforcement_adds_up_two_policies() {
    let levels = [
        ("639", " | free"),
        ("640", "notify | free"),
        ("800", "downscale | slowed"),
        ("959.99", "downscale | slowed"),
        ("960", "pause downscale | paused"),
        ("900", "downscale | slowed"),
    ];
    node_hours("full-enforcement.yaml", "genomes-cluster", &levels).await;
}

#[tokio::test]
async fn organisation_groups_have_their_own_terms() {
    let fixture = Fixture::new().await;
    fixture.apply(&example("organisation-groups.yaml")).await;
    for (resource, hours, expected) in [
        ("weather-cluster", "1000", "downscale notify | slowed"),
        ("weather-cluster", "1200", "pause downscale | paused"),
        ("casting-cluster", "999", "notify | free"),
        ("casting-cluster", "1000", "pause | paused"),
        ("scans-cluster", "9000", " | free"),
    ] {
        assert_eq!(report(&fixture, resource, &[("node_hours", hours)]).await, expected, "{resource}: {hours} h");
    }
}

#[tokio::test]
async fn academic_quarterly_carries_half_an_allocation_over() {
    // Nothing was used in the quarter before: 1000 h and 500 h carried over.
    let levels = [
        ("1199", " | free"),
        ("1200", "notify | free"),
        ("1499", " | free"),
        ("1500", "downscale | slowed"),
        ("1799.9", "downscale | slowed"),
        ("1800", "pause downscale | paused"),
    ];
    node_hours("academic-quarterly.yaml", "climate-hpc", &levels).await;
    let fixture = Fixture::new().await;
    let off = example("academic-quarterly.yaml").replace("carryover_factor: 50", "carryover_enabled: false");
    fixture.apply(&off).await;
    for (hours, expected) in [
        ("799", " | free"),
        ("800", "notify | free"),
        ("1000", "downscale | slowed"),
        ("1200", "pause downscale | paused"),
    ] {
        assert_eq!(report(&fixture, "climate-hpc", &[("node_hours", hours)]).await, expected, "{hours} h");
    }
}

#[tokio::test]
async fn commercial_strict_stops_at_what_was_bought() {
    let fixture = Fixture::new().await;
    fixture.apply(&example("commercial-strict.yaml")).await;
    // Of 3,000 billing units: 0.01 x CPU + 0.001 x memory + GPU.
    for (cpu, mem, gpu, expected) in [
        ("90000", "100000", "1399", " | free"),
        ("90000", "100000", "1400", "notify | free"),
        ("90000", "100000", "1999", "notify | free"),
        ("90000", "100000", "1999.999", " | free"),
        ("90000", "100000", "2000", "pause downscale | paused"),
    ] {
        let amounts = [("cpu", cpu), ("mem", mem), ("gres/gpu", gpu)];
        assert_eq!(report(&fixture, "crash-ppu", &amounts).await, expected, "{cpu} {mem} {gpu}");
    }
}

#[tokio::test]
async fn research_consortium_pauses_at_half_as_much_again() {
    // Nothing was there in the year before, so nothing is carried over.
    let levels = [
        ("15999", " | free"),
        ("16000", "notify | free"),
        ("20000", "downscale notify | slowed"),
        ("29999", "downscale | slowed"),
        ("30000", "pause downscale | paused"),
    ];
    node_hours("research-consortium.yaml", "fusion-shared", &levels).await;
}
