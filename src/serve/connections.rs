//! Connections: how many there may be at a time, and how long one may take to say what it wants.
//!
//! Whoever connects must send the head of a request in time, byte by byte or not at all; between two requests a
//! connection may rest for longer. What has been asked is not looked at any more: a live tail or a WebSocket lives on.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::limits::Limits;

/// How often it is said that there is no place.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// Answers what comes in at `listener` until `stop`; then lets the requests that have begun finish.
pub(super) async fn serve(mut listener: TcpListener, router: Router, limits: &Limits, stop: CancellationToken) {
    let (idle, most) = (limits.keep_alive, limits.connections_max);
    let mut places = Places { free: Arc::new(Semaphore::new(most)), most, said: None };
    let tasks = TaskTracker::new();
    loop {
        let arrival = async {
            let place = places.take().await;
            // axum's way: what is wrong with one connection, or a lack of files, is waited out.
            (Listener::accept(&mut listener).await, place)
        };
        let ((stream, from), place) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            arrived = arrival => arrived,
        };
        let heard = Arc::new(AtomicBool::new(false));
        let patience =
            Patience { head: limits.request_head, idle, heard: Arc::clone(&heard), first: AtomicBool::new(true) };
        let stream = Heard { stream, arrived: heard, _place: place };
        tasks.spawn(answer(stream, from, patience, idle, router.clone(), stop.clone()));
    }
    // Whoever knocks now is refused by the system at once.
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Answers the requests of one connection.
async fn answer(
    stream: Heard,
    from: SocketAddr,
    patience: Patience,
    idle: Duration,
    router: Router,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        async move {
            let request: Request = request.map(Body::new);
            Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = http1::Builder::new()
        .timer(patience)
        .header_read_timeout(idle)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "a connection ended");
    }
}

/// The places for connections. Whoever finds none waits in the system's queue, and is served when one leaves.
struct Places {
    free: Arc<Semaphore>,
    most: usize,
    said: Option<Instant>,
}

impl Places {
    async fn take(&mut self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Some(place);
        }
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            tracing::warn!(connections_max = self.most, "all places are taken: further connections wait");
        }
        // Nobody closes the semaphore.
        Arc::clone(&self.free).acquire_owned().await.ok()
    }
}

/// A connection that says when something arrives, and keeps its place for as long as it is open, as a WebSocket too.
struct Heard {
    stream: TcpStream,
    arrived: Arc<AtomicBool>,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Heard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.arrived.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
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
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// How long the next head is waited for. The HTTP library knows one time for rest and head together and asks for a timer
/// whenever it begins to wait; this one is longer for the rest, and counts anew from a head's first byte.
struct Patience {
    head: Duration,
    idle: Duration,
    heard: Arc<AtomicBool>,
    first: AtomicBool,
}

impl Timer for Patience {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        self.heard.store(false, Ordering::Relaxed);
        // Who has just connected has no reason to rest.
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
