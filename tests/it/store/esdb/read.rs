//! Reads of a stream and of `$all`, in both directions, with a filter by the prefix of stream names.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};

use tokio_stream::Stream;
use tonic::{Code, Response, Status};

use super::faults::{Fault, not_leader, stream_deleted};
use super::log::{Log, Record};
use super::proto::event_store::client::streams::read_req::options::all_options::AllOption;
use super::proto::event_store::client::streams::read_req::options::filter_options::Filter;
use super::proto::event_store::client::streams::read_req::options::stream_options::RevisionOption;
use super::proto::event_store::client::streams::read_req::options::{
    AllOptions, CountOption, FilterOption, ReadDirection, StreamOption, StreamOptions,
};
use super::proto::event_store::client::streams::read_resp::read_event::{Position, RecordedEvent};
use super::proto::event_store::client::streams::read_resp::{Content, ReadEvent, StreamNotFound};
use super::proto::event_store::client::streams::{ReadReq, ReadResp};
use super::proto::event_store::client::{Empty, StreamIdentifier, Uuid as WireUuid, uuid::Value};
use super::server::State;

type Answer = Pin<Box<dyn Stream<Item = Result<ReadResp, Status>> + Send>>;

pub async fn read(state: &Arc<State>, request: ReadReq) -> Result<Response<Answer>, Status> {
    let fault = state.faults.take(Fault::is_of_read);
    match fault {
        Some(Fault::ReadNotLeader { port }) => return Err(not_leader(port)),
        Some(Fault::ReadWithoutLeader) => return Err(Status::not_found("No leader info available")),
        Some(Fault::Denied) => return Err(Status::permission_denied("Access Denied")),
        Some(Fault::ReadHangs) => std::future::pending().await,
        _ => {}
    }
    let options = request.options.ok_or_else(|| Status::invalid_argument("no options"))?;
    let Some(CountOption::Count(count)) = options.count_option else {
        return Err(Status::unimplemented("there are no subscriptions in this test fixture"));
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let backwards = options.read_direction == i32::from(ReadDirection::Backwards);
    let filter = match options.filter_option {
        Some(FilterOption::Filter(filter)) => prefixes(filter.filter)?,
        Some(FilterOption::NoFilter(_)) => vec![String::new()],
        None => return Err(Status::invalid_argument("no filter option")),
    };
    let found = {
        let log = state.log.lock().unwrap_or_else(PoisonError::into_inner);
        match options.stream_option {
            Some(StreamOption::Stream(stream)) => one_stream(&log, &stream, count)?,
            Some(StreamOption::All(all)) => Some(whole_log(&log, &all, &filter, backwards, count)?),
            None => return Err(Status::invalid_argument("nothing to read")),
        }
    };
    let mut answers = match found {
        Some(records) => records.into_iter().map(|record| Ok(event(record))).collect(),
        None => vec![Ok(ReadResp { content: Some(Content::StreamNotFound(StreamNotFound::default())) })],
    };
    if let Some(Fault::ReadBreaksAfter(events)) = fault {
        answers.truncate(events);
        answers.push(Err(Status::new(Code::Unavailable, "connection reset")));
    }
    Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
}

fn prefixes(filter: Option<Filter>) -> Result<Vec<String>, Status> {
    match filter {
        Some(Filter::StreamIdentifier(expression)) if expression.regex.is_empty() && !expression.prefix.is_empty() => {
            Ok(expression.prefix)
        }
        other => Err(Status::unimplemented(format!("this test fixture does not filter by {other:?}"))),
    }
}

fn one_stream(log: &Log, stream: &StreamOptions, count: usize) -> Result<Option<Vec<Record>>, Status> {
    let name = stream.stream_identifier.clone().unwrap_or_default().stream_name;
    let name = String::from_utf8_lossy(&name).into_owned();
    if log.is_tombstoned(&name) {
        return Err(stream_deleted(&name));
    }
    let from = match stream.revision_option {
        Some(RevisionOption::Revision(revision)) => usize::try_from(revision).unwrap_or(usize::MAX),
        Some(RevisionOption::Start(_)) => 0,
        _ => return Err(Status::unimplemented("streams are read forwards in this test fixture")),
    };
    let records =
        |places: &[usize]| places.iter().skip(from).take(count).map(|place| log.records[*place].clone()).collect();
    Ok(log.stream(&name).map(records))
}

fn whole_log(
    log: &Log,
    all: &AllOptions,
    prefixes: &[String],
    backwards: bool,
    count: usize,
) -> Result<Vec<Record>, Status> {
    let matches = |record: &&Record| prefixes.iter().any(|prefix| record.stream.starts_with(prefix));
    let end = log.records.last().map_or((0, 0), |last| (last.commit, last.prepare));
    match (all.all_option, backwards) {
        (Some(AllOption::Start(_)), false) => Ok(log.records.iter().filter(matches).take(count).cloned().collect()),
        (Some(AllOption::End(_)), true) => Ok(log.records.iter().rev().filter(matches).take(count).cloned().collect()),
        (Some(AllOption::Position(from)), false) => {
            let from = (from.commit_position, from.prepare_position);
            if from > end {
                return Err(Status::invalid_argument("the position is beyond the end of the log"));
            }
            let at_or_after = |record: &&Record| (record.commit, record.prepare) >= from;
            Ok(log.records.iter().filter(at_or_after).filter(matches).take(count).cloned().collect())
        }
        _ => Err(Status::unimplemented("no such read in this test fixture")),
    }
}

fn event(record: Record) -> ReadResp {
    let recorded = RecordedEvent {
        id: Some(WireUuid { value: Some(Value::String(record.id.to_string())) }),
        stream_identifier: Some(StreamIdentifier { stream_name: record.stream.into() }),
        stream_revision: record.revision,
        prepare_position: record.prepare,
        commit_position: record.commit,
        metadata: record.metadata,
        custom_metadata: record.custom_metadata,
        data: record.data,
    };
    let position = Some(Position::NoPosition(Empty {}));
    ReadResp { content: Some(Content::Event(ReadEvent { event: Some(recorded), link: None, position })) }
}
