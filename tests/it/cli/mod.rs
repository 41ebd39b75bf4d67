//! The command line, as a user meets it: the built binary, its output, its status.

mod agent;
mod agent_config;
mod archive;
mod audit;
mod audit_packs;
mod backup;
mod commands;
mod demo;
mod disk;
mod doctor;
mod event_store;
mod examples;
mod holds;
mod import;
mod import_sacct;
mod investigation;
mod lists;
mod logs;
mod people;
mod place;
mod replay;
mod report;
mod scheduler;
mod settings;
mod site;
mod soundness;
mod terminal;
mod timeline;
mod usage;
mod what_if;
mod why;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use assert_cmd::Command;
use serde_json::Value;
use sluice::store::address::Database;
use tempfile::TempDir;

use crate::support::database::database;

/// A database of its own, on a clock that stands still.
pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
}

pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef01234567";

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    /// With the demo's site.
    pub(crate) fn with_site() -> Self {
        let fixture = Self::new();
        fixture.run(&["apply", "-f", "src/demo/site.yaml"]);
        fixture
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare(arguments);
        command.env("SLUICE_DATA_DIR", self.folder.path()).env("SLUICE_SIMULATED_CLOCK", "2026-04-02T00:00:00Z");
        if let Database::Postgres(url) = database(&self.folder.path().join("sluice.db")) {
            command.env("SLUICE_DATABASE", url);
        }
        command
    }

    /// What a command prints that succeeds.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let done = self.command(arguments).assert().success();
        String::from_utf8(done.get_output().stdout.clone()).unwrap()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["--format", "json"]].concat())).unwrap()
    }

    /// Status and standard error of a command that fails.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        failure(&mut self.command(arguments))
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// A server process on a fixture's database.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) url: String,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Serving {
    /// Starts it with these variables, and waits until it accepts requests.
    pub(crate) fn start(fixture: &Fixture, variables: &[(&str, &str)]) -> Self {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("sluice"));
        command.env_clear();
        command.env("SLUICE_DATA_DIR", fixture.folder.path()).env("SLUICE_SIMULATED_CLOCK", "2026-04-02T00:00:00Z");
        command.envs(variables.iter().copied()).args(["serve", "--listen", "127.0.0.1:0"]);
        Self::of(command)
    }

    /// Starts what serves, and waits until it accepts requests.
    pub(crate) fn of(command: std::process::Command) -> Self {
        Self::after(command, "", || ())
    }

    /// The same with something that is done once this text is logged.
    pub(crate) fn after(mut command: std::process::Command, text: &str, done: impl FnOnce()) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (log, stderr) = (Arc::<Mutex<String>>::default(), BufReader::new(child.stderr.take().unwrap()));
        let written = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines() {
                written.lock().unwrap().push_str(&(line.unwrap() + "\n"));
            }
        });
        while !log.lock().unwrap().contains(text) {
            assert!(child.try_wait().unwrap().is_none(), "no {text:?} in {}", log.lock().unwrap());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        done();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        let mut serving = Self { child, url, log, reader: Some(reader) };
        assert!(serving.url.starts_with("http://"), "{line:?}: {}", serving.end());
        serving
    }

    fn end(&mut self) -> String {
        // SIGTERM by way of the shell: the library may not be unsafe, and neither are its tests.
        drop(std::process::Command::new("kill").arg(self.child.id().to_string()).status());
        self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has logged this.
    pub(crate) async fn logs(&self, text: &str) {
        let until = tokio::time::Instant::now() + std::time::Duration::from_mins(1);
        while !self.log.lock().unwrap().contains(text) {
            assert!(tokio::time::Instant::now() < until, "no {text:?} in {}", self.log.lock().unwrap());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Asks it to end, waits until it has, and gives what it logged.
    pub(crate) fn stop(mut self) -> String {
        self.end()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.reader.is_some() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// The binary in the project's folder, with an empty environment.
pub(crate) fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("sluice"));
    command.env_clear().current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).args(arguments);
    command
}

pub(crate) fn failure(command: &mut Command) -> (i32, String) {
    let done = command.assert().failure();
    let output = done.get_output();
    assert!(output.stdout.is_empty(), "an error on standard output: {}", String::from_utf8_lossy(&output.stdout));
    (output.status.code().unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}
