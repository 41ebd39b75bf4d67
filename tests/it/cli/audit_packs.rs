//! `sluice audit export`, `audit verify --pack`, `audit import`, and the verifier that knows nothing of Sluice.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Fixture;

/// A log with three months that is signed, and its key.
struct Signed {
    fixture: Fixture,
}

impl Signed {
    async fn new() -> Self {
        let signed = Self { fixture: super::archive::with_months().await };
        signed.ok(&["keygen", "--name", "sluice.test/log", "--out", &signed.path("notary.key")]);
        signed.ok(&["checkpoint"]);
        signed.ok(&["checkpoint"]);
        signed
    }

    fn path(&self, name: &str) -> String {
        self.fixture.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn on(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = self.fixture.command(&[&["audit"], arguments].concat());
        command.env_remove("SLUICE_SIMULATED_CLOCK");
        if Path::new(&self.path("notary.key")).exists() {
            command.env("SLUICE_NOTARY__KEY_FILE", self.path("notary.key"));
        }
        let done = command.output().unwrap();
        (done.status.code().unwrap(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let (status, said) = self.on(arguments);
        assert_eq!(status, 0, "{arguments:?}: {said}");
        said
    }

    /// The id of the policy, from the names of streams in a pack.
    fn policy(&self) -> String {
        let events = std::fs::read_to_string(self.export("all", &[]).join("events.ndjson")).unwrap();
        let (_, after) = events.split_once("\"stream\":\"policy-").unwrap();
        after.split('"').next().unwrap().to_owned()
    }

    fn export(&self, name: &str, more: &[&str]) -> PathBuf {
        self.ok(&[&["export", "--out", &self.path(name)], more].concat());
        PathBuf::from(self.path(name))
    }

    /// What Sluice and the stand-alone verifier say of a pack: each kind that they found.
    fn kinds(&self, pack: &Path, shown: Option<&str>) -> [Vec<String>; 2] {
        let pack = pack.to_str().unwrap();
        let shown: Vec<&str> = shown.into_iter().flat_map(|file| ["--checkpoints", file]).collect();
        let key = self.path("notary.key.pub");
        let (_, said) = self.on(&[&["verify", "--format", "json", "--pack", pack, "--key", &key][..], &shown].concat());
        // What stands on standard error comes after the document.
        let document = serde_json::Deserializer::from_str(&said).into_iter::<Value>().next();
        let document = document.and_then(Result::ok).unwrap_or_else(|| panic!("{said}"));
        let kind = |finding: &Value| finding["kind"].as_str().unwrap().to_owned();
        let ours: Vec<String> = document["findings"].as_array().unwrap().iter().map(kind).collect();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify_pack.py");
        let python =
            std::process::Command::new(interpreter()).arg(script).args(["--key", &key, pack]).args(&shown).output();
        let python = python.unwrap();
        let said = String::from_utf8([python.stdout, python.stderr].concat()).unwrap();
        assert!(python.status.code() == Some(i32::from(!ours.is_empty())), "{ours:?}: {said}");
        let first = |line: &str| line.split([':', ' ']).next().unwrap().to_owned();
        let theirs = if ours.is_empty() { Vec::new() } else { said.lines().map(first).collect() };
        [ours, theirs]
    }
}

/// Python with the package that the verifier needs.
fn interpreter() -> String {
    std::env::var("SLUICE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// Changes the lines of a file of a pack.
fn edit(pack: &Path, file: &str, change: impl FnOnce(&mut Vec<String>)) {
    let path = pack.join(file);
    let mut lines: Vec<String> = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    change(&mut lines);
    std::fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<Vec<_>>().concat()).unwrap();
}

#[tokio::test]
#[ignore = "needs Python with the package cryptography"]
async fn a_fresh_export_is_verified_without_sluice_and_each_change_is_named_by_both() {
    let signed = Signed::new().await;
    let none: [Vec<String>; 2] = Default::default();
    let policy = signed.policy();
    for (name, more) in [
        ("whole", &[][..]),
        ("month", &["--period", "2026-04"]),
        ("policy", &["--policy", &policy]),
        ("allocation", &["--allocation", "climate-hpc1"]),
    ] {
        let pack = signed.export(name, more);
        assert_eq!(signed.kinds(&pack, None), none, "{name}");
    }
    for (whole, name) in [(true, "whole"), (false, "month")] {
        let more: &[&str] = if whole { &[] } else { &["--period", "2026-04"] };
        let changed = |what: &str, change: &dyn Fn(&mut Vec<String>)| {
            let pack = signed.export(&format!("{name}-{what}"), more);
            edit(&pack, "events.ndjson", |lines| change(lines));
            signed.kinds(&pack, None)
        };
        let replaced = |lines: &mut Vec<String>, from: &str, to: &str| {
            let line = lines.iter_mut().find(|line| line.contains(from)).unwrap();
            *line = line.replacen(from, to, 1);
        };
        for (what, kind, found) in [
            ("payload", "payload_changed", changed("payload", &|lines| replaced(lines, "{\\\"", "{ \\\""))),
            (
                "header",
                "event_changed",
                changed("header", &|lines| replaced(lines, "\"version\":1,", "\"version\":7,")),
            ),
            ("delete", "deleted", changed("delete", &|lines| drop(lines.remove(1)))),
            ("swap", "reordered", changed("swap", &|lines| lines.swap(1, 2))),
            ("insert", "inserted", changed("insert", &|lines| lines.insert(2, lines[1].clone()))),
        ] {
            let [ours, theirs] = found;
            assert!(ours.iter().any(|found| found == kind), "{name} {what}: {ours:?}");
            assert!(ours.iter().any(|found| found == "file_changed"), "{name} {what}: {ours:?}");
            if whole || kind != "deleted" {
                assert!(theirs.iter().any(|found| found == kind), "{name} {what}: {theirs:?}");
            }
        }
    }
    let pack = signed.export("short", &[]);
    edit(&pack, "events.ndjson", |lines| lines.truncate(lines.len() - 3));
    for found in signed.kinds(&pack, None) {
        assert!(found.iter().any(|kind| kind == "truncated"), "{found:?}");
    }
    let pack = signed.export("forged", &[]);
    edit(&pack, "checkpoints.ndjson", |lines| lines[0] = lines[0].replacen("log\\n", "log\\n1", 1));
    for found in signed.kinds(&pack, None) {
        assert!(found.iter().any(|kind| kind == "forged_checkpoint"), "{found:?}");
    }
    // The same key signed another log for somebody else.
    let pack = signed.export("split", &[]);
    let key = sluice::notary::key::Key::of_file(Path::new(&signed.path("notary.key"))).unwrap();
    let another = sluice::notary::checkpoint::SignedCheckpoint::sign(
        5,
        sluice::notary::leaf::unhex(&"5".repeat(64)).unwrap(),
        &key,
    );
    let shown = signed.fixture.file("shown.note", &another.unwrap().note.to_string());
    for found in signed.kinds(&pack, Some(&shown)) {
        assert_eq!(found, ["split_view"]);
    }
}

#[tokio::test]
async fn a_whole_pack_becomes_the_same_database() {
    let signed = Signed::new().await;
    let pack = signed.export("whole", &[]);
    let part = signed.export("part", &["--period", "2026-04"]);
    let pack = pack.to_str().unwrap();
    let (status, said) = signed.on(&["export", "--out", pack]);
    assert!(status == 2 && said.contains("a new or an empty folder is allowed"), "{said}");
    let (status, said) = signed.on(&["import", pack]);
    assert!(status == 1 && said.contains("holds events already"), "{said}");

    let new = Fixture::new();
    let key = signed.path("notary.key.pub");
    let (status, said) = on(&new, &["audit", "import", part.to_str().unwrap(), "--key", &key]);
    assert!(status == 2 && said.contains("a whole one is allowed"), "{said}");
    let (status, said) = on(&new, &["audit", "import", pack, "--key", &key]);
    assert_eq!(status, 0, "{said}");
    let (status, said) = on(&new, &["audit", "verify", "--key", &key]);
    assert!(status == 0 && said.contains("2 checkpoints hold"), "{said}");
    let shown = |fixture: &Fixture| {
        let mut command = fixture.command(&["slurm_policy_status", "--format", "json"]);
        let done = command.env("SLUICE_SIMULATED_CLOCK", "2026-06-02T12:00:00Z").output().unwrap();
        String::from_utf8(done.stdout).unwrap()
    };
    // Runs of jobs are no part of the log.
    let of = |fixture: &Fixture| {
        let mut status: Value = serde_json::from_str(&shown(fixture)).unwrap();
        status.as_object_mut().unwrap().remove("scheduled").unwrap();
        status
    };
    assert_eq!(of(&new), of(&signed.fixture), "the read models are the same");

    edit(Path::new(pack), "events.ndjson", |lines| drop(lines.remove(2)));
    let (status, said) = on(&Fixture::new(), &["audit", "import", pack, "--key", &key]);
    assert!(status == 1 && said.contains("deleted"), "what does not verify is not taken in: {said}");
}

fn on(fixture: &Fixture, arguments: &[&str]) -> (i32, String) {
    let mut command = fixture.command(arguments);
    let done = command.env_remove("SLUICE_SIMULATED_CLOCK").output().unwrap();
    (done.status.code().unwrap(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}
