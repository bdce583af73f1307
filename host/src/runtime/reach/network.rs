//! The network of one attempt: what it may reach, what it was refused, and how much it used.
//!
//! It is shared with the tasks of the I/O runtime that serve the attempt. Invariants: nothing is dialled but an address
//! that was checked here, and what belongs to an attempt that has ended changes nothing any more.

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Semaphore;

use super::{
    super::{
        AttemptId,
        grants::{Grants, HostPattern, HttpGrant, TcpGrant},
        output::Output,
    },
    address,
    destination::{Destination, Host},
    refusal::{Excess, Refusal},
};
use crate::{
    lock::lock,
    task::{AttemptLimits, LimitKind},
};

/// Maximum durations of what one attempt does in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkTimeouts {
    /// Maximum duration of a look-up, and of connecting with encryption. A guest can only shorten these durations.
    pub connect_timeout: Duration,
    /// Maximum duration between a request and the first byte of its response.
    pub response_timeout: Duration,
    /// Maximum duration between two parts of a response while the guest waits for them.
    pub pause_timeout: Duration,
}

impl Default for NetworkTimeouts {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_mins(10),
            pause_timeout: Duration::from_mins(1),
        }
    }
}

/// Maximum look-ups of one attempt at a time, as each blocks a thread of all attempts. Others wait.
const LOOKUPS_MAX: usize = 4;

/// What an attempt used of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkUsage {
    /// Connections that were started.
    pub connections: u64,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

