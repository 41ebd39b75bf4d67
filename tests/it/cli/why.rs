//! Status and explain say why: of what a policy did, and of what it did not do.

use serde_json::{Value, json};

use super::Fixture;

const SITE: &str = "\
organization_groups: [{slug: research, name: Research}]
customers:
  - {slug: uni-a, name: University A, groups: [research]}
  - {slug: uni-b, name: University B}
projects: [{slug: climate, name: Climate, customer: uni-a}, {slug: astro, name: Astro, customer: uni-b}]
offerings:
  - {slug: hpc1, name: Cluster, customer: uni-a, components: [{type: node_hours, name: Node-hours, measured_unit: hours, billing_type: limit, slurm_tres: node}]}
resources:
  - {slug: climate-hpc1, name: climate, project: climate, offering: hpc1, limits: {node_hours: 100}, created: 2026-04-01}
  - {slug: astro-hpc1, name: astro, project: astro, offering: hpc1, limits: {node_hours: 100}, created: 2026-04-01}
policies:
  - {slug: for-research, offering: hpc1, organization_groups: [research], actions: [request_slurm_resource_pausing], tres_billing_enabled: false}
  - {slug: asleep, offering: hpc1, apply_to_all: true, enabled: false, actions: [notify_organization_owners], tres_billing_enabled: false}
";

#[test]
fn explain_names_the_policies_that_leave_a_resource_alone() {
    let fixture = Fixture::new();
    fixture.run(&["apply", "-f", &fixture.file("site.yaml", SITE)]);
    let text = fixture.run(&["explain", "--resource", "astro-hpc1"]);
    for line in [
        "no policy applies to it\n",
        "policy asleep does not apply: it is disabled\n",
        "policy for-research does not apply: the resource's organisation is in none of its groups\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let explained = fixture.json(&["explain", "--resource", "climate-hpc1"]);
    let names =
        |list: &str| -> Vec<Value> { explained[list].as_array().unwrap().iter().map(|p| p["name"].clone()).collect() };
    assert_eq!((explained["policies"].as_array().unwrap().len(), names("passed_by")), (1, vec![json!("asleep")]));
}

#[test]
fn a_resource_that_ended_is_left_alone_because_it_ended() {
    let fixture = Fixture::new();
    let site =
        fixture.file("site.yaml", &SITE.replace("created: 2026-04-01}", "created: 2026-04-01, state: Terminated}"));
    fixture.run(&["apply", "-f", &site]);
    let explained = fixture.json(&["explain", "--resource", "climate-hpc1"]);
    let reasons = explained["passed_by"].as_array().unwrap().iter().map(|p| p["reason"].as_str().unwrap());
    assert_eq!(reasons.collect::<Vec<_>>(), ["the resource has ended"; 2]);
}

#[test]
fn status_has_the_sentence_behind_each_line() {
    let fixture = Fixture::new();
    fixture.run(&["apply", "-f", &fixture.file("site.yaml", SITE)]);
    let status = fixture.json(&["slurm_policy_status", "--resource", "climate-hpc1"]);
    assert_eq!(status["resources"][0]["why"], "0 % = 0 of 100 node_hours; below 120 %: nothing to do");
    let jobs: Vec<&str> =
        status["scheduled"].as_array().unwrap().iter().map(|job| job["job"].as_str().unwrap()).collect();
    assert!(["period_boundary", "evaluate_all", "retention"].iter().all(|job| jobs.contains(job)), "{jobs:?}");
    let table = fixture.run(&["slurm_policy_status"]);
    assert!(table.contains("nothing of it will happen"), "{table}");
    assert!(table.contains(" WHY\n") && table.contains("below 120 %: nothing to do"), "{table}");
}
