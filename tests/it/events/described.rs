//! `docs/EVENTS.md` is made from the event types, their doc comments and the golden payloads; `UPDATE_GOLDEN=1` rewrites it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::golden::payload;

const FAMILIES: [(&str, &str); 4] = [
    ("allocation", include_str!("../../../src/events/allocation.rs")),
    ("registry", include_str!("../../../src/events/registry.rs")),
    ("agent", include_str!("../../../src/events/agent.rs")),
    ("site", include_str!("../../../src/events/site.rs")),
];

/// Where a family has payloads of a subject of its own.
const SUBJECTS: [&str; 5] = [
    include_str!("../../../src/events/checkpoint.rs"),
    include_str!("../../../src/events/notice.rs"),
    include_str!("../../../src/events/dispatch.rs"),
    include_str!("../../../src/events/commanded.rs"),
    include_str!("../../../src/events/site_answer.rs"),
];

/// A variant of a family: its stored name, the name of its payload's type, what it means.
struct Described {
    event_type: String,
    payload_type: String,
    meaning: String,
}

/// The doc comment that ends right before this line.
fn doc_before(lines: &[&str], line: usize) -> String {
    let mut words: Vec<&str> = lines[..line]
        .iter()
        .rev()
        .map(|l| l.trim())
        .skip_while(|l| l.starts_with('#') || l.ends_with(")]"))
        .map_while(|l| l.strip_prefix("///"))
        .map(str::trim)
        .collect();
    words.reverse();
    words.join(" ")
}

/// The variants in `event_family!`.
fn variants(source: &str) -> Vec<Described> {
    let lines: Vec<&str> = source.lines().collect();
    let start = lines.iter().position(|l| l.starts_with("event_family!")).expect("a family is declared in the file");
    let variant = |(index, line): (usize, &&str)| {
        let (declared, event_types) = line.trim().split_once(" = \"")?;
        let (_, payload_type) = declared.trim_end_matches(')').split_once('(')?;
        // The newest version, and after it older ones, which are read as that.
        let versions = event_types.trim_end_matches("\",").split("\" | \"");
        let described = |event_type: &str| Described {
            event_type: event_type.to_owned(),
            payload_type: payload_type.trim_start_matches("Box<").trim_end_matches('>').to_owned(),
            meaning: doc_before(&lines, index),
        };
        Some(versions.map(described).collect::<Vec<_>>())
    };
    lines.iter().enumerate().skip(start).filter_map(variant).flatten().collect()
}

/// The fields of the structs of a file: name and doc comment, in order.
fn fields(source: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let lines: Vec<&str> = source.lines().collect();
    let mut structs = BTreeMap::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = line.strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {")) else { continue };
        let body = lines.iter().enumerate().skip(at + 1).take_while(|(_, l)| **l != "}");
        let found: Vec<(String, String)> = body
            .filter_map(|(index, l)| {
                let (field, _) = l.trim().strip_prefix("pub ")?.split_once(": ")?;
                Some((field.to_owned(), doc_before(&lines, index)))
            })
            .collect();
        structs.insert(name.to_owned(), found);
    }
    structs
}

/// The module's own words: its first paragraph.
fn introduction(source: &str) -> String {
    let words: Vec<&str> =
        source.lines().map_while(|l| l.strip_prefix("//!")).map(str::trim).take_while(|l| !l.is_empty()).collect();
    words.join(" ")
}

/// Names in the JSON where they differ from the field's.
fn stored_name(field: &str) -> &str {
    if field == "component_type" { "type" } else { field }
}

/// How one event leads to another.
const CAUSES: &str = "
## What led to an event

`causation_id` is the event that caused this one; the first of a chain has none. All events of a chain share the `correlation_id` of the first, so
`GET /api/events/?correlation_id=` returns the whole chain, whichever process wrote it and however much later. The first takes the id of the request
(`X-Request-Id`), of the job's run, or of the command-line call. A cause precedes its effects, in the log and in an append.

| event | caused by |
|---|---|
| `policy_evaluated`, `evaluation_failed`, `policy_withdrawn` | the report, the change of limits, account, state or hold in the same append; else the change of the policy, offering, organisation or setting, or the request to evaluate. The first of its chain if the clock or an API call asks for it |
| `restriction_changed` | the evaluation of the policy that decided it, else the hold |
| `settings_commanded` | the change of restrictions in the same append, else the evaluation of the policy that it names |
| `stomp_message_sent` | `settings_commanded`, or `restriction_changed` if it carries only restrictions; for a resend, `dispatch_unanswered` or the request to resend |
| `stomp_message_failed`, `dispatch_unanswered`, `command_result_reported` | the hand-over concerned, else the event that ordered it |
| `qos_confirmed` | the hand-over of the restrictions, if the agent was asked; else it is the first of its chain |
| `limits_echoed` | the agent's last reported result |
| `notice_sent`, `notice_failed` | the event that the notice is about: the evaluation that reached a threshold, the change of restrictions, the failed result |
| `books_opened` | `books_closed`, which is the first of its chain |
| every other event | nothing: a person or the clock asked for it |

Events older than this record have no `causation_id`, and each command's events form a separate chain.
";

fn page() -> String {
    let mut page = String::from(
        "# Events\n\nGenerated from the sources and `tests/golden/events`; `UPDATE_GOLDEN=1 cargo nextest run events::` \
         regenerates it. A name never gets a new shape: a new shape is a new version. Amounts are decimal strings, ids are \
         32 hex digits, instants are UTC. Empty optional fields are omitted. Beside the payload, each event records its \
         actor, its request, the event that caused it, a reason, and a commitment to the payload.\n",
    );
    page.push_str(CAUSES);
    for (family, source) in FAMILIES {
        let structs: BTreeMap<_, _> = SUBJECTS.into_iter().chain([source]).flat_map(fields).collect();
        let _ = write!(page, "\n## The {family} family\n\n{}\n", introduction(source));
        for described in variants(source) {
            let _ = write!(page, "\n### `{}`\n\n{}\n\n", described.event_type, described.meaning);
            for (field, meaning) in structs.get(&described.payload_type).into_iter().flatten() {
                let _ = writeln!(page, "* `{}`: {meaning}", stored_name(field));
            }
            let example = serde_json::to_string_pretty(&payload(&described.event_type)).expect("JSON is text");
            let _ = write!(page, "\n```json\n{example}\n```\n");
        }
    }
    page
}

#[test]
fn the_page_of_events_says_what_the_sources_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/EVENTS.md");
    let page = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = kept.lines().zip(page.lines()).position(|(was, is)| was != is);
    assert!(
        kept == page,
        "docs/EVENTS.md is not what the sources say, from line {}; run with UPDATE_GOLDEN=1",
        differs.map_or(kept.lines().count().min(page.lines().count()), |line| line) + 1
    );
}

#[test]
fn every_type_and_every_field_of_a_payload_has_a_meaning() {
    for (family, source) in FAMILIES {
        let structs: BTreeMap<_, _> = SUBJECTS.into_iter().chain([source]).flat_map(fields).collect();
        for described in variants(source) {
            assert!(!described.meaning.is_empty(), "{} of {family}", described.event_type);
            let fields = structs.get(&described.payload_type).unwrap_or_else(|| panic!("{}", described.payload_type));
            assert!(fields.iter().all(|(_, meaning)| !meaning.is_empty()), "{}", described.payload_type);
        }
    }
    let described: usize = FAMILIES.iter().map(|(_, source)| variants(source).len()).sum();
    assert_eq!(described, sluice::events::Event::types().count(), "all of them are on the page");
}
