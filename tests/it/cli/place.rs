//! Where the database is, what is said of values that are refused, and how a packaged service starts.

use std::path::Path;
use std::process::Stdio;

use tempfile::TempDir;

use super::{Fixture, Serving, bare, failure};

#[test]
fn a_command_in_the_wrong_place_makes_no_database_and_names_the_right_one() {
    let home = TempDir::new().unwrap();
    let right = home.path().join("sluice");
    let site = bare(&["apply", "-f", "src/demo/site.yaml"]).env("XDG_DATA_HOME", home.path()).assert().success();
    let said = String::from_utf8_lossy(&site.get_output().stderr).into_owned();
    assert!(said.contains("made a new database: sqlite://"), "{said}");
    let wrong = home.path().join("elsewhere");
    for command in [
        &["hold", "list"][..],
        &["token", "create", "--user", "root", "--role", "staff"],
        &["token", "list"],
        &["slurm_policy_status"],
        &["projections", "status"],
        &["settings", "show"],
        &["import", "sacct", "src/demo/data/2026-q1.txt", "--offering", "hpc1"],
        &["backup", "copy"],
        &["store", "verify"],
    ] {
        let mut process = bare(command);
        let process = process.env("XDG_DATA_HOME", home.path()).env("SLUICE_DATA_DIR", &wrong);
        let (status, said) = failure(process);
        assert_eq!(status, 1, "{command:?}: {said}");
        assert!(said.contains("there is no database at sqlite://"), "{command:?}: {said}");
        assert!(
            said.contains(&format!(
                "--database sqlite://{}",
                right.join("sluice.db").canonicalize().unwrap().display()
            )),
            "{command:?}: {said}"
        );
        assert!(!wrong.exists(), "{command:?} made {}", wrong.display());
    }
    // A plan is no reason to make one either.
    let plan =
        bare(&["apply", "-f", "src/demo/site.yaml", "--dry-run"]).env("SLUICE_DATA_DIR", &wrong).assert().success();
    assert!(String::from_utf8_lossy(&plan.get_output().stdout).contains("to create"));
    assert!(!wrong.exists());
}

#[test]
fn the_unit_of_the_manual_starts_without_a_home() {
    let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATIONS.md")).unwrap();
    assert!(manual.contains("StateDirectory=sluice"), "the unit has another shape: adapt this test");
    let state = TempDir::new().unwrap();
    // As systemd starts it for a user without a home.
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("sluice"));
    command.env_clear().env("HOME", "/nonexistent").env("STATE_DIRECTORY", state.path());
    command.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let server = Serving::of(command);
    assert!(state.path().join("sluice.db").exists());
    let log = server.stop();
    assert!(log.contains("made a new database"), "{log}");
}

#[test]
fn what_is_refused_is_shown_with_its_value_its_source_and_an_example() {
    let fixture = Fixture::new();
    let file = fixture.file("sluice.toml", "public_url = \"x\"\n");
    let number = fixture.file("number.toml", "retention_days = \"many\"\n");
    for (arguments, variables, says) in [
        (
            &["serve", "--listen", "localhost:0"][..],
            &[][..],
            "--listen \"localhost:0\" is not valid: an IP address with a port is expected, and no host name; write for example --listen 127.0.0.1:8000",
        ),
        (&["serve"], &[("SLUICE_LISTEN", "8000")], "SLUICE_LISTEN=\"8000\" is not valid"),
        (
            &["serve"],
            &[("SLUICE_METRICS__LISTEN", "localhost:1")],
            "SLUICE_METRICS__LISTEN=\"localhost:1\" is not valid",
        ),
        (
            &["serve", "--config", &file],
            &[],
            "sluice.toml: public_url = \"x\" is not valid: an address that begins with http:// or https:// and names a host is expected; write for example public_url = \"https://sluice.site.example\"",
        ),
        (&["serve", "--config", &number], &[], "number.toml: retention_days = \"many\" is not valid"),
        (
            &["serve"],
            &[("SLUICE_LOG__LEVEL", "shout")],
            "SLUICE_LOG__LEVEL=\"shout\" is not valid: \"shout\" is neither a level (off, error, warn, info, debug, trace)",
        ),
        (
            &["projections", "status"],
            &[("SLUICE_LOG__LEVEL", "info,sluice=loud")],
            "\"sluice=loud\" is neither a level",
        ),
        (&["serve"], &[("SLUICE_TIME_ZONE", "Mars")], "SLUICE_TIME_ZONE=\"Mars\" is not valid"),
        (
            &["serve"],
            &[("SLUICE_RETENTION_DAYS", "0")],
            "SLUICE_RETENTION_DAYS: retention_days: 0 is out of range: 1 to 1000000 is allowed",
        ),
        (&["serve"], &[("SLUICE_NOTICES__LINK", "portal")], "SLUICE_NOTICES__LINK=\"portal\" is not valid"),
        (
            &["serve", "--simulated-clock", "today"],
            &[],
            "--simulated-clock \"today\" is not valid: an instant is expected; write for example --simulated-clock 2026-03-01T00:00:00Z",
        ),
    ] {
        let mut process = bare(arguments);
        process.env("SLUICE_DATA_DIR", fixture.folder.path()).envs(variables.iter().copied());
        let (status, said) = failure(&mut process);
        assert_eq!(status, 2, "{arguments:?} {variables:?}: {said}");
        assert!(said.contains(says), "{arguments:?} {variables:?}: {said}");
    }
    let (_, said) = failure(bare(&["serve"]).env("SLUICE_DATABASE", "mysql://root:hunter2@x/y"));
    assert!(said.contains("SLUICE_DATABASE is not valid") && !said.contains("hunter2"), "{said}");
}

