//! What an attempt was refused, in words that name the option which grants it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::{
    super::{grants::HttpGrant, output::cut},
    address,
    destination::{Destination, Host},
};
use crate::{system, task::LimitKind};

/// Maximum bytes of a path in a refusal.
const PATH_MAX: usize = 200;

/// Something that is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    what: String,
    why: String,
    option: String,
}

impl Refusal {
    /// A request that no grant includes. `is_known` is whether one includes other requests to the same host and port.
    pub(super) fn http(method: &str, to: &Destination, is_known: bool) -> Self {
        let authority = to.authority();
        let narrow =
            Some(format!("{authority}{}#{method}", to.path)).filter(|grant| grant.parse::<HttpGrant>().is_ok());
        let grant = narrow.filter(|_| is_known).unwrap_or(authority);
        Self { what: request(method, to), why: String::new(), option: format!("--allow-http {grant}") }
    }

    /// A request to an address that a grant must name.
    pub(super) fn http_address(method: &str, to: &Destination, ip: IpAddr) -> Self {
        let host = Destination { host: Host::Ip(ip), ..to.clone() }.authority();
        Self { what: request(method, to), why: special(&to.host, ip), option: format!("--allow-http {host}") }
    }

    /// A URL that has no destination, or more than one.
    pub(super) fn url() -> Self {
        Self {
            what: "a request to a URL that names a user, has no host, or can be read in two ways".to_owned(),
            why: String::new(),
            option: "--allow-http HOST, and request http://HOST/ or https://HOST/".to_owned(),
        }
    }

    /// A look-up of a name.
    pub(super) fn lookup(host: &Host) -> Self {
        Self { what: format!("looking up {host}"), why: String::new(), option: format!("--allow-tcp {host}:PORT") }
    }

    /// A TCP socket for a module without any TCP grant.
    pub(super) fn socket() -> Self {
        Self { what: "opening a TCP socket".to_owned(), why: String::new(), option: "--allow-tcp HOST:PORT".to_owned() }
    }

    /// A look-up whose address a grant must name.
    pub(super) fn tcp_address(host: &Host, address: SocketAddr) -> Self {
        Self {
            what: format!("connecting to {host}:{}", address.port()),
            why: special(host, address.ip()),
            option: format!("--allow-tcp {address}"),
        }
    }

    /// A connection.
    pub(super) fn tcp(address: SocketAddr) -> Self {
        Self { what: format!("connecting to {address}"), why: String::new(), option: format!("--allow-tcp {address}") }
    }

    /// What no option grants.
    pub(super) fn never(what: &str) -> Self {
        Self { what: what.to_owned(), why: String::new(), option: String::new() }
    }
}

fn request(method: &str, to: &Destination) -> String {
    format!("{method} {}", cut(&to.to_string(), PATH_MAX))
}

fn special(host: &Host, ip: IpAddr) -> String {
    let what = address::special(ip).unwrap_or("an address");
    match host {
        Host::Name(name) => format!(": {name} is {ip}, {what}"),
        Host::Ip(_) => format!(": it is {what}"),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, why, option } = self;
        match option.as_str() {
            "" => write!(f, "not granted: {what}, which task modules cannot do"),
            option => write!(f, "not granted: {what}{why} — grant it with {option}"),
        }
    }
}

/// A limit of the network that an attempt exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Excess {
    /// Too many connections at a time.
    #[error("opened more than {0} connections at a time")]
    Connections(usize),
    /// Too many received bytes.
    #[error("received more than {} from the network", system::bytes(*.0))]
    Received(u64),
    /// Too many sent bytes.
    #[error("sent more than {} to the network", system::bytes(*.0))]
    Sent(u64),
}

impl Excess {
    /// The limit.
    pub(super) fn kind(self) -> LimitKind {
        match self {
            Self::Connections(_) => LimitKind::Connections,
            Self::Received(_) => LimitKind::Received,
            Self::Sent(_) => LimitKind::Sent,
        }
    }
}
