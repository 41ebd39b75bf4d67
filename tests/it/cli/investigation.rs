//! The worked investigation of docs/INVESTIGATION.md: every command runs, and prints what the page shows.
//!
//! `UPDATE_GOLDEN=1` writes what the commands print into the page.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

const BEGINS: &str = "```console\n";
const ENDS: &str = "```\n";

/// A command of the page and what it shows below it.
#[derive(Debug)]
struct Step {
    command: String,
    shown: String,
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/INVESTIGATION.md")
}

/// The commands of a block: each begins with `$ `, and goes on after a backslash at the end of a line, or up to `EOF`.
fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut goes_on = false;
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), shown: String::new() });
        } else {
            let step = steps.last_mut().expect("a block begins with a command");
            let place = if goes_on { &mut step.command } else { &mut step.shown };
            if goes_on {
                place.push('\n');
            }
            place.push_str(line);
            if !goes_on {
                place.push('\n');
            }
        }
        goes_on = steps.last().is_some_and(|step| {
            let is_open = step.command.contains("<<'EOF'") && !step.command.ends_with("\nEOF");
            step.shown.is_empty() && (is_open || step.command.ends_with('\\'))
        });
    }
    steps
}

/// Runs all commands in one shell, as a reader would; answers with what each prints. All of them have to succeed.
fn run(steps: &[Step], folder: &Path) -> Vec<String> {
    let program = Path::new(assert_cmd::cargo::cargo_bin!("sluice")).parent().unwrap().to_owned();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    // A sign that nobody prints, with the status, behind each.
    let commands: Vec<&str> = steps.iter().map(|step| step.command.as_str()).chain([""]).collect();
    let script = commands.join("\nprintf '\\001%s\\001' $?\n");
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("exec 2>&1\n{script}")]).current_dir(folder).stdin(Stdio::null());
    bash.env_clear().env("PATH", path).env("HOME", folder).env("TZ", "UTC").env("LC_ALL", "C");
    let output = bash.output().expect("bash is needed");
    let said = String::from_utf8(output.stdout).unwrap();
    let parts: Vec<&str> = said.split('\u{1}').collect();
    let results: Vec<(&str, &str)> = parts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    assert_eq!(results.len(), steps.len(), "{said}");
    for (step, (said, status)) in steps.iter().zip(&results) {
        assert_eq!(*status, "0", "{}\n{said}", step.command);
    }
    results.into_iter().map(|(said, _)| said.replace(&folder.display().to_string(), "")).collect()
}

/// The text without what is another one at each run: ids, keys and hashes.
fn masked(text: &str) -> String {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let mut words: Vec<String> = vec![String::new()];
    for c in text.chars() {
        let last = words.last_mut().unwrap();
        if last.chars().last().is_none_or(|before| is_of_word(before) == is_of_word(c)) {
            last.push(c);
        } else {
            words.push(c.to_string());
        }
    }
    let is_random = |word: &str| word.len() >= 32 && word.chars().all(is_of_word);
    words.iter().map(|word| if is_random(word) { "<random>" } else { word }).collect()
}

#[test]
#[ignore = "needs bash, python3 and sqlite in it"]
fn the_worked_investigation_runs_and_shows_what_its_page_says() {
    let text = std::fs::read_to_string(page()).unwrap();
    let blocks: Vec<Vec<Step>> =
        text.split(BEGINS).skip(1).map(|rest| steps(rest.split(ENDS).next().unwrap())).collect();
    let (lengths, all): (Vec<usize>, Vec<Step>) =
        (blocks.iter().map(Vec::len).collect(), blocks.into_iter().flatten().collect());
    assert!(all.len() > 10, "only {} commands were found", all.len());
    let folder = TempDir::new().unwrap();
    let printed = run(&all, folder.path());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(page(), renewed(&text, &lengths, &all, &printed)).unwrap();
        return;
    }
    for (step, printed) in all.iter().zip(&printed) {
        assert_eq!(masked(&step.shown), masked(printed), "after\n$ {}", step.command);
    }
}

/// The page with what the commands print.
fn renewed(text: &str, lengths: &[usize], steps: &[Step], printed: &[String]) -> String {
    let mut shown = steps.iter().zip(printed).map(|(step, said)| format!("$ {}\n{said}", step.command));
    let mut lengths = lengths.iter();
    let mut parts = text.split(BEGINS);
    let mut page = parts.next().unwrap().to_owned();
    for part in parts {
        let block: String = shown.by_ref().take(*lengths.next().unwrap()).collect();
        let rest = part.split_once(ENDS).unwrap().1;
        for text in [BEGINS, &block, ENDS, rest] {
            page.push_str(text);
        }
    }
    page
}

#[test]
fn what_is_random_is_masked_and_nothing_else() {
    assert_eq!(masked("at 559, id 1a29648635605811bb824f4946f9c457: ok"), "at 559, id <random>: ok");
    assert_eq!(masked("2026-03-15T23:50:00Z  120.71 %"), "2026-03-15T23:50:00Z  120.71 %");
    let [one, two] = &steps("$ a \\\n  b\nsaid\n$ c <<'EOF'\nd\nEOF\n")[..] else { panic!("two commands") };
    assert_eq!((one.command.as_str(), one.shown.as_str()), ("a \\\n  b", "said\n"));
    assert_eq!((two.command.as_str(), two.shown.as_str()), ("c <<'EOF'\nd\nEOF", ""));
}