#[test]
fn an_earlier_simulated_clock_says_how_to_go_on() {
    let fixture = Fixture::with_site();
    let (status, said) =
        failure(fixture.command(&["hold", "list"]).env("SLUICE_SIMULATED_CLOCK", "2026-01-01T00:00:00Z"));
    assert_eq!(status, 1);
    assert!(said.contains("leave out simulated_clock (--simulated-clock, SLUICE_SIMULATED_CLOCK)"), "{said}");
    fixture.command(&["hold", "list"]).env_remove("SLUICE_SIMULATED_CLOCK").assert().success();
}

#[tokio::test]
async fn a_newer_database_is_named_as_such() {
    let fixture = Fixture::with_site();
    let log = fixture.folder.path().join("sluice.db");
    super::doctor::sql(&log, "INSERT INTO _sqlx_migrations SELECT 9999, description, installed_on, success, checksum, execution_time FROM _sqlx_migrations LIMIT 1".to_owned()).await;
    for command in [&["serve", "--listen", "127.0.0.1:0"][..], &["hold", "list"]] {
        let (status, said) = fixture.fails(command);
        assert_eq!(status, 1);
        assert!(said.contains("sluice.db was made or upgraded by a newer version of Sluice"), "{said}");
    }
}

#[test]
fn tables_fit_the_terminal() {
    let fixture = Fixture::with_site();
    let days = ["--from", "2026-01-01", "--to", "2026-03-31"];
    fixture.run(&[&["import", "sacct", "src/demo/data/2026-q1.txt", "--offering", "hpc1"][..], &days].concat());
    fixture.run(&[
        "hold",
        "place",
        "--resource",
        "climate-hpc1",
        "--kind",
        "pause",
        "--reason",
        "a reason of some length that does not fit in what is left of the line",
    ]);
    fixture.run(&["token", "create", "--user", "root", "--role", "staff", "--expires", "2030-01-01"]);
    for command in [
        &["slurm_policy_status", "--logs", "3"][..],
        &["explain", "--resource", "climate-hpc1"],
        &["timeline", "--resource", "climate-hpc1"],
        &["hold", "list"],
        &["token", "list"],
        &["users", "list"],
        &["scheduler", "jobs"],
        &["scheduler", "runs"],
        &["notices", "list"],
        &["projections", "status"],
        &["settings", "show"],
        &["evaluation_totals"],
        &["evaluate_slurm_policy", "--dry-run"],
        &["doctor", "--offline"],
    ] {
        let shown = fixture.command(command).env("COLUMNS", "80").output().unwrap();
        let text = String::from_utf8(shown.stdout).unwrap();
        let table = text.lines().filter(|line| line.starts_with(' '));
        // Sentences below a table are the terminal's to wrap; cells are not.
        let wide: Vec<&str> = table.filter(|line| line.chars().count() > 80 && !line.contains(": ")).collect();
        assert!(wide.is_empty(), "{command:?}: {wide:#?}\n{text}");
    }
}

#[test]
fn the_demo_takes_no_place_that_is_taken_and_refuses_what_it_would_not_use() {
    let fixture = Fixture::with_site();
    let taken = fixture.folder.path().to_str().unwrap();
    let (status, said) = failure(&mut bare(&["demo", "--exit", "--data-dir", taken]));
    assert!(status == 2 && said.contains("there is a database already"), "{said}");
    for (flag, value) in [
        ("--database", "sqlite:///x.db"),
        ("--event-store", "esdb://127.0.0.1:1"),
        ("--simulated-clock", "2026-01-01T00:00:00Z"),
    ] {
        let (status, said) = failure(&mut bare(&["demo", "--exit", flag, value]));
        assert!(status == 2 && said.contains(&format!("{flag} has no effect on the demo")), "{said}");
    }
}
