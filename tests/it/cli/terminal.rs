//! What is asked of somebody at a terminal: the days that a file covers, once it has been said what its rows cover.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::Fixture;
use super::import::{head, job, jobs};

/// Nothing takes this long, however busy the machine is.
const STANDSTILL: Duration = Duration::from_mins(1);

const QUESTION: &str = "Which month, or first and last month, does it cover whole?";

const WRONG: &str = "a month is written 2026-03; two of them with a blank between, the earlier first";

/// The program with a terminal for its questions, and somebody who types.
struct Terminal {
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    fn start(fixture: &Fixture, arguments: &[&str]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs: OwnedFd = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("sluice"));
        command.env_clear().env("SLUICE_DATA_DIR", fixture.folder.path());
        command.env("SLUICE_SIMULATED_CLOCK", "2026-04-02T00:00:00Z").args(arguments);
        command.stdin(theirs.try_clone().unwrap()).stderr(theirs).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        // The command holds its ends of the terminal: without it the last reader hears when the program has gone.
        drop(command);
        let (keyboard, mut screen) = (File::from(ours.try_clone().unwrap()), File::from(ours));
        let shown = Arc::<Mutex<String>>::default();
        let into = Arc::clone(&shown);
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            // Linux says EIO once nobody has the other end any more.
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Self { child, keyboard, shown, reader }
    }

    /// Waits until a text has been shown so many times.
    fn shows(&mut self, text: &str, times: usize) {
        let until = Instant::now() + STANDSTILL;
        while self.shown.lock().unwrap().matches(text).count() < times {
            let ended = self.child.try_wait().unwrap().is_some();
            assert!(!ended && Instant::now() < until, "no {text:?} in {}", self.shown.lock().unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end: the status, what was shown, and what was printed.
    fn ends(mut self) -> (i32, String, String) {
        let mut printed = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        let status = self.child.wait().unwrap();
        self.reader.join().unwrap();
        let shown = self.shown.lock().unwrap().replace("\r\n", "\n");
        (status.code().unwrap(), shown, printed)
    }
}

/// A site, and a file with jobs of February and March.
fn two_months() -> (Fixture, String) {
    let fixture = Fixture::with_site();
    let rows = [
        job(1, "hpc_climate", "2026-02-10T00:00:00", "2026-02-10T01:00:00", 3600),
        job(2, "hpc_climate", "2026-03-10T00:00:00", "2026-03-10T02:00:00", 7200),
    ];
    let file = fixture.file("jobs.txt", &jobs(&rows));
    (fixture, file)
}

fn asked(fixture: &Fixture, file: &str) -> Terminal {
    let mut terminal = Terminal::start(fixture, &["import", "sacct", file, "--offering", "hpc1"]);
    terminal.shows(QUESTION, 1);
    let shown = terminal.shown.lock().unwrap().clone();
    let (covered, question) = shown.split_once(QUESTION).unwrap();
    assert!(covered.contains("jobs that ran from 2026-02-10 00:00 to 2026-03-10 02:00 (2 rows)"), "{shown}");
    assert_eq!(question, " [2026-02 2026-03] ");
    terminal
}

#[test]
fn wrong_answers_are_refused_and_a_month_is_taken() {
    let (fixture, file) = two_months();
    let mut terminal = asked(&fixture, &file);
    for (times, wrong) in (1..).zip(["april", "2026-03 2026-02", "2026-02 2026-03 2026-04", "2026-13"]) {
        terminal.types(&format!("{wrong}\n"));
        terminal.shows(WRONG, times);
        terminal.shows(QUESTION, times + 1);
    }
    terminal.types("2026-03\n");
    let (status, shown, printed) = terminal.ends();
    assert_eq!(status, 0, "{shown}");
    assert!(printed.contains("2026-03") && !printed.contains("2026-02  "), "{printed}");
    let totals = fixture.json(&["import", "sacct", &file, "--offering", "hpc1", "--month", "2026-03"]);
    assert_eq!(totals["totals"][0]["outcome"], "unchanged", "{totals}");
    let totals = fixture.json(&["import", "sacct", &file, "--offering", "hpc1", "--month", "2026-02", "--dry-run"]);
    assert_eq!(totals["totals"][0]["outcome"], "reported", "February was left alone: {totals}");
}

#[test]
fn the_months_that_are_proposed_are_taken_with_return() {
    let (fixture, file) = two_months();
    let mut terminal = asked(&fixture, &file);
    terminal.types("\n");
    let (status, shown, _) = terminal.ends();
    assert_eq!(status, 0, "{shown}");
    let window = ["--from", "2026-02-01", "--to", "2026-03-31"];
    let again = fixture.json(&[&["import", "sacct", &file, "--offering", "hpc1"], &window[..]].concat());
    assert_eq!(again["months"], serde_json::json!(["2026-02", "2026-03"]));
    assert!(again["totals"].as_array().unwrap().iter().all(|line| line["outcome"] == "unchanged"), "{again}");
}

#[test]
fn who_does_not_answer_imports_nothing() {
    let (fixture, file) = two_months();
    let before = head(&fixture);
    let mut terminal = asked(&fixture, &file);
    // The end of what is typed.
    terminal.types("\u{4}");
    let (status, shown, printed) = terminal.ends();
    assert_eq!((status, printed.as_str()), (1, ""), "{shown}");
    assert!(shown.contains("error: nothing was imported: no answer"), "{shown}");
    assert_eq!(head(&fixture), before);
}
