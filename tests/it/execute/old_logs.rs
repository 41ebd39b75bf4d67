//! Logs as earlier versions wrote them, before values had bounds: they are read, folded and gone on with.

use std::path::Path;

use serde_json::Value;
use sluice::app::App;
use sluice::commands::allocation::{AllocationCommand, UsageReport};
use sluice::domain::ids::ResourceId;
use sluice::domain::period::Month;
use sluice::events::Event;
use sluice::events::envelope::{Actor, Metadata, NewEvent, Payload, StreamName};
use sluice::store::{Distance, ExpectedVersion};
use uuid::Uuid;

use super::Place;
use crate::support::fleet::meta;
use crate::support::world::{amounts, dec};

/// Appends the events of a file in `tests/golden/logs`, as they stand.
async fn write(app: &App, file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/logs").join(file);
    for (number, line) in std::fs::read_to_string(path).unwrap().lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        let known = Event::types().find(|known| *known == line["type"]).unwrap();
        let event = NewEvent {
            event_id: Uuid::from_u128(number as u128 + 1),
            event_type: known,
            occurred_at: app.clock.now(),
            metadata: Metadata { actor: Actor::SYSTEM, correlation_id: Uuid::nil(), causation_id: None, reason: None },
            payload: Payload::of_no_family(line["payload"].to_string()),
        };
        let stream = StreamName::new(line["stream"].as_str().unwrap()).unwrap();
        app.store.append(&stream, ExpectedVersion::Any, vec![event]).await.unwrap();
    }
}

#[tokio::test]
async fn a_month_before_there_were_bounds_and_a_line_break_in_a_name_are_read() {
    let place = Place::new();
    write(&*place.open_at("2026-01-20T12:00:00Z").await, "before-bounds.jsonl").await;
    let app = place.again().await;
    app.settle().await.unwrap();
    assert!(
        app.consumers
            .status()
            .await
            .unwrap()
            .iter()
            .all(|consumer| consumer.error.is_none() && consumer.lag == Distance::NONE)
    );
    let resource: ResourceId = "50e47ff239e254c089fdaa4bbc2a359a".parse().unwrap();
    let book = app.allocations.book(resource).await.unwrap();
    let stored = |text: &str| Month::read_recorded(text).unwrap();
    assert_eq!(book.amount(stored("0001-01"), "node_hours"), Some(dec("5")));
    assert_eq!(book.amount(stored("0000-01"), "node_hours"), Some(dec("7")));
    assert!(book.facts.name.contains("\r\n"), "{:?}", book.facts.name);
    // It goes on from there.
    let report = UsageReport::new("2026-01".parse().unwrap(), amounts(&[("node_hours", "12")]));
    let report = AllocationCommand::ReportUsage(report);
    app.allocations.execute(resource, &report, &meta()).await.unwrap();
    app.settle().await.unwrap();
    sluice::projections::rebuild::all(&app.consumers, &app.read, |_, _| ()).await.unwrap();
}
