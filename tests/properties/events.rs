//! Whatever an event says, it is stored so that it is read back as it was meant: every type, with values nobody thought of.

#[path = "../fuzz/mutate.rs"]
mod mutate;

use std::path::Path;

use proptest::prelude::*;
use sluice::domain::period::Month;
use sluice::events::Event;
use sluice::events::allocation::{AllocationEvent, BooksClosed};

use self::mutate::{Choices, mutate};

/// The golden payloads: one of every type ever written.
fn golden() -> Vec<(&'static str, serde_json::Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/events");
    Event::types()
        .map(|event_type| {
            let text = std::fs::read_to_string(folder.join(format!("{event_type}.json"))).unwrap();
            (event_type, serde_json::from_str(&text).unwrap())
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_read_once_is_stored_so_that_it_is_read_again(bytes in prop::collection::vec(any::<u8>(), 64..2_048)) {
        let mut choices = Choices::new(&bytes);
        for (event_type, payload) in golden() {
            let mut readable = 0;
            for _ in 0..8 {
                let mut changed = payload.clone();
                mutate(&mut changed, &mut choices);
                let Some(Ok(event)) = Event::read(event_type, &changed.to_string()) else { continue };
                readable += 1;
                let stored = event.to_append();
                prop_assert!(stored.is_ok(), "{}: {:?} from {}", event_type, stored, changed);
                let again = Event::read(event_type, stored.unwrap().as_str());
                prop_assert_eq!(again.unwrap().unwrap(), event, "{}", event_type);
            }
            let intact = Event::read(event_type, &payload.to_string()).unwrap().unwrap();
            prop_assert!(readable > 0 || intact.to_append().is_ok(), "{}", event_type);
        }
    }

    #[test]
    fn any_bytes_under_the_name_of_any_type_are_an_event_or_none(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let text = String::from_utf8_lossy(&bytes);
        for event_type in Event::types() {
            if let Some(Ok(event)) = Event::read(event_type, &text) {
                prop_assert!(event.to_append().is_ok(), "{}: {}", event_type, text);
            }
        }
    }

    #[test]
    fn a_month_that_could_not_be_read_is_not_stored(days in any::<i32>()) {
        let Some(date) = chrono::NaiveDate::from_num_days_from_ce_opt(days % 100_000_000) else { return Ok(()) };
        let month = Month::of(date);
        let closed = AllocationEvent::BooksClosed(BooksClosed { successor: month });
        let readable = serde_json::from_str::<Month>(&serde_json::to_string(&month).unwrap()).is_ok();
        prop_assert_eq!(readable, (0..=9999).contains(&month.year()));
        prop_assert_eq!(closed.to_append().is_ok(), readable);
    }
}

#[test]
fn most_mutations_are_still_events() {
    let bytes: Vec<u8> = (0..60_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let mut choices = Choices::new(&bytes);
    for (event_type, payload) in golden() {
        let readable = (0..100).filter(|_| {
            let mut changed = payload.clone();
            mutate(&mut changed, &mut choices);
            matches!(Event::read(event_type, &changed.to_string()), Some(Ok(_)))
        });
        let readable = readable.count();
        assert!(readable >= 3, "{event_type}: only {readable} of 100 mutations can be read, so nothing is tested");
    }
}
