//! `sluice settings`.

use serde_json::json;

use super::Fixture;

#[test]
fn settings_are_shown_and_changed() {
    let fixture = Fixture::with_site();
    let days = "SLURM_POLICY_EVALUATION_LOG_RETENTION_DAYS";
    assert_eq!(fixture.json(&["settings", "show"])[days], 90);
    assert_eq!(fixture.json(&["settings", "set", days, "30", "--reason", "less"])[days], 30);
    assert_eq!(
        fixture.json(&["settings", "set", "block_creation_scope", "offering"])["block_creation_scope"],
        "offering"
    );
    let shown = fixture.json(&["settings", "show"]);
    assert_eq!((&shown[days], &shown["block_creation_scope"]), (&json!(30), &json!("offering")));
    assert_eq!(fixture.json(&["cleanup_slurm_logs", "--dry-run"])["retention_days"], 30);
    for (name, value, says) in [
        (days, "0", "a whole number from 1 to 36500"),
        ("block_creation_scope", "everybody", "\"customer\" or \"offering\""),
        ("colour", "red", "There is no such setting"),
    ] {
        let (status, stderr) = fixture.fails(&["settings", "set", name, value]);
        assert_eq!(status, 1);
        assert!(stderr.contains(name) && stderr.contains(says), "{stderr}");
    }
}
