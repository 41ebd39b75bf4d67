//! Reads of a stream and of `$all`, in both directions, with a filter by the prefix of stream names.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status};

use super::calls::requires_leader;
use super::cluster::Standing;
use super::faults::{Fault, no_such_position, not_leader, stream_deleted};
use super::log::{Log, Record};
use super::server::State;
use super::wire;

type Answers = Pin<Box<dyn Stream<Item = Result<wire::ReadAnswer, Status>> + Send>>;

pub async fn read(state: Arc<State>, request: Request<wire::Read>) -> Result<Response<Answers>, Status> {
    state.called(&request);
    let of_all = request.get_ref().options.as_ref().is_some_and(|options| options.all.is_some());
    state.authorize(&request, of_all)?;
    state.admit(requires_leader(&request)).await?;
    let fault = state.faults.take(Fault::is_of_read);
    match fault {
        Some(Fault::ReadNotLeader { port }) => return Err(not_leader(port)),
        Some(Fault::ReadWithoutLeader) => return Err(Status::not_found("No leader info available")),
        Some(Fault::Denied) => return Err(Status::permission_denied("Access Denied")),
        Some(Fault::ReadHangs) => std::future::pending().await,
        _ => {}
    }
    let options = request.into_inner().options.ok_or_else(|| Status::invalid_argument("no options"))?;
    state.reads.fetch_add(1, Ordering::Relaxed);
    state.speak(match (&options.stream, &options.filter, options.direction) {
        (Some(stream), ..) => format!("read of {:?}", stream.stream.as_ref().map(|stream| &stream.name)),
        (None, None, _) => "read of the newest event".to_owned(),
        (None, Some(_), direction) => format!("read of $all, direction {direction}"),
    });
    let found = match find(&state, options)? {
        Found::Stream(records) => records,
        Found::All(scan) => return Ok(Response::new(scan.answers(state, fault.as_ref()))),
    };
    let mut answers = match found {
        Some(records) => records.into_iter().map(|record| Ok(event(record))).collect(),
        None => {
            vec![Ok(wire::ReadAnswer { event: None, stream_not_found: Some(wire::Stream::default()) })]
        }
    };
    if let Some(Fault::ReadBreaksAfter(events)) = fault {
        answers.truncate(events);
        answers.push(Err(Status::new(Code::Unavailable, "connection reset")));
    }
    Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
}

/// What a read asks for.
enum Found {
    /// The records of a stream; none if there is no such stream.
    Stream(Option<Vec<Record>>),
    /// A way through `$all`.
    All(Scan),
}

/// A way through `$all`, taken in small steps, as a server reads page by page: who hangs up ends it.
struct Scan {
    /// The places left to look at.
    places: std::ops::Range<usize>,
    backwards: bool,
    prefixes: Vec<String>,
    left: usize,
}

/// Records that one step looks at.
const STEP: usize = 32;

impl Scan {
    fn answers(mut self, state: Arc<State>, fault: Option<&Fault>) -> Answers {
        let mut until_break = match fault {
            Some(Fault::ReadBreaksAfter(events)) => Some(*events),
            _ => None,
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            while !self.places.is_empty() && self.left > 0 {
                for record in self.step(&state) {
                    if until_break == Some(0) {
                        break;
                    }
                    until_break = until_break.map(|left| left - 1);
                    if sender.send(Ok(event(record))).await.is_err() {
                        return;
                    }
                }
                if sender.is_closed() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            if until_break.is_some() {
                let _ = sender.send(Err(Status::new(Code::Unavailable, "connection reset"))).await;
            }
        });
        Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))
    }

    /// Looks at the next records, and says which of them are wanted.
    fn step(&mut self, state: &State) -> Vec<Record> {
        let log = state.log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        let mut looked_at = 0;
        while looked_at < STEP && self.left > 0 {
            let place = if self.backwards { self.places.next_back() } else { self.places.next() };
            let Some(place) = place else { break };
            looked_at += 1;
            let record = &log.records[place];
            if self.prefixes.iter().any(|prefix| record.stream.starts_with(prefix)) {
                self.left -= 1;
                found.push(record.clone());
            }
        }
        state.looked_at.fetch_add(looked_at as u64, Ordering::Relaxed);
        found
    }
}

