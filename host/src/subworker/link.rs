//! Links from a worker to its control plane: the trait, and the link over sockets.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tracing::{debug, error, info};
use uuid::Uuid;

use crate::{
    clock::{after, pause},
    config::{Address, MANAGEMENT_OFFSET},
    discovery::Discovery,
    lock::{lock, try_lock},
    protocol::{
        BEAT_WAIT, CONFIRM_WAIT, Refusal, RefusalCode, Reply, Request, WORK_WAIT, Welcome, WorkerReply, WorkerRequest,
        codec,
    },
    task::SerializationFormat,
    transport::{BlockingReq, CallError, Transport, call_blocking},
};

/// Grace period after the time for which the control plane parks a request. After it the connection counts as dead, and
/// the request is repeated over a new one.
const REPLY_GRACE: Duration = Duration::from_millis(1_500);

/// Delay before `hello` is repeated after an unexpected reply.
const HELLO_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Sends a worker's requests to the control plane.
pub trait Link: Send + Sync + 'static {
    /// Sends a request and blocks until the reply, at most `limit`.
    ///
    /// # Errors
    /// [`CallError`] when there was no reply. Send the same request again: all requests are idempotent.
    fn request(&self, request: &WorkerRequest, limit: Duration) -> Result<WorkerReply, CallError>;

    /// Opens a connection for the requests of one thread.
    fn connect(&self) -> Box<dyn WorkConnection + '_>;

    /// Searches for the control plane at another address, as it does not reply.
    fn rediscover(&self);

    /// Timeout of a slot's request for work, which is parked until there is a task.
    fn work_timeout(&self, has_outcomes: bool) -> Duration;

    /// Time for a reply beyond that for which the control plane parks the request.
    fn reply_grace(&self) -> Duration {
        REPLY_GRACE
    }

    /// Reports that all modules of the start are loaded or refused, to a control plane in this process.
    fn modules_loaded(&self) {}

    /// Timeout of a heartbeat, which is parked until there is an order.
    fn beat_timeout(&self) -> Duration;

    /// Whether the control plane runs in this process, and so ends with this worker.
    fn is_local(&self) -> bool;
}

/// The connection of one thread.
pub trait WorkConnection {
    /// Sends a request, calls `on_sent` each time that it was sent, and blocks until the reply: at most
    /// `limit`, or a second if there is no connection.
    ///
    /// # Errors
    /// As for [`Link::request`].
    fn request(
        &mut self,
        request: &WorkerRequest,
        limit: Duration,
        on_sent: &mut dyn FnMut(),
    ) -> Result<WorkerReply, CallError>;
}

/// A control plane in another process.
pub struct RemoteLink {
    transport: Arc<dyn Transport>,
    format: SerializationFormat,
    discovery: Discovery,
    /// The base address at which the control plane replied last, and its cluster id.
    cluster: Mutex<(Address, Uuid)>,
    joined: Welcome,
    /// The address at which the control plane serves subworkers.
    address: Mutex<String>,
    /// An idle connection for [`Link::request`].
    spare: Mutex<Option<Box<dyn BlockingReq>>>,
    /// Locked by the thread that searches for the control plane.
    rediscovery: Mutex<()>,
}

impl std::fmt::Debug for RemoteLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteLink({})", self.address())
    }
}

