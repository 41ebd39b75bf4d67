//! A way to the database that can be cut, for a moment or for longer, or on which nothing passes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// Waits until connections are held, or are not.
async fn until(holding: &mut watch::Receiver<bool>, held: bool) {
    let _ = holding.wait_for(|now| *now == held).await;
}

/// Forwards connections to a server, until it is told to cut or to hold them.
pub struct Proxy {
    address: SocketAddr,
    cut: Arc<Notify>,
    closed: Arc<AtomicBool>,
    held: watch::Sender<bool>,
}

impl Proxy {
    /// In front of the server of a URL.
    pub async fn before(url: &str) -> Self {
        let (_, rest) = url.split_once('@').unwrap();
        let server = rest.split('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, closed) = (Arc::<Notify>::default(), Arc::<AtomicBool>::default());
        let (cutting, closing) = (Arc::clone(&cut), Arc::clone(&closed));
        let (held, holding) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                let Ok((mut client, _)) = listener.accept().await else { continue };
                if closing.load(Ordering::Relaxed) {
                    continue;
                }
                let (server, cutting, mut holding) = (server.clone(), Arc::clone(&cutting), holding.clone());
                tokio::spawn(async move {
                    let cut = cutting.notified();
                    until(&mut holding, false).await;
                    let Ok(mut to) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut to) => {}
                        () = cut => {}
                        // Both ends stay open, and hear nothing until it is over.
                        () = until(&mut holding, true) => until(&mut holding, false).await,
                    }
                });
            }
        });
        Self { address, cut, closed, held }
    }

    /// The URL of the same database on this way.
    pub fn url(&self, of: &str) -> String {
        let (who, rest) = of.split_once('@').unwrap();
        format!("{who}@{}/{}", self.address, rest.split_once('/').unwrap().1)
    }

    /// Cuts every connection, in whatever they are.
    pub fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// From now on there is no way, or there is one again.
    pub fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
        if closed {
            self.cut();
        }
    }

    /// From now on nothing passes, on connections that stand and on new ones, or things pass again.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }
}
