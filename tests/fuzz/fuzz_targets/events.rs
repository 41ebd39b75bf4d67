//! Feeds the decoder of events: any bytes under the name of any type, and golden payloads of every type with some values
//! changed. Nothing may panic; what can be read must be stored, and what is stored must be read back as it was meant.

#![no_main]

#[path = "../mutate.rs"]
mod mutate;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sluice::events::Event;

static GOLDEN: LazyLock<Vec<(&'static str, serde_json::Value)>> = LazyLock::new(|| {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/events");
    let read = |event_type: &'static str| {
        let text = std::fs::read_to_string(format!("{folder}/{event_type}.json")).expect("every type has a golden payload");
        (event_type, serde_json::from_str(&text).expect("golden payloads are JSON"))
    };
    Event::types().map(read).collect()
});

fn check(event_type: &str, text: &str) {
    let Some(read) = Event::read(event_type, text) else { panic!("{event_type} is a type that nobody reads") };
    let Ok(event) = read else { return };
    let stored = event.to_append().expect("what could be read is stored so that it can be read again");
    let again = Event::read(event_type, stored.as_str()).expect("of the same type").expect("what is stored is read");
    // A type of an older version may come back as the newest: then it is that which was stored.
    assert_eq!(again, event, "{event_type}");
}

fuzz_target!(|bytes: &[u8]| {
    // Two bytes, so that every type is one of the choices however many there will be.
    let Some((choice, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (event_type, payload) = &GOLDEN[usize::from(u16::from_be_bytes(*choice)) % GOLDEN.len()];
    if let Ok(text) = std::str::from_utf8(rest) {
        check(event_type, text);
    }
    let mut changed = payload.clone();
    mutate::mutate(&mut changed, &mut mutate::Choices::new(rest));
    check(event_type, &changed.to_string());
});
