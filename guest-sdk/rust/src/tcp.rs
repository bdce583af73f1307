//! TCP connections, with the feature `tcp`.
//!
//! A module connects only to the hosts and ports that the operator grants to it:
//! `--allow-tcp db.example.com:5432`. Everything else fails with
//! [`PermissionDenied`](io::ErrorKind::PermissionDenied), and the log of the task names the option
//! that is missing. A granted name leads to public addresses; loopback and private ones have to be
//! granted by number.
//!
//! ```no_run
//! use std::io::{BufRead, BufReader, Write};
//!
//! use fastworker_guest::tcp::TcpStream;
//! use fastworker_guest::{TaskError, task};
//!
//! #[task]
//! fn ping(host: &str, port: u16) -> Result<String, std::io::Error> {
//!     let mut stream = TcpStream::connect(host, port)?;
//!     stream.write_all(b"PING\r\n")?;
//!     let mut reply = String::new();
//!     BufReader::new(stream).read_line(&mut reply)?;
//!     Ok(reply)
//! }
//! # fn main() {}
//! ```

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

#[cfg_attr(target_family = "wasm", path = "tcp/wasi.rs")]
#[cfg_attr(not(target_family = "wasm"), path = "tcp/native.rs")]
mod system;

/// A TCP connection. It closes when it is dropped.
pub struct TcpStream(system::Stream);

impl TcpStream {
    /// Connects to a host: a name or an address. Waits until the attempt's deadline.
    ///
    /// # Errors
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) if the host and port are not granted;
    /// otherwise that of the look-up, or of the last address that was tried.
    pub fn connect(host: &str, port: u16) -> io::Result<Self> {
        system::Stream::connect(host, port, None).map(Self)
    }

    /// Connects to a host within a duration, which is also the timeout of each read and write.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut) if that takes longer; otherwise like [`connect`](Self::connect).
    pub fn connect_timeout(host: &str, port: u16, timeout: Duration) -> io::Result<Self> {
        system::Stream::connect(host, port, Some(timeout)).map(Self)
    }

    /// Sets the timeout of each read and write; none to wait until the attempt's deadline.
    ///
    /// # Errors
    /// If the timeout is zero.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the timeout of a connection cannot be zero"));
        }
        self.0.set_timeout(timeout)
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpStream").finish_non_exhaustive()
    }
}
