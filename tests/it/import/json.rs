//! `sacct --json`: the same result as the table, in every dialect that SLURM has had.

use chrono_tz::Tz;
use serde_json::{Value, json};
use sluice::import::{ImportOptions, ImportTotals};

use super::{by_month, import, months, node_seconds, rules, table};

fn options() -> ImportOptions {
    ImportOptions::new(
        rules(&["node=node,seconds", "cpu=cpu,seconds", "mem=mem,seconds", "gpu=gres/gpu,seconds"]),
        Tz::UTC,
    )
}

fn read(text: &str) -> ImportTotals {
    import(&[text], options()).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(document: &Value) -> String {
    import(&[&document.to_string()], options()).expect_err("refused").to_string()
}

/// 2026-03-01T00:00:00Z.
const MARCH: i64 = 1_772_323_200;

/// A job as SLURM 22.05 writes it.
fn plain(id: i64, seconds: i64) -> Value {
    json!({
        "account": "a", "allocation_nodes": 1, "cluster": "alpha", "job_id": id, "name": "x|y",
        "array": {"job_id": 0, "limits": {"max": {"running": {"tasks": 0}}}, "task": null, "task_id": null},
        "association": {"account": "a", "cluster": "alpha", "partition": null, "user": "u"},
        "het": {"job_id": 0, "job_offset": null},
        "state": {"current": "COMPLETED", "reason": "None"},
        "steps": [{"time": {"elapsed": seconds}, "tres": {"allocated": [{"type": "cpu", "count": 64}]}}],
        "time": {"elapsed": seconds, "start": MARCH, "end": MARCH + seconds, "submission": MARCH, "suspended": 0},
        "tres": {"allocated": [
            {"type": "cpu", "name": null, "id": 1, "count": 64},
            {"type": "mem", "name": null, "id": 2, "count": 1024},
            {"type": "energy", "name": null, "id": 3, "count": null},
            {"type": "node", "name": null, "id": 4, "count": 1},
            {"type": "gres", "name": "gpu", "id": 1001, "count": 4}
        ]}
    })
}

/// A number as SLURM writes it from 23.02 on.
fn wrapped(number: i64) -> Value {
    json!({"set": true, "infinite": false, "number": number})
}

fn unset() -> Value {
    json!({"set": false, "infinite": false, "number": 0})
}

/// The same job as newer versions write it.
fn newer(id: i64, seconds: i64) -> Value {
    let mut job = plain(id, seconds);
    job["array"]["task_id"] = unset();
    job["array"]["task"] = json!("");
    job["het"]["job_offset"] = unset();
    job["state"]["current"] = json!(["COMPLETED"]);
    job["time"] = json!({"elapsed": seconds, "start": MARCH, "end": MARCH + seconds, "limit": wrapped(60)});
    for entry in job["tres"]["allocated"].as_array_mut().expect("a list") {
        if entry["name"].is_null() {
            entry["name"] = json!("");
        }
    }
    job
}

fn document(jobs: &[Value]) -> Value {
    json!({"meta": {"plugin": {"type": "openapi/dbv0.0.38"}}, "jobs": jobs, "warnings": [], "errors": []})
}

#[test]
fn both_forms_give_the_same_result() {
    let header = "JobID|Cluster|Account|State|Start|End|ElapsedRaw|AllocTRES\n";
    let row = "7|alpha|a|COMPLETED|2026-03-01T00:00:00|2026-03-01T00:01:00|60|cpu=64,gres/gpu=4,mem=1024M,node=1\n";
    let text = read(&format!("{header}{row}"));
    for job in [plain(7, 60), newer(7, 60)] {
        let totals = read(&document(&[job]).to_string());
        assert_eq!(totals.per_account, text.per_account);
        assert_eq!((totals.jobs, totals.months.clone()), (text.jobs, text.months.clone()));
    }
    let wrapped_times = {
        let mut job = newer(7, 60);
        job["time"] = json!({"elapsed": wrapped(60), "start": wrapped(MARCH), "end": wrapped(MARCH + 60)});
        job["tres"]["allocated"][0]["count"] = wrapped(64);
        job["tres"]["allocated"][3]["count"] = json!(1.0);
        job
    };
    let totals = read(&serde_json::to_string_pretty(&document(&[wrapped_times])).expect("a document"));
    assert_eq!(totals.per_account, text.per_account);
}

#[test]
fn ids_are_those_of_the_table() {
    let with = |id: i64, change: &dyn Fn(&mut Value)| {
        let mut job = plain(id, 60);
        change(&mut job);
        job
    };
    let jobs = [
        with(9, &|job| job["array"] = json!({"job_id": 2, "task_id": 0, "task": null})),
        with(2, &|job| job["array"] = json!({"job_id": 2, "task_id": wrapped(2), "task": ""})),
        with(4, &|job| job["het"] = json!({"job_id": 4, "job_offset": 0})),
        with(5, &|job| job["het"] = json!({"job_id": 4, "job_offset": wrapped(1)})),
        with(3, &|job| {
            job["array"] = json!({"job_id": 3, "task_id": unset(), "task": "1-89:2"});
            job["time"] = json!({"elapsed": 0, "start": 0, "end": 0});
            job["tres"]["allocated"] = json!([]);
        }),
    ];
    // The table beside the document: every job is the same job, so that the same time counts once.
    let rows: Vec<String> = ["2_0", "2_2", "4+0", "4+1"]
        .map(|id| {
            format!("{id}|a|COMPLETED|2026-03-01T00:00:00|2026-03-01T00:01:00|60|cpu=64,gres/gpu=4,mem=1024M,node=1")
        })
        .to_vec();
    let mut rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    rows.push("3_[1-89:2]|a|PENDING|Unknown|Unknown|0|");
    let json = document(&jobs).to_string().replace("\"alpha\"", "\"\"");
    let totals = import(&[&table(&rows), &json], options()).expect("one form beside the other");
    assert_eq!((totals.jobs, totals.duplicates, totals.never_ran), (5, 4, 2));
    assert_eq!(totals.per_account["a"].values().next().expect("March")["node"], rust_decimal::Decimal::from(240));
}

#[test]
fn jobs_that_wait_run_or_came_again_are_read() {
    let mut running = plain(1, 0);
    running["state"]["current"] = json!(["RUNNING"]);
    running["time"] = json!({"elapsed": 90, "start": MARCH, "end": 0});
    let mut requeued = plain(2, 30);
    requeued["state"]["current"] = json!("REQUEUED");
    let mut again = plain(2, 30);
    again["time"] = json!({"elapsed": 30, "start": MARCH + 60, "end": MARCH + 90});
    let mut owned_by_association = plain(3, 10);
    owned_by_association.as_object_mut().expect("an object").remove("account");
    let totals =
        import(&[&document(&[running, requeued, again, owned_by_association]).to_string()], node_seconds(Tz::UTC));
    let totals = totals.expect("well-formed");
    assert_eq!(by_month(&totals, "a"), months([("2026-03", 160)]));
    let open: Vec<_> = totals.open_jobs.iter().map(|job| (job.cluster.as_str(), job.job.as_str())).collect();
    assert_eq!(open, [("alpha", "1")]);
}

#[test]
fn several_documents_and_an_empty_list_are_read() {
    let (one, two) = (document(&[plain(1, 60)]).to_string(), document(&[plain(2, 60)]).to_string());
    assert_eq!(read(&format!("\u{feff}\n{one}\n{two}\n")).jobs, 2);
    let none = read(&document(&[]).to_string());
    assert_eq!((none.jobs, none.months.len()), (0, 0));
}

#[test]
fn other_documents_are_refused_with_what_they_are() {
    assert!(refused(&json!({"meta": {}})).contains("without the list \"jobs\""));
    let failed =
        json!({"jobs": [], "errors": [{"description": "Unable to connect to slurmdbd", "error_number": 7000}]});
    assert!(refused(&failed).contains("Unable to connect to slurmdbd"), "{}", refused(&failed));
    let controller =
        json!({"jobs": [{"job_id": 5, "job_state": ["RUNNING"], "account": "a", "start_time": wrapped(MARCH)}]});
    assert!(refused(&controller).contains("/slurmdb/"), "{}", refused(&controller));
    let mut bad = plain(8, 60);
    bad["time"]["elapsed"] = json!(-1);
    let message = refused(&document(&[plain(7, 60), bad]));
    assert!(message.starts_with("file1, job 2, time.elapsed: \"-1\": not a whole number"), "{message}");
    let text = document(&[plain(1, 60)]).to_string();
    let cut = import(&[&text[..text.len() / 2]], options()).expect_err("cut off").to_string();
    assert!(cut.contains("cut off"), "{cut}");
    let list = import(&["[]"], options()).expect_err("a list").to_string();
    assert!(list.contains("slurmrestd"), "{list}");
}

#[test]
fn malformed_jobs_can_be_skipped() {
    let mut bad = plain(8, 60);
    bad["job_id"] = json!("x");
    let options = ImportOptions { skip_bad_lines: true, ..node_seconds(Tz::UTC) };
    let totals = import(&[&document(&[bad, plain(7, 60)]).to_string()], options).expect("one is skipped");
    assert_eq!((totals.bad_lines, by_month(&totals, "a")), (1, months([("2026-03", 60)])));
}
