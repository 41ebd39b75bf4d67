//! The calls that the fixture answers: append, read, gossip, server features. What Sluice does not use is unimplemented.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};
use uuid::Uuid;

use super::faults::{Fault, not_leader, stream_deleted};
use super::log::{Expected, Outcome, Proposed};
use super::proto::event_store::client::gossip::gossip_server::Gossip;
use super::proto::event_store::client::gossip::{ClusterInfo, EndPoint, MemberInfo, member_info::VNodeState};
use super::proto::event_store::client::server_features::server_features_server::ServerFeatures;
use super::proto::event_store::client::server_features::{SupportedMethod, SupportedMethods};
use super::proto::event_store::client::streams::append_req::options::ExpectedStreamRevision;
use super::proto::event_store::client::streams::append_req::{self, ProposedMessage};
use super::proto::event_store::client::streams::append_resp::success::{CurrentRevisionOption, PositionOption};
use super::proto::event_store::client::streams::append_resp::{self, Success, WrongExpectedVersion};
use super::proto::event_store::client::streams::streams_server::Streams;
use super::proto::event_store::client::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq, ReadResp, TombstoneReq,
    TombstoneResp,
};
use super::proto::event_store::client::{Empty, Uuid as WireUuid, uuid::Value};
use super::server::State;

/// Calls on streams.
pub struct Calls(pub Arc<State>);

/// Calls about the cluster.
pub struct GossipCalls(pub Arc<State>);

/// The call about what a server can do.
pub struct NoFeatures;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn no<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not in this test fixture"))
}

fn id_of(id: Option<WireUuid>) -> Result<Uuid, Status> {
    match id.and_then(|id| id.value) {
        Some(Value::String(text)) => text.parse().map_err(|_| Status::invalid_argument("id")),
        Some(Value::Structured(halves)) => Ok(Uuid::from_u64_pair(
            halves.most_significant_bits.cast_unsigned(),
            halves.least_significant_bits.cast_unsigned(),
        )),
        None => Err(Status::invalid_argument("an event without id")),
    }
}

fn proposed(message: ProposedMessage) -> Result<Proposed, Status> {
    let ProposedMessage { id, metadata, custom_metadata, data } = message;
    Ok(Proposed { id: id_of(id)?, metadata, custom_metadata, data })
}

fn expected(options: &append_req::Options) -> Result<Expected, Status> {
    Ok(match options.expected_stream_revision {
        Some(ExpectedStreamRevision::Revision(revision)) => Expected::Revision(revision),
        Some(ExpectedStreamRevision::NoStream(_)) => Expected::NoStream,
        Some(ExpectedStreamRevision::Any(_)) => Expected::Any,
        Some(ExpectedStreamRevision::StreamExists(_)) => Expected::Exists,
        None => return Err(Status::invalid_argument("no expected revision")),
    })
}

fn success(outcome: Outcome, with_position: bool) -> AppendResp {
    let result = match outcome {
        Outcome::There { revision, commit, prepare } => append_resp::Result::Success(Success {
            current_revision_option: Some(CurrentRevisionOption::CurrentRevision(revision)),
            position_option: Some(if with_position {
                let (commit_position, prepare_position) = (commit, prepare);
                PositionOption::Position(append_resp::Position { commit_position, prepare_position })
            } else {
                PositionOption::NoPosition(Empty {})
            }),
        }),
        Outcome::WrongVersion(current) => append_resp::Result::WrongExpectedVersion(wrong_version(current)),
        Outcome::Tombstoned => unreachable!("a status"),
    };
    AppendResp { result: Some(result) }
}

fn wrong_version(current: Option<u64>) -> WrongExpectedVersion {
    use append_resp::wrong_expected_version::{CurrentRevisionOption as Current, ExpectedRevisionOption};
    WrongExpectedVersion {
        current_revision_option: Some(current.map_or(Current::CurrentNoStream(Empty {}), Current::CurrentRevision)),
        expected_revision_option: Some(ExpectedRevisionOption::ExpectedNoStream(Empty {})),
        ..WrongExpectedVersion::default()
    }
}

