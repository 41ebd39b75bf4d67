//! Connections: how many there may be at a time, and how long a client may take.
//!
//! A client must send the head of a request in time, however slowly; between two requests a connection may be idle for
//! longer. A client must also read the answer: the server closes a connection whose bytes nobody reads. A live tail or
//! a WebSocket with nothing to say in either direction stays open.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::rt::{Sleep, Timer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::admission::{Networks, Peer, PlaceBounds, Places};
use crate::limits::Limits;

/// Answers what comes in at `listener` until `stop`; then lets the requests that have begun finish.
pub(super) async fn serve(
    mut listener: TcpListener,
    router: Router,
    limits: &Limits,
    proxies: &Networks,
    stop: CancellationToken,
) {
    let idle = limits.keep_alive;
    let places = Places::new(PlaceBounds {
        all: limits.connections_max,
        strangers: limits.stranger_connections_max,
        per_address: limits.address_connections_max,
    });
    let tasks = TaskTracker::new();
    loop {
        let arrival = async {
            // axum's way: what is wrong with one connection, or a lack of files, is waited out.
            let (stream, from) = Listener::accept(&mut listener).await;
            let address = from.ip().to_canonical();
            let trusted = proxies.contains(address);
            let place = places.enter((!trusted).then_some(address)).await;
            (stream, Peer { address, trusted, place })
        };
        let (stream, peer) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            arrived = arrival => arrived,
        };
        let heard = Arc::new(AtomicBool::new(false));
        let timer =
            HeadTimer { head: limits.request_head, idle, heard: Arc::clone(&heard), first: AtomicBool::new(true) };
        let stream = Guarded {
            stream,
            arrived: heard,
            write_within: limits.write_stall,
            stalled: None,
            shut: Box::pin(peer.place.shut().clone().cancelled_owned()),
            peer: peer.clone(),
        };
        tasks.spawn(answer(stream, peer, timer, idle, router.clone(), stop.clone()));
    }
    // From now on the system refuses new connections immediately.
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Answers the requests of one connection.
async fn answer(
    stream: Guarded,
    peer: Peer,
    timer: HeadTimer,
    idle: Duration,
    router: Router,
    stop: CancellationToken,
) {
    let (from, shut) = (peer.address, peer.place.shut().clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (router, peer) = (router.clone(), peer.clone());
        async move {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = http1::Builder::new()
        .timer(timer)
        .header_read_timeout(idle)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // Another connection needs the place. One that is a WebSocket by now ends by itself.
        () = shut.cancelled() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "a connection ended");
    }
}

/// A connection that reports incoming data, that ends when it must close in favour of another or when nobody reads
/// its bytes, and that keeps its slot for as long as it is open, even as a WebSocket.
struct Guarded {
    stream: TcpStream,
    arrived: Arc<AtomicBool>,
    write_within: Duration,
    /// Since when it waits to write, as the end of its patience.
    stalled: Option<Pin<Box<tokio::time::Sleep>>>,
    shut: Pin<Box<WaitForCancellationFutureOwned>>,
    peer: Peer,
}

impl Guarded {
    /// An error once the connection must close in favour of another.
    fn poll_shut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.shut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the place is needed")),
            Poll::Pending => Ok(()),
        }
    }

    /// What came of a write; an error once nothing was taken for too long.
    fn written(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        let within = self.write_within;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
        if stalled.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        tracing::info!(from = %self.peer.address, "a client did not read its answer: its connection is closed");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_shut(cx)?;
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.arrived.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_shut(cx)?;
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_shut(cx)?;
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.written(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// How long to wait for the next head. The HTTP library has one time-out for idling and head together and requests a
/// timer whenever it begins to wait; this one allows longer idling, and restarts at a head's first byte.
struct HeadTimer {
    head: Duration,
    idle: Duration,
    heard: Arc<AtomicBool>,
    first: AtomicBool,
}

impl Timer for HeadTimer {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        self.heard.store(false, Ordering::Relaxed);
        // A new connection has no reason to be idle.
        let begun = self.first.swap(false, Ordering::Relaxed);
        let wait = if begun { self.head } else { self.idle };
        let sleep = Box::pin(tokio::time::sleep(wait));
        Box::pin(Wait { sleep, begun, head: self.head, heard: Arc::clone(&self.heard) })
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

/// Ends when a head is overdue.
struct Wait {
    sleep: Pin<Box<tokio::time::Sleep>>,
    begun: bool,
    head: Duration,
    heard: Arc<AtomicBool>,
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.begun && self.heard.load(Ordering::Relaxed) {
            self.begun = true;
            let until = tokio::time::Instant::now() + self.head;
            self.sleep.as_mut().reset(until);
        }
        self.sleep.as_mut().poll(cx)
    }
}

impl Sleep for Wait {}
