//! `--allow-tcp HOST:PORT`

use std::{fmt, str::FromStr};

use super::host::{HostPattern, split_port};

/// TCP connections to one port of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpGrant {
    /// The host: a name or an address, no pattern.
    pub host: HostPattern,
    /// The port.
    pub port: u16,
}

/// A text that grants no TCP connections.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write HOST:PORT with one host, by name or number, and one port, such as db.example.com:5432 or [::1]:6379")]
pub struct TcpError;

impl TcpGrant {
    /// `tcp:db:5432`
    pub fn name(&self) -> String {
        format!("tcp:{self}")
    }
}

impl FromStr for TcpGrant {
    type Err = TcpError;

    fn from_str(text: &str) -> Result<Self, TcpError> {
        let (host, port) = split_port(text).ok_or(TcpError)?;
        match (host.parse(), port) {
            (Ok(host @ (HostPattern::Name(_) | HostPattern::Ip(_))), Some(port)) => Ok(Self { host, port }),
            _ => Err(TcpError),
        }
    }
}

impl fmt::Display for TcpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
