//! The command line, as a user meets it: the built binary, its output, its status.

mod commands;
mod holds;
mod import;
mod scheduler;
mod timeline;
mod usage;

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

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
