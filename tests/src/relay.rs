//! A relay between workers and their control plane, which drops the state of connections as a firewall does: their
//! packets are discarded silently, while new connections work.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

/// The address of the relay: this machine, but not the address of the control plane.
pub const RELAY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Interval at which a connection checks whether it was dropped.
const STEP: Duration = Duration::from_millis(20);
/// Offset of the number of the first request of a subworker: after the greeting, the length, the request id and the
/// format.
const VERB_AT: usize = 21;

/// The purpose of a connection, by its first request in postcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A slot's requests for work.
    Work = 1,
    /// Heartbeats.
    Beat = 2,
}

/// A listening relay. It ends with the test.
#[derive(Debug)]
pub struct Relay {
    connections: Arc<Mutex<Vec<Arc<Connection>>>>,
}

#[derive(Debug, Default)]
struct Connection {
    is_dropped: AtomicBool,
    verb: AtomicU8,
}

impl Relay {
    /// Relays a port to the same port of 127.0.0.1.
    ///
    /// # Panics
    /// When the port is in use.
    pub fn start(port: u16) -> Self {
        let listener = TcpListener::bind((RELAY, port)).expect("free port");
        let relay = Self { connections: Arc::default() };
        let connections = Arc::clone(&relay.connections);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
                let connection = Arc::new(Connection { verb: AtomicU8::new(u8::MAX), ..Connection::default() });
                connections.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&connection));
                let (to, from) =
                    (client.try_clone().expect("socket cloned"), server.try_clone().expect("socket cloned"));
                let other = Arc::clone(&connection);
                thread::spawn(move || pump(client, from, &connection, true));
                thread::spawn(move || pump(server, to, &other, false));
            }
        });
        relay
    }

    /// Silently drops every connection of this use, or all if none is given. Returns their number.
    pub fn drop_connections(&self, what: Option<Use>) -> usize {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let is_match = |connection: &&Arc<Connection>| {
            what.is_none_or(|what| connection.verb.load(Ordering::SeqCst) == what as u8)
                && !connection.is_dropped.swap(true, Ordering::SeqCst)
        };
        connections.iter().filter(is_match).count()
    }
}

/// Copies bytes until one side closes. Once dropped, it copies nothing and closes nothing.
fn pump(mut from: TcpStream, mut to: TcpStream, connection: &Connection, is_client: bool) {
    from.set_read_timeout(Some(STEP)).expect("timeout set");
    let (mut seen, mut bytes) = (0, vec![0; 64 << 10]);
    loop {
        let is_dropped = || connection.is_dropped.load(Ordering::SeqCst);
        match from.read(&mut bytes) {
            Ok(0) | Err(_) if is_dropped() => thread::park_timeout(STEP),
            Ok(0) => return drop(to.shutdown(std::net::Shutdown::Both)),
            Ok(_) if is_dropped() => {}
            Ok(count) => {
                if is_client && (seen..seen + count).contains(&VERB_AT) {
                    connection.verb.store(bytes[VERB_AT - seen], Ordering::SeqCst);
                }
                seen += count;
                if to.write_all(&bytes[..count]).is_err() {
                    return;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return drop(to.shutdown(std::net::Shutdown::Both)),
        }
    }
}
