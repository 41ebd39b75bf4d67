//! Running `sacct`: what it is asked, and what is said when it cannot be run or fails.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use chrono_tz::Tz;
use sluice::import::{ImportError, ImportOptions, Importer, Query};

use super::{by_month, months, node_seconds};

const BERLIN: Tz = Tz::Europe__Berlin;

struct Fake {
    folder: tempfile::TempDir,
}

impl Fake {
    /// A `sacct` that runs this.
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("sacct");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sacct")
    }

    fn query(&self) -> Query {
        Query {
            program: self.path().to_string_lossy().into_owned(),
            cluster: None,
            begin_s: 1_772_319_600,
            end_s: 1_774_994_400,
            zone: BERLIN,
        }
    }

    fn run(&self) -> (Importer, Result<Option<String>, ImportError>) {
        let mut importer = Importer::new(ImportOptions { month_zone: BERLIN, ..node_seconds(BERLIN) });
        let said = self.query().run(&mut importer, &mut |_| {});
        (importer, said)
    }
}

const HEADER: &str = "JobID|Cluster|Account|State|Start|End|ElapsedRaw|AllocTRES";

#[test]
fn sacct_is_asked_in_the_zone_of_the_site_and_its_output_is_read() {
    let fake = Fake::new(&format!(
        "echo \"$TZ $SLURM_TIME_FORMAT $*\" > \"$(dirname \"$0\")/asked\"\necho '{HEADER}'\n\
         echo '1|alpha|a|COMPLETED|1772319600|1772319660|60|node=1'\n\
         echo '2|alpha|a|COMPLETED|2026-03-31T23:59:00|2026-04-01T00:00:00|60|node=1'\necho 'a warning' >&2"
    ));
    let (importer, said) = fake.run();
    assert_eq!(said.expect("it ran").as_deref(), Some("a warning"));
    assert_eq!(by_month(&importer.finish().expect("well-formed"), "a"), months([("2026-03", 120)]));
    let asked = std::fs::read_to_string(fake.folder.path().join("asked")).expect("written down");
    assert_eq!(
        asked.trim(),
        "Europe/Berlin %s -a -D -P -X -T --noconvert -S 2026-03-01T00:00:00 -E 2026-04-01T00:00:00 \
         -o JobID,Cluster,Account,State,Start,End,ElapsedRaw,AllocTRES"
    );
}

#[test]
fn a_failure_is_told_in_its_own_words() {
    let failing = "echo 'sacct: error: Problem talking to the database: Connection refused' >&2; exit 3";
    let after_output = format!("echo '{HEADER}'; {failing}");
    for script in [failing, &after_output] {
        let (_, said) = Fake::new(script).run();
        let message = said.expect_err("it failed").to_string();
        assert!(message.contains("exit status: 3"), "{message}");
        assert!(message.contains("Connection refused") && message.contains("TZ=Europe/Berlin"), "{message}");
    }
    let (_, said) = Fake::new("kill -9 $$").run();
    assert!(said.expect_err("it was killed").to_string().contains("signal: 9"));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let query = Query { program: "/nonexistent/sacct".to_owned(), ..Fake::new("").query() };
    let mut importer = Importer::new(node_seconds(BERLIN));
    let message = query.run(&mut importer, &mut |_| {}).expect_err("not there").to_string();
    assert!(message.starts_with("/nonexistent/sacct was not found: say where it is with --sacct"), "{message}");
}

#[test]
fn output_that_cannot_be_read_ends_the_program_and_is_told() {
    let (_, said) = Fake::new("while echo 'not what is read'; do :; done").run();
    let message = said.expect_err("no header").to_string();
    assert!(message.contains("no header"), "{message}");
}
