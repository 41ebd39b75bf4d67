//! `sluice doctor`: every trouble is found, named with a remedy, and gives status 1; and nothing is changed by looking.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection};

use super::{Fixture, KEY, Serving};

struct Visit {
    status: i32,
    report: Value,
    text: String,
}

/// Runs the doctor twice, for programs and for people.
fn visit(fixture: &Fixture, arguments: &[&str], variables: &[(&str, &str)]) -> Visit {
    let run = |format: &[&str]| {
        let mut command = fixture.command(&[&["doctor"], arguments, format].concat());
        for (name, value) in variables {
            command.env(name, value);
        }
        command.output().unwrap()
    };
    let (json, text) = (run(&["--format", "json"]), run(&[]));
    assert_eq!(json.status, text.status);
    let report = serde_json::from_slice(&json.stdout).unwrap();
    Visit { status: json.status.code().unwrap(), report, text: String::from_utf8(text.stdout).unwrap() }
}

impl Visit {
    /// The one finding of an area and state whose text contains this; it has a remedy unless all is well.
    #[track_caller]
    fn found(&self, area: &str, state: &str, what: &str) {
        let all = self.report["findings"].as_array().unwrap();
        let hit =
            all.iter().find(|f| f["area"] == area && f["state"] == state && f["what"].as_str().unwrap().contains(what));
        let hit = hit.unwrap_or_else(|| panic!("no {state} of {area} with {what:?} in {:#}", self.report));
        assert_eq!(hit["fix"].is_string(), state != "ok", "{hit}");
        assert_eq!(self.report["healthy"], self.status == 0);
        assert_eq!(self.status, i32::from(all.iter().any(|f| f["state"] == "trouble")));
        assert!(self.text.contains(what), "{what:?} is not in the table:\n{}", self.text);
    }
}

