//! `sluice replay --verify`, as an operator and an auditor meet it.

use serde_json::Value;
use sluice::store::address::Database;

use super::Fixture;
use super::archive::with_months;
use crate::execute::soundness::spoil;
use crate::support::database::database;

/// Status and everything that was printed, on the database's own clock.
fn on(fixture: &Fixture, arguments: &[&str]) -> (i32, String) {
    let mut command = fixture.command(&[&["replay"], arguments].concat());
    let done = command.env_remove("SLUICE_SIMULATED_CLOCK").output().unwrap();
    (done.status.code().unwrap(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

fn found(fixture: &Fixture, arguments: &[&str]) -> (i32, Value) {
    let mut command = fixture.command(&[&["replay", "--verify", "--format", "json"], arguments].concat());
    let done = command.env_remove("SLUICE_SIMULATED_CLOCK").output().unwrap();
    (done.status.code().unwrap(), serde_json::from_slice(&done.stdout).unwrap())
}

fn database_of(fixture: &Fixture) -> Database {
    database(&fixture.folder.path().join("sluice.db"))
}

/// The newest evaluation, as SQL.
const NEWEST: &str = "SELECT max(position) FROM events e JOIN event_kinds k ON k.kind_id = e.kind_id \
                      WHERE k.name = 'policy_evaluated.v1'";

#[tokio::test]
async fn a_log_is_verified_in_parts_and_a_changed_decision_is_named() {
    let fixture = with_months().await;
    let (status, whole) = found(&fixture, &[]);
    assert!(status == 0 && whole["agrees"] == true && whole["complete"] == true, "{whole}");
    let (decisions, same) = (whole["decisions"].as_u64().unwrap(), whole["total"]["same"].as_u64().unwrap());
    assert!(decisions > 3 && same == decisions, "{whole}");
    let (status, said) = on(&fixture, &["--verify"]);
    assert!(status == 0 && said.contains("every decision that records its inputs comes out"), "{said}");

    let (_, of_one) = found(&fixture, &["--resource", "climate-hpc1"]);
    let of_one = of_one["decisions"].as_u64().unwrap();
    assert!(of_one > 0 && of_one < decisions, "there is another resource: {of_one} of {decisions}");
    let (_, none) = found(&fixture, &["--to", "2026-01-01T00:00:00Z"]);
    assert!(none["decisions"] == 0 && none["agrees"] == true, "{none}");

    let state = fixture.folder.path().join("state.json");
    let state = state.to_str().unwrap();
    let middle = (whole["events"].as_u64().unwrap() / 2).to_string();
    let (_, half) = found(&fixture, &["--resume", state, "--through", &middle]);
    assert_eq!(half["through"], middle.as_str());
    let (_, rest) = found(&fixture, &["--resume", state]);
    assert_eq!((&rest["total"], &rest["through"]), (&whole["total"], &whole["through"]));
    assert!(rest["run"]["decisions"].as_u64().unwrap() < decisions, "the first half was not verified again: {rest}");
    let (status, said) = on(&fixture, &["--verify", "--resume", state, "--to", "2027-01-01T00:00:00Z"]);
    assert!(status == 2 && said.contains("other decisions"), "{said}");

    let change = format!(
        "UPDATE events SET payload = replace(payload, '\"percentage\":\"', '\"percentage\":\"7') WHERE position = ({NEWEST})"
    );
    spoil(&database_of(&fixture), &change, &change).await;
    let (status, changed) = found(&fixture, &[]);
    assert!(status == 1 && changed["agrees"] == false && changed["total"]["different"] == 1, "{changed}");
    let first = &changed["differences"][0];
    assert!(first["field"] == "outcome.percentage" && first["type"] == "policy_evaluated.v1", "{first}");
    let (status, said) = on(&fixture, &["--verify"]);
    let named = format!("position {}", first["position"].as_str().unwrap());
    assert!(status == 1 && said.contains(&named) && said.contains("comes out as"), "{said}");

    let disposed = format!("UPDATE events SET payload = NULL, salt = NULL WHERE position = ({NEWEST})");
    spoil(&database_of(&fixture), &disposed, &disposed).await;
    let (status, disposed) = found(&fixture, &[]);
    assert!(status == 0 && disposed["total"]["disposed"] == 1, "{disposed}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let fixture = Fixture::with_site();
    for (arguments, expected) in [
        (&[][..], "--verify"),
        (&["--verify", "--after", "x"], "a position is a number"),
        (&["--verify", "--after", "999999"], "--after 999999 lies behind the last position"),
        (&["--verify", "--from", "2026-03"], "a day such as 2026-03-01, or an instant such as 2026-03-01T00:00:00Z"),
        (&["--verify", "--from", "2026-03-02T00:00:00Z", "--to", "2026-03-01T00:00:00Z"], "must lie after --from"),
        (&["--verify", "--workers", "0"], "--workers"),
        (&["--verify", "--policy", "no-such"], "there is no policy \"no-such\""),
    ] {
        let (status, said) = on(&fixture, arguments);
        assert!((1..=2).contains(&status) && said.contains(expected), "{arguments:?}: {status} {said}");
    }
    let other = fixture.file("other.json", "{}");
    let (status, said) = on(&fixture, &["--verify", "--resume", &other]);
    assert!(status == 2 && said.contains("none that `sluice replay` wrote"), "{said}");
}
