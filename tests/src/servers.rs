//! Servers that tests control, for guests that reach outside of their sandbox. Each connection has its own thread.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use crate::TIMEOUT;

/// A server on a free port of 127.0.0.1.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    connections: Arc<Counter>,
}

/// Counts connections.
#[derive(Debug, Default)]
pub struct Counter {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Counter {
    fn add_one(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Waits until there were this many.
    ///
    /// # Panics
    /// When there are fewer for too long.
    pub fn wait_for(&self, expected: usize) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(count, TIMEOUT, |count| *count < expected);
        let (count, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "there were {} connections instead of {expected}", *count);
    }

    /// How many there were.
    pub fn get(&self) -> usize {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// A server that calls `serve` for each connection.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn tcp(serve: impl Fn(TcpStream, &Counter) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(Counter::default());
        let (serve, counted) = (Arc::new(serve), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (serve, counted) = (Arc::clone(&serve), Arc::clone(&counted));
                counted.add_one();
                thread::spawn(move || serve(stream, &counted));
            }
        });
        Self { address, connections }
    }

    /// An HTTP server that calls `serve` with the first line and the headers of each request.
    pub fn http(serve: impl Fn(&str, &mut TcpStream, &Counter) + Send + Sync + 'static) -> Self {
        Self::tcp(move |mut stream, connections| {
            if let Some(head) = read_until(&mut stream, b"\r\n\r\n") {
                serve(&String::from_utf8_lossy(&head), &mut stream, connections);
                // Closed with a part of the request unread, it would be reset, and the response with it.
                let _ = stream.shutdown(Shutdown::Write);
                wait_for_end(&mut stream);
            }
        })
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections there were.
    pub fn connections(&self) -> &Counter {
        &self.connections
    }
}

/// Reads up to these bytes; none if the connection ends before them.
pub fn read_until(stream: &mut TcpStream, end: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut next = [0];
    while !bytes.ends_with(end) {
        stream.read_exact(&mut next).ok()?;
        bytes.push(next[0]);
    }
    Some(bytes)
}

/// Sends a response with this body.
pub fn respond(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let length = body.len();
    let _ = write!(stream, "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}");
}

/// Waits until the other side closes the connection.
pub fn wait_for_end(stream: &mut TcpStream) {
    let mut rest = [0; 1024];
    while matches!(stream.read(&mut rest), Ok(1..)) {}
}

/// Sends the bytes again and again until the other side closes the connection.
pub fn send_forever(stream: &mut TcpStream, bytes: &[u8]) {
    while stream.write_all(bytes).is_ok() {}
}