pub(super) async fn sql(file: &std::path::Path, text: String) {
    let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    sqlx::query(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn log(fixture: &Fixture) -> PathBuf {
    fixture.folder.path().join("sluice.db")
}

#[test]
fn a_place_without_a_database_is_seen_and_left_alone() {
    let fixture = Fixture::new();
    visit(&fixture, &[], &[]).found("database", "warning", "there is none yet at");
    assert_eq!(std::fs::read_dir(fixture.folder.path()).unwrap().count(), 0, "looking made something");
}

#[test]
fn a_database_at_rest_is_in_order_and_new_files_are_private() {
    let fixture = Fixture::with_site();
    fixture
        .command(&["token", "create", "--user", "root", "--role", "staff", "--key-env", "KEY"])
        .env("KEY", KEY)
        .assert()
        .success();
    let seen = visit(&fixture, &[], &[]);
    assert_eq!(seen.status, 0);
    seen.found("database", "ok", "sluice.db, every page checked");
    seen.found("database", "ok", "sluice-read.db, every page checked");
    seen.found("disk", "ok", "free in");
    seen.found("clock", "warning", "simulated");
    seen.found("server", "warning", "no server runs");
    seen.found("schedule", "ok", "no job failed or is late");
    seen.found("outbox", "ok", "none given up");
    seen.found("notices", "ok", "none given up");
    seen.found("mail", "warning", "nobody may be reading");
    seen.found("tokens", "ok", "1 in force");
    assert!(!seen.text.contains("others may read"), "a new database is not private:\n{}", seen.text);
    std::fs::set_permissions(log(&fixture), PermissionsExt::from_mode(0o644)).unwrap();
    visit(&fixture, &[], &[]).found("database", "warning", "mode 644");
    visit(&fixture, &["--skip-integrity", "--offline"], &[]).found("database", "ok", "of this version");
}

#[tokio::test]
async fn damage_is_found_in_either_file() {
    let fixture = Fixture::with_site();
    let read = fixture.folder.path().join("sluice-read.db");
    sql(&read, "PRAGMA wal_checkpoint(TRUNCATE)".to_owned()).await;
    sql(&log(&fixture), "PRAGMA wal_checkpoint(TRUNCATE)".to_owned()).await;
    let whole = std::fs::read(log(&fixture)).unwrap();
    let mut broken = whole.clone();
    for page in broken.chunks_mut(8192).skip(2) {
        page[..64].fill(0x5A);
    }
    std::fs::write(log(&fixture), &broken).unwrap();
    let seen = visit(&fixture, &["--offline"], &[]);
    seen.found("database", "trouble", "is damaged");
    assert!(seen.text.contains("restore the newest backup"), "{}", seen.text);
    std::fs::write(log(&fixture), &whole).unwrap();
    std::fs::write(&read, "this is no database").unwrap();
    let seen = visit(&fixture, &["--offline"], &[]);
    seen.found("database", "trouble", "sluice-read.db cannot be read");
    assert!(seen.text.contains("makes the read models again from the log"), "{}", seen.text);
}

#[tokio::test]
async fn other_versions_are_told_apart_and_nothing_is_upgraded() {
    let fixture = Fixture::with_site();
    let newest = "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)";
    sql(&log(&fixture), newest.to_owned()).await;
    for _ in 0..2 {
        visit(&fixture, &["--offline"], &[]).found("database", "warning", "of an older version (1 migration behind)");
    }
    let foreign = "INSERT INTO _sqlx_migrations SELECT 999999, 'later', installed_on, success, checksum, execution_time \
                   FROM _sqlx_migrations LIMIT 1";
    sql(&log(&fixture), foreign.to_owned()).await;
    visit(&fixture, &["--offline"], &[]).found("database", "trouble", "made by a newer version (1 migration ahead)");
}

#[tokio::test]
async fn a_clock_that_went_back_is_found() {
    let fixture = Fixture::new();
    let at = [("SLUICE_SIMULATED_CLOCK", "2126-01-01T00:00:00Z")];
    fixture.command(&["apply", "-f", "src/demo/site.yaml"]).envs(at).assert().success();
    sql(&log(&fixture), "UPDATE meta SET value = 'real' WHERE key = 'clock'".to_owned()).await;
    let mut command = fixture.command(&["doctor", "--offline", "--format", "json"]);
    let output = command.env_remove("SLUICE_SIMULATED_CLOCK").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("it went back, or was ahead") && report.contains("timedatectl"), "{report}");
}

#[test]
fn a_configuration_that_cannot_work_is_named() {
    let fixture = Fixture::with_site();
    let endpoints = "[{ name = \"portal\", url = \"http://127.0.0.1:1/?key=hidden\", secret_env = \"SLUICE_HOOK\" }]";
    let config = fixture.file("sluice.toml", &format!("[webhooks]\nendpoints = {endpoints}\n"));
    let seen = visit(&fixture, &[], &[("SLUICE_CONFIG", &config)]);
    seen.found("configuration", "trouble", "the variable SLUICE_HOOK is not set");
    seen.found("webhooks", "trouble", "portal at 127.0.0.1:1");
    assert!(!seen.text.contains("hidden"), "{}", seen.text);

    let templates = fixture.folder.path().join("templates");
    std::fs::create_dir(&templates).unwrap();
    std::fs::write(templates.join("paused.txt"), "{{ nonsense.name }}").unwrap();
    let seen = visit(&fixture, &["--offline"], &[("SLUICE_NOTICES__TEMPLATES_DIR", templates.to_str().unwrap())]);
    seen.found("notices", "trouble", "paused.txt");
    visit(&fixture, &[], &[("SLUICE_TIME_ZONE", "Mars")]).found("configuration", "trouble", "Mars");
    visit(&fixture, &["--offline"], &[("SLUICE_LISTEN", "0.0.0.0:80")]).found(
        "configuration",
        "warning",
        "without TLS",
    );
}

/// A mail server for one guest; it answers with what it was told.
fn mail_server() -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        stream.write_all(b"220 mail.test ESMTP\r\n").unwrap();
        for line in BufReader::new(stream.try_clone().unwrap()).lines() {
            let line = line.unwrap();
            let answer: &[u8] = match line.split(' ').next().unwrap() {
                "EHLO" => b"250-mail.test\r\n250 AUTH PLAIN\r\n",
                "AUTH" => b"235 2.7.0 welcome\r\n",
                "QUIT" => b"221 bye\r\n",
                _ => b"250 ok\r\n",
            };
            // The other side may hang up once it has said QUIT.
            drop(stream.write_all(answer));
            heard.push(line);
        }
        heard
    });
    (port, heard)
}

