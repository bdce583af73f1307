//! Host names that cannot be resolved, which explain many connection errors.

use std::{
    net::{IpAddr, ToSocketAddrs as _},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::CliError;
use crate::config::Address;

/// Timeout for resolving a host name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// The error for a host name in `option` that cannot be resolved.
pub(super) fn unknown_host(code: u8, host: &str, option: &str) -> CliError {
    CliError::new(code, format!("the host '{host}' of {option} cannot be resolved"))
        .hint("check the name, or use an IP address")
}

/// Whether resolving the host of an address fails. False if that takes too long.
pub(super) fn is_unknown_host(address: &Address) -> bool {
    let host = address.host().trim_matches(['[', ']']).to_owned();
    if host == "*" || host.parse::<IpAddr>().is_ok() {
        return false;
    }
    let (sender, receiver) = mpsc::channel();
    let resolve = move || sender.send((host.as_str(), 0).to_socket_addrs().is_err());
    // False if the thread cannot be started.
    thread::Builder::new().spawn(resolve).is_ok() && receiver.recv_timeout(RESOLVE_TIMEOUT).unwrap_or(false)
}
