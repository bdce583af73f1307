//! The hosts of `--allow-http` and `--allow-tcp`.

use std::{fmt, net::IpAddr, str::FromStr};

/// Maximum characters of a host name.
const HOST_MAX: usize = 253;

/// The hosts that a grant names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// A host, by its name in lower case.
    Name(String),
    /// An address. Loopback, link-local and private addresses are granted only so.
    Ip(IpAddr),
    /// `*.example.com`: every name below this one, in lower case, but not the name itself.
    Below(String),
    /// `*`: every host with a public address.
    Any,
}

/// A text that names no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a host such as api.example.com, 10.0.0.5 or [::1]; *.example.com stands for all names below it, * for all public hosts"
)]
pub struct HostError;

impl HostPattern {
    /// Whether it includes the host of a URL or a lookup: a name, or an address with or without brackets.
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        match (self, address(&host)) {
            (Self::Any, _) => !host.is_empty(),
            (Self::Ip(ip), Some(other)) => *ip == other,
            (Self::Name(name), None) => *name == host,
            (Self::Below(parent), None) => host
                .strip_suffix(parent.as_str())
                .and_then(|below| below.strip_suffix('.'))
                .is_some_and(|it| !it.is_empty()),
            _ => false,
        }
    }

    /// Whether it includes every host of `other`.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Below(parent), Self::Below(below)) => parent == below || self.matches(below),
            (_, Self::Name(name)) => self.matches(name),
            _ => self == other,
        }
    }
}

/// Reads an address, with or without brackets.
fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_label_char = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len()) && label.chars().all(is_label_char) && !label.starts_with('-')
    };
    // The last label of a name is no number, so that no other notation of an address is a name.
    let is_number = |label: &str| {
        let is_hex = |hex: &str| hex.chars().all(|c| c.is_ascii_hexdigit());
        label.chars().all(|c| c.is_ascii_digit()) || label.strip_prefix("0x").is_some_and(is_hex)
    };
    name.len() <= HOST_MAX && name.split('.').all(is_label) && !name.rsplit('.').next().is_some_and(is_number)
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(ip) = address(&text) {
            // Without brackets, its end could be a port.
            return if text.contains(':') && !text.starts_with('[') { Err(HostError) } else { Ok(Self::Ip(ip)) };
        }
        match text.strip_prefix("*.") {
            Some(parent) if is_name(parent) && parent.contains('.') => Ok(Self::Below(parent.to_owned())),
            None if is_name(&text) => Ok(Self::Name(text)),
            _ => Err(HostError),
        }
    }
}

impl fmt::Display for HostPattern {
    /// Writes an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => ip.fmt(f),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Splits `host[:port]`; the port is not 0.
pub(super) fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let end_of_host = text.rfind(']').unwrap_or(0);
    match text[end_of_host..].rsplit_once(':') {
        // More than one colon without brackets is an IPv6 address.
        Some(_) if end_of_host == 0 && text.matches(':').count() > 1 => Some((text, None)),
        Some((rest, port)) => {
            let port = port.parse().ok().filter(|port| *port > 0)?;
            Some((&text[..end_of_host + rest.len()], Some(port)))
        }
        None => Some((text, None)),
    }
}
