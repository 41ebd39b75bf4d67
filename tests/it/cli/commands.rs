//! Each command's output, in tables and in JSON.

use serde_json::json;

use super::{Fixture, KEY};

#[test]
fn apply_prints_the_plan_and_then_that_there_is_nothing_to_do() {
    let fixture = Fixture::new();
    let file = fixture.file(
        "site.yaml",
        "customers:\n  - {slug: uni-a, name: University A, owners: [{username: alice, email: alice@uni-a.example}]}\n\
         tokens:\n  - {user: root, role: staff, key_env: SLUICE_STAFF_TOKEN}\n",
    );
    let mut command = fixture.command(&["apply", "-f", &file, "--dry-run"]);
    let done = command.env("SLUICE_STAFF_TOKEN", KEY).assert().success();
    let plan = String::from_utf8(done.get_output().stdout.clone()).unwrap();
    insta::assert_snapshot!(plan, @r"
    + user alice
        email: alice@uni-a.example
    + user root
    + customer uni-a
        customer: uni-a
        name: University A
        owners: alice
    + token root (staff)
    4 to create, 0 to change, 0 to take out of use, 0 unchanged (dry run: nothing was changed)
    ");
    let applied = fixture.command(&["apply", "-f", &file]).env("SLUICE_STAFF_TOKEN", KEY).assert().success();
    assert!(!String::from_utf8_lossy(&applied.get_output().stdout).contains(KEY), "a key was printed");
    let again = fixture.run(&["apply", "-f", &file]);
    assert_eq!(again, "nothing to do: 4 objects are as the file says\n");
}

#[test]
fn apply_names_the_lines_of_what_is_wrong_and_changes_nothing() {
    let fixture = Fixture::new();
    let file = fixture.file("site.yaml", "customers:\n  - {slug: a, colour: red}\n  - {slug: b, groups: [none]}\n");
    let (status, stderr) = fixture.fails(&["apply", "-f", &file]);
    assert_eq!(status, 1);
    assert!(
        stderr
            .contains("site.yaml is not valid; nothing was changed\nline 2: customers[0].colour: there is no such key"),
        "{stderr}"
    );
    assert!(!fixture.folder.path().join("sluice.db").exists(), "a file that is not valid made a database");
}

#[test]
fn a_made_key_is_printed_once() {
    let fixture = Fixture::new();
    let file = fixture.file("site.yaml", "tokens: [{user: root, role: staff}]\n");
    let document = fixture.json(&["apply", "-f", &file]);
    let key = document["tokens"][0]["key"].as_str().unwrap();
    assert_eq!(key.len(), 40);
    assert_eq!(fixture.json(&["apply", "-f", &file])["tokens"], json!([]));
}

#[test]
fn a_link_that_signs_in_names_the_service_and_its_end() {
    let fixture = Fixture::with_site();
    let link = ["login-link", "--user", "runa", "--role", "support", "--address", "https://sluice.example.org/"];
    let made = fixture.json(&link);
    let url = made["url"].as_str().unwrap();
    let key = url.strip_prefix("https://sluice.example.org/login?link=").unwrap();
    assert!(key.len() == 40 && key.bytes().all(|b| b.is_ascii_hexdigit()), "{url}");
    assert_eq!((&made["username"], &made["role"]), (&json!("runa"), &json!("support")));
    let again = fixture.json(&link);
    assert_ne!(again["url"], made["url"], "each link is its own");
    for (arguments, says) in [
        (&["login-link", "--role", "agent", "--address", "http://h"][..], "a site agent has no pages"),
        (&["login-link", "--address", "http://h/path"], "without a path"),
        (&["login-link", "--minutes", "0", "--address", "http://h"], "1..=1440"),
        (&["login-link"], "no server of this machine has listened yet"),
    ] {
        let (status, said) = fixture.fails(arguments);
        assert!(status == 2 && said.contains(says), "{status} {said}");
    }
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let fixture = Fixture::with_site();
    let made = fixture.json(&[
        "token",
        "create",
        "--user",
        "agent-hpc1",
        "--role",
        "agent",
        "--offering",
        "hpc1",
        "--expires",
        "30d",
    ]);
    assert_eq!(made["key"].as_str().unwrap().len(), 40);
    let id = made["uuid"].as_str().unwrap();
    let listed = fixture.json(&["token", "list"]);
    assert_eq!(
        (&listed[0]["user"], &listed[0]["role"], &listed[0]["active"]),
        (&json!("agent-hpc1"), &json!("agent"), &json!(true))
    );
    assert_eq!(listed[0]["expires_at"], "2026-05-02T00:00:00Z");
    assert!(listed[0].get("key").is_none());
    fixture.run(&["token", "revoke", id]);
    assert!(fixture.run(&["token", "list"]).contains("revoked 2026-04-02T00:00:00Z"));
}

#[test]
fn evaluation_is_queued_done_or_only_said() {
    let fixture = Fixture::with_site();
    let before = fixture.json(&["projections", "status"])["head"].clone();
    let dry = fixture.json(&[
        "evaluate_slurm_policy",
        "--policy",
        "hpc1-quarterly",
        "--resource",
        "climate-hpc1",
        "--dry-run",
    ]);
    assert_eq!(dry["resources"][0]["would_trigger"], json!([]));
    assert_eq!(fixture.json(&["projections", "status"])["head"], before, "a dry run recorded something");

    let done = fixture.json(&["evaluate_slurm_policy", "--policy", "hpc1-quarterly", "--sync"]);
    assert_eq!(done["resources"].as_array().unwrap().len(), 4);
    assert_eq!(done["billing_period"], "2026-Q2");

    let queued = fixture.json(&["evaluate_slurm_policy", "--policy", "hpc1-quarterly"]);
    assert_eq!((&queued["resources"], &queued["server_running"]), (&json!(4), &json!(false)));
}

#[test]
fn explain_shows_every_term() {
    let fixture = Fixture::with_site();
    let days = ["--from", "2026-01-01", "--to", "2026-03-31"];
    fixture.run(&[&["import", "sacct", "src/demo/data/2026-q1.txt", "--offering", "hpc1"][..], &days].concat());
    let text = fixture.run(&["explain", "--resource", "genomics-hpc1"]);
    for part in [
        "usage by month",
        "2026-02  node_hours  126.1372",
        "carryover from 2026-Q1 by capped_unused/2",
        "previous base",
        "previous usage 285.403055",
        "120 %",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let document = fixture.json(&["explain", "--resource", "genomics-hpc1"]);
    assert_eq!(document["policies"][0]["period"], "2026-Q2");
}

#[test]
fn status_shows_policies_resources_logs_and_commands() {
    let fixture = Fixture::with_site();
    let text = fixture.run(&["slurm_policy_status", "--policy", "hpc1-quarterly", "--logs", "2", "--commands", "2"]);
    for part in
        ["POLICY", "hpc1-quarterly", "newest evaluations", "newest commands", "sacctmgr --immediate modify account"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let document = fixture.json(&["slurm_policy_status", "--resource", "climate-hpc1", "--logs", "1"]);
    assert_eq!(document["evaluation_logs"].as_array().unwrap().len(), 1);
    assert_eq!(document["resources"][0]["resource_name"], "climate");
}

#[test]
fn read_models_are_rebuilt_one_or_all() {
    let fixture = Fixture::with_site();
    let before = fixture.json(&["slurm_policy_status", "--logs", "50", "--commands", "50"]);
    assert_eq!(fixture.json(&["projections", "rebuild", "usage"])["rebuilt"][0]["name"], "usage");
    let all = fixture.json(&["projections", "rebuild"]);
    assert_eq!(all["rebuilt"].as_array().unwrap().len(), sluice::projections::NAMES.len());
    assert_eq!(fixture.json(&["slurm_policy_status", "--logs", "50", "--commands", "50"]), before);
}
