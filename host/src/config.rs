//! Addresses, their defaults, and the check whether one may be exposed.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// Default address of the discovery bus.
pub const DISCOVERY_ADDRESS: &str = "tcp://127.0.0.1:5550";
/// Default base address of the control plane.
pub const BASE_ADDRESS: &str = "tcp://127.0.0.1:5555";
/// Default port for subworkers.
pub const SUBWORKER_PORT: u16 = 5560;
/// Offset of the management socket from the base port; the four ports before it are the priorities.
pub const MANAGEMENT_OFFSET: u16 = 4;

/// A TCP address, written `tcp://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    host: String,
    port: u16,
}

/// A string or port that is not a valid address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAddress {
    /// The string is not an address.
    #[error("'{0}' is not an address: write it like tcp://127.0.0.1:5555")]
    Text(String),
    /// The port is too high: other ports are derived from it.
    #[error("the port of {address} is too high: {offset} more are used after it")]
    Port {
        /// The address.
        address: Address,
        /// Offset of the derived port.
        offset: u16,
    },
}

/// An address that must not be offered to peers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExposureError {
    /// Other machines can reach it, and any of them could run tasks.
    #[error("{0} is reachable from other machines, and any of them could run tasks")]
    NotLoopback(Address),
    /// It is a wildcard address, which peers cannot dial.
    #[error("{0} is not reachable by other hosts")]
    NotDialable(Address),
}

impl Address {
    /// An address that only this machine can reach.
    pub fn loopback(port: u16) -> Self {
        Self { host: "127.0.0.1".into(), port }
    }

    /// The same host with the port `offset` higher.
    ///
    /// # Errors
    /// [`NotAnAddress`] if there is no such port.
    pub fn plus(&self, offset: u16) -> Result<Self, NotAnAddress> {
        let port = self.port.checked_add(offset).ok_or_else(|| NotAnAddress::Port { address: self.clone(), offset })?;
        Ok(self.with_port(port))
    }

    /// The same host, another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port }
    }

    /// The host as written.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host without the brackets of an IPv6 address.
    pub(crate) fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.ip().map_or(self.host == "localhost", |ip| ip.is_loopback())
    }

    /// Whether it stands for all addresses of this machine.
    pub fn is_wildcard(&self) -> bool {
        self.ip().map_or(self.host == "*", |ip| ip.is_unspecified())
    }

    /// Returns the address for peers to dial: `advertised` if given, and else this one.
    ///
    /// # Errors
    /// [`ExposureError`] when this address must not be exposed, or peers cannot dial it.
    pub fn for_peers(&self, advertised: Option<&Address>, insecure: bool) -> Result<Address, ExposureError> {
        if !self.is_loopback() && !insecure {
            return Err(ExposureError::NotLoopback(self.clone()));
        }
        match advertised {
            Some(advertised) if advertised.is_wildcard() => Err(ExposureError::NotDialable(advertised.clone())),
            Some(advertised) => Ok(advertised.clone()),
            None if self.is_wildcard() => Err(ExposureError::NotDialable(self.clone())),
            None => Ok(self.clone()),
        }
    }

    fn ip(&self) -> Option<IpAddr> {
        self.bare_host().parse().ok()
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':'));
        let is_host = |host: &str| !host.is_empty() && !host.contains(|c: char| c == '/' || c == ' ' || c.is_control());
        match parts.map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) if is_host(host) && port > 0 => Ok(Self { host: host.to_owned(), port }),
            _ => Err(NotAnAddress::Text(text.chars().take(128).collect())),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = NotAnAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_round_trip_and_invalid_ones_are_refused() {
        for text in ["tcp://127.0.0.1:5555", "tcp://[::1]:1", "tcp://worker.example:65535"] {
            assert_eq!(address(text).to_string(), text);
        }
        for wrong in ["127.0.0.1:5555", "tcp://:5", "tcp://host", "tcp://host:0", "tcp://host:70000", "ipc:///tmp/x"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
        assert!(address("tcp://h:65535").plus(1).is_err());
    }

    #[test]
    fn an_address_off_loopback_is_offered_only_if_allowed() {
        let wildcard = address("tcp://0.0.0.0:5555");
        let dialable = address("tcp://10.0.0.5:5555");
        assert!(matches!(wildcard.for_peers(Some(&dialable), false), Err(ExposureError::NotLoopback(_))));
        assert!(matches!(wildcard.for_peers(None, true), Err(ExposureError::NotDialable(_))));
        assert_eq!(wildcard.for_peers(Some(&dialable), true), Ok(dialable));
        let loopback = address("tcp://[::1]:5555");
        assert_eq!(loopback.for_peers(None, false), Ok(loopback));
    }
}