fn find(state: &State, options: wire::ReadOptions) -> Result<Found, Status> {
    let count =
        options.count.ok_or_else(|| Status::unimplemented("there are no subscriptions in this test fixture"))?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let filter = match (options.filter, options.no_filter) {
        (Some(filter), _) => prefixes(filter)?,
        (None, Some(_)) => vec![String::new()],
        (None, None) => return Err(Status::invalid_argument("no filter option")),
    };
    let visible = match state.view().standing {
        Standing::Isolated { records } => records,
        _ => usize::MAX,
    };
    let log = state.log.lock().unwrap_or_else(PoisonError::into_inner);
    match (options.stream, options.all) {
        (Some(stream), _) => one_stream(&log, stream, count, visible).map(Found::Stream),
        (None, Some(all)) => {
            let records = &log.records[..visible.min(log.records.len())];
            let backwards = options.direction == 1;
            let places = part_of_log(records, all, backwards)?;
            Ok(Found::All(Scan { places, backwards, prefixes: filter, left: count }))
        }
        (None, None) => Err(Status::invalid_argument("nothing to read")),
    }
}

fn prefixes(filter: wire::Filter) -> Result<Vec<String>, Status> {
    match filter.stream_name {
        Some(expression) if expression.regex.is_empty() && !expression.prefix.is_empty() => Ok(expression.prefix),
        other => Err(Status::unimplemented(format!("this test fixture does not filter by {other:?}"))),
    }
}

fn one_stream(log: &Log, read: wire::ReadStream, count: usize, visible: usize) -> Result<Option<Vec<Record>>, Status> {
    let name = read.stream.unwrap_or_default().name;
    let name = String::from_utf8_lossy(&name).into_owned();
    if log.is_tombstoned(&name) {
        return Err(stream_deleted(&name));
    }
    let from = match (read.revision, read.start) {
        (Some(revision), _) => usize::try_from(revision).unwrap_or(usize::MAX),
        (None, Some(_)) => 0,
        (None, None) => return Err(Status::unimplemented("streams are read forwards in this test fixture")),
    };
    let records = |places: &[usize]| {
        let places = places.iter().filter(|place| **place < visible);
        places.skip(from).take(count).map(|place| log.records[*place].clone()).collect()
    };
    Ok(log.stream(&name).map(records))
}

/// The places of the records from where the read begins to where it ends at the latest.
fn part_of_log(records: &[Record], all: wire::ReadAll, backwards: bool) -> Result<std::ops::Range<usize>, Status> {
    match (all.position, all.start, all.end, backwards) {
        (Some(from), _, _, false) => {
            let from = (from.commit, from.prepare);
            let begin = records.partition_point(|record| (record.commit, record.prepare) < from);
            // The server reads a record where none begins.
            if records.get(begin).is_none_or(|record| (record.commit, record.prepare) != from) {
                return Err(no_such_position());
            }
            Ok(begin..records.len())
        }
        // Backwards, a read begins with the record before the position.
        (Some(from), _, _, true) => {
            let from = (from.commit, from.prepare);
            Ok(0..records.partition_point(|record| (record.commit, record.prepare) < from))
        }
        (None, Some(_), _, false) | (None, _, Some(_), true) => Ok(0..records.len()),
        _ => Err(Status::unimplemented("no such read in this test fixture")),
    }
}

fn event(record: Record) -> wire::ReadAnswer {
    let Record { stream, revision, id, metadata, custom_metadata, data, commit, prepare } = record;
    let stream = Some(wire::Stream { name: stream.into() });
    let recorded = wire::RecordedEvent {
        id: Some(wire::Id::of(id)),
        stream,
        revision,
        prepare,
        commit,
        metadata,
        custom_metadata,
        data,
    };
    let event = Some(wire::ReadEvent { event: Some(recorded), no_position: Some(wire::Nothing {}) });
    wire::ReadAnswer { event, stream_not_found: None }
}
