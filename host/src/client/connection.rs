//! The connection to the control plane, and failover to its successor.
//!
//! Invariants: no request takes longer than its limit, even if the control plane fails. A client
//! that has joined a cluster follows announcements only to a control plane with the same cluster id.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{ClientBuilder, ClientError, Endpoint, Inner};
use crate::{
    clock::after,
    config::{Address, MANAGEMENT_OFFSET},
    discovery::{Announcement, Discovery},
    lock::lock,
    protocol::{Refusal, RefusalCode, Reply, Request, Welcome, codec},
    task::{SerializationFormat, TaskId},
    transport::{self, CallError, Caller, Transport as _, nng::Nng},
};

/// Timeout of a request that is not parked, before it is repeated.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of the handshake with an announced control plane.
const JOIN_LIMIT: Duration = Duration::from_secs(2);
/// Delay before repeating a request that a stopping control plane refused.
pub(super) const STOPPING_PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Connection {
    pub(super) caller: Arc<dyn Caller>,
    pub(super) base: Address,
    pub(super) discovery: Option<Arc<Discovery>>,
    /// Empty until the control plane has replied to the handshake.
    pub(super) welcome: Arc<OnceLock<Welcome>>,
    /// Held while one of the waiting requests searches for the control plane elsewhere.
    pub(super) discovering: tokio::sync::Mutex<()>,
}

/// Opens a socket to the control plane at a base address.
pub(super) fn dial(base: &Address, format: SerializationFormat) -> Result<Arc<dyn Caller>, ClientError> {
    let address = base.plus(MANAGEMENT_OFFSET)?.to_string();
    Ok(Nng.connect_probed(&address, codec::encode(format, &Request::Hello))?)
}

impl Connection {
    pub(super) fn new(
        caller: Arc<dyn Caller>,
        base: Address,
        discovery: Option<Arc<Discovery>>,
        welcome: Arc<OnceLock<Welcome>>,
    ) -> Self {
        Self { caller, base, discovery, welcome, discovering: tokio::sync::Mutex::default() }
    }

    /// Returns where this control plane is expected.
    pub(super) fn endpoint(&self, config: &ClientBuilder) -> Endpoint {
        let base = self.base.clone();
        match self.discovery {
            None => Endpoint::Given(base),
            Some(_) => Endpoint::Announced { base, discovery: config.discovery_address.clone() },
        }
    }

    /// Returns the id of its cluster; nil if it is not known.
    fn cluster(&self) -> Uuid {
        self.welcome.get().map(|welcome| welcome.cluster_id).unwrap_or_default()
    }
}

impl Inner {
    /// Returns the error of a call that timed out.
    pub(super) fn timed_out(&self, task_id: TaskId, accepted: bool) -> ClientError {
        let waited = self.config.timeout;
        match lock(&self.connection).as_ref() {
            Some(connection) if !accepted && !connection.caller.is_connected() => {
                ClientError::Unreachable { endpoint: connection.endpoint(&self.config), waited }
            }
            _ => ClientError::TimedOut { task_id, waited },
        }
    }

    /// Sends a request that is not parked.
    pub(super) async fn send_request(&self, request: &Request) -> Result<Reply, ClientError> {
        self.long_poll(request, Duration::ZERO).await
    }

    /// Sends a request that may stay open for `parked`. Without a reply it is repeated, also at another
    /// address of the control plane: at most `retries` times, not counting attempts without a
    /// connection, and no longer than the timeout beyond `parked`.
    pub(super) async fn long_poll(&self, request: &Request, parked: Duration) -> Result<Reply, ClientError> {
        self.request_until(request, parked, after(parked + self.config.timeout)).await
    }

    /// Like `long_poll`, but no longer than `until`. Also waits for the successor of a control plane that is stopping.
    pub(super) async fn request_until(
        &self,
        request: &Request,
        parked: Duration,
        until: Instant,
    ) -> Result<Reply, ClientError> {
        let (started, mut attempts) = (Instant::now(), 0);
        // The refusal of a control plane that is stopping.
        let mut last_refusal = None;
        loop {
            let connection = lock(&self.connection).clone().ok_or(ClientError::Stopped)?;
            let left = until.saturating_duration_since(Instant::now());
            let limit = left.min(parked + self.config.timeout.min(REPLY_TIMEOUT));
            let result = tokio::select! {
                biased;
                result = self.request_on(&connection, request, limit) => result,
                () = self.moved(&connection) => continue,
            };
            match result {
                Err(ClientError::Unreachable { endpoint, .. }) => {
                    // Without a connection this does not count as an attempt.
                    attempts += u32::from(connection.caller.is_connected());
                    if Instant::now() >= until || attempts > self.config.retries {
                        let unreachable = ClientError::Unreachable { endpoint, waited: started.elapsed() };
                        return Err(last_refusal.unwrap_or(unreachable));
                    }
                    self.send_hello_again(&connection);
                }
                Ok(Reply::Refused(refusal)) => {
                    let refused = ClientError::Refused(refusal);
                    let left = until.saturating_duration_since(Instant::now());
                    // Event readers are told immediately that it is stopping.
                    if !refused.is_stopping() || left.is_zero() || matches!(request, Request::Events(_)) {
                        return Err(refused);
                    }
                    last_refusal = Some(refused);
                    tokio::time::sleep(STOPPING_PAUSE.min(left)).await;
                }
                result => return result,
            }
        }
    }

