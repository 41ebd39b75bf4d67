//! The fixture as a server: a port, a runtime of its own, and a switch. Turned off, every connection is gone at once.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Status};

use super::chain::Chain;
use super::cluster::View;
use super::faults::{Fault, Faults};
use super::log::Log;
use super::rpc::{Features, Gossip, Streams};

/// The largest append that the server takes unless it is configured otherwise, in bytes.
const APPEND_BYTES_MAX: usize = 1_048_576;

/// What all calls share, and what survives a restart.
pub struct State {
    /// Nodes of a cluster have one log.
    pub log: Arc<Mutex<Log>>,
    pub faults: Faults,
    /// What clients sent as `authorization`.
    pub authorizations: Mutex<Vec<String>>,
    /// Who may call, by the header `authorization`, and whether they may read `$all`; empty: everybody.
    pub users: Mutex<HashMap<String, bool>>,
    /// Appends that reached this node, and reads.
    pub appends: AtomicUsize,
    pub reads: AtomicUsize,
    /// The last calls, in words.
    pub spoken: Mutex<VecDeque<String>>,
    /// How long each call is held, and which calls followed which.
    pub chain: Chain,
    /// Events that reads of `$all` have looked at, whether they brought them or not.
    pub looked_at: AtomicU64,
    pub append_bytes_max: AtomicUsize,
    /// The node's part in its cluster.
    pub view: Mutex<View>,
}

/// How many calls are remembered.
const SPOKEN_MAX: usize = 12;

impl State {
    /// Remembers a call.
    pub fn speak(&self, call: String) {
        let mut spoken = self.spoken.lock().unwrap_or_else(PoisonError::into_inner);
        spoken.push_back(call);
        let surplus = spoken.len().saturating_sub(SPOKEN_MAX);
        spoken.drain(..surplus);
    }

    /// The last calls, in words.
    pub fn said(&self) -> Vec<String> {
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Remembers who called.
    pub fn called<T>(&self, request: &Request<T>) {
        let mut all = self.authorizations.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(authorization(request).to_owned());
    }

    /// Refuses who may not call.
    pub fn authorize<T>(&self, request: &Request<T>, all: bool) -> Result<(), Status> {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        match users.get(authorization(request)) {
            None if users.is_empty() => Ok(()),
            None => Err(Status::unauthenticated("Authentication Failed")),
            Some(false) if all => Err(Status::permission_denied("Access Denied")),
            Some(_) => Ok(()),
        }
    }
}

fn authorization<T>(request: &Request<T>) -> &str {
    request.metadata().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The server.
pub struct Fixture {
    pub state: Arc<State>,
    host: Ipv4Addr,
    port: u16,
    tls: Option<(String, String)>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Fixture {
    /// An empty server on a free port.
    pub fn start() -> Self {
        Self::on(Arc::default())
    }

    /// A node with this log.
    pub fn on(log: Arc<Mutex<Log>>) -> Self {
        Self::with(Ipv4Addr::LOCALHOST, None, log)
    }

    /// The same behind TLS, with a certificate and its key (PEM).
    pub fn with_tls(certificate: String, key: String) -> Self {
        Self::with_tls_at(Ipv4Addr::LOCALHOST, certificate, key)
    }

    /// The same at another address of this machine.
    pub fn with_tls_at(host: Ipv4Addr, certificate: String, key: String) -> Self {
        Self::with(host, Some((certificate, key)), Arc::default())
    }

    fn with(host: Ipv4Addr, tls: Option<(String, String)>, log: Arc<Mutex<Log>>) -> Self {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            log,
            faults: Faults::default(),
            authorizations: Mutex::default(),
            users: Mutex::default(),
            appends: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            spoken: Mutex::default(),
            chain: Chain::default(),
            looked_at: AtomicU64::new(0),
            append_bytes_max: AtomicUsize::new(APPEND_BYTES_MAX),
            view: Mutex::new(View::alone(port)),
        });
        let mut fixture = Self { state, host, port, tls, running: None };
        fixture.serve(listener);
        fixture
    }

    /// The address for a client, in plain text. A client waits between attempts to connect, before the first too.
    pub fn address(&self) -> String {
        format!("esdb://127.0.0.1:{}?tls=false&discoveryInterval=1", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.faults.plan(faults);
    }

    /// Every planned fault has happened.
    pub fn assert_no_fault_left(&self) {
        assert_eq!(self.state.faults.left(), 0, "a planned fault did not happen");
    }

    /// How many appends came here.
    pub fn appends(&self) -> usize {
        self.state.appends.load(Ordering::Relaxed)
    }

    /// How many events reads of `$all` have looked at.
    pub fn looked_at(&self) -> u64 {
        self.state.looked_at.load(Ordering::Relaxed)
    }

    /// Calls that were answered on streams: reads and appends.
    pub fn calls(&self) -> usize {
        self.state.reads.load(Ordering::Relaxed) + self.appends()
    }

    /// Other programs write so many events.
    pub fn others_write(&self, events: usize) {
        self.log().others_write(events);
    }

    pub fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.state.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pulls the plug: connections end in the middle of whatever they do.
    pub fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            thread.join().unwrap();
        }
    }

    /// Starts again at the same port with the same log.
    pub fn restart(&mut self) {
        self.stop();
        let listener = TcpListener::bind((self.host, self.port)).unwrap();
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (state, tls) = (Arc::clone(&self.state), self.tls.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let incoming = TcpListenerStream::new(listener).map(|socket| {
                    let socket = socket?;
                    socket.set_nodelay(true)?;
                    Ok::<_, std::io::Error>(socket)
                });
                let mut server = Server::builder();
                if let Some((certificate, key)) = tls {
                    let config = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
                    server = server.tls_config(config).unwrap();
                }
                let server = server
                    .add_service(Streams(Arc::clone(&state)))
                    .add_service(Gossip(Arc::clone(&state)))
                    .add_service(Features(state));
                tokio::select! {
                    ended = server.serve_with_incoming(incoming) => ended.unwrap(),
                    _ = stopped => {}
                }
            });
            // What its connections were doing is dropped with the runtime.
            runtime.shutdown_background();
        });
        self.running = Some((stop, thread));
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some((stop, _)) = self.running.take() {
            let _ = stop.send(());
        }
    }
}