impl State {
    /// Remembers who called.
    pub fn called<T>(&self, request: &Request<T>) {
        let authorization = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let mut all = self.authorizations.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(authorization.unwrap_or_default().to_owned());
    }
}

#[async_trait]
impl Streams for Calls {
    type ReadStream = Answers<ReadResp>;
    type BatchAppendStream = Answers<BatchAppendResp>;

    async fn read(&self, request: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        self.0.called(&request);
        super::read::read(&self.0, request.into_inner()).await
    }

    async fn append(&self, request: Request<Streaming<AppendReq>>) -> Result<Response<AppendResp>, Status> {
        self.0.called(&request);
        self.0.appends.fetch_add(1, Ordering::Relaxed);
        let mut messages = request.into_inner();
        let Some(append_req::Content::Options(options)) = messages.message().await?.and_then(|first| first.content)
        else {
            return Err(Status::invalid_argument("an append begins with its options"));
        };
        let name = options.stream_identifier.clone().unwrap_or_default().stream_name;
        let name = String::from_utf8(name.to_vec()).map_err(|_| Status::invalid_argument("stream name"))?;
        let mut events = Vec::new();
        while let Some(message) = messages.message().await? {
            let Some(append_req::Content::ProposedMessage(message)) = message.content else {
                return Err(Status::invalid_argument("options twice"));
            };
            events.push(proposed(message)?);
        }
        let fault = self.0.faults.take(Fault::is_of_append);
        match fault {
            Some(Fault::AppendNotLeader { port }) => return Err(not_leader(port)),
            Some(Fault::AppendTimesOutBefore) => return Err(Status::deadline_exceeded("Operation timed out")),
            Some(Fault::AppendTooLarge) => return Err(Status::invalid_argument("Maximum Append Size of 1 Exceeded.")),
            Some(Fault::Denied) => return Err(Status::permission_denied("Access Denied")),
            Some(Fault::AppendHangs) => std::future::pending().await,
            _ => {}
        }
        let outcome = {
            let mut log = self.0.log.lock().unwrap_or_else(PoisonError::into_inner);
            let outcome = log.append(&name, expected(&options)?, events);
            self.0.grown.send_replace(log.records.len());
            outcome
        };
        match (fault, outcome) {
            (Some(Fault::AppendTimesOutAfter), _) => Err(Status::deadline_exceeded("Operation timed out")),
            (Some(Fault::AppendLostAfter), _) => Err(Status::new(Code::Unavailable, "connection reset")),
            (_, Outcome::Tombstoned) => Err(stream_deleted(&name)),
            (fault, outcome) => Ok(Response::new(success(outcome, fault != Some(Fault::AppendWithoutPosition)))),
        }
    }

    async fn delete(&self, _: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        no()
    }

    async fn tombstone(&self, _: Request<TombstoneReq>) -> Result<Response<TombstoneResp>, Status> {
        no()
    }

    async fn batch_append(
        &self,
        _: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        no()
    }
}

#[async_trait]
impl Gossip for GossipCalls {
    async fn read(&self, _: Request<Empty>) -> Result<Response<ClusterInfo>, Status> {
        let members = self.0.members.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let member = |(place, port): (usize, u16)| MemberInfo {
            instance_id: Some(WireUuid { value: Some(Value::String(Uuid::from_u128(u128::from(port)).to_string())) }),
            time_stamp: 0,
            state: (if place == 0 { VNodeState::Leader } else { VNodeState::Follower }).into(),
            is_alive: true,
            http_end_point: Some(EndPoint { address: "127.0.0.1".to_owned(), port: port.into() }),
        };
        Ok(Response::new(ClusterInfo { members: members.into_iter().enumerate().map(member).collect() }))
    }
}

#[async_trait]
impl ServerFeatures for NoFeatures {
    async fn get_supported_methods(&self, _: Request<Empty>) -> Result<Response<SupportedMethods>, Status> {
        let method = SupportedMethod {
            method_name: "read".to_owned(),
            service_name: "event_store.client.streams.streams".to_owned(),
            features: Vec::new(),
        };
        Ok(Response::new(SupportedMethods { methods: vec![method], event_store_server_version: "0.0.0".to_owned() }))
    }
}
