//! `sluice timeline` and `sluice reset_raw_usage`.

use serde_json::json;

use super::Fixture;

#[test]
fn a_reset_by_hand_stands_in_the_timeline() {
    let fixture = Fixture::with_site();
    let reset = fixture.json(&["reset_raw_usage", "--resource", "climate-hpc1", "--reason", "counter was wrong"]);
    let commands = reset["commands"].as_array().unwrap();
    assert_eq!(commands.last().unwrap(), "sacctmgr --immediate modify account hpc_climate set RawUsage=0");
    let timeline = fixture.json(&["timeline", "--resource", "climate-hpc1"]);
    let kinds: Vec<&str> = timeline.as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reset", "reset", "resource"], "by hand, at take-over, registered");
    assert_eq!((&timeline[0]["reason"], &timeline[0]["actor"]), (&json!("counter was wrong"), &json!("cli")));
    let table = fixture.run(&["timeline", "--resource", "climate-hpc1", "--kind", "reset", "--limit", "1"]);
    assert!(table.contains("set RawUsage=0 (counter was wrong)") && table.contains("and 1 older"), "{table}");
    let (status, stderr) = fixture.fails(&["timeline", "--resource", "climate-hpc1", "--kind", "weather"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("one of resource, limits, hold"), "{stderr}");
    let (status, stderr) = fixture.fails(&["reset_raw_usage", "--resource", "nobody"]);
    assert_eq!(status, 1);
    assert!(stderr.contains("there is no resource"), "{stderr}");
}