/// The network of one attempt.
pub(in crate::runtime) struct Network {
    grants: Arc<Grants>,
    pub(super) timeouts: NetworkTimeouts,
    limits: AttemptLimits,
    attempt: AttemptId,
    output: Arc<Mutex<Output>>,
    /// The addresses to which names of TCP grants resolved.
    resolved: Mutex<HashSet<SocketAddr>>,
    lookups: Arc<Semaphore>,
    open: AtomicUsize,
    connections: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Network {
    pub(super) fn new(
        grants: Arc<Grants>,
        timeouts: NetworkTimeouts,
        limits: AttemptLimits,
        attempt: AttemptId,
        output: Arc<Mutex<Output>>,
    ) -> Self {
        Self {
            grants,
            timeouts,
            limits,
            attempt,
            output,
            resolved: Mutex::default(),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            open: AtomicUsize::new(0),
            connections: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    /// What the attempt used so far.
    pub(in crate::runtime) fn usage(&self) -> NetworkUsage {
        NetworkUsage {
            connections: self.connections.load(Relaxed),
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
        }
    }

    /// Writes a refusal to the log of the task; it also becomes part of the error if the attempt fails.
    pub(super) fn report_refusal(&self, refusal: &Refusal) {
        lock(&self.output).add_hint(self.attempt, &refusal.to_string());
    }

    /// Writes an excess to the log of the task; it also becomes the error if the attempt fails.
    fn report_excess(&self, excess: Excess) -> Excess {
        lock(&self.output).add_excess(self.attempt, excess.kind(), &excess.to_string());
        excess
    }

    /// Counts a new connection until the result is dropped.
    ///
    /// # Errors
    /// [`Excess`] if there are too many at a time.
    pub(super) fn open_connection(self: &Arc<Self>) -> Result<OpenConnection, Excess> {
        let connection = OpenConnection(Arc::clone(self));
        let max = self.limits.size(LimitKind::Connections);
        if self.open.fetch_add(1, Relaxed) >= max {
            return Err(self.report_excess(Excess::Connections(max)));
        }
        self.connections.fetch_add(1, Relaxed);
        Ok(connection)
    }

    /// Counts received bytes.
    ///
    /// # Errors
    /// [`Excess`] if they are too many.
    pub(super) fn add_received(&self, count: usize) -> Result<(), Excess> {
        let max = self.limits.get(LimitKind::Received);
        let total = self.received.fetch_add(count as u64, Relaxed).saturating_add(count as u64);
        if total > max { Err(self.report_excess(Excess::Received(max))) } else { Ok(()) }
    }

    /// Counts sent bytes.
    ///
    /// # Errors
    /// [`Excess`] if they are too many.
    pub(super) fn add_sent(&self, count: usize) -> Result<(), Excess> {
        let max = self.limits.get(LimitKind::Sent);
        let total = self.sent.fetch_add(count as u64, Relaxed).saturating_add(count as u64);
        if total > max { Err(self.report_excess(Excess::Sent(max))) } else { Ok(()) }
    }

    /// Checks that a request is granted.
    ///
    /// # Errors
    /// [`Refusal`] with the grant that it lacks.
    pub(super) fn check_request(&self, method: &str, to: &Destination) -> Result<(), Refusal> {
        let host = to.host.to_string();
        let is_granted = |grant: &HttpGrant| grant.allows(method, to.scheme, &host, to.port, &to.path);
        if method == "CONNECT" || !self.grants.http.iter().any(is_granted) {
            let is_known = self.grants.http.iter().any(|grant| grant.allows_origin(to.scheme, &host, to.port));
            return Err(Refusal::http(method, to, is_known));
        }
        Ok(())
    }

    /// The addresses to dial for a granted request.
    ///
    /// # Errors
    /// [`AddressError`] if the host has none, or only such that no grant names.
    pub(super) async fn http_addresses(&self, method: &str, to: &Destination) -> Result<Vec<SocketAddr>, AddressError> {
        let is_named = |ip: IpAddr| {
            let names_it = |grant: &HttpGrant| matches!(grant.host, HostPattern::Ip(_));
            let mut grants = self.grants.http.iter().filter(|grant| names_it(grant));
            grants.any(|grant| grant.allows(method, to.scheme, &ip.to_string(), to.port, &to.path))
        };
        let found = self.resolve(&to.host, to.port).await?;
        permitted(found, is_named).map_err(|ip| AddressError::Refused(Refusal::http_address(method, to, ip)))
    }

    /// The addresses of a name or of an address in a look-up of the guest. Only they can be connected to.
    ///
    /// # Errors
    /// [`AddressError`] if no grant has the name, or it has no address that may be reached.
    pub(super) async fn look_up(&self, text: &str) -> Result<Vec<IpAddr>, AddressError> {
        let host = Host::parse(text).ok_or(AddressError::NoHost)?;
        let ports: Vec<u16> = self.tcp_grants(&host).map(|grant| grant.port).collect();
        if ports.is_empty() {
            return Err(AddressError::Refused(Refusal::lookup(&host)));
        }
        let found = self.resolve(&host, 0).await?;
        let mut addresses = Vec::new();
        let mut refused = None;
        for port in ports {
            let found = found.iter().map(|found| SocketAddr::new(found.ip(), port)).collect();
            match permitted(found, |ip| self.names_address(SocketAddr::new(ip, port))) {
                Ok(permitted) => addresses.extend(permitted),
                Err(ip) => refused = Some(Refusal::tcp_address(&host, SocketAddr::new(ip, port))),
            }
        }
        if addresses.is_empty() {
            return Err(refused.map_or(AddressError::NotFound, AddressError::Refused));
        }
        lock(&self.resolved).extend(addresses.iter().copied());
        let mut ips: Vec<IpAddr> = Vec::new();
        for address in &addresses {
            if !ips.contains(&address.ip()) {
                ips.push(address.ip());
            }
        }
        Ok(ips)
    }

    /// Resolves a host. This is the only place that does.
    async fn resolve(&self, host: &Host, port: u16) -> io::Result<Vec<SocketAddr>> {
        let name = match host {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, port)]),
            Host::Name(name) => name.clone(),
        };
        let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(io::Error::other)?;
        // On its own, so that a look-up that takes too long counts until its thread is free.
        let lookup = tokio::spawn(async move {
            let found = tokio::net::lookup_host((name.as_str(), port)).await;
            drop(permit);
            found.map(Iterator::collect)
        });
        lookup.await.map_err(io::Error::other)?
    }

    /// Checks that a connection is granted: its address is that of a look-up, or named by a grant.
    ///
    /// # Errors
    /// [`Refusal`] with the grant that it lacks.
    pub(super) fn check_connection(&self, address: SocketAddr) -> Result<(), Refusal> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if self.names_address(address) || lock(&self.resolved).contains(&address) {
            return Ok(());
        }
        Err(Refusal::tcp(address))
    }

    /// Whether there is any TCP grant.
    pub(super) fn has_tcp(&self) -> bool {
        !self.grants.tcp.is_empty()
    }

    fn tcp_grants(&self, host: &Host) -> impl Iterator<Item = &TcpGrant> {
        let host = host.to_string();
        self.grants.tcp.iter().filter(move |grant| grant.host.matches(&host))
    }

    /// Whether a TCP grant names this address by number.
    fn names_address(&self, address: SocketAddr) -> bool {
        let is_named = |grant: &TcpGrant| grant.host == HostPattern::Ip(address.ip()) && grant.port == address.port();
        self.grants.tcp.iter().any(is_named)
    }
}

