//! The wire of the Python original, byte by byte: the frames of NNG over plain TCP.

use std::{io, net::TcpStream, time::Duration};

use serde_json::Value;

use crate::peer::{BUS, PAIR, Peer, REPLY, REQUEST, greeting};

/// A connection after the handshake.
#[derive(Debug)]
pub struct Wire(Peer);

impl Wire {
    /// Connects as a client that sends requests.
    ///
    /// # Panics
    /// When no server of requests listens there.
    pub fn request(port: u16) -> Self {
        Self::connect(port, REQUEST, REPLY)
    }

    /// Connects to the discovery bus.
    ///
    /// # Panics
    /// When no bus listens there.
    pub fn bus(port: u16) -> Self {
        Self::connect(port, BUS, BUS)
    }

    /// Connects to a listener for callbacks.
    ///
    /// # Panics
    /// When no such listener is there.
    pub fn pair(port: u16) -> Self {
        Self::connect(port, PAIR, PAIR)
    }

    /// Completes the handshake with a sender of callbacks.
    ///
    /// # Panics
    /// When it is not a sender of callbacks.
    pub fn accept_pair(stream: TcpStream) -> Self {
        Self::handshake(Peer::from_stream(stream).expect("open connection"), PAIR, PAIR)
    }

    fn connect(port: u16, ours: u8, theirs: u8) -> Self {
        Self::handshake(Peer::connect(port).expect("listener expected"), ours, theirs)
    }

    fn handshake(mut peer: Peer, ours: u8, theirs: u8) -> Self {
        peer.write(&greeting(ours)).expect("open connection");
        assert_eq!(peer.read(8).expect("the other side shakes hands"), greeting(theirs));
        Self(peer)
    }

    /// Sends a frame: its length, and these bytes.
    ///
    /// # Panics
    /// When the connection is closed.
    pub fn send(&mut self, body: &[u8]) {
        self.0.send(body).expect("open connection");
    }

    /// Sends a request under this id.
    ///
    /// # Panics
    /// When the connection is closed.
    pub fn send_request(&mut self, id: u32, message: impl AsRef<[u8]>) {
        self.0.send_request(id, message.as_ref()).expect("open connection");
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the connection is closed, or no frame arrives.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        self.0.receive()
    }

    /// The reply to the request with this id, as JSON.
    ///
    /// # Panics
    /// When none arrives, it is not JSON, or it has another id.
    pub fn receive_reply(&mut self, id: u32) -> Value {
        let body = self.receive().expect("reply expected");
        assert_eq!(body[..4], (id | 0x8000_0000).to_be_bytes(), "reply to another request");
        serde_json::from_slice(&body[4..]).expect("valid JSON")
    }

    /// Sends bytes that are not a frame.
    ///
    /// # Panics
    /// When the connection is closed.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.0.write(bytes).expect("open connection");
    }

    /// Whether the other side closes this connection within `limit`.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.0.is_closed_within(limit)
    }
}

/// Sends one request on its own connection, as clients of the original do, and returns the reply.
pub fn send_request(port: u16, message: impl AsRef<[u8]>) -> Value {
    let mut wire = Wire::request(port);
    wire.send_request(1, message);
    wire.receive_reply(1)
}