/// A control plane that could not be found.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    /// No reply within the time limit.
    #[error("no reply from a control plane at {address} within {} s", crate::clock::seconds(*waited))]
    Unreachable {
        /// The expected address.
        address: Address,
        /// The time that was waited.
        waited: Duration,
        /// Address of another control plane that was announced in that time.
        announced: Option<Address>,
    },
    /// The socket could not be opened.
    #[error(transparent)]
    Open(#[from] crate::transport::OpenError),
    /// The port is too high.
    #[error(transparent)]
    Address(#[from] crate::config::NotAnAddress),
}

impl RemoteLink {
    /// Connects to the control plane at `address`, and to no other: an announcement on the bus at `discovery` may be of
    /// another cluster. Later it is rediscovered by its cluster id. Blocks at most `limit`.
    ///
    /// # Errors
    /// [`NotFound`] when no control plane replies there.
    pub fn find(
        transport: Arc<dyn Transport>,
        address: &Address,
        discovery: &Address,
        format: SerializationFormat,
        limit: Duration,
    ) -> Result<Self, NotFound> {
        let discovery = Discovery::listen(&*transport, discovery)?;
        let until = after(limit);
        let welcome = loop {
            let remaining = until.saturating_duration_since(Instant::now());
            if let Some(welcome) = hello(&*transport, address, format, remaining)? {
                break welcome;
            }
            if Instant::now() >= until {
                let announced = discovery.newest().map(|newest| newest.base_address);
                let announced = announced.filter(|announced| announced != address);
                return Err(NotFound::Unreachable { address: address.clone(), waited: limit, announced });
            }
            // Another reply: it may be too busy.
            pause(HELLO_RETRY_DELAY.min(remaining));
        };
        let subworker_address: Address = welcome.subworker_address.parse()?;
        let (cluster, spare) = (Mutex::new((address.clone(), welcome.cluster_id)), Mutex::default());
        let address = Mutex::new(subworker_address.to_string());
        Ok(Self {
            transport,
            format,
            discovery,
            cluster,
            joined: welcome,
            address,
            spare,
            rediscovery: Mutex::default(),
        })
    }

    /// The control plane's reply when it was first found.
    pub fn joined(&self) -> &Welcome {
        &self.joined
    }

    fn address(&self) -> String {
        lock(&self.address).clone()
    }

    /// Returns `before` if it is a connection to the control plane's current address, or else a new one.
    fn blocking_req(&self, before: Option<Box<dyn BlockingReq>>) -> Result<Box<dyn BlockingReq>, CallError> {
        let address = lock(&self.address);
        match before.filter(|blocking_req| blocking_req.address() == *address) {
            Some(blocking_req) => Ok(blocking_req),
            None => self.transport.blocking_req(&address).map_err(|error| {
                error!(%error, "cannot open a connection to the control plane");
                CallError::Closed { address: address.clone() }
            }),
        }
    }
}

impl Link for RemoteLink {
    fn request(&self, request: &WorkerRequest, limit: Duration) -> Result<WorkerReply, CallError> {
        let body = codec::encode(self.format, request);
        let until = after(limit);
        let mut blocking_req = lock(&self.spare).take();
        loop {
            let mut connection = self.blocking_req(blocking_req.take())?;
            let remaining = until.saturating_duration_since(Instant::now());
            let mut reply = None;
            // Requests that are sent this way are never parked.
            let outcome = connection
                .request(&body, remaining.min(REPLY_GRACE), &mut || {}, &mut |body| reply = Some(decode(body)));
            match outcome {
                Ok(()) => {
                    *lock(&self.spare) = Some(connection);
                    return Ok(reply.expect("a request that succeeded has read its reply"));
                }
                Err(CallError::TimedOut { .. }) if Instant::now() < until => blocking_req = Some(connection),
                Err(CallError::TimedOut { address, .. }) => return Err(CallError::TimedOut { address, waited: limit }),
                Err(error) => return Err(error),
            }
        }
    }

    fn connect(&self) -> Box<dyn WorkConnection + '_> {
        Box::new(RemoteWorkConnection { link: self, blocking_req: None })
    }

    fn work_timeout(&self, has_outcomes: bool) -> Duration {
        if has_outcomes { CONFIRM_WAIT + REPLY_GRACE } else { WORK_WAIT + REPLY_GRACE }
    }

    fn rediscover(&self) {
        // One thread rediscovers it for all threads.
        let Some(_rediscovery) = try_lock(&self.rediscovery) else { return };
        let Some(announced) = self.discovery.newest() else { return };
        let limit = Duration::from_secs(1);
        let Ok(Some(welcome)) = hello(&*self.transport, &announced.base_address, self.format, limit) else { return };
        let (base, cluster) = lock(&self.cluster).clone();
        // At its old address it may have a new cluster id; a new id at another address means another cluster.
        if announced.base_address != base && !welcome.is_of(cluster) {
            debug!(address = %announced.base_address, cluster = %welcome.cluster_id, "another cluster is announced");
            return;
        }
        *lock(&self.cluster) = (announced.base_address.clone(), welcome.cluster_id);
        let Ok(address) = welcome.subworker_address.parse::<Address>() else { return };
        let address = address.to_string();
        if self.address() == address {
            return;
        }
        info!(address = %announced.base_address, cluster = %welcome.cluster_id, "the control plane has moved");
        *lock(&self.address) = address;
    }

    fn beat_timeout(&self) -> Duration {
        BEAT_WAIT + REPLY_GRACE
    }

    fn is_local(&self) -> bool {
        false
    }
}

/// A connection to a control plane in another process.
struct RemoteWorkConnection<'a> {
    link: &'a RemoteLink,
    /// `None` until the first request.
    blocking_req: Option<Box<dyn BlockingReq>>,
}

impl WorkConnection for RemoteWorkConnection<'_> {
    fn request(
        &mut self,
        request: &WorkerRequest,
        limit: Duration,
        on_sent: &mut dyn FnMut(),
    ) -> Result<WorkerReply, CallError> {
        let body = codec::encode(self.link.format, request);
        let blocking_req = self.link.blocking_req(self.blocking_req.take())?;
        let mut reply = None;
        self.blocking_req
            .insert(blocking_req)
            .request(&body, limit, on_sent, &mut |body| reply = Some(decode(body)))?;
        Ok(reply.expect("a request that succeeded has read its reply"))
    }
}

/// Decodes a reply. An invalid one counts as a refusal.
fn decode(body: &[u8]) -> WorkerReply {
    codec::decode(body).unwrap_or_else(|error| {
        WorkerReply::Refused(Refusal::new(RefusalCode::Unreadable, format!("invalid reply: {error}")))
    })
}

/// Sends `hello` to a base address. `None` without the expected reply within `limit`.
fn hello(
    transport: &dyn Transport,
    base: &Address,
    format: SerializationFormat,
    limit: Duration,
) -> Result<Option<Welcome>, NotFound> {
    let caller = transport.connect(&base.plus(MANAGEMENT_OFFSET)?.to_string())?;
    let body = codec::encode(format, &Request::Hello);
    match call_blocking(&*caller, &body, limit, codec::decode::<Reply>) {
        Ok(Ok(Reply::Welcome(welcome))) => Ok(Some(welcome)),
        Ok(_) | Err(_) => Ok(None),
    }
}
