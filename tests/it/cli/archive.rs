//! `sluice store`: old months leave the database, and everything that is shown stays.

use assert_cmd::Command;
use serde_json::Value;
use sluice::limits::Limits;
use sluice::store::address::Database;
use sluice::store::sql::ReadDb;
use sqlx::Row;

use super::{Fixture, failure};
use crate::support::database::{connect, database, drop_read_models, on_postgres};
use crate::support::server::TestServer;

/// Runs on the database's own clock.
fn on(fixture: &Fixture, arguments: &[&str]) -> Command {
    let mut command = fixture.command(arguments);
    command.env_remove("SLUICE_SIMULATED_CLOCK");
    command
}

pub fn json(fixture: &Fixture, arguments: &[&str]) -> Value {
    let done = on(fixture, &[arguments, &["--format", "json"]].concat()).assert().success();
    serde_json::from_slice(&done.get_output().stdout).unwrap()
}

/// A database whose log goes from March to June.
pub async fn with_months() -> Fixture {
    let fixture = Fixture::new();
    let log = database_of(&fixture);
    let server = TestServer::customized(|options| (options.database, options.event_store) = (log, None)).await;
    server.policy(|_| ()).await;
    for (to, amount, date) in [
        ("2026-04-10T12:00:00Z", "850", "2026-04-09T00:00:00Z"),
        ("2026-05-11T12:00:00Z", "300", "2026-05-10T00:00:00Z"),
        ("2026-06-02T12:00:00Z", "20", "2026-06-01T00:00:00Z"),
    ] {
        server.app.advance_clock(to.parse().unwrap()).await.unwrap();
        server.report("climate-hpc1", amount, date).await;
    }
    server.stop().await;
    fixture
}

fn database_of(fixture: &Fixture) -> Database {
    database(&fixture.folder.path().join("sluice.db"))
}

/// Changes one byte of a segment.
async fn damage(fixture: &Fixture, listed: &Value, number: usize) {
    let file = listed["segments"][number]["file"].as_str().unwrap();
    if let Database::Postgres(url) = database_of(fixture) {
        let mut raw = connect(&url).await;
        let damage = "UPDATE sluice.segment_files SET content = set_byte(content, 100, get_byte(content, 100) # 1) \
                      WHERE byte_offset = 0 AND file = $1";
        sqlx::raw_sql("SET session_replication_role = replica").execute(&mut raw).await.unwrap();
        sqlx::query(damage).bind(file).execute(&mut raw).await.unwrap();
        return;
    }
    let file = std::path::Path::new(listed["folder"].as_str().unwrap()).join(file);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&file, bytes).unwrap();
}

/// How many bytes there are of a segment.
async fn length(fixture: &Fixture, listed: &Value, file: &str) -> u64 {
    let Database::Postgres(url) = database_of(fixture) else {
        let folder = std::path::Path::new(listed["folder"].as_str().unwrap());
        return std::fs::metadata(folder.join(file)).unwrap().len();
    };
    let length = sqlx::query("SELECT sum(length(content)) FROM sluice.segment_files WHERE file = $1").bind(file);
    length.fetch_one(&mut connect(&url).await).await.unwrap().get::<i64, _>(0).unsigned_abs()
}

fn shown(fixture: &Fixture) -> Vec<Value> {
    vec![
        json(fixture, &["slurm_policy_status"]),
        json(fixture, &["projections", "status"]),
        json(fixture, &["explain", "--resource", "climate-hpc1"]),
    ]
}

