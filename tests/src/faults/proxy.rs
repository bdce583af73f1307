//! A network that can fail: a proxy between the control plane and its clients.
//!
//! It listens on the ports of the control plane at another address of this machine, which the control plane announces. It
//! needs no privileges: it stops copying bytes, or closes connections.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// The address of the proxy; all of 127.0.0.0/8 is this machine.
pub(super) const HOST: &str = "127.0.0.2";
/// Interval at which a stopped connection checks whether to continue.
const STEP: Duration = Duration::from_millis(5);

/// A proxy. Dropped, it closes all of its connections.
#[derive(Debug)]
pub(super) struct Proxy(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Nothing gets through, on old connections or new ones.
    silent: AtomicBool,
    /// Delay of everything that passes, in milliseconds.
    delay: AtomicU64,
    over: AtomicBool,
    connections: Mutex<Vec<Arc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    ends: [TcpStream; 2],
    /// Nothing gets through any more, for good.
    dropped: AtomicBool,
    closed: AtomicBool,
}

impl Proxy {
    /// Listens on these ports of [`HOST`], for the same ports of `127.0.0.1`.
    ///
    /// # Panics
    /// When a port is in use.
    pub(super) fn start(ports: &[u16]) -> Self {
        let shared = Arc::new(Shared::default());
        for port in ports {
            let listener = TcpListener::bind((HOST, *port)).expect("the port is this test's at every address");
            let (shared, target) = (Arc::clone(&shared), SocketAddr::from(([127, 0, 0, 1], *port)));
            listener.set_nonblocking(true).expect("nonblocking listener");
            thread::spawn(move || {
                while !shared.over.load(Ordering::SeqCst) {
                    match listener.accept() {
                        Ok((stream, _)) => shared.connect(stream, target),
                        Err(_) => thread::park_timeout(STEP),
                    }
                }
            });
        }
        Self(shared)
    }

    /// Nothing gets through, as if a cable were out, until [`Proxy::heal`].
    pub(super) fn cut(&self) {
        self.0.silent.store(true, Ordering::SeqCst);
    }

    /// Delays everything that passes, until [`Proxy::heal`].
    pub(super) fn delay(&self, span: Duration) {
        self.0.delay.store(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Everything gets through again, on the old connections as well.
    pub(super) fn heal(&self) {
        self.0.silent.store(false, Ordering::SeqCst);
        self.0.delay.store(0, Ordering::SeqCst);
    }

    /// Silences the open connections without a notice; new ones work. A firewall that drops its state behaves like this.
    pub(super) fn drop_connections(&self) {
        self.each(|connection| connection.dropped.store(true, Ordering::SeqCst));
    }

    /// Closes the open connections.
    pub(super) fn reset(&self) {
        self.each(Connection::close);
    }

    fn each(&self, act: impl Fn(&Connection)) {
        let mut connections = self.0.connections.lock().expect("no panic while locked");
        connections.retain(|connection| !connection.closed.load(Ordering::SeqCst));
        connections.iter().for_each(|connection| act(connection));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
        self.reset();
    }
}

impl Connection {
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for end in &self.ends {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    /// Connects a client to the target through a separate connection.
    fn connect(self: &Arc<Self>, stream: TcpStream, target: SocketAddr) {
        // Connections to a closed port end immediately.
        let Ok(other) = TcpStream::connect(target) else { return };
        for end in [&stream, &other] {
            let _ = end.set_nonblocking(false);
            let _ = end.set_nodelay(true);
            let _ = end.set_read_timeout(Some(4 * STEP));
        }
        let ends = [stream, other];
        let connection = Arc::new(Connection { ends, dropped: AtomicBool::default(), closed: AtomicBool::default() });
        self.connections.lock().expect("no panic while locked").push(Arc::clone(&connection));
        for from in 0..2 {
            let (shared, connection) = (Arc::clone(self), Arc::clone(&connection));
            thread::spawn(move || {
                shared.copy(&connection, from);
                connection.close();
            });
        }
    }

    /// Copies bytes from one end to the other, until either is closed.
    fn copy(&self, connection: &Connection, from: usize) {
        let (mut reader, mut writer) = (&connection.ends[from], &connection.ends[1 - from]);
        let mut bytes = vec![0; 64 * 1024];
        let is_closed = || connection.closed.load(Ordering::SeqCst);
        let is_stopped = || self.silent.load(Ordering::SeqCst) || connection.dropped.load(Ordering::SeqCst);
        while !is_closed() {
            // While stopped, it does not read, as it would then forward a close as well.
            if is_stopped() {
                thread::park_timeout(STEP);
                continue;
            }
            let count = match reader.read(&mut bytes) {
                Ok(0) => 0,
                Ok(count) => count,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
                {
                    continue;
                }
                Err(_) => return,
            };
            let delay = Duration::from_millis(self.delay.load(Ordering::SeqCst));
            if !delay.is_zero() {
                thread::park_timeout(delay);
            }
            while is_stopped() && !is_closed() {
                thread::park_timeout(STEP);
            }
            if count == 0 || writer.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
    }
}
