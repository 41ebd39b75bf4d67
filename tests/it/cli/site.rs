//! `apply` says what it leaves as it is, and gives no account out twice.

use super::Fixture;

const SITE: &str = "customers: [{slug: uni}]\nprojects: [{slug: lab, customer: uni}]\n\
    offerings: [{slug: hpc, customer: uni, components: [{type: node_hours}]}, {slug: other, customer: uni}]\n";

fn with(fixture: &Fixture, more: &str) -> String {
    fixture.file("site.yaml", &format!("{SITE}{more}"))
}

#[test]
fn what_prune_ended_is_named_when_the_file_lists_it_again() {
    let fixture = Fixture::new();
    let resources = "resources:\n  - {slug: a, project: lab, offering: hpc, backend_id: hpc_a}\n  - {slug: b, project: lab, offering: hpc}\n";
    let policies = "policies: [{slug: p, offering: hpc, actions: [notify_organization_owners], apply_to_all: true}]\n";
    let whole = format!("{resources}{policies}");
    fixture.run(&["apply", "-f", &with(&fixture, &whole)]);
    let gone = with(&fixture, "resources: [{slug: b, project: lab, offering: hpc}]\npolicies: []\n");
    let pruned = fixture.run(&["apply", "-f", &gone, "--prune"]);
    assert!(pruned.contains("- resource a") && pruned.contains("- policy p"), "{pruned}");

    let again = fixture.run(&["apply", "-f", &with(&fixture, &whole)]);
    for part in [
        "= resource a\n    (it is terminated, which is final, and stays so; for a new allocation on the account list a resource of another slug with backend_id: hpc_a",
        "= policy p\n    (it is disabled and stays so; `enabled: true` brings it back)",
        "2 are out of use and stay so, see above",
    ] {
        assert!(again.contains(part), "{part} is not in\n{again}");
    }
    let document = fixture.json(&["apply", "-f", &with(&fixture, &whole)]);
    let stay: Vec<_> = document["changes"].as_array().unwrap().iter().filter(|c| c["out_of_use"] == true).collect();
    assert_eq!(stay.len(), 2, "{document}");

    // Both ways that it names lead on.
    let on = format!(
        "{resources}  - {{slug: a2, project: lab, offering: hpc, backend_id: hpc_a}}\n{}",
        policies.replace("apply_to_all", "enabled: true, apply_to_all")
    );
    let done = fixture.run(&["apply", "-f", &with(&fixture, &on)]);
    assert!(done.contains("+ resource a2") && done.contains("enabled: false -> true"), "{done}");
    let (status, said) = fixture.fails(&[
        "apply",
        "-f",
        &with(&fixture, "resources: [{slug: a, project: lab, offering: hpc, state: OK}]\n"),
    ]);
    assert_eq!(status, 1);
    assert!(said.contains("the resource is terminated, which is final; for a new allocation"), "{said}");
}

#[test]
fn an_account_is_given_out_once_wherever_it_comes_from() {
    let fixture = Fixture::new();
    let first = with(
        &fixture,
        "resources: [{slug: a, name: climate, project: lab, offering: hpc}, {slug: c, project: lab, offering: hpc, backend_id: hpc_c}]\n",
    );
    fixture.run(&["apply", "-f", &first]);
    for (resource, says) in [
        (
            "{slug: b, project: lab, offering: hpc, backend_id: climate}",
            "resources[0].backend_id: \"climate\" is the account of the resource \"climate\"",
        ),
        ("{slug: b, project: lab, offering: hpc, backend_id: Climate}", "\"Climate\" is the account of"),
        (
            "{slug: b, name: hpc_c, project: lab, offering: hpc}",
            "resources[0].name: \"hpc_c\" (its name, since no backend_id is given) is the account of the resource \"c\"",
        ),
        ("{slug: c, project: lab, offering: hpc, backend_id: climate}", "\"climate\" is the account of"),
        ("{slug: b, project: lab, offering: hpc, backend_id: -x}", "begins with a dash"),
        ("{slug: b, name: -x, project: lab, offering: hpc}", "an account does not begin with a dash"),
        (
            "{slug: b, project: lab, offering: hpc, backend_id: x}, {slug: d, name: X, project: lab, offering: hpc}",
            "\"X\" is the account of the resource in line 4 already",
        ),
    ] {
        for dry in [&[][..], &["--dry-run"]] {
            let file = with(&fixture, &format!("resources: [{resource}]\n"));
            let (status, said) = fixture.fails(&[&["apply", "-f", &file], dry].concat());
            assert_eq!(status, 1, "{resource}");
            assert!(said.contains(says) && said.contains("nothing was changed"), "{resource}: {said}");
        }
    }
    // Another offering is another cluster; what keeps its account keeps it; two may change places.
    for resources in [
        "{slug: e, project: lab, offering: other, backend_id: climate}",
        "{slug: a, name: climate, project: lab, offering: hpc}",
        "{slug: a, name: climate, project: lab, offering: hpc, backend_id: hpc_c}, {slug: c, project: lab, offering: hpc, backend_id: climate}",
    ] {
        fixture.run(&["apply", "-f", &with(&fixture, &format!("resources: [{resources}]\n"))]);
    }
    // What is pruned gives its account up.
    let taken_over = with(&fixture, "resources: [{slug: f, project: lab, offering: hpc, backend_id: climate}]\n");
    fixture.run(&["apply", "-f", &taken_over, "--prune"]);
}

#[test]
fn keys_that_are_unknown_are_answered_with_the_known_ones_once() {
    let fixture = Fixture::new();
    let file = fixture
        .file("site.yaml", "policies: [{slug: p, foo: 1, bar: 2}]\ncustomers: [{slug: a, nmae: x, wners: []}]\n");
    let (_, said) = fixture.fails(&["apply", "-f", &file]);
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("there is no such key")).collect();
    assert_eq!(lines.len(), 4, "{said}");
    for line in lines {
        let known: Vec<&str> = line.split("known here: ").nth(1).map(|l| l.split(", ").collect()).unwrap_or_default();
        let distinct: std::collections::BTreeSet<&str> = known.iter().copied().collect();
        assert_eq!(known.len(), distinct.len(), "{line}");
    }
    assert_eq!(said.matches("known here").count(), 2, "{said}");
}