#[tokio::test]
async fn months_are_archived_listed_verified_and_still_read() {
    let fixture = with_months().await;
    let before = shown(&fixture);
    let dry = json(&fixture, &["store", "archive", "--before", "2026-05", "--dry-run"]);
    let months: Vec<&str> = dry["segments"].as_array().unwrap().iter().map(|s| s["month"].as_str().unwrap()).collect();
    assert_eq!(months, ["2026-03", "2026-04"]);
    assert_eq!(json(&fixture, &["store", "segments"])["segments"], Value::Array(Vec::new()), "nothing was done");

    let done = json(&fixture, &["store", "archive", "--before", "2026-05"]);
    assert_eq!(done["events"], dry["events"]);
    assert!(done["rows_removed"].as_u64().unwrap() > 0);
    let listed = json(&fixture, &["store", "segments"]);
    assert_eq!(listed["segments"], done["segments"]);
    assert_eq!(listed["folder"].is_null(), on_postgres());
    for segment in listed["segments"].as_array().unwrap() {
        assert_eq!(segment["bytes"], length(&fixture, &listed, segment["file"].as_str().unwrap()).await);
    }
    let table = on(&fixture, &["store", "segments"]).assert().success();
    let place = if on_postgres() { "2 segments in the database" } else { "2 segments in /" };
    assert!(String::from_utf8_lossy(&table.get_output().stdout).starts_with(place));
    let table = on(&fixture, &["store", "verify"]).assert().success();
    let sound = String::from_utf8_lossy(&table.get_output().stdout).into_owned();
    assert!(sound.contains("each can be read") && sound.contains("\n2 segments with "), "{sound}");
    assert!(sound.trim_end().ends_with(": sound"), "{sound}");
    assert_eq!(shown(&fixture), before);

    on(&fixture, &["projections", "rebuild"]).assert().success();
    assert_eq!(shown(&fixture), before);
    drop_read_models(&database_of(&fixture)).await;
    on(&fixture, &["cleanup_slurm_logs", "--dry-run"]).assert().success();
    // When jobs ran is no part of the log, and nobody delivers notices here; everything else is made again, of as many events.
    let made = |mut all: Vec<Value>| {
        all[0]["scheduled"].take();
        all[1] = all[1]["head"].take();
        all
    };
    assert_eq!(made(shown(&fixture)), made(before), "made again from segments and rows");

    damage(&fixture, &listed, 0).await;
    // What was found is the result of the command, and printed as such; the error says that it is bad.
    let done = on(&fixture, &["store", "verify"]).assert().failure().code(1);
    let (found, said) = (&done.get_output().stdout, &done.get_output().stderr);
    let (found, said) = (String::from_utf8_lossy(found), String::from_utf8_lossy(said));
    assert!(found.contains("is damaged") && said.contains("the log is not sound"), "{found}{said}");
}

#[tokio::test]
async fn what_cannot_be_archived_is_said() {
    let fixture = with_months().await;
    let (status, said) = failure(&mut on(&fixture, &["store", "archive", "--before", "2026-07"]));
    assert!(status == 2 && said.contains("2026-06 or an earlier month is allowed"), "{said}");
    let (status, said) = failure(&mut on(&fixture, &["store", "archive", "--before", "May"]));
    assert!(status == 2 && said.contains("--before"), "{said}");

    let read = ReadDb::open_read(&database_of(&fixture), &Limits::default()).await.unwrap();
    let stale = "INSERT INTO consumers (name, building, epoch, position_hi, position_lo, updated_at) VALUES \
                 ('retired', 0, 1, 3, 0, 0)";
    let mut tx = read.begin().await.unwrap();
    tx.execute(stale, &[]).await.unwrap();
    tx.commit().await.unwrap();
    read.close().await;
    let (status, said) = failure(&mut on(&fixture, &["store", "archive", "--before", "2026-05"]));
    assert_eq!(status, 1);
    assert!(said.contains("retired (at 3)") && said.contains("--ignore"), "{said}");
    on(&fixture, &["store", "archive", "--before", "2026-05", "--ignore", "retired"]).assert().success();
    on(&fixture, &["store", "verify"]).assert().success();
}

#[tokio::test]
async fn a_lost_segment_is_named_with_the_positions_that_went_with_it() {
    let fixture = with_months().await;
    let done = json(&fixture, &["store", "archive", "--before", "2026-05"]);
    let segment = &done["segments"][0];
    let file = segment["file"].as_str().unwrap();
    let (first, last) = (segment["first_position"].as_u64().unwrap(), segment["last_position"].as_u64().unwrap());
    if let Database::Postgres(url) = database_of(&fixture) {
        let mut raw = connect(&url).await;
        sqlx::raw_sql("SET session_replication_role = replica").execute(&mut raw).await.unwrap();
        let lose = "DELETE FROM sluice.segment_files WHERE file = $1";
        sqlx::query(lose).bind(file).execute(&mut raw).await.unwrap();
    } else {
        let listed = json(&fixture, &["store", "segments"]);
        std::fs::remove_file(std::path::Path::new(listed["folder"].as_str().unwrap()).join(file)).unwrap();
    }
    let done = on(&fixture, &["store", "verify", "--format", "json"]).assert().failure().code(1);
    let found: Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    // The newest event of a stream may still have its row, so there may be several runs.
    let runs = found["lost"].as_array().unwrap();
    for run in runs {
        let (from, to) = (run["from"].as_u64().unwrap(), run["to"].as_u64().unwrap());
        assert!(first <= from && from <= to && to <= last, "{found}");
        assert!(run["problem"].as_str().unwrap().contains(file), "{found}");
    }
    let run = runs.iter().find(|run| run["from"] != run["to"]).expect("a segment holds more than one event");
    let said = format!("the events at positions {} to {} cannot be read", run["from"], run["to"]);
    let found = on(&fixture, &["store", "verify"]).output().unwrap().stdout;
    let found = String::from_utf8(found).unwrap();
    assert!(found.contains(&said) && !found.contains("unknown"), "{found}");
    let (status, doctor) = {
        let done = on(&fixture, &["doctor", "--offline", "--deep"]).output().unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap())
    };
    assert!(status == Some(1) && doctor.contains(&said), "{doctor}");
}
