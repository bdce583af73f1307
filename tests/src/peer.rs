//! A peer that speaks the wire protocol of NNG over plain TCP, correctly or not.
//!
//! Unlike [`crate::original`], it expects nothing: every method returns what the other side did, and a cut connection is a
//! result like any other.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::wait::TIMEOUT;

/// Protocol numbers of nanomsg's scalability protocols.
pub const PAIR: u8 = 0x10;
/// A socket that asks.
pub const REQUEST: u8 = 0x30;
/// A socket that answers.
pub const REPLY: u8 = 0x31;
/// A socket that hears announcements, or makes them.
pub const BUS: u8 = 0x70;

/// The bit that ends the header of a request.
const LAST_HOP: u32 = 0x8000_0000;

/// A connection.
#[derive(Debug)]
pub struct Peer(TcpStream);

impl Peer {
    /// Connects, and stays silent.
    ///
    /// # Errors
    /// When the port is closed.
    pub fn connect(port: u16) -> io::Result<Self> {
        Self::over(TcpStream::connect(("127.0.0.1", port))?)
    }

    /// Speaks over a connection that is there.
    ///
    /// # Errors
    /// When it is gone.
    pub fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(3 * TIMEOUT))?;
        stream.set_write_timeout(Some(3 * TIMEOUT))?;
        Ok(Self(stream))
    }

    /// Connects and shakes hands as a socket of this kind.
    ///
    /// # Errors
    /// When the port is closed, or the other side expects another kind of socket.
    pub fn shake(port: u16, ours: u8) -> io::Result<Self> {
        let mut peer = Self::connect(port)?;
        peer.write(&greeting(ours))?;
        peer.read(8)?;
        Ok(peer)
    }

    /// Writes bytes, whatever they mean.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Reads a number of bytes.
    ///
    /// # Errors
    /// When the connection is gone, or they do not come.
    pub fn read(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Sends a frame: its length, and these bytes.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send(&mut self, body: &[u8]) -> io::Result<()> {
        self.write(&frame(body))
    }

    /// Sends a request under this id.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn send_request(&mut self, id: u32, message: &[u8]) -> io::Result<()> {
        self.write(&request_frame(id, message))
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the connection is gone, or nothing comes.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        let length = self.read(8)?.try_into().map_or(0, u64::from_be_bytes);
        assert!(length < 64 << 20, "{length} bytes");
        self.read(usize::try_from(length).expect("valid length"))
    }

    /// The next answer: the id it was asked under, and its body.
    ///
    /// # Errors
    /// When the connection is gone, or nothing comes.
    pub fn receive_reply(&mut self) -> io::Result<(u32, Vec<u8>)> {
        let frame = self.receive()?;
        let (id, body) = frame.split_first_chunk::<4>().expect("an answer begins with the id of its request");
        Ok((u32::from_be_bytes(*id) & !LAST_HOP, body.to_vec()))
    }

    /// Asks once and takes the answer.
    ///
    /// # Errors
    /// When the connection is gone, or nothing comes.
    pub fn call(&mut self, message: &[u8]) -> io::Result<Vec<u8>> {
        self.send_request(1, message)?;
        self.receive_reply().map(|(_, body)| body)
    }

    /// Whether the other side closes this connection within `limit`; what it says before is not
    /// looked at.
    ///
    /// # Panics
    /// When the system takes no time limit.
    pub fn is_cut_within(&mut self, limit: Duration) -> bool {
        self.0.set_read_timeout(Some(limit)).expect("timeout set");
        let mut bytes = [0; 4096];
        loop {
            match self.0.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                // So a pause of this process shows.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
                }
            }
        }
    }

    /// Gives up writing after `limit`, as a peer that does not wait for others to read.
    ///
    /// # Panics
    /// When the system takes no time limit.
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
