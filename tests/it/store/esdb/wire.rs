//! The few messages that the fixture exchanges with a client of `EventStoreDB`, with the field numbers of the protocol.
//!
//! A field that is absent and one of several alternatives look the same on the wire: alternatives are optional fields
//! here, and what the fixture has no use for is left out.

use std::collections::HashMap;

use prost::Message;
use prost::bytes::Bytes;

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Nothing {}

/// An id, as text or as two halves.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Id {
    #[prost(message, optional, tag = "1")]
    pub halves: Option<Halves>,
    #[prost(string, optional, tag = "2")]
    pub text: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Halves {
    #[prost(int64, tag = "1")]
    pub most: i64,
    #[prost(int64, tag = "2")]
    pub least: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Stream {
    #[prost(bytes = "bytes", tag = "3")]
    pub name: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Place {
    #[prost(uint64, tag = "1")]
    pub commit: u64,
    #[prost(uint64, tag = "2")]
    pub prepare: u64,
}

/// One message of an append: its target first, then an event in each.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Append {
    #[prost(message, optional, tag = "1")]
    pub target: Option<Target>,
    #[prost(message, optional, tag = "2")]
    pub event: Option<NewEvent>,
}

/// Where to append, and what is expected there.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Target {
    #[prost(message, optional, tag = "1")]
    pub stream: Option<Stream>,
    #[prost(uint64, optional, tag = "2")]
    pub revision: Option<u64>,
    #[prost(message, optional, tag = "3")]
    pub no_stream: Option<Nothing>,
    #[prost(message, optional, tag = "4")]
    pub any: Option<Nothing>,
    #[prost(message, optional, tag = "5")]
    pub exists: Option<Nothing>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct NewEvent {
    #[prost(message, optional, tag = "1")]
    pub id: Option<Id>,
    #[prost(map = "string, string", tag = "2")]
    pub metadata: HashMap<String, String>,
    #[prost(bytes = "bytes", tag = "3")]
    pub custom_metadata: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

/// The answer to an append.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Appended {
    #[prost(message, optional, tag = "1")]
    pub success: Option<Success>,
    #[prost(message, optional, tag = "2")]
    pub wrong_version: Option<WrongVersion>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Success {
    #[prost(uint64, optional, tag = "1")]
    pub revision: Option<u64>,
    #[prost(message, optional, tag = "3")]
    pub place: Option<Place>,
    #[prost(message, optional, tag = "4")]
    pub no_place: Option<Nothing>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct WrongVersion {
    #[prost(uint64, optional, tag = "6")]
    pub current: Option<u64>,
    #[prost(message, optional, tag = "7")]
    pub current_no_stream: Option<Nothing>,
    #[prost(message, optional, tag = "11")]
    pub expected_no_stream: Option<Nothing>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Read {
    #[prost(message, optional, tag = "1")]
    pub options: Option<ReadOptions>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReadOptions {
    #[prost(message, optional, tag = "1")]
    pub stream: Option<ReadStream>,
    #[prost(message, optional, tag = "2")]
    pub all: Option<ReadAll>,
    /// 0: forwards, 1: backwards.
    #[prost(int32, tag = "3")]
    pub direction: i32,
    #[prost(uint64, optional, tag = "5")]
    pub count: Option<u64>,
    #[prost(message, optional, tag = "7")]
    pub filter: Option<Filter>,
    #[prost(message, optional, tag = "8")]
    pub no_filter: Option<Nothing>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReadStream {
    #[prost(message, optional, tag = "1")]
    pub stream: Option<Stream>,
    #[prost(uint64, optional, tag = "2")]
    pub revision: Option<u64>,
    #[prost(message, optional, tag = "3")]
    pub start: Option<Nothing>,
    #[prost(message, optional, tag = "4")]
    pub end: Option<Nothing>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ReadAll {
    #[prost(message, optional, tag = "1")]
    pub position: Option<Place>,
    #[prost(message, optional, tag = "2")]
    pub start: Option<Nothing>,
    #[prost(message, optional, tag = "3")]
    pub end: Option<Nothing>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Filter {
    #[prost(message, optional, tag = "1")]
    pub stream_name: Option<Expression>,
    #[prost(message, optional, tag = "2")]
    pub event_type: Option<Expression>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Expression {
    #[prost(string, tag = "1")]
    pub regex: String,
    #[prost(string, repeated, tag = "2")]
    pub prefix: Vec<String>,
}

/// One message of the answer to a read.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReadAnswer {
    #[prost(message, optional, tag = "1")]
    pub event: Option<ReadEvent>,
    #[prost(message, optional, tag = "4")]
    pub stream_not_found: Option<Stream>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ReadEvent {
    #[prost(message, optional, tag = "1")]
    pub event: Option<RecordedEvent>,
    #[prost(message, optional, tag = "4")]
    pub no_position: Option<Nothing>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct RecordedEvent {
    #[prost(message, optional, tag = "1")]
    pub id: Option<Id>,
    #[prost(message, optional, tag = "2")]
    pub stream: Option<Stream>,
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    #[prost(uint64, tag = "4")]
    pub prepare: u64,
    #[prost(uint64, tag = "5")]
    pub commit: u64,
    #[prost(map = "string, string", tag = "6")]
    pub metadata: HashMap<String, String>,
    #[prost(bytes = "bytes", tag = "7")]
    pub custom_metadata: Bytes,
    #[prost(bytes = "bytes", tag = "8")]
    pub data: Bytes,
}

/// What a node says of its cluster.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Members {
    #[prost(message, repeated, tag = "1")]
    pub members: Vec<Member>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Member {
    #[prost(message, optional, tag = "1")]
    pub id: Option<Id>,
    /// The numbers are those of [`super::cluster::Role`].
    #[prost(int32, tag = "3")]
    pub state: i32,
    #[prost(bool, tag = "4")]
    pub is_alive: bool,
    #[prost(message, optional, tag = "5")]
    pub endpoint: Option<Endpoint>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Endpoint {
    #[prost(string, tag = "1")]
    pub address: String,
    #[prost(uint32, tag = "2")]
    pub port: u32,
}

/// What a node can do.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Methods {
    #[prost(message, repeated, tag = "1")]
    pub methods: Vec<Method>,
    #[prost(string, tag = "2")]
    pub version: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Method {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub service: String,
}

impl Id {
    pub fn of(id: uuid::Uuid) -> Self {
        Self { halves: None, text: Some(id.to_string()) }
    }
}
