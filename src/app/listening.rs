//! The server's address, kept with the database, so that commands can find the server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{App, AppError};

/// The key under which a database keeps where its server listens: machine and address.
const LISTENING: &str = "listening";

impl App {
    /// Keeps where this server listens.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn listens_at(&self, address: SocketAddr) -> Result<(), AppError> {
        Ok(self.meta.set(LISTENING, &format!("{} {address}", machine())).await?)
    }

    /// Where a server of this machine listened last, as this machine reaches it.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn listened_at(&self) -> Result<Option<SocketAddr>, AppError> {
        let kept = self.meta.get(LISTENING).await?;
        let address = kept.as_deref().and_then(|kept| kept.split_once(' ')).filter(|(on, _)| *on == machine());
        Ok(address.and_then(|(_, address)| address.parse().ok()).map(reached))
    }
}

/// An address as this machine reaches it: one that stands for all is the machine itself.
pub fn reached(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The name of this machine, as far as it says one.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.split_whitespace().collect()
}
