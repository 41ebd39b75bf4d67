//! `sluice scheduler`: runs, jobs, re-evaluations.

use serde_json::json;

use super::Fixture;

#[test]
fn runs_jobs_and_work_are_shown() {
    let fixture = Fixture::with_site();
    assert_eq!(fixture.run(&["scheduler", "runs"]), "no job has run\n");
    assert_eq!(fixture.run(&["scheduler", "work"]), "no re-evaluation is under way\n");
    assert_eq!(fixture.json(&["scheduler", "work"]), json!([]));
    let jobs = fixture.json(&["scheduler", "jobs"]);
    let night = jobs.as_array().unwrap().iter().find(|job| job["job"] == "evaluate_all").unwrap();
    assert_eq!(
        (&night["schedule"], &night["next_due"], &night["last_run"]),
        (&json!("0 2 * * *"), &json!("2026-04-02T02:00:00Z"), &json!(null))
    );
    let (status, stderr) = fixture.fails(&["scheduler", "runs", "--job", "nap"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("one of period_boundary, hold_expiry, settings_sync, evaluate_all, retention"), "{stderr}");
}
