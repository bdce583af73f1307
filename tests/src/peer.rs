//! A peer that speaks the wire protocol of NNG over plain TCP, correctly or not.
//!
//! Unlike [`crate::original`], it asserts nothing: every method returns the behaviour of the other side, and a closed connection is a
//! result like any other.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::wait::TIMEOUT;

/// Protocol numbers of nanomsg's scalability protocols.
pub const PAIR: u8 = 0x10;
/// A socket that sends requests.
pub const REQUEST: u8 = 0x30;
/// A socket that sends replies.
pub const REPLY: u8 = 0x31;
/// A socket that sends or receives announcements.
pub const BUS: u8 = 0x70;

/// The bit that ends the header of a request.
const LAST_HOP: u32 = 0x8000_0000;

/// A connection.
#[derive(Debug)]
pub struct Peer(TcpStream);

impl Peer {
    /// Connects without a handshake.
    ///
    /// # Errors
    /// When the port is closed.
    pub fn connect(port: u16) -> io::Result<Self> {
        Self::from_stream(TcpStream::connect(("127.0.0.1", port))?)
    }

    /// Uses an open connection.
    ///
    /// # Errors
    /// When it is closed.
    pub fn from_stream(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(3 * TIMEOUT))?;
        stream.set_write_timeout(Some(3 * TIMEOUT))?;
        Ok(Self(stream))
    }

    /// Connects and shakes hands as a socket of this kind.
    ///
    /// # Errors
    /// When the port is closed, or the other side expects another kind of socket.
    pub fn handshake(port: u16, ours: u8) -> io::Result<Self> {
        let mut peer = Self::connect(port)?;
        peer.write(&greeting(ours))?;
        peer.read(8)?;
        Ok(peer)
    }

    /// Writes raw bytes.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Reads a number of bytes.
    ///
    /// # Errors
    /// When the connection is closed, or they do not arrive.
    pub fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Sends a frame: its length, and these bytes.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn send(&mut self, body: &[u8]) -> io::Result<()> {
        self.write(&frame(body))
    }

    /// Sends a request under this id.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn send_request(&mut self, id: u32, message: &[u8]) -> io::Result<()> {
        self.write(&request_frame(id, message))
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the connection is closed, or no frame arrives.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let length = self.read(8)?.try_into().map_or(0, u64::from_be_bytes);
        assert!(length < 64 << 20, "{length} bytes");
        self.read(usize::try_from(length).expect("valid length"))
    }

    /// The next reply: the id of its request, and its body.
    ///
    /// # Errors
    /// When the connection is closed, or no frame arrives.
    pub fn receive_reply(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let frame = self.receive()?;
        let (id, body) = frame.split_first_chunk::<4>().expect("request id of the reply");
        Ok((u32::from_be_bytes(*id) & !LAST_HOP, body.to_vec()))
    }

    /// Sends one request and returns its reply.
    ///
    /// # Errors
    /// When the connection is closed, or no frame arrives.
    pub fn call(&mut self, message: &[u8]) -> io::Result<Vec<u8>> {
        self.send_request(1, message)?;
        self.receive_reply().map(|(_, body)| body)
    }

    /// Whether the other side closes this connection within `limit`, ignoring
    /// the bytes it sends before.
    ///
    /// # Panics
    /// When the system rejects the timeout.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.0.set_read_timeout(Some(limit)).expect("timeout set");
        let mut bytes = [0; 4096];
        loop {
            match self.0.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                // A paused process causes this error.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
                }
            }
        }
    }

    /// Gives up writing after `limit`, as a peer that does not wait for readers.
    ///
    /// # Panics
    /// When the system rejects the timeout.
    pub fn write_within(&mut self, limit: Duration) {
        self.0.set_write_timeout(Some(limit)).expect("timeout set");
    }
}

/// The greeting of a socket of this kind.
pub fn greeting(ours: u8) -> [u8; 8] {
    [0, b'S', b'P', 0, 0, ours, 0, 0]
}

/// A frame: its length, and these bytes.
pub fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u64).to_be_bytes()[..], body].concat()
}

/// The frame of a request under this id.
pub fn request_frame(id: u32, message: &[u8]) -> Vec<u8> {
    frame(&[&(id | LAST_HOP).to_be_bytes()[..], message].concat())
}
