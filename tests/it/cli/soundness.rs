//! A damaged event, as an operator meets it: named by `store verify`, `doctor` and `backup`, and set aside by a recorded act.

use sluice::store::address::Database;

use super::Fixture;
use super::archive::{json as shown_by, with_months};
use crate::execute::soundness::spoil;
use crate::support::database::database;

fn database_of(fixture: &Fixture) -> Database {
    database(&fixture.folder.path().join("sluice.db"))
}

fn on(fixture: &Fixture, arguments: &[&str]) -> (i32, String) {
    let mut command = fixture.command(arguments);
    let done = command.env_remove("SLUICE_SIMULATED_CLOCK").output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[tokio::test]
async fn a_damaged_event_is_named_everywhere_and_set_aside() {
    let fixture = with_months().await;
    let sound = shown_by(&fixture, &["store", "verify"]);
    assert!(sound["sound"] == true && sound["events"].as_u64().unwrap() > 50, "{sound}");
    let newest = "SELECT max(position) FROM events e JOIN event_kinds k ON k.kind_id = e.kind_id WHERE k.name = 'usage_reported.v1'";
    let cut = |head: &str| format!("UPDATE events SET payload = {head} WHERE position = ({newest})");
    let (sqlite, postgres) = (cut("substr(payload, 1, length(payload) - 3)"), cut("left(payload, -3)"));
    spoil(&database_of(&fixture), &sqlite, &postgres).await;

    let mut commands =
        vec![vec!["store", "verify"], vec!["doctor", "--offline"], vec!["doctor", "--offline", "--deep"]];
    let folder = fixture.folder.path().join("backup");
    if matches!(database_of(&fixture), Database::Sqlite(_)) {
        commands.push(vec!["backup", folder.to_str().unwrap()]);
    }
    for command in &commands {
        let (status, said) = on(&fixture, command);
        assert!(status == 1 && said.contains("usage_reported.v1") && said.contains("position "), "{command:?}: {said}");
    }
    let (_, said) = on(&fixture, &["store", "verify"]);
    let position = said.split_once("position ").unwrap().1.split_once(')').unwrap().0.to_owned();

    let (status, said) = on(&fixture, &["store", "quarantine", "--position", "1", "--reason", "no reason"]);
    assert!(status == 2 && said.contains("can be read"), "{said}");
    let (status, said) = on(&fixture, &["store", "quarantine", "--position", "999999", "--reason", "no reason"]);
    assert!(status == 2 && said.contains("no event stands"), "{said}");
    let (status, said) = on(&fixture, &["store", "quarantine", "--position", &position, "--reason", " "]);
    assert!(status == 2 && said.contains("--reason"), "{said}");
    let set_aside = ["store", "quarantine", "--position", &position, "--reason", "a disk lost some bytes"];
    let (status, said) = on(&fixture, &set_aside);
    assert!(status == 0 && said.contains("set aside"), "{said}");
    let (status, said) = on(&fixture, &set_aside);
    assert!(status == 2 && said.contains("already"), "{said}");

    let after = shown_by(&fixture, &["store", "verify"]);
    assert!(after["sound"] == true && after["set_aside"] == 1, "{after}");
    for command in [&["doctor", "--offline"][..], &["projections", "rebuild"]] {
        let (status, said) = on(&fixture, command);
        assert_eq!(status, 0, "{command:?}: {said}");
    }
}
