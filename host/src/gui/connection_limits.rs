//! Limits the number of connections, and decides which one is closed when there are too many.
//!
//! When the limit is reached, a new connection replaces the least useful one: idle connections (without a
//! complete request, or between two requests) first, among those the ones of the peer with the most
//! connections, among those the one that has been idle longest. A connection whose request is being
//! handled is replaced only if its peer has more connections than the new connection's peer would have.
//! A connection is never replaced within [`ADMISSION_GRACE`] of its start, so that it can send its request;
//! the new one waits instead. So a peer that connects in a loop cannot lock out other peers.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use tokio::sync::Notify;

use crate::lock::lock;

/// Minimum lifetime of a connection: a request usually follows right after the connection.
pub(super) const ADMISSION_GRACE: Duration = Duration::from_millis(5);

/// The connections of one server, and their limit.
#[derive(Debug)]
pub(super) struct ConnectionLimits {
    max: usize,
    grace: Duration,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    /// The last number assigned to a connection or to a change of its activity.
    last_number: u64,
    open: Vec<Connection>,
}

/// An open connection.
#[derive(Debug)]
struct Connection {
    number: u64,
    peer: IpAddr,
    /// The number of the change by which it became idle or active.
    changed_at: u64,
    admitted_at: Instant,
    /// Whether a request is being handled.
    is_active: bool,
    evicted: Arc<Notify>,
}

/// The permission to keep a connection open. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    limits: Arc<ConnectionLimits>,
    number: u64,
    evicted: Arc<Notify>,
}

/// Whether a new connection is admitted.
#[derive(Debug)]
pub(super) enum Admission {
    /// It is admitted.
    Admitted(Arc<ConnectionPermit>),
    /// Not yet: the connection that it could replace is too new. Try again.
    RetryLater,
    /// It is refused: no connection can be replaced.
    Full,
}

impl ConnectionLimits {
    /// At most `max` connections, none of which is replaced within `grace` of its start.
    pub(super) fn new(max: usize, grace: Duration) -> Arc<Self> {
        Arc::new(Self { max, grace, connections: Mutex::default() })
    }

    /// Admits a connection of `peer`. At the limit, another connection is evicted for it.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Admission {
        let peer = peer.to_canonical();
        let mut connections = lock(&self.connections);
        if connections.open.len() >= self.max {
            let Some(index) = connections.least_active(peer) else { return Admission::Full };
            if connections.open[index].admitted_at.elapsed() < self.grace {
                return Admission::RetryLater;
            }
            connections.open.swap_remove(index).evicted.notify_one();
        }
        connections.last_number += 1;
        let (number, evicted) = (connections.last_number, Arc::new(Notify::new()));
        let (admitted_at, is_active) = (Instant::now(), false);
        connections.open.push(Connection {
            number,
            peer,
            changed_at: number,
            admitted_at,
            is_active,
            evicted: Arc::clone(&evicted),
        });
        Admission::Admitted(Arc::new(ConnectionPermit { limits: Arc::clone(self), number, evicted }))
    }

    fn set_active(&self, number: u64, is_active: bool) {
        let mut connections = lock(&self.connections);
        connections.last_number += 1;
        let changed_at = connections.last_number;
        if let Some(connection) = connections.open.iter_mut().find(|connection| connection.number == number) {
            (connection.is_active, connection.changed_at) = (is_active, changed_at);
        }
    }
}

impl Connections {
    /// The index of the connection to replace by one of `peer`, if there is one.
    fn least_active(&self, peer: IpAddr) -> Option<usize> {
        let mut by_peer: HashMap<IpAddr, usize> = HashMap::new();
        for connection in &self.open {
            *by_peer.entry(connection.peer).or_default() += 1;
        }
        let count = |connection: &Connection| by_peer.get(&connection.peer).copied().unwrap_or_default();
        let peer_count = by_peer.get(&peer).copied().unwrap_or_default() + 1;
        let can_replace =
            |(_, connection): &&(usize, &Connection)| !connection.is_active || count(connection) > peer_count;
        let indexed = self.open.iter().enumerate().collect::<Vec<_>>();
        let order = |(_, connection): &&(usize, &Connection)| {
            (connection.is_active, usize::MAX - count(connection), connection.changed_at)
        };
        indexed.iter().filter(can_replace).min_by_key(order).map(|(index, _)| *index)
    }
}