#[test]
fn the_mail_server_is_greeted_and_gets_no_mail() {
    let fixture = Fixture::with_site();
    let (port, heard) = mail_server();
    let port = port.to_string();
    let variables = [
        ("SLUICE_MAIL__TRANSPORT", "smtp"),
        ("SLUICE_MAIL__HOST", "127.0.0.1"),
        ("SLUICE_MAIL__PORT", port.as_str()),
        ("SLUICE_MAIL__TLS", "none"),
        ("SLUICE_MAIL__USERNAME", "sluice"),
        ("SLUICE_MAIL__PASSWORD_ENV", "MAIL_PASSWORD"),
        ("MAIL_PASSWORD", "hunter2"),
    ];
    let output = fixture.command(&["doctor"]).envs(variables).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("answers, and lets Sluice in; nothing was sent") && !text.contains("hunter2"), "{text}");
    let heard = heard.join().unwrap();
    assert!(heard.iter().any(|line| line.starts_with("AUTH")), "{heard:?}");
    assert!(!heard.iter().any(|line| line.starts_with("MAIL") || line.starts_with("DATA")), "{heard:?}");
    // The port is closed now.
    visit(&fixture, &[], &variables).found("mail", "trouble", "cannot be used");
}

#[tokio::test]
async fn a_running_server_is_asked_and_one_that_stands_still_is_trouble() {
    let fixture = Fixture::with_site();
    fixture
        .command(&["token", "create", "--user", "root", "--role", "staff", "--key-env", "KEY"])
        .env("KEY", KEY)
        .assert()
        .success();
    let server = Serving::start(&fixture, &[]);
    let listen = server.url.trim_start_matches("http://").to_owned();
    let variables = [("SLUICE_LISTEN", listen.as_str())];
    let seen = visit(&fixture, &[], &variables);
    assert_eq!(seen.status, 0);
    seen.found("server", "ok", "runs and is ready at");
    seen.found("consumers", "ok", "at the head of the log");
    // Wherever the configuration of this shell would have it: the server says where it listens.
    for elsewhere in [&[][..], &[("SLUICE_LISTEN", "127.0.0.1:1")]] {
        visit(&fixture, &[], elsewhere).found("server", "ok", &format!("runs and is ready at {listen}"));
    }
    seen.found("agents", "warning", "no agent has been seen of hpc1: nobody carries out what is decided");
    sql(&fixture.folder.path().join("sluice-read.db"), "DROP TABLE component_usage".to_owned()).await;
    let resource =
        fixture.json(&["explain", "--resource", "climate-hpc1"])["resource"]["resource"].as_str().unwrap().to_owned();
    let usage = serde_json::json!({"resource": resource, "usages": [{"type": "node_hours", "amount": 7}], "date": "2026-04-01"});
    let report = reqwest::Client::new().post(format!("{}/api/marketplace-component-usages/set_usage/", server.url));
    assert_eq!(report.header("authorization", format!("Token {KEY}")).json(&usage).send().await.unwrap().status(), 201);
    server.logs("a consumer failed").await;
    let seen = visit(&fixture, &[], &variables);
    seen.found("server", "trouble", "usage cannot go on");
    seen.found("consumers", "trouble", "read models stand still: usage by");
    server.stop();
}

#[test]
fn tokens_that_end_soon_or_are_missing_are_told() {
    let fixture = Fixture::with_site();
    visit(&fixture, &["--offline"], &[]).found("tokens", "warning", "no token of staff is in force");
    let (user, key) = (["token", "create", "--user", "root", "--role", "staff", "--expires", "7d"], "--key-env");
    fixture.command(&[&user[..], &[key, "KEY"]].concat()).env("KEY", KEY).assert().success();
    visit(&fixture, &["--offline"], &[]).found("tokens", "warning", "of root (staff) ends at 2026-04-09");
}
