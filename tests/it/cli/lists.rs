//! Lists are whole in a document, and say so where they are cut.

use std::fmt::Write as _;

use serde_json::json;

use super::{Fixture, Serving};

/// A site whose one policy governs so many resources.
fn fleet(resources: usize) -> Fixture {
    let fixture = Fixture::new();
    let mut site = "customers: [{slug: uni}]\nprojects: [{slug: lab, customer: uni}]\n\
         offerings: [{slug: hpc, customer: uni, components: [{type: node_hours, slurm_tres: node, limit_period: quarterly}]}]\n\
         policies: [{slug: quarterly, offering: hpc, actions: [request_slurm_resource_pausing], apply_to_all: true}]\n\
         resources:\n"
        .to_owned();
    for n in 0..resources {
        writeln!(site, "  - {{slug: r{n}, project: lab, offering: hpc, backend_id: a{n}, limits: {{node_hours: 10}}}}")
            .unwrap();
    }
    let file = fixture.file("fleet.yaml", &site);
    fixture.run(&["apply", "-f", &file]);
    fixture
}

#[test]
fn the_status_of_a_fleet_is_whole_in_a_document_and_a_page_of_it_in_a_table() {
    let fixture = fleet(130);
    let whole = fixture.json(&["slurm_policy_status"]);
    assert_eq!(whole["resources"].as_array().unwrap().len(), 130);
    assert_eq!((&whole["count"], &whole["next"]), (&json!(130), &json!(null)));
    assert!(
        whole["resources"][129]["why"].as_str().unwrap().contains("of 10 node_hours"),
        "{}",
        whole["resources"][129]
    );

    let cut = fixture.json(&["slurm_policy_status", "--limit", "50", "--page", "2"]);
    assert_eq!(cut["resources"].as_array().unwrap().len(), 50);
    assert_eq!(cut["resources"][0], whole["resources"][50]);
    assert_eq!((&cut["count"], &cut["next"]), (&json!(130), &json!(3)));

    let table = fixture.run(&["slurm_policy_status"]);
    assert!(table.contains("… and 30 more: --page 2 --limit 100 goes on"), "{table}");
    assert!(!fixture.run(&["slurm_policy_status", "--limit", "130"]).contains("more:"));

    let newest = fixture.json(&["slurm_policy_status", "--logs", "5"]);
    assert_eq!(newest["evaluation_logs"].as_array().unwrap().len(), 5);
    assert!(newest["evaluation_logs_count"].as_u64().unwrap() >= 130, "{}", newest["evaluation_logs_count"]);
}

#[test]
fn every_other_list_is_whole_in_a_document_too_and_says_when_a_limit_cuts_it() {
    let fixture = fleet(3);
    for n in 0..3 {
        fixture.run(&["hold", "place", "--resource", &format!("r{n}"), "--kind", "pause", "--reason", "a test"]);
    }
    assert_eq!(fixture.json(&["hold", "list"]).as_array().unwrap().len(), 3);
    let entries = fixture.json(&["timeline", "--resource", "r0"]).as_array().unwrap().len();
    assert!(entries > 3, "{entries}");
    for (arguments, total) in [(&["hold", "list"][..], 3), (&["timeline", "--resource", "r0"], entries)] {
        let cut = fixture.command(&[arguments, &["--limit", "2", "--format", "json"]].concat()).assert().success();
        let said = String::from_utf8_lossy(&cut.get_output().stderr).into_owned();
        assert!(said.contains(&format!("… and {} ", total - 2)), "{arguments:?}: {said}");
        let table = fixture.run(&[arguments, &["--limit", "2"]].concat());
        assert!(table.contains("--page 2 --limit 2 goes on"), "{table}");
    }
    let dispatches = fixture.json(&["agent", "dispatches"]);
    assert_eq!(dispatches["count"], json!(dispatches["dispatches"].as_array().unwrap().len()));
    let cut = fixture.json(&["agent", "dispatches", "--rows", "1"]);
    assert_eq!((cut["dispatches"].as_array().unwrap().len(), &cut["next"]), (1, &json!(2)));
}

