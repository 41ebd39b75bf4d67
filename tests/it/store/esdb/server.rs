//! The fixture as a server: a port, a runtime of its own, and a switch. Turned off, every connection is gone at once.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use super::calls::{Calls, GossipCalls, NoFeatures};
use super::faults::{Fault, Faults};
use super::log::Log;
use super::proto::event_store::client::gossip::gossip_server::GossipServer;
use super::proto::event_store::client::server_features::server_features_server::ServerFeaturesServer;
use super::proto::event_store::client::streams::streams_server::StreamsServer;

/// What all calls share, and what survives a restart.
pub struct State {
    pub log: Mutex<Log>,
    pub faults: Faults,
    /// How many records there are.
    pub grown: watch::Sender<usize>,
    /// What clients sent as `authorization`.
    pub authorizations: Mutex<Vec<String>>,
    /// Appends that reached this node.
    pub appends: AtomicUsize,
    /// Ports of the nodes of the cluster that this node believes in, the leader first.
    pub members: Mutex<Vec<u16>>,
}

/// The server.
pub struct Fixture {
    pub state: Arc<State>,
    port: u16,
    tls: Option<(String, String)>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Fixture {
    /// An empty server on a free port.
    pub fn start() -> Self {
        Self::with(None, Log::default())
    }

    /// The same behind TLS, with a certificate and its key (PEM).
    pub fn with_tls(certificate: String, key: String) -> Self {
        Self::with(Some((certificate, key)), Log::default())
    }

    fn with(tls: Option<(String, String)>, log: Log) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            log: Mutex::new(log),
            faults: Faults::default(),
            grown: watch::Sender::new(0),
            authorizations: Mutex::default(),
            appends: AtomicUsize::new(0),
            members: Mutex::new(vec![port]),
        });
        let mut fixture = Self { state, port, tls, running: None };
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
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).unwrap();
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
                    .add_service(StreamsServer::new(Calls(Arc::clone(&state))))
                    .add_service(GossipServer::new(GossipCalls(state)))
                    .add_service(ServerFeaturesServer::new(NoFeatures));
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
