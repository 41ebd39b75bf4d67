//! One stored payload per type and version ever written, in `tests/golden/events`.
//!
//! A payload in a log cannot be changed any more. So each must be read, and written again, as it stands; whoever changes
//! the shape of a released type makes a new version of it, with a file of its own, and an upcast from the old one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sluice::events::Event;
use sluice::events::agent::AgentEvent;
use sluice::events::allocation::AllocationEvent;
use sluice::events::registry::RegistryEvent;
use sluice::events::site::SiteEvent;

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/events")
}

/// The payload in the file of a type.
pub fn payload(event_type: &str) -> Value {
    let path = folder().join(format!("{event_type}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}\nEvery type of event has a payload there, as it is stored; add one for {event_type}.",
            path.display()
        )
    });
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads a payload and writes it again.
fn again(event_type: &str, text: &str) -> Result<String, serde_json::Error> {
    let decoded = AllocationEvent::decode(event_type, text)
        .map(|event| event.map(|e| e.payload()))
        .or_else(|| RegistryEvent::decode(event_type, text).map(|event| event.map(|e| e.payload())))
        .or_else(|| AgentEvent::decode(event_type, text).map(|event| event.map(|e| e.payload())))
        .or_else(|| SiteEvent::decode(event_type, text).map(|event| event.map(|e| e.payload())));
    decoded.unwrap_or_else(|| panic!("{event_type} has a golden file and no type"))
}

#[test]
fn every_type_ever_written_is_read_and_written_as_it_stands() {
    for event_type in Event::types() {
        let stored = payload(event_type);
        let written = again(event_type, &stored.to_string()).unwrap_or_else(|error| {
            panic!("{event_type} as it is stored in logs cannot be read any more: {error}\nMake a new version and an upcast instead.")
        });
        let written: Value = serde_json::from_str(&written).unwrap();
        assert!(
            written == stored,
            "{event_type} is not written as it was\nstored:  {stored}\nwritten: {written}\n\
             What is in a log stays as it is: make a new version of the type and an upcast from this one."
        );
    }
}

#[test]
fn no_type_is_forgotten() {
    let types: BTreeSet<String> = Event::types().map(str::to_owned).collect();
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let stored: BTreeSet<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(stored, types, "a type was renamed or removed, or has no golden file");
    assert!(types.iter().all(|name| name.rsplit_once(".v").is_some_and(|(_, v)| v.parse::<u32>().is_ok())));
}
