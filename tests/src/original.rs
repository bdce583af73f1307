//! The wire of the Python original, byte by byte: what NNG puts around a message, over plain TCP.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

use crate::wait::SOON;

/// Protocol numbers of nanomsg's scalability protocols.
const BUS: u8 = 0x70;
const REQUEST: u8 = 0x30;
const REPLY: u8 = 0x31;
const PAIR: u8 = 0x10;

/// A connection that has shaken hands.
#[derive(Debug)]
pub struct Wire(TcpStream);

impl Wire {
    /// Connects as a client that asks.
    ///
    /// # Panics
    /// When nobody listens there, or no server of requests.
    pub fn request(port: u16) -> Self {
        Self::connect(port, REQUEST, REPLY)
    }

    /// Connects to the discovery bus.
    ///
    /// # Panics
    /// When nobody listens there, or no bus.
    pub fn bus(port: u16) -> Self {
        Self::connect(port, BUS, BUS)
    }

    /// Connects to a listener for callbacks.
    ///
    /// # Panics
    /// When nobody listens there, or no such listener.
    pub fn pair(port: u16) -> Self {
        Self::connect(port, PAIR, PAIR)
    }

    /// Shakes hands as a listener for callbacks with whoever has connected.
    ///
    /// # Panics
    /// When that is nobody who sends callbacks.
    pub fn paired(stream: TcpStream) -> Self {
        Self::shake_hands(stream, PAIR, PAIR)
    }

    fn connect(port: u16, ours: u8, theirs: u8) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens there");
        Self::shake_hands(stream, ours, theirs)
    }

    fn shake_hands(mut stream: TcpStream, ours: u8, theirs: u8) -> Self {
        stream.set_read_timeout(Some(3 * SOON)).expect("a time limit");
        stream.set_nodelay(true).expect("small messages go at once");
        stream.write_all(&[0, b'S', b'P', 0, 0, ours, 0, 0]).expect("a connection");
        let mut header = [0; 8];
        stream.read_exact(&mut header).expect("the other side shakes hands");
        assert_eq!(header, [0, b'S', b'P', 0, 0, theirs, 0, 0]);
        Self(stream)
    }

    /// Sends a frame: its length, and these bytes.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn send(&mut self, body: &[u8]) {
        let length = u64::try_from(body.len()).expect("a length").to_be_bytes();
        self.0.write_all(&[&length, body].concat()).expect("a connection");
    }

    /// Sends a request under this id.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn ask(&mut self, id: u32, message: impl AsRef<[u8]>) {
        self.send(&[&(id | 0x8000_0000).to_be_bytes(), message.as_ref()].concat());
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the connection is gone, or nothing comes.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 8];
        self.0.read_exact(&mut length)?;
        let length = usize::try_from(u64::from_be_bytes(length)).expect("a length");
        assert!(length < 64 << 20, "{length} bytes");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(body)
    }

    /// The answer to the request under this id, as JSON.
    ///
    /// # Panics
    /// When none comes, or it is no JSON, or answers something else.
    pub fn answer(&mut self, id: u32) -> Value {
        let body = self.receive().expect("an answer");
        assert_eq!(body[..4], (id | 0x8000_0000).to_be_bytes(), "whose answer is it?");
        serde_json::from_slice(&body[4..]).expect("JSON")
    }

    /// Bytes that are no frame.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("a connection");
    }

    /// Whether the other side closes this connection within `limit`.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.0.set_read_timeout(Some(limit)).expect("a time limit");
        match self.0.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// Asks once on a connection of its own, as the original's clients do.
pub fn ask(port: u16, message: impl AsRef<[u8]>) -> Value {
    let mut wire = Wire::request(port);
    wire.ask(1, message);
    wire.answer(1)
}
