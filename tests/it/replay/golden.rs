//! `tests/golden/logs/decisions.jsonl`: a log that holds every type and version of event ever written, with the decisions of
//! three months as the release that wrote the file made them. It is never made anew: a release that decides otherwise, and
//! does not say so with a new version of the policy's formula, fails here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sluice::app::App;
use sluice::events::Event;

use super::{Line, append, climate, known, lines, log_of, replayed, told};
use crate::events::golden::payload;
use crate::support::database::options;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/logs/decisions.jsonl")
}

fn stored() -> Vec<Line> {
    let text = std::fs::read_to_string(path()).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        Line {
            stream: line["stream"].as_str().unwrap().to_owned(),
            event_type: known(line["type"].as_str().unwrap()),
            payload: line["payload"].as_str().unwrap().to_owned(),
        }
    };
    text.lines().map(line).collect()
}

/// Lines for the types that the file does not hold yet, with their golden payloads.
fn missing(stored: &[Line]) -> Vec<Line> {
    let there: BTreeSet<&str> = stored.iter().map(|line| line.event_type).collect();
    let line = |event_type| Line { stream: "golden".to_owned(), event_type, payload: payload(event_type).to_string() };
    Event::types().filter(|event_type| !there.contains(event_type)).map(line).collect()
}

fn written(line: &Line) -> String {
    let line = json!({"stream": line.stream, "type": line.event_type, "payload": line.payload});
    format!("{line}\n")
}

#[test]
fn the_log_holds_every_type_ever_written() {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        // Decisions are written once; types that came later are added behind them.
        let mut all = if path().exists() { stored() } else { lines(&told(), climate()) };
        all.extend(missing(&all));
        std::fs::write(path(), all.iter().map(written).collect::<String>()).unwrap();
    }
    let missing: Vec<&str> = missing(&stored()).iter().map(|line| line.event_type).collect();
    assert!(missing.is_empty(), "{missing:?}: UPDATE_GOLDEN=1 adds their golden payloads");
}

#[tokio::test]
async fn every_recorded_decision_comes_out_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(options(folder.path())).await.unwrap();
    append(&*app.store, &stored()).await;
    let report = replayed(app.guard.log()).await;
    assert_eq!(report.complaint(), None);
    assert_eq!(report.events, stored().len() as u64);
    let of = |kind: &str| report.kinds[kind];
    let recorded = |kind: &str| stored().iter().filter(|line| line.event_type == kind).count() as u64;
    for kind in ["policy_evaluated.v1", "settings_commanded.v2"] {
        assert!(recorded(kind) > 3 && of(kind).same == recorded(kind), "{kind}: {:?}", of(kind));
    }
    for kind in ["settings_commanded.v1", "evaluation_failed.v1"] {
        assert!(recorded(kind) > 0 && of(kind).without_inputs == recorded(kind), "{kind}: {:?}", of(kind));
    }
}

/// What this release decides is the same as well, so the test above looks at what is decided now.
#[tokio::test]
async fn what_is_decided_now_comes_out_the_same() {
    let report = replayed(&log_of(&lines(&told(), climate())).await).await;
    assert_eq!(report.complaint(), None);
    assert!(report.kinds["policy_evaluated.v1"].same > 5 && report.kinds["settings_commanded.v2"].same > 3);
}