    /// Sends a request once.
    pub(super) async fn request_on(
        &self,
        connection: &Connection,
        request: &Request,
        limit: Duration,
    ) -> Result<Reply, ClientError> {
        let body = codec::encode(self.config.serialization_format, request);
        let caller = &*connection.caller;
        match transport::call(caller, &body, limit, codec::decode::<Reply>).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => {
                Err(ClientError::UnexpectedReply { address: caller.address().to_owned(), what: error.to_string() })
            }
            Err(CallError::TimedOut { waited, .. }) => {
                Err(ClientError::Unreachable { endpoint: connection.endpoint(&self.config), waited })
            }
            Err(CallError::Closed { .. }) => Err(ClientError::Stopped),
            Err(CallError::TooLarge { size }) => Err(ClientError::TooLarge { size }),
            Err(error @ CallError::TooMany { .. }) => {
                Err(ClientError::Refused(Refusal::new(RefusalCode::TooManyRequests, error.to_string())))
            }
        }
    }

    /// Waits until this connection is lost and the same cluster is announced elsewhere, and switches to it.
    /// Waits forever otherwise.
    async fn moved(&self, connection: &Arc<Connection>) {
        let Some(discovery) = &connection.discovery else { return std::future::pending().await };
        loop {
            let announced = discovery.elsewhere(&connection.base, || !connection.caller.is_connected()).await;
            let discovering = connection.discovering.lock().await;
            // Another request may have found it, or the client was stopped.
            if !self.is_current(connection) || self.follow_to(connection, discovery, announced).await {
                return;
            }
            // It is another cluster, or does not reply.
            discovery.next().await;
            drop(discovering);
        }
    }

    fn is_current(&self, connection: &Arc<Connection>) -> bool {
        lock(&self.connection).as_ref().is_some_and(|current| Arc::ptr_eq(current, connection))
    }

    /// Switches to an announced control plane if it has the same cluster id. Returns whether it did.
    async fn follow_to(&self, connection: &Arc<Connection>, discovery: &Arc<Discovery>, to: Announcement) -> bool {
        let base = to.base_address;
        let Ok(caller) = dial(&base, self.config.serialization_format) else { return false };
        let next = Connection::new(caller, base, Some(Arc::clone(discovery)), Arc::default());
        match self.request_on(&next, &Request::Hello, JOIN_LIMIT).await {
            Ok(Reply::Welcome(welcome)) if welcome.is_of(connection.cluster()) => {
                next.welcome.get_or_init(|| welcome);
            }
            _ => return false,
        }
        let mut current = lock(&self.connection);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            *current = Some(Arc::new(next));
        }
        true
    }

    /// Repeats the handshake if another control plane is announced at the same address: it has restarted
    /// with another worker id.
    fn send_hello_again(&self, connection: &Arc<Connection>) {
        let Some(discovery) = &connection.discovery else { return };
        let newest = discovery.newest().filter(|newest| newest.base_address == connection.base);
        let Some(announced) = newest else { return };
        if connection.welcome.get().is_some_and(|welcome| welcome.worker_id == announced.worker_id) {
            return;
        }
        let mut current = lock(&self.connection);
        if !current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            return;
        }
        let caller = Arc::clone(&connection.caller);
        let welcome = self.send_hello(&*caller);
        let (base, discovery) = (announced.base_address, Some(Arc::clone(discovery)));
        *current = Some(Arc::new(Connection::new(caller, base, discovery, welcome)));
    }

    /// Sends a handshake and returns the cell that its reply will be stored in.
    fn send_hello(&self, caller: &dyn Caller) -> Arc<OnceLock<Welcome>> {
        let welcome = Arc::new(OnceLock::new());
        let cell = Arc::clone(&welcome);
        let hello = codec::encode(self.config.serialization_format, &Request::Hello);
        let done = move |reply: Result<&[u8], CallError>| {
            if let Ok(Ok(Reply::Welcome(welcome))) = reply.map(codec::decode::<Reply>) {
                cell.get_or_init(|| welcome);
            }
        };
        caller.call(&hello, self.config.timeout, Box::new(done));
        welcome
    }

    pub(super) fn unexpected_reply(&self) -> ClientError {
        match lock(&self.connection).as_ref() {
            Some(connection) => ClientError::UnexpectedReply {
                address: connection.caller.address().to_owned(),
                what: "unexpected reply type".to_owned(),
            },
            None => ClientError::Stopped,
        }
    }
}
