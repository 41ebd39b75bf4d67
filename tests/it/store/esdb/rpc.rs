//! The three services of the protocol as paths: which call goes where. What Sluice does not use is unimplemented.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use prost::Message;
use tonic::body::Body;
use tonic::codec::ProstCodec;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Status, Streaming};
use tower::service_fn;

use super::server::State;
use super::wire;
use super::{calls, cluster, read};

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// Calls on streams.
#[derive(Clone)]
pub struct Streams(pub Arc<State>);

/// Calls about the cluster.
#[derive(Clone)]
pub struct Gossip(pub Arc<State>);

/// The call about what a server can do.
#[derive(Clone)]
pub struct Features(pub Arc<State>);

impl NamedService for Streams {
    const NAME: &'static str = "event_store.client.streams.Streams";
}

impl NamedService for Gossip {
    const NAME: &'static str = "event_store.client.gossip.Gossip";
}

impl NamedService for Features {
    const NAME: &'static str = "event_store.client.server_features.ServerFeatures";
}

fn grpc<Sent: Message + 'static, Received: Message + Default + 'static>() -> Grpc<ProstCodec<Sent, Received>> {
    Grpc::new(ProstCodec::default())
}

fn unimplemented() -> http::Response<Body> {
    Status::unimplemented("not in this test fixture").into_http()
}

/// The name of the method at the end of a path.
fn method(request: &http::Request<Body>) -> String {
    request.uri().path().rsplit('/').next().unwrap_or_default().to_owned()
}

impl Service<http::Request<Body>> for Streams {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            Ok(match method(&request).as_str() {
                "Append" => {
                    let append = service_fn(move |request: Request<Streaming<wire::Append>>| {
                        let state = Arc::clone(&state);
                        async move {
                            let place = state.chain.begin().await;
                            let answer = calls::append(Arc::clone(&state), request).await;
                            state.chain.end(place);
                            answer
                        }
                    });
                    grpc().client_streaming(append, request).await
                }
                "Read" => {
                    let read = service_fn(move |request: Request<wire::Read>| {
                        let state = Arc::clone(&state);
                        async move {
                            let place = state.chain.begin().await;
                            let answer = read::read(Arc::clone(&state), request).await;
                            state.chain.end(place);
                            answer
                        }
                    });
                    grpc().server_streaming(read, request).await
                }
                _ => unimplemented(),
            })
        })
    }
}

impl Service<http::Request<Body>> for Gossip {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let gossip = service_fn(move |_: Request<wire::Nothing>| cluster::gossip(Arc::clone(&state)));
            Ok(grpc().unary(gossip, request).await)
        })
    }
}

impl Service<http::Request<Body>> for Features {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            let features = service_fn(move |_: Request<wire::Nothing>| calls::features(Arc::clone(&state)));
            Ok(grpc().unary(features, request).await)
        })
    }
}
