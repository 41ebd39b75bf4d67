//! Wrong usage has status 2, failure 1; both say what is wrong on standard error.

use super::{Fixture, bare, failure};

#[test]
fn both_spellings_of_commands_and_flags_work() {
    let fixture = Fixture::with_site();
    for arguments in [
        ["slurm_policy_status", "--format", "json"],
        ["slurm-policy-status", "--format", "json"],
        ["cleanup_slurm_logs", "--dry_run", "--format=json"],
        ["cleanup-slurm-logs", "--dry-run", "--format=json"],
        ["doctor", "--skip_integrity", "--format=json"],
        ["doctor", "--skip-integrity", "--offline"],
    ] {
        fixture.run(&arguments);
    }
    for command in ["evaluate_slurm_policy", "evaluate-slurm-policy"] {
        fixture.run(&[command, "--policy", "hpc1-quarterly", "--dry_run"]);
    }
}

#[test]
fn the_names_of_the_documentation_are_the_visible_ones() {
    let help = String::from_utf8(bare(&["--help"]).assert().success().get_output().stdout.clone()).unwrap();
    for name in [
        "serve",
        "demo",
        "apply",
        "evaluate_slurm_policy",
        "slurm_policy_status",
        "cleanup_slurm_logs",
        "token",
        "users",
        "doctor",
        "notices",
        "projections",
        "import",
        "explain",
        "agent-config",
    ] {
        assert!(help.contains(&format!("\n  {name} ")), "{name} is not in\n{help}");
    }
}

#[test]
fn wrong_usage_has_status_two() {
    let fixture = Fixture::with_site();
    for (arguments, says) in [
        (vec!["evaluate_slurm_policy", "--policy"], "--policy"),
        (vec!["evaluate_slurm_policy", "--policy", "p", "--sync", "--dry-run"], "cannot be used with"),
        (vec!["frobnicate"], "unrecognized subcommand"),
        (vec!["token", "create", "--user", "u", "--role", "king"], "one of staff, support, owner, member, agent"),
        (vec!["token", "create", "--user", "u", "--role", "agent"], "--offering"),
        (vec!["projections", "rebuild", "nothing"], "there is no read model \"nothing\"; there are"),
        (vec!["slurm_policy_status", "--database", "mysql://x"], "\"mysql\" is no database that Sluice knows"),
        (vec!["slurm_policy_status", "--simulated-clock", "noon"], "--simulated-clock \"noon\" is not valid"),
        (vec!["import", "sacct", "--offering", "hpc1"], "--month"),
    ] {
        let (status, stderr) = fixture.fails(&arguments);
        assert_eq!(status, 2, "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    }
}

#[test]
fn failures_have_status_one() {
    let fixture = Fixture::with_site();
    for (arguments, says) in [
        (vec!["evaluate_slurm_policy", "--policy", "none"], "there is no policy \"none\""),
        (vec!["explain", "--resource", "none"], "there is no resource \"none\""),
        (vec!["apply", "-f", "/does/not/exist.yaml"], "/does/not/exist.yaml cannot be read"),
        (vec!["import", "sacct", "-", "--offering", "none"], "there is no offering \"none\"; there are hpc1"),
        (vec!["token", "revoke", "7e500000000040008000000000000001"], "there is no token"),
    ] {
        let (status, stderr) = fixture.fails(&arguments);
        assert_eq!(status, 1, "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(says), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_database_keeps_its_kind_of_clock() {
    let fixture = Fixture::with_site();
    let folder = fixture.folder.path().to_str().unwrap();
    let earlier = ["slurm_policy_status", "--data-dir", folder, "--simulated-clock", "2026-01-01T00:00:00Z"];
    let (status, stderr) = failure(&mut bare(&earlier));
    assert_eq!(status, 1);
    assert!(stderr.contains("never goes backwards"), "{stderr}");
    // Without saying so again, a command goes on by the clock that the database lives by.
    bare(&["slurm_policy_status", "--data-dir", folder]).assert().success();
}

#[test]
fn flags_go_over_the_environment() {
    let fixture = Fixture::with_site();
    let other = Fixture::new();
    other.run(&["apply", "-f", &other.file("site.yaml", "customers: [{slug: a}]\n")]);
    let folder = other.folder.path().to_str().unwrap();
    let tokens = fixture.json(&["slurm_policy_status"]);
    let elsewhere = fixture.json(&["slurm_policy_status", "--data_dir", folder]);
    assert_eq!(tokens["policies"].as_array().unwrap().len(), 1);
    assert_eq!(elsewhere["policies"].as_array().unwrap().len(), 0);
}
