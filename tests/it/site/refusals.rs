//! What is refused: with line, key, value and what is allowed, all at once, and nothing half done.

use super::{Fixture, SITE, read};

fn complaints(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

#[test]
fn every_complaint_names_line_and_key() {
    for (text, says) in [
        (
            "customers:\n  - {slug: a, colour: red}\n",
            "line 2: customers[0].colour: there is no such key; known here: uuid, slug, name",
        ),
        ("sites: []\n", "line 1: sites: there is no such key"),
        ("customers:\n  - name: A\n", "line 2: customers[0].slug: is required"),
        ("customers: {slug: a}\n", "line 1: customers: a mapping is given: a list is expected"),
        ("customers:\n  - {slug: a}\n  - {slug: a}\n", "line 3: customers[1].slug: \"a\" stands in line 2 already"),
        (
            "offerings: [{slug: o, customer: c, slurm_clusters: [alpha, Alpha]}]\n",
            "offerings[0].slurm_clusters[1]: \"Alpha\" is there twice",
        ),
        (
            "offerings: [{slug: o, customer: c, slurm_clusters: [all]}]\n",
            "slurm_clusters[0]: \"all\" stands for every cluster in SLURM",
        ),
        ("customers:\n  - {slug: a b}\n", "\"a b\" is no slug"),
        ("customers: [{slug: a, uuid: xyz}]\n", "customers[0].uuid: `xyz` is not an id"),
        (
            "customers: [{slug: a, owners: [{username: x, email: nowhere}]}]\n",
            "customers[0].owners[0].email: Enter a valid email address: \"nowhere\" is none.",
        ),
        (
            "policies:\n  - slug: p\n    offering: o\n    grace_ratio: much\n",
            "line 4: policies[0].grace_ratio: \"much\" is given: a number is expected",
        ),
        (
            "policies:\n  - slug: p\n    offering: o\n    actions: [notify_everybody]\n",
            "line 4: policies[0].actions: The list \"notify_everybody\" includes unavailable actions",
        ),
        (
            "policies: [{slug: p, offering: o, enabled: yes}]\n",
            "policies[0].enabled: \"yes\" is neither true nor false",
        ),
        (
            "policies: [{slug: p, offering: o, period: week}]\n",
            "policies[0].period: \"week\" is given: 1 total, 2 month",
        ),
        (
            "policies: [{slug: p, offering: o, progressive_thresholds: [{percent: 5}]}]\n",
            "progressive_thresholds[0].effect: is required",
        ),
        (
            "resources: [{slug: r, project: p, offering: o, state: Fine}]\n",
            "resources[0].state: \"Fine\" is given: one of Creating, OK",
        ),
        ("resources: [{slug: r, project: p, offering: o, created: yesterday}]\n", "a day (2026-03-01) or an instant"),
        (
            "resources: [{slug: r, project: p, offering: o, limits: {cpu: lots}}]\n",
            "resources[0].limits.cpu: \"lots\" is given",
        ),
        ("tokens: [{user: u, role: king}]\n", "tokens[0].role: \"king\" is given: one of staff"),
        ("tokens: [{user: u, role: agent}]\n", "tokens[0].offering: is required for an agent"),
        ("tokens: [{user: u, role: staff, key: short}]\n", "tokens[0].key: the key is not usable"),
        (
            "offerings: [{slug: o, customer: c, components: [{type: a, limit_period: weekly}]}]\n",
            "components[0].limit_period: \"weekly\" is given: one of month, quarterly",
        ),
        ("customers:\n  - {slug: a\n", "not valid YAML"),
        ("customers: [{slug: a, slug: b}]\n", "not valid YAML"),
    ] {
        let message = complaints(text);
        assert!(message.contains(says), "{text}\n{message}");
    }
}

/// Every key of a site file that holds a text, with a file in which that text stands at `TEXT`.
const TEXTS: [(&str, &str); 25] = [
    ("organization_groups[0].name", "organization_groups: [{slug: g, name: TEXT}]"),
    ("organization_groups[0].slug", "organization_groups: [{slug: TEXT}]"),
    ("customers[0].slug", "customers: [{slug: TEXT}]"),
    ("customers[0].name", "customers: [{slug: a, name: TEXT}]"),
    ("customers[0].groups[0]", "customers: [{slug: a, groups: [TEXT]}]"),
    ("customers[0].owners[0].username", "customers: [{slug: a, owners: [{username: TEXT}]}]"),
    ("customers[0].owners[0]", "customers: [{slug: a, owners: [TEXT]}]"),
    ("customers[0].owners[0].full_name", "customers: [{slug: a, owners: [{username: u, full_name: TEXT}]}]"),
    ("customers[0].owners[0].email", "customers: [{slug: a, owners: [{username: u, email: TEXT}]}]"),
    ("projects[0].name", "projects: [{slug: p, customer: c, name: TEXT}]"),
    ("projects[0].customer", "projects: [{slug: p, customer: TEXT}]"),
    (
        "projects[0].members[0].full_name",
        "projects: [{slug: p, customer: c, members: [{username: u, full_name: TEXT}]}]",
    ),
    ("offerings[0].name", "offerings: [{slug: o, customer: c, name: TEXT}]"),
    ("offerings[0].qos.paused", "offerings: [{slug: o, customer: c, qos: {paused: TEXT}}]"),
    ("offerings[0].components[0].type", "offerings: [{slug: o, customer: c, components: [{type: TEXT}]}]"),
    ("offerings[0].components[0].name", "offerings: [{slug: o, customer: c, components: [{type: t, name: TEXT}]}]"),
    (
        "offerings[0].components[0].measured_unit",
        "offerings: [{slug: o, customer: c, components: [{type: t, measured_unit: TEXT}]}]",
    ),
    (
        "offerings[0].components[0].slurm_tres",
        "offerings: [{slug: o, customer: c, components: [{type: t, slurm_tres: TEXT}]}]",
    ),
    ("resources[0].name", "resources: [{slug: r, project: p, offering: o, name: TEXT}]"),
    ("resources[0].backend_id", "resources: [{slug: r, project: p, offering: o, backend_id: TEXT}]"),
    ("resources[0].project", "resources: [{slug: r, project: TEXT, offering: o}]"),
    ("policies[0].reason", "policies: [{slug: p, offering: o, reason: TEXT}]"),
    ("policies[0].offering", "policies: [{slug: p, offering: TEXT}]"),
    ("tokens[0].user", "tokens: [{user: TEXT, role: staff}]"),
    ("tokens[0].label", "tokens: [{user: u, role: staff, label: TEXT}]"),
];

#[test]
fn no_text_holds_what_cannot_be_seen() {
    for (key, file) in TEXTS {
        assert!(read(&file.replace("TEXT", "x@y.example")).is_ok() || key.ends_with("slug"), "{key}: {file}");
        for (nasty, code) in [
            (r#""A\nB""#, "U+000A"),
            (r#""A\tB""#, "U+0009"),
            (r#""A\e[2J""#, "U+001B"),
            (r#""A\r\nBcc: v@victim.example""#, "U+000D"),
            (r#""A\u202egnp.exe""#, "U+202E"),
            (r#""A\u200bB""#, "U+200B"),
            (r#""A\u2028B""#, "U+2028"),
            (r#""A\0B""#, "U+0000"),
            (r#""\ufeffA""#, "U+FEFF"),
        ] {
            let message = complaints(&file.replace("TEXT", nasty));
            assert!(
                message.contains(key) && message.contains("not allowed") && message.contains(code),
                "{key}: {message}"
            );
        }
    }
}

#[test]
fn names_have_a_length_and_blanks_around_them_do_not_count() {
    let long = "x".repeat(256);
    for key in ["name", "owners: [{username: u, full_name"] {
        let closing = if key == "name" { "" } else { "}]" };
        let message = complaints(&format!("customers: [{{slug: a, {key}: {long}{closing}}}]\n"));
        assert!(message.contains("no more than 255 characters: 256 were given"), "{message}");
    }
    assert!(read("customers:\n  - slug: a\n    name: |\n      One line\n").is_ok());
    assert!(complaints("customers:\n  - slug: a\n    name: |\n      Two\n      lines\n").contains("U+000A"));
}

#[test]
fn all_complaints_come_at_once_in_the_order_of_lines() {
    let message = complaints(
        "customers:\n  - {slug: a, colour: red}\n  - {name: b}\npolicies:\n  - {slug: p, offering: o, enabled: maybe}\n",
    );
    let lines: Vec<&str> = message.lines().map(|line| line.split(':').next().unwrap_or_default()).collect();
    assert_eq!(lines, ["line 2", "line 3", "line 5"], "{message}");
}

#[test]
fn a_key_never_stands_in_a_complaint() {
    let message = complaints("tokens: [{user: u, role: staff, key: tooshort, colour: red}]\n");
    assert!(!message.contains("tooshort"), "{message}");
}

#[tokio::test]
async fn a_file_that_is_wrong_in_one_place_changes_nothing() {
    for (from, to, says) in [
        (
            "groups: [research]",
            "groups: [reserch]",
            "line 4: customers[0].groups[0]: there is no organization group \"reserch\"; in this file there are research",
        ),
        (
            "customer: uni-a, members",
            "customer: uni-b, members",
            "projects[0].customer: there is no customer \"uni-b\"",
        ),
        ("project: climate,", "project: weather,", "resources[0].project: there is no project \"weather\""),
        (
            "limits: {node_hours: 0.1}",
            "limits: {gpu: 5}",
            "resources[0].limits.gpu: the offering \"hpc1\" has no component \"gpu\"; it has mem, node_hours",
        ),
        (
            "limits: {node_hours: 0.1}",
            "limits: {node_hours: -1}",
            "line 12: resources[0].limits.node_hours: -1 is out of range",
        ),
        ("    apply_to_all: true\n", "", "policies[0]: whom it applies to is not said"),
        ("apply_to_all: true", "apply_to_all: true\n    organization_groups: [research]", "exactly one is allowed"),
        (
            "    actions: [notify_external_user, request_pausing]\n",
            "",
            "policies[0].actions: At least one action is required",
        ),
        (
            "notification_threshold: 80",
            "notification_threshold: 0.5",
            "line 19: policies[0].notification_threshold: 0.5 is out of range: a number from 1 to 100",
        ),
        ("notification_threshold: 80", "period: month", "line 19: policies[0].period: 2 (1 month) does not match"),
        (
            "notification_threshold: 80",
            "component_limits: {gpu: 1}",
            "policies[0].component_limits: Invalid component type \"gpu\"",
        ),
        ("key_env: STAFF_TOKEN", "key_env: OTHER_TOKEN", "tokens[0].key_env: the variable OTHER_TOKEN is not set"),
        ("offering: hpc1}", "offering: hpc2}", "tokens[1].offering: there is no offering \"hpc2\""),
    ] {
        let fixture = Fixture::new().await;
        assert!(SITE.contains(from), "{from} is not in the sample");
        let error = fixture.try_apply(&SITE.replace(from, to), false).await.expect_err(to).to_string();
        assert!(error.contains(says), "{to}\n{error}");
        assert_eq!(fixture.events().await, 0, "{to}: something was appended");
        assert!(fixture.app.directory.all_users().await.unwrap().is_empty(), "{to}: a user was made");
    }
}

#[tokio::test]
async fn what_cannot_change_is_refused() {
    let fixture = Fixture::new().await;
    let two = SITE.replace("projects: [", "projects: [{slug: ocean, customer: uni-a}, ");
    fixture.apply(&two).await;
    let events = fixture.events().await;
    for (from, to, says) in [
        ("project: climate,", "project: ocean,", "a resource cannot move to another project"),
        (
            "created: 2025-11-01",
            "created: 2025-12-01",
            "the resource was created at 2025-11-01T00:00:00Z; that cannot change",
        ),
        ("slug: uni-a,", "slug: uni-a, uuid: 7e500000000040008000000000000001,", "exists with the identity"),
        (
            "{user: root, role: staff",
            "{user: root, role: support",
            "the key is in use for another user, role or offering",
        ),
    ] {
        assert!(two.contains(from), "{from} is not in the sample");
        let error = fixture.try_apply(&two.replace(from, to), false).await.expect_err(to).to_string();
        assert!(error.contains(says), "{to}\n{error}");
    }
    assert_eq!(fixture.events().await, events);
}

#[tokio::test]
async fn two_policies_of_an_offering_keep_one_limit_type() {
    let fixture = Fixture::new().await;
    let two = SITE.replace(
        "tokens:",
        "  - {slug: other, offering: hpc1, actions: request_downscaling, apply_to_all: true, limit_type: GrpTRES}\ntokens:",
    );
    let error = fixture.try_apply(&two, false).await.expect_err("mixed").to_string();
    assert!(error.contains("policies[1].limit_type: GrpTRES differs from GrpTRESMins"), "{error}");
    assert_eq!(fixture.events().await, 0);
}