impl ConnectionPermit {
    /// Returns when another connection has replaced this one.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        lock(&self.limits.connections).open.retain(|connection| connection.number != self.number);
    }
}

/// Marks a connection as active from the complete head of its request to the end of the response.
pub(super) async fn track_request(request: Request, next: Next) -> Response {
    let Some(permit) = request.extensions().get::<Arc<ConnectionPermit>>().cloned() else {
        return next.run(request).await;
    };
    let active = ActiveRequest::new(permit);
    next.run(request).await.map(|body| Body::new(TrackedBody { body, _active: active }))
}

/// Marks a connection as active until it is dropped.
#[derive(Debug)]
struct ActiveRequest(Arc<ConnectionPermit>);

impl ActiveRequest {
    fn new(permit: Arc<ConnectionPermit>) -> Self {
        permit.limits.set_active(permit.number, true);
        Self(permit)
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.limits.set_active(self.0.number, false);
    }
}

/// A response body that keeps its connection marked as active.
struct TrackedBody {
    body: Body,
    _active: ActiveRequest,
}

impl HttpBody for TrackedBody {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn is_open(limits: &ConnectionLimits, permit: &ConnectionPermit) -> bool {
        lock(&limits.connections).open.iter().any(|connection| connection.number == permit.number)
    }

    fn admit(limits: &Arc<ConnectionLimits>, peer: IpAddr) -> Option<Arc<ConnectionPermit>> {
        match limits.admit(peer) {
            Admission::Admitted(permit) => Some(permit),
            Admission::RetryLater | Admission::Full => None,
        }
    }

    #[test]
    fn the_longest_idle_connection_is_replaced_first() {
        let limits = ConnectionLimits::new(3, Duration::ZERO);
        let permits: Vec<_> = (0..3).map(|_| admit(&limits, ONE).expect("capacity")).collect();
        limits.set_active(permits[0].number, true);
        let late = admit(&limits, ONE).expect("the oldest is replaced");
        assert!(is_open(&limits, &permits[0]) && !is_open(&limits, &permits[1]) && is_open(&limits, &late));
        limits.set_active(permits[0].number, false);
        drop(admit(&limits, ONE).expect("another is replaced"));
        assert!(is_open(&limits, &permits[0]) && !is_open(&limits, &permits[2]), "it has been idle for a shorter time");
    }

    #[test]
    fn a_new_connection_is_not_replaced_immediately() {
        let limits = ConnectionLimits::new(1, Duration::MAX);
        let first = admit(&limits, ONE).expect("capacity");
        assert!(matches!(limits.admit(OTHER), Admission::RetryLater) && is_open(&limits, &first));
        limits.set_active(first.number, true);
        assert!(matches!(limits.admit(OTHER), Admission::Full));
        drop(first);
        assert!(admit(&limits, OTHER).is_some());
    }

    #[test]
    fn active_connections_are_replaced_only_for_fairness() {
        let limits = ConnectionLimits::new(4, Duration::ZERO);
        let permits: Vec<_> = (0..4).map(|_| admit(&limits, ONE).expect("capacity")).collect();
        for permit in &permits {
            limits.set_active(permit.number, true);
        }
        assert!(admit(&limits, ONE).is_none(), "all of them are active");
        let others = [(); 2].map(|()| {
            let permit = admit(&limits, OTHER).expect("it replaces one of the peer that has more");
            limits.set_active(permit.number, true);
            permit
        });
        assert!(admit(&limits, OTHER).is_none() && admit(&limits, ONE).is_none(), "each has two");
        drop(others);
        assert!(admit(&limits, ONE).is_some());
    }

    #[tokio::test]
    async fn a_replaced_connection_is_notified() {
        let limits = ConnectionLimits::new(1, Duration::ZERO);
        let first = admit(&limits, ONE).expect("capacity");
        let second = admit(&limits, ONE).expect("the first is replaced");
        first.evicted().await;
        drop(first);
        assert!(is_open(&limits, &second), "dropping the replaced permit closes nothing");
    }
}
