//! Sets `TCP_NODELAY` on this process's own connections to the event store, since the client offers no way to set it.
//!
//! The client sends a call in two packets. With Nagle's algorithm on, the second waits for the acknowledgement of the
//! first, which Linux delays by 40 ms. So this module sets the option from outside, on the process's sockets whose peer
//! has a port of the event store. ADR 24 says which release of the client makes this file superfluous.

use std::io;

/// Sets the option on every connection of this process to one of these ports, and says how many there are.
///
/// Errors: the descriptors of the process cannot be listed. On systems other than Linux nothing is done.
pub(super) fn set(ports: &[u16]) -> io::Result<usize> {
    each_connection(ports, |socket| socket.set_tcp_nodelay(true)).map(|set| set.len())
}

/// Whether the option is on, for every connection of this process to one of these ports.
pub(super) fn read_back(ports: &[u16]) -> io::Result<Vec<bool>> {
    each_connection(ports, socket2::Socket::tcp_nodelay)
}

/// Applies a function to every TCP connection of this process whose peer has one of these ports. It ignores sockets
/// closed in the meantime.
#[cfg(target_os = "linux")]
fn each_connection<T>(ports: &[u16], act: impl Fn(&socket2::Socket) -> io::Result<T>) -> io::Result<Vec<T>> {
    let mut done = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(Ok(acted)) = with_connection(number, ports, &act) {
            done.push(acted);
        }
    }
    Ok(done)
}

/// Does it with this descriptor if it is a connection to one of the ports.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "the client keeps its sockets to itself, and no safe call borrows a descriptor by number"
)]
fn with_connection<T>(
    number: std::os::fd::RawFd,
    ports: &[u16],
    act: impl Fn(&socket2::Socket) -> io::Result<T>,
) -> Option<io::Result<T>> {
    // SAFETY: the descriptor is never closed, read or written here. It was in the list of open ones a moment ago; should
    // another thread have closed it since, each of the two system calls made with it (getpeername, then getsockopt or
    // setsockopt of TCP_NODELAY) fails with an error that is passed over, and should its number belong to another file by
    // now, they fail too unless that is a TCP connection, which the option does not change in what it carries.
    // It is not duplicated: closing a duplicate of a file would release the locks that SQLite holds on it.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    let socket = socket2::SockRef::from(&borrowed);
    let peer = socket.peer_addr().ok()?.as_socket()?;
    ports.contains(&peer.port()).then(|| act(&socket))
}

#[cfg(not(target_os = "linux"))]
fn each_connection<T>(_: &[u16], _: impl Fn(&socket2::Socket) -> io::Result<T>) -> io::Result<Vec<T>> {
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::{read_back, set};

    #[test]
    fn connections_to_the_ports_and_no_others() {
        let listeners: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let streams: Vec<TcpStream> =
            ports.iter().map(|port| TcpStream::connect(("127.0.0.1", *port)).unwrap()).collect();
        assert_eq!(read_back(&ports[..1]).unwrap(), [false]);
        assert_eq!(set(&ports[..1]).unwrap(), 1);
        assert_eq!(read_back(&ports[..1]).unwrap(), [true]);
        assert!(streams[0].nodelay().unwrap(), "as the standard library reads it");
        assert!(!streams[1].nodelay().unwrap(), "another peer's");
        assert_eq!(set(&[]).unwrap(), 0);
    }
}
