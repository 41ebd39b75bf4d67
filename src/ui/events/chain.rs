//! The chain that an event belongs to, as lanes: what led to what, in the order of the log.

use std::collections::HashMap;

use super::{EventRead, kinds};
use crate::ui::words;

/// Lanes beside each other at most; what branches off further stays in the last.
const LANES: usize = 4;

/// A piece of a lane in a row.
pub struct Piece {
    /// Which lane: `l0` to `l3`.
    pub lane: usize,
    /// It comes from above.
    pub up: bool,
    /// It goes on below.
    pub down: bool,
}

/// An event of the chain.
pub struct Node {
    /// Where it is shown.
    pub href: String,
    /// Its icon.
    pub icon: &'static str,
    /// The class of the icon.
    pub class: &'static str,
    /// Its type.
    pub name: String,
    /// What it says.
    pub text: String,
    /// How long after the first; of the first its time.
    pub after: String,
    /// Its whole time.
    pub full: String,
    /// Its place in the log.
    pub place: String,
    /// It is the one that is looked at.
    pub current: bool,
    /// Its lane.
    pub lane: usize,
    /// The lane that it branches off from.
    pub branch: Option<usize>,
    /// Lanes that pass.
    pub pieces: Vec<Piece>,
}

/// The lane of each event, and the event that it comes of.
fn lanes(events: &[EventRead]) -> Vec<(usize, Option<usize>)> {
    let places: HashMap<&str, usize> = events.iter().enumerate().map(|(at, event)| (event.uuid.as_str(), at)).collect();
    let mut laid: Vec<(usize, Option<usize>)> = Vec::with_capacity(events.len());
    // The newest event of each lane.
    let mut ends: Vec<usize> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let parent = event.causation_id.as_deref().and_then(|cause| places.get(cause)).copied().filter(|p| *p < at);
        let lane = match parent {
            Some(parent) if ends.get(laid[parent].0) == Some(&parent) => laid[parent].0,
            None if ends.is_empty() => 0,
            _ => ends.len().min(LANES - 1),
        };
        if lane == ends.len() {
            ends.push(at);
        } else {
            ends[lane] = at;
        }
        laid.push((lane, parent));
    }
    laid
}

/// The chain as rows; the event at `current` is the one that is looked at.
pub fn nodes(events: &[EventRead], current: &str, link: impl Fn(&str) -> String) -> Vec<Node> {
    let laid = lanes(events);
    // From which row to which each lane goes: down to where something branches off.
    let mut spans = [(usize::MAX, 0); LANES];
    for (at, (lane, parent)) in laid.iter().enumerate() {
        spans[*lane].0 = spans[*lane].0.min(at);
        spans[*lane].1 = spans[*lane].1.max(at);
        if let Some(parent) = parent {
            let span = &mut spans[laid[*parent].0];
            span.1 = span.1.max(at);
        }
    }
    let first = events.first().map(|event| event.occurred_at);
    let node = |(at, event): (usize, &EventRead)| {
        let (lane, parent) = laid[at];
        let kind = kinds::of(event.bare(), event.says());
        let branch = parent.map(|parent| laid[parent].0).filter(|from| *from != lane);
        let passing = spans.iter().enumerate().filter(|(_, (from, to))| *from <= at && at <= *to && from < to);
        let pieces = passing.map(|(lane, (from, to))| Piece { lane, up: at > *from, down: at < *to });
        Node {
            href: link(&event.position),
            icon: kind.icon,
            class: kind.class,
            name: event.bare().to_owned(),
            text: event.says().replace("->", "\u{2192}"),
            after: match first {
                Some(first) if at > 0 => words::after(event.occurred_at - first),
                _ => event.occurred_at.format("%H:%M:%S").to_string(),
            },
            full: words::Moment::of(event.occurred_at).full,
            place: event.position.split('-').next().unwrap_or_default().to_owned(),
            current: event.position == current,
            lane,
            branch,
            pieces: pieces.collect(),
        }
    };
    events.iter().enumerate().map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(uuid: &str, cause: Option<&str>) -> EventRead {
        let event = json!({"position": format!("{uuid}-0"), "type": "notice_sent.v1", "uuid": uuid, "message": "",
            "occurred_at": "2026-03-01T00:00:00Z", "actor": {"kind": "system"}, "causation_id": cause,
            "resource_uuid": null});
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn what_comes_of_one_event_second_branches_off() {
        // 1 leads to 2, which leads to 3 and, later, to 5; 3 leads to 4.
        let chain = [
            event("1", None),
            event("2", Some("1")),
            event("3", Some("2")),
            event("4", Some("3")),
            event("5", Some("2")),
        ];
        let nodes = nodes(&chain, "3-0", str::to_owned);
        assert_eq!(nodes.iter().map(|node| node.lane).collect::<Vec<_>>(), [0, 0, 0, 0, 1]);
        assert_eq!(nodes.iter().map(|node| node.branch).collect::<Vec<_>>(), [None, None, None, None, Some(0)]);
        assert!(nodes[2].current && !nodes[3].current);
        let pieces: Vec<(bool, bool)> = nodes.iter().map(|node| (node.pieces[0].up, node.pieces[0].down)).collect();
        assert_eq!(pieces, [(false, true), (true, true), (true, true), (true, true), (true, false)]);
    }
}
