//! What the tree holds of an event: the hash of its canonical header and of the commitment to its payload.
//!
//! A position is no part of it: the place of an event in the order of the log is the number of its leaf, which is the same
//! in a copy of the log on another engine.

use std::io::Write;

use sha2::{Digest, Sha256};
use tlog_tiles::Hash;

use crate::events::envelope::RecordedEvent;

/// What a canonical header begins with: the version of this encoding.
pub const HEADER: &str = "sluice/event/v1\n";

/// Appends a field as a netstring: its length in bytes, a colon, the bytes, a comma.
fn field(text: &[u8], into: &mut Vec<u8>) {
    number(text.len() as u64, into);
    into.push(b':');
    into.extend_from_slice(text);
    into.push(b',');
}

fn number(number: u64, into: &mut Vec<u8>) {
    // Writing into a vector does not fail.
    let _ = write!(into, "{number}");
}

fn counted(value: i128, into: &mut Vec<u8>) {
    let mut digits = [0_u8; 40];
    let mut rest = &mut digits[..];
    let _ = write!(rest, "{value}");
    let free = rest.len();
    field(&digits[..40 - free], into);
}

fn id(id: Option<uuid::Uuid>, into: &mut Vec<u8>) {
    let mut digits = [0_u8; 32];
    match id {
        Some(id) => field(id.as_simple().encode_lower(&mut digits).as_bytes(), into),
        None => field(b"", into),
    }
}

/// Appends the canonical header of an event: [`HEADER`], then its fields in the order of the format page.
pub fn header(event: &RecordedEvent, into: &mut Vec<u8>) {
    let metadata = &event.metadata;
    into.extend_from_slice(HEADER.as_bytes());
    field(event.stream.as_str().as_bytes(), into);
    counted(event.version.into(), into);
    id(Some(event.event_id), into);
    field(event.event_type.as_bytes(), into);
    counted(event.occurred_at.timestamp_micros().into(), into);
    counted(event.recorded_at.timestamp_micros().into(), into);
    field(metadata.actor.kind.as_str().as_bytes(), into);
    id(metadata.actor.id, into);
    id(Some(metadata.correlation_id), into);
    id(metadata.causation_id, into);
    field(metadata.reason.as_deref().unwrap_or_default().as_bytes(), into);
}

/// Hashes the leaves of events one after the other, in one buffer.
#[derive(Debug, Default)]
pub struct Leaves {
    buffer: Vec<u8>,
}

impl Leaves {
    /// The leaf of an event: SHA-256 over a zero byte, the canonical header, and the 32 bytes of the commitment (RFC 6962).
    pub fn of(&mut self, event: &RecordedEvent) -> Hash {
        self.buffer.clear();
        self.buffer.push(0);
        header(event, &mut self.buffer);
        self.buffer.extend_from_slice(&event.commitment);
        Hash(Sha256::digest(&self.buffer).into())
    }
}

/// A hash in hex digits.
pub fn hex(hash: &Hash) -> String {
    crate::store::archive::hex(&hash.0)
}

/// A hash from hex digits.
pub fn unhex(text: &str) -> Option<Hash> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[place * 2..place * 2 + 2], 16).ok()?;
    }
    Some(Hash(bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::events::envelope::{Actor, ActorKind, Metadata, Position, StreamName};

    #[test]
    fn a_header_is_the_text_of_its_fields_each_with_its_length() {
        let event = RecordedEvent {
            position: Position::START,
            stream: StreamName::new("policy-1").unwrap(),
            version: 7,
            event_id: Uuid::from_u128(1),
            event_type: Arc::from("policy_created.v1"),
            occurred_at: chrono::DateTime::from_timestamp_micros(-5).unwrap(),
            recorded_at: chrono::DateTime::from_timestamp_micros(1_000_000).unwrap(),
            metadata: Metadata {
                actor: Actor { kind: ActorKind::Staff, id: Some(Uuid::from_u128(2)) },
                correlation_id: Uuid::from_u128(3),
                causation_id: None,
                reason: Some("größer".into()),
            },
            payload: "{}".into(),
            salt: [0; 16],
            commitment: [9; 32],
        };
        let mut written = Vec::new();
        header(&event, &mut written);
        let expected = "sluice/event/v1\n8:policy-1,1:7,32:00000000000000000000000000000001,17:policy_created.v1,2:-5,\
                        7:1000000,5:staff,32:00000000000000000000000000000002,32:00000000000000000000000000000003,0:,\
                        8:größer,";
        assert_eq!(String::from_utf8(written.clone()).unwrap(), expected);
        written.extend_from_slice(&[9; 32]);
        let leaf = Leaves::default().of(&event);
        assert_eq!(leaf, tlog_tiles::record_hash(&written));
        assert_eq!(unhex(&hex(&leaf)), Some(leaf));
        assert_eq!((unhex("0"), unhex(&"g".repeat(64))), (None, None));
    }
}