/// A host has no address that may be reached.
#[derive(Debug)]
pub(super) enum AddressError {
    /// It is neither a name nor an address.
    NoHost,
    /// It has no address.
    NotFound,
    /// It is not granted.
    Refused(Refusal),
}

impl From<io::Error> for AddressError {
    fn from(error: io::Error) -> Self {
        tracing::debug!(%error, "a name was not found");
        Self::NotFound
    }
}

/// The addresses that are public, or for which `is_named` is true.
///
/// # Errors
/// One of them, if there are only others.
fn permitted(found: Vec<SocketAddr>, is_named: impl Fn(IpAddr) -> bool) -> Result<Vec<SocketAddr>, IpAddr> {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let is_permitted = |address: &SocketAddr| address::special(address.ip()).is_none() || is_named(address.ip());
    let (permitted, others): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.into_iter().map(canonical).partition(is_permitted);
    match others.first() {
        Some(other) if permitted.is_empty() => Err(other.ip()),
        _ => Ok(permitted),
    }
}

/// A connection that counts as open.
pub(in crate::runtime) struct OpenConnection(Arc<Network>);

impl OpenConnection {
    pub(super) fn network(&self) -> &Network {
        &self.0
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fixtures::RecordedReports;

    fn network(http: &[&str], tcp: &[&str]) -> Arc<Network> {
        let grants = Grants {
            http: http.iter().map(|grant| grant.parse().expect("a grant")).collect(),
            tcp: tcp.iter().map(|grant| grant.parse().expect("a grant")).collect(),
            ..Grants::default()
        };
        let output = Output::new(Arc::new(RecordedReports::default()));
        let limits = AttemptLimits::default().with(LimitKind::Connections, 2);
        let limits = limits.with(LimitKind::Received, 10).with(LimitKind::Sent, 10);
        let (timeouts, output) = (NetworkTimeouts::default(), Arc::new(Mutex::new(output)));
        Arc::new(Network::new(Arc::new(grants), timeouts, limits, AttemptId(1), output))
    }

    fn to(url: &str) -> Destination {
        Destination::of(&url.parse().expect("a URL")).expect("a destination")
    }

    fn found(addresses: &[&str]) -> Vec<SocketAddr> {
        addresses.iter().map(|address| address.parse().expect("an address")).collect()
    }

    #[test]
    fn a_name_never_leads_to_a_special_address_that_no_grant_names() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let only_public = found(&["10.0.0.1:80", "1.1.1.1:80", "[::ffff:127.0.0.1]:80"]);
        assert_eq!(permitted(only_public, |_| false), Ok(found(&["1.1.1.1:80"])));
        assert_eq!(permitted(found(&["[::1]:80", "127.0.0.1:80"]), |_| false), Err(ip("::1")));
        assert_eq!(permitted(found(&["[::ffff:10.0.0.1]:80"]), |_| false), Err(ip("10.0.0.1")));
        let named = permitted(found(&["10.0.0.1:80", "10.0.0.2:80"]), |found| found == ip("10.0.0.2"));
        assert_eq!(named, Ok(found(&["10.0.0.2:80"])));
        assert_eq!(permitted(Vec::new(), |_| false), Ok(Vec::new()));
    }