#[test]
fn evaluation_without_a_policy_is_of_all_of_them() {
    let fixture = fleet(2);
    let more = fixture.file(
        "more.yaml",
        "policies:\n  - {slug: second, offering: hpc, actions: [notify_organization_owners], apply_to_all: true}\n  \
         - {slug: off, offering: hpc, actions: [notify_organization_owners], apply_to_all: true, enabled: false}\n",
    );
    fixture.run(&["apply", "-f", &more]);
    let all = fixture.json(&["evaluate_slurm_policy", "--sync"]);
    let counts: Vec<usize> =
        all["policies"].as_array().unwrap().iter().map(|p| p["resources"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [2, 2], "{all}");
    let one = fixture.json(&["evaluate_slurm_policy", "--dry-run", "--resource", "r1"]);
    assert_eq!(one["policies"].as_array().unwrap().len(), 2);
    assert_eq!(one["policies"][0]["resources"].as_array().unwrap().len(), 1);
    let asked = fixture.json(&["evaluate_slurm_policy"]);
    assert_eq!(
        asked["policies"].as_array().unwrap().iter().map(|p| p["resources"].clone()).collect::<Vec<_>>(),
        [2, 2]
    );
    let (status, said) = Fixture::new().fails(&["evaluate_slurm_policy"]);
    assert_eq!(status, 1, "{said}");
}

#[test]
fn what_retention_leaves_is_listed_by_month() {
    let fixture = fleet(2);
    fixture.run(&["hold", "place", "--resource", "r0", "--kind", "pause", "--reason", "a test"]);
    assert_eq!(fixture.json(&["evaluation_totals"])["count"], 0);
    // A server moves the clock, and prunes on the way.
    Serving::start(&fixture, &[("SLUICE_SIMULATED_CLOCK", "2026-08-01T00:00:00Z")]).stop();
    let json = |arguments: &[&str]| {
        let arguments = [arguments, &["--format", "json"]].concat();
        let done = fixture.command(&arguments).env_remove("SLUICE_SIMULATED_CLOCK").assert().success();
        serde_json::from_slice::<serde_json::Value>(&done.get_output().stdout).unwrap()
    };
    let april = json(&["evaluation_totals", "--resource", "r0", "--month", "2026-04"]);
    assert_eq!(april["count"], 1, "{april}");
    let row = &april["evaluation_totals"][0];
    assert_eq!((&row["resource_name"], &row["month"]), (&json!("r0"), &json!("2026-04")));
    assert!(row["evaluations"].as_i64().unwrap() >= 1, "{row}");
    let r1 = json(&["evaluation_totals", "--resource", "r1", "--offering", "hpc"]);
    assert_eq!(r1["evaluation_totals"][0]["minutes_restricted"], 0);
    assert_eq!(json(&["evaluation_totals", "--month", "2026-03"])["count"], 0);
}

#[test]
fn a_status_is_chosen_sorted_and_shows_what_is_ahead() {
    let fixture = fleet(3);
    fixture.run(&["hold", "place", "--resource", "r1", "--kind", "pause", "--reason", "a test"]);
    let slugs = |arguments: &[&str]| {
        let document = fixture.json(&[&["slurm_policy_status"], arguments].concat());
        let slug = |row: &serde_json::Value| row["resource_slug"].as_str().unwrap().to_owned();
        document["resources"].as_array().unwrap().iter().map(slug).collect::<Vec<_>>()
    };
    assert_eq!(slugs(&["--state", "on_hold"]), ["r1"]);
    assert_eq!(slugs(&["--state", "on_hold", "--state", "normal", "--sort", "-name"]), ["r2", "r1", "r0"]);
    assert_eq!(slugs(&["--sort", "state"]), ["r1", "r0", "r2"]);
    assert_eq!(slugs(&["--organisation", "uni", "--search", "A2"]), ["r2"]);
    let table = fixture.run(&["slurm_policy_status", "--outlook"]);
    assert!(table.contains("0 of 10") && table.contains("pause at 120 %") && table.contains("never"), "{table}");
    for (arguments, said) in [
        (["--state", "stopped"], "one of on_hold, exempt, paused"),
        (["--sort", "colour"], "one of next, created, name"),
        (["--organisation", "none"], "there is no organisation \"none\""),
    ] {
        let (_, complaint) = fixture.fails(&[&["slurm_policy_status"], &arguments[..]].concat());
        assert!(complaint.contains(said), "{complaint}");
    }
}
