//! `sluice replay --policy … --set …`, as an operator meets it.

use serde_json::Value;

use super::Fixture;
use super::archive::with_months;

const OF_SPAN: [&str; 4] = ["--from", "2026-03-01", "--to", "2026-07-01"];

/// Status and everything that was printed, on the database's own clock.
fn on(fixture: &Fixture, arguments: &[&str]) -> (i32, String) {
    let mut command = fixture.command(&[&["replay"], arguments].concat());
    let done = command.env_remove("SLUICE_SIMULATED_CLOCK").output().unwrap();
    (done.status.code().unwrap(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

fn policy(fixture: &Fixture) -> String {
    let mut command = fixture.command(&["slurm_policy_status", "--format", "json"]);
    let done = command.env_remove("SLUICE_SIMULATED_CLOCK").output().unwrap();
    let status: Value = serde_json::from_slice(&done.stdout).unwrap();
    status["policies"][0]["uuid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_span_is_lived_again_under_other_rules() {
    let fixture = with_months().await;
    let policy = policy(&fixture);
    let of = |more: &[&str]| [&["--policy", &policy], &OF_SPAN[..], more].concat().join("\u{1f}");
    let run = |more: &[&str]| on(&fixture, &of(more).split('\u{1f}').collect::<Vec<_>>());
    let (status, said) = run(&[]);
    assert!(status == 0 && said.contains("comes out as it was recorded"), "{said}");
    let (status, said) = run(&["--set", "grace_ratio=0", "--set", "component_limits={node_hours: 10}"]);
    assert_eq!(status, 0, "{said}");
    let (_, whole) = run(&["--set", "grace_ratio=0", "--format", "json"]);
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert!(whole["total"]["decisions"].as_u64().unwrap() > 3, "{whole:#}");

    let rules = fixture.file("rules.yaml", "notification_threshold: [10]\ngrace_ratio: 0.5\n");
    let (status, other) = run(&["--rules", &rules, "--format", "json"]);
    let other: Value = serde_json::from_str(&other).unwrap();
    assert!(status == 0 && other["total"]["differing"].as_u64().unwrap() > 0, "{other:#}");
    let first = &other["decisions"][0];
    assert_ne!(first["recorded"]["decided"], first["then"]["decided"], "{first:#}");
    assert!(first["position"].as_str().unwrap().parse::<u64>().is_ok());
    let (_, csv) = run(&["--rules", &rules, "--csv"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("allocation,allocation_uuid,decisions,differing"), "{csv}");
    assert_eq!(lines.len() as u64, 1 + other["total"]["allocations"].as_u64().unwrap());
    let (_, table) = run(&["--rules", &rules]);
    assert!(table.contains("FIRST DIVERGENCE") && table.contains("RECORDED"), "{table}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let fixture = with_months().await;
    let policy = policy(&fixture);
    let scope = fixture.file("scope.yaml", "apply_to_all: true\n");
    for (arguments, expected) in [
        (&["--set", "grace_ratio=0.3"][..], "one of both is needed"),
        (&["--verify", "--set", "grace_ratio=0.3"], "cannot be used with"),
        (&["--policy", &policy, "--set", "grace"], "one of both is needed"),
        (
            &["--policy", &policy, "--from", "2026-03-01", "--to", "2026-07-01", "--set", "grace"],
            "KEY=VALUE is expected",
        ),
        (
            &["--policy", &policy, "--from", "2026-03-01", "--to", "2026-07-01", "--set", "grace_ratoi=1"],
            "there is no such key",
        ),
        (&["--policy", &policy, "--from", "2026-03-01", "--to", "2026-07-01", "--set", "grace_ratio=7"], "grace_ratio"),
        (&["--policy", &policy, "--from", "2026-03-01", "--to", "2026-07-01", "--rules", &scope], "leave it out"),
        (&["--policy", &policy, "--from", "2026-07-01", "--to", "2026-03-01"], "must lie after --from"),
        (&["--policy", &policy, "--from", "2025-03-01", "--to", "2025-07-01"], "there was no policy"),
    ] {
        let (status, said) = on(&fixture, arguments);
        assert!(status == 2 && said.contains(expected), "{arguments:?}: {status} {said}");
    }
}