    #[test]
    fn requests_are_checked_against_host_port_path_and_method() {
        let network = network(&["api.example.com/v1#GET", "10.0.0.5:8080", "*.example.org"], &[]);
        let check = |method: &str, url: &str| network.check_request(method, &to(url)).map_err(|it| it.to_string());
        for url in
            ["https://api.example.com/v1", "http://API.example.com./v1/users", "http://10.0.0.5:8080/any/../thing"]
        {
            assert_eq!(check("GET", url), Ok(()), "{url}");
        }
        assert_eq!(check("POST", "http://a.example.org/"), Ok(()));
        let refused = [
            ("POST", "https://api.example.com/v1", "--allow-http api.example.com/v1#POST"),
            ("GET", "https://api.example.com/v10", "--allow-http api.example.com/v10#GET"),
            ("GET", "https://api.example.com/v1/../admin", "--allow-http api.example.com"),
            ("GET", "https://api.example.com/v1/%2e%2e/admin", "--allow-http api.example.com"),
            ("GET", "https://api.example.com//v1", "--allow-http api.example.com//v1#GET"),
            ("GET", "https://api.example.com:8443/v1", "--allow-http api.example.com:8443"),
            ("GET", "https://example.org/", "--allow-http example.org"),
            ("GET", "http://10.0.0.5/", "--allow-http 10.0.0.5"),
        ];
        for (method, url, option) in refused {
            let refusal = check(method, url).expect_err(url);
            assert!(
                refusal.starts_with("not granted: ") && refusal.ends_with(&format!("grant it with {option}")),
                "{refusal}"
            );
        }
        assert!(check("CONNECT", "http://a.example.org/").is_err());
    }

    #[tokio::test]
    async fn an_address_is_dialled_only_if_it_is_public_or_named() {
        let network = network(&["*", "127.0.0.1:8080/only#GET"], &[]);
        let addresses = async |method: &str, url: &str| network.http_addresses(method, &to(url)).await;
        assert_eq!(addresses("GET", "http://1.1.1.1/").await.ok(), Some(found(&["1.1.1.1:80"])));
        assert_eq!(addresses("GET", "http://127.0.0.1:8080/only").await.ok(), Some(found(&["127.0.0.1:8080"])));
        for url in ["http://[::1]/", "http://169.254.169.254/latest/meta-data", "http://127.0.0.1/"] {
            assert!(network.check_request("GET", &to(url)).is_ok(), "{url}");
            let Err(AddressError::Refused(refusal)) = addresses("GET", url).await else { panic!("{url} is dialled") };
            assert!(refusal.to_string().contains(": it is a "), "{refusal}");
        }
        // What names the address names the path and the method with it.
        for (method, url) in [("POST", "http://127.0.0.1:8080/only"), ("GET", "http://127.0.0.1:8080/other")] {
            assert!(network.check_request(method, &to(url)).is_err(), "{method} {url}");
            assert!(matches!(addresses(method, url).await, Err(AddressError::Refused(_))), "{method} {url}");
        }
    }

    #[tokio::test]
    async fn a_connection_goes_only_to_an_address_of_a_grant() {
        let network = network(&[], &["127.0.0.1:6379", "localhost:5432"]);
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert!(network.check_connection(address("127.0.0.1:6379")).is_ok());
        assert!(network.check_connection(address("[::ffff:127.0.0.1]:6379")).is_ok());
        for other in ["127.0.0.1:6380", "127.0.0.2:6379", "1.1.1.1:5432", "127.0.0.1:5432"] {
            let refusal = network.check_connection(address(other)).expect_err(other).to_string();
            assert!(refusal.ends_with(&format!("grant it with --allow-tcp {other}")), "{refusal}");
        }
        assert_eq!(
            network.look_up("127.0.0.1").await.expect("granted"),
            ["127.0.0.1".parse::<IpAddr>().expect("an address")]
        );
        assert!(matches!(network.look_up("localhost").await, Err(AddressError::Refused(_))));
        assert!(matches!(network.look_up("example.com").await, Err(AddressError::Refused(_))));
        assert!(matches!(network.look_up("2130706433").await, Err(AddressError::NoHost)));
        assert!(network.check_connection(address("127.0.0.1:5432")).is_err());
    }

    #[test]
    fn connections_and_bytes_are_bounded() {
        let network = network(&[], &[]);
        let first = network.open_connection().expect("one");
        let second = network.open_connection().expect("two");
        assert!(network.open_connection().is_err());
        drop((first, second));
        assert!(network.open_connection().is_ok());
        assert!(network.add_received(10).is_ok() && network.add_received(1).is_err());
        assert!(network.add_sent(10).is_ok() && network.add_sent(1).is_err());
        assert_eq!(network.usage(), NetworkUsage { connections: 3, received: 11, sent: 11 });
    }
}
