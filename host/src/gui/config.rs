//! The configuration of the web server, and its errors.

use std::{fmt, io, net::Ipv6Addr};

/// The default port.
pub const PORT: u16 = 8080;
/// The default host.
pub const HOST: &str = "127.0.0.1";
/// Maximum length of an API key.
const KEY_MAX: usize = 512;

/// The address of the web server, and its key.
#[derive(Clone, Debug)]
pub struct GuiConfig {
    /// A host name or an IP address.
    pub host: String,
    /// The port; 0 for any free port. None is [`PORT`], or no server at all if that is in use.
    pub port: Option<u16>,
    /// The key that every request must carry.
    pub api_key: Option<ApiKey>,
}

impl Default for GuiConfig {
    fn default() -> Self {
        Self { host: HOST.into(), port: None, api_key: None }
    }
}

/// A separate address for health checks and metrics only, so that load on the web interface does not affect them.
#[derive(Clone, Debug)]
pub struct HealthConfig {
    /// The address to listen on.
    pub address: HealthAddress,
    /// The key that requests for metrics must carry. The health checks need none.
    pub api_key: Option<ApiKey>,
}

/// A host and a port to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthAddress {
    /// A host name or an IP address.
    host: String,
    /// The port; 0 for any free port.
    port: u16,
}

/// The error for a string that is not a health address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a host and a port, such as 127.0.0.1:8081 or 0.0.0.0:8081")]
pub struct NotAHealthAddress;

impl std::str::FromStr for HealthAddress {
    type Err = NotAHealthAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(NotAHealthAddress)?;
        let port = port.parse().map_err(|_| NotAHealthAddress)?;
        let ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let ipv6 = ipv6.filter(|host| host.parse::<Ipv6Addr>().is_ok());
        let host = ipv6.unwrap_or(host);
        let is_host = !host.is_empty() && (ipv6.is_some() || !host.contains([':', '/', '[', ']', ' ']));
        if is_host { Ok(Self { host: host.to_owned(), port }) } else { Err(NotAHealthAddress) }
    }
}

impl fmt::Display for HealthAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl HealthAddress {
    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A secret that requests must carry. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// The error for a string that is not a valid API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an API key is 1 to {KEY_MAX} visible ASCII characters, without spaces")]
pub struct NotAKey;

impl std::str::FromStr for ApiKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_valid = !text.is_empty() && text.len() <= KEY_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_valid { Ok(Self(text.to_owned())) } else { Err(NotAKey) }
    }
}

impl ApiKey {
    /// The secret, to compare it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The error of a web server that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GuiError {
    /// Cannot listen on the address of the web interface.
    #[error("the web interface cannot listen on {host}:{port}: {error}")]
    Listen {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The reason.
        error: io::Error,
    },
    /// Cannot listen on the health address.
    #[error("cannot listen on the health address {address}: {error}")]
    Health {
        /// The address.
        address: HealthAddress,
        /// The reason.
        error: io::Error,
    },
    /// The address is not loopback, and there is no key.
    #[error(
        "the web interface on {0} is reachable from other machines, and anyone who can reach it can read results and \
         cancel tasks"
    )]
    Exposed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_checked_and_never_printed() {
        assert!("".parse::<ApiKey>().is_err() && "with space".parse::<ApiKey>().is_err());
        assert!("x".repeat(KEY_MAX + 1).parse::<ApiKey>().is_err());
        let config = GuiConfig { api_key: "secret".parse().ok(), ..GuiConfig::default() };
        assert!(config.api_key.is_some() && !format!("{config:?}").contains("secret"));
    }

    #[test]
    fn a_health_address_is_a_host_and_a_port() {
        for (text, host, port) in
            [("127.0.0.1:8081", "127.0.0.1", 8081), ("[::]:0", "::", 0), ("localhost:80", "localhost", 80)]
        {
            let address: HealthAddress = text.parse().expect("an address");
            assert_eq!((address.host(), address.port(), address.to_string().as_str()), (host, port, text));
        }
        for wrong in ["", "8081", ":8081", "::1:8081", "host:port", "tcp://10.0.0.1:80", "[host]:1", "a b:1", "x:65536"]
        {
            assert!(wrong.parse::<HealthAddress>().is_err(), "{wrong}");
        }
    }
}
