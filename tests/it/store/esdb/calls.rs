//! Appends, and what the fixture says that it can do.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tonic::{Code, Request, Response, Status, Streaming};
use uuid::Uuid;

use super::cluster::Standing;
use super::faults::{Fault, append_too_large, handler_threw, not_leader, stream_deleted};
use super::log::{Expected, Outcome, Proposed};
use super::server::State;
use super::wire;

fn id_of(id: Option<wire::Id>) -> Result<Uuid, Status> {
    let id = id.ok_or_else(|| Status::invalid_argument("an event without id"))?;
    match (id.text, id.halves) {
        (Some(text), _) => text.parse().map_err(|_| Status::invalid_argument("id")),
        (None, Some(wire::Halves { most, least })) => {
            Ok(Uuid::from_u64_pair(most.cast_unsigned(), least.cast_unsigned()))
        }
        (None, None) => Err(Status::invalid_argument("an event without id")),
    }
}

fn expected(target: &wire::Target) -> Result<Expected, Status> {
    let alternatives = [
        target.revision.map(Expected::Revision),
        target.no_stream.map(|_| Expected::NoStream),
        target.any.map(|_| Expected::Any),
        target.exists.map(|_| Expected::Exists),
    ];
    alternatives.into_iter().flatten().next().ok_or_else(|| Status::invalid_argument("no expected revision"))
}

fn answer(outcome: Outcome, with_position: bool) -> wire::Appended {
    match outcome {
        Outcome::There { revision, commit, prepare } => {
            let (place, no_place) = if with_position {
                (Some(wire::Place { commit, prepare }), None)
            } else {
                (None, Some(wire::Nothing {}))
            };
            let success = Some(wire::Success { revision: Some(revision), place, no_place });
            wire::Appended { success, wrong_version: None }
        }
        Outcome::WrongVersion(current) => {
            let nothing = Some(wire::Nothing {});
            let current_no_stream = if current.is_none() { nothing } else { None };
            let wrong = wire::WrongVersion { current, current_no_stream, expected_no_stream: nothing };
            wire::Appended { success: None, wrong_version: Some(wrong) }
        }
        Outcome::Tombstoned => unreachable!("a status"),
    }
}

/// The target of an append and its events, as the server takes them.
async fn receive(mut messages: Streaming<wire::Append>) -> Result<(wire::Target, String, Vec<Proposed>), Status> {
    let first = messages.message().await?;
    let Some(target) = first.and_then(|first| first.target) else {
        return Err(Status::invalid_argument("an append begins with its target"));
    };
    let name = target.stream.clone().unwrap_or_default().name;
    let name = String::from_utf8(name.to_vec()).map_err(|_| Status::invalid_argument("stream name"))?;
    let mut events = Vec::new();
    while let Some(message) = messages.message().await? {
        let event = message.event.ok_or_else(|| Status::invalid_argument("a target twice"))?;
        let wire::NewEvent { id, metadata, custom_metadata, data } = event;
        events.push(Proposed { id: id_of(id)?, metadata, custom_metadata, data });
    }
    if name.is_empty() || events.iter().any(|event| event.id.is_nil()) {
        return Err(handler_threw());
    }
    Ok((target, name, events))
}

pub async fn append(
    state: Arc<State>,
    request: Request<Streaming<wire::Append>>,
) -> Result<Response<wire::Appended>, Status> {
    state.called(&request);
    state.authorize(&request, false)?;
    state.admit(requires_leader(&request)).await?;
    state.appends.fetch_add(1, Ordering::Relaxed);
    let (target, name, events) = receive(request.into_inner()).await?;
    state.speak(format!("append to {name}"));
    let bytes: usize = events.iter().map(|event| event.data.len() + event.custom_metadata.len()).sum();
    let max = state.append_bytes_max.load(Ordering::Relaxed);
    if bytes > max {
        return Err(append_too_large(max));
    }
    let fault = state.faults.take(Fault::is_of_append);
    match fault {
        Some(Fault::AppendNotLeader { port }) => return Err(not_leader(port)),
        Some(Fault::AppendTimesOutBefore) => return Err(Status::deadline_exceeded("Operation timed out")),
        Some(Fault::Denied) => return Err(Status::permission_denied("Access Denied")),
        Some(Fault::AppendHangs) => std::future::pending().await,
        _ => {}
    }
    let standing = state.view().standing;
    if let Standing::Isolated { .. } = standing {
        // Without a majority no write is committed, and none is answered.
        return std::future::pending().await;
    }
    let outcome = {
        let mut log = state.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.append(&name, expected(&target)?, events)
    };
    match (fault, outcome) {
        (Some(Fault::AppendTimesOutAfter), _) => Err(Status::deadline_exceeded("Operation timed out")),
        (Some(Fault::AppendLostAfter), _) => Err(Status::new(Code::Unavailable, "connection reset")),
        (_, Outcome::Tombstoned) => Err(stream_deleted(&name)),
        (fault, outcome) => Ok(Response::new(answer(outcome, fault != Some(Fault::AppendWithoutPosition)))),
    }
}

/// The caller wants the leader and nobody else.
pub fn requires_leader<T>(request: &Request<T>) -> bool {
    request.metadata().get("requires-leader").is_some_and(|value| value == "true")
}

pub async fn features(state: Arc<State>) -> Result<Response<wire::Methods>, Status> {
    let standing = state.view().standing;
    if standing == Standing::Frozen {
        std::future::pending::<()>().await;
    }
    let read = wire::Method { name: "read".to_owned(), service: "event_store.client.streams.streams".to_owned() };
    Ok(Response::new(wire::Methods { methods: vec![read], version: "0.0.0".to_owned() }))
}
