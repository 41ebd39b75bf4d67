//! `sluice hold`: placed, listed, shown where somebody looks for the reason, and released.

use serde_json::json;

use super::Fixture;

#[test]
fn a_hold_is_placed_listed_shown_and_released() {
    let fixture = Fixture::with_site();
    assert_eq!(fixture.run(&["hold", "list"]), "no manual hold is in force\n");
    let placed = fixture.json(&[
        "hold",
        "place",
        "--resource",
        "climate-hpc1",
        "--kind",
        "pause",
        "--reason",
        "incident",
        "--ticket",
        "SEC-1",
        "--expires",
        "14d",
    ]);
    let hold = placed["uuid"].as_str().unwrap();
    assert_eq!(
        (&placed["kind"], &placed["placed_at"], &placed["expires_at"], &placed["over"]),
        (&json!("pause"), &json!("2026-04-02T00:00:00Z"), &json!("2026-04-16T00:00:00Z"), &json!(false))
    );
    fixture.run(&[
        "hold",
        "place",
        "--resource",
        "astro-hpc1",
        "--kind",
        "slowdown",
        "--reason",
        "too many small files",
    ]);
    let listed = fixture.json(&["hold", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(fixture.json(&["hold", "list", "--resource", "climate-hpc1"]), json!([listed[0]]));
    assert_eq!(fixture.json(&["hold", "list", "--kind", "downscale"]), json!([listed[1]]));
    let table = fixture.run(&["hold", "list"]);
    assert!(
        table.contains(&format!("{hold}  climate-hpc1  pause      2026-04-16T00:00:00Z  SEC-1   incident")),
        "{table}"
    );
    let explained = fixture.run(&["explain", "--resource", "climate-hpc1"]);
    assert!(
        explained.contains(
            "held by hand: pause since 2026-04-02T00:00:00Z until 2026-04-16T00:00:00Z, ticket SEC-1: incident"
        ),
        "{explained}"
    );
    let status = fixture.run(&["slurm_policy_status", "--resource", "climate-hpc1"]);
    assert!(status.contains("pause until 2026-04-16T00:00:00Z: incident"), "{status}");
    let released = fixture.json(&["hold", "release", hold, "--reason", "cleared"]);
    assert_eq!((&released["released"], &released["paused"]), (&json!(true), &json!(false)));
    let (status, stderr) = fixture.fails(&["hold", "release", hold]);
    assert_eq!(status, 1);
    assert!(stderr.contains(&format!("there is no hold {hold} in force")), "{stderr}");
}

#[test]
fn a_hold_needs_a_reason_a_kind_and_an_end_that_is_still_to_come() {
    let fixture = Fixture::with_site();
    let place = ["hold", "place", "--resource", "climate-hpc1"];
    for (more, status, says) in [
        (&["--kind", "pause"][..], 2, "--reason"),
        (&["--kind", "pause", "--reason", " "], 2, "may not be blank"),
        (&["--kind", "stop", "--reason", "x"], 2, "one of pause, downscale, exemption is allowed"),
        (&["--kind", "pause", "--reason", "x", "--expires", "soon"], 2, "an instant"),
        (&["--kind", "pause", "--reason", "x", "--expires", "2026-04-01T00:00:00Z"], 1, "not after now"),
    ] {
        let (code, stderr) = fixture.fails(&[&place[..], more].concat());
        assert_eq!(code, status, "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
    }
    assert_eq!(fixture.json(&["hold", "list"]), json!([]));
}
