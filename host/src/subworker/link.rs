//! How a worker asks its control plane: over a socket, or within the process.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use tracing::{debug, error, info};
use uuid::Uuid;

use crate::{
    clock::{after, pause},
    config::{Address, MANAGEMENT_OFFSET},
    control_plane::{core::Core, handler::serve_worker, reply_to::ReplyTo},
    discovery::Discovery,
    lock::{lock, try_lock},
    protocol::{
        BEAT_WAIT, CONFIRM_WAIT, Reply, Request, WAIT_MAX, WORK_WAIT, Welcome, WorkerReply, WorkerRequest, codec,
    },
    task::SerializationFormat,
    transport::{BlockingReq, CallError, Transport, call_blocking},
};

/// How much longer than the control plane lets it wait a question waits on one connection. Then that is
/// taken to be dead, and the question is repeated over a new one.
const ANSWER_GRACE: Duration = Duration::from_millis(1_500);

/// The pause before a control plane is asked again that answered who it is with something else.
const HELLO_STEP: Duration = Duration::from_millis(200);

/// A way to ask the control plane.
pub trait Link: Send + Sync + 'static {
    /// Asks, and waits on this thread for the answer, at most `limit`.
    ///
    /// # Errors
    /// [`CallError`] when there was none. Ask the same again: every request means the same once.
    fn ask(&self, request: &WorkerRequest, limit: Duration) -> Result<WorkerReply, CallError>;

    /// A way for one thread, which nobody else keeps waiting.
    fn line(&self) -> Box<dyn WorkLine + '_>;

    /// Looks for the control plane elsewhere, as it does not answer where it was.
    fn look_around(&self);

    /// How long a slot's request for work may take, which is parked until there is a task; of one that
    /// carries outcomes or not.
    fn work_limit(&self, has_outcomes: bool) -> Duration;

    /// How long a beat may take that is parked until there is an order.
    fn beat_limit(&self) -> Duration;

    /// Whether the control plane is in this process, and so ends with this worker.
    fn is_within_the_process(&self) -> bool;
}

/// How one thread asks.
pub trait WorkLine {
    /// Asks, does something else each time that the request is on its way, and then waits for the
    /// answer, at most `limit`, or a second where there is no connection.
    ///
    /// # Errors
    /// As for [`Link::ask`].
    fn ask(
        &mut self,
        request: &WorkerRequest,
        limit: Duration,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<WorkerReply, CallError>;
}

/// The control plane in this process.
#[derive(Debug)]
pub struct LocalLink(pub Arc<Core>);

impl LocalLink {
    fn post(&self, request: &WorkerRequest) -> mpsc::Receiver<WorkerReply> {
        let (sender, answer) = mpsc::sync_channel(1);
        self.0.enter(|state, now| serve_worker(state, now, request.clone(), None, ReplyTo::Local(sender)));
        answer
    }
}

fn wait(answer: &mpsc::Receiver<WorkerReply>, limit: Duration) -> Result<WorkerReply, CallError> {
    let address = || "the control plane in this process".to_owned();
    answer.recv_timeout(limit).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => CallError::TimedOut { address: address(), waited: limit },
        mpsc::RecvTimeoutError::Disconnected => CallError::Closed { address: address() },
    })
}

impl Link for LocalLink {
    fn ask(&self, request: &WorkerRequest, limit: Duration) -> Result<WorkerReply, CallError> {
        wait(&self.post(request), limit)
    }

    fn line(&self) -> Box<dyn WorkLine + '_> {
        Box::new(self)
    }

    fn look_around(&self) {}

    fn work_limit(&self, _has_outcomes: bool) -> Duration {
        WAIT_MAX + Duration::from_secs(5)
    }

    fn beat_limit(&self) -> Duration {
        // Nobody checks on a worker of the same process, so its beat waits for an order only.
        Duration::from_hours(1)
    }

    fn is_within_the_process(&self) -> bool {
        true
    }
}

impl WorkLine for &LocalLink {
    fn ask(
        &mut self,
        request: &WorkerRequest,
        limit: Duration,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<WorkerReply, CallError> {
        let answer = self.post(request);
        meanwhile();
        wait(&answer, limit)
    }
}

/// A control plane elsewhere.
pub struct RemoteLink {
    transport: Arc<dyn Transport>,
    format: SerializationFormat,
    discovery: Discovery,
    /// The base address at which the control plane answered last, and its cluster's id.
    cluster: Mutex<(Address, Uuid)>,
    joined: Welcome,
    /// Where the control plane serves subworkers.
    address: Mutex<String>,
    /// A connection for [`Link::ask`] that nobody uses at the moment.
    spare: Mutex<Option<Box<dyn BlockingReq>>>,
    /// Held by who looks around.
    looking: Mutex<()>,
}

impl std::fmt::Debug for RemoteLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RemoteLink({})", self.address())
    }
}

/// A control plane that could not be found.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    /// Nobody answered.
    #[error("no answer from a control plane at {address} within {} s", crate::clock::seconds(*waited))]
    Unreachable {
        /// Where it was expected.
        address: Address,
        /// How long we waited.
        waited: Duration,
        /// Where another one was announced meanwhile.
        announced: Option<Address>,
    },
    /// The socket could not be opened.
    #[error(transparent)]
    Open(#[from] crate::transport::OpenError),
    /// There is no such port.
    #[error(transparent)]
    Address(#[from] crate::config::NotAnAddress),
}

impl RemoteLink {
    /// Finds the control plane at `address`, and nowhere else: what is announced on the bus at
    /// `discovery` may be another cluster. From then on it is found again by its cluster id. Waits at
    /// most `limit`.
    ///
    /// # Errors
    /// [`NotFound`] when nobody answers there.
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
            let left = until.saturating_duration_since(Instant::now());
            if let Some(welcome) = hello(&*transport, address, format, left)? {
                break welcome;
            }
            if Instant::now() >= until {
                let heard = discovery.newest().map(|heard| heard.base_address);
                let announced = heard.filter(|announced| announced != address);
                return Err(NotFound::Unreachable { address: address.clone(), waited: limit, announced });
            }
            // It had too much to do, say.
            pause(HELLO_STEP.min(left));
        };
        let told: Address = welcome.subworker_address.parse()?;
        let (cluster, spare) = (Mutex::new((address.clone(), welcome.cluster_id)), Mutex::default());
        let address = Mutex::new(told.to_string());
        Ok(Self { transport, format, discovery, cluster, joined: welcome, address, spare, looking: Mutex::default() })
    }

    /// Who the control plane said it is when it was found first.
    pub fn joined(&self) -> &Welcome {
        &self.joined
    }

    fn address(&self) -> String {
        lock(&self.address).clone()
    }

    /// This connection if it is to the control plane, wherever that is now, and else a new one.
    fn blocking_req(&self, before: Option<Box<dyn BlockingReq>>) -> Result<Box<dyn BlockingReq>, CallError> {
        let address = lock(&self.address);
        match before.filter(|blocking_req| blocking_req.address() == *address) {
            Some(blocking_req) => Ok(blocking_req),
            None => self.transport.blocking_req(&address).map_err(|error| {
                error!(%error, "a worker cannot ask there");
                CallError::Closed { address: address.clone() }
            }),
        }
    }
}

impl Link for RemoteLink {
    fn ask(&self, request: &WorkerRequest, limit: Duration) -> Result<WorkerReply, CallError> {
        let body = codec::encode(self.format, request);
        let until = after(limit);
        let mut blocking_req = lock(&self.spare).take();
        loop {
            let mut asked = self.blocking_req(blocking_req.take())?;
            let left = until.saturating_duration_since(Instant::now());
            let mut answer = None;
            // All that is asked this way is answered at once.
            let outcome = asked.ask(&body, left.min(ANSWER_GRACE), &mut || {}, &mut |body| answer = Some(read(body)));
            match outcome {
                Ok(()) => {
                    *lock(&self.spare) = Some(asked);
                    return Ok(answer.expect("a dialog reads the answer that it got"));
                }
                Err(CallError::TimedOut { .. }) if Instant::now() < until => blocking_req = Some(asked),
                Err(CallError::TimedOut { address, .. }) => return Err(CallError::TimedOut { address, waited: limit }),
                Err(error) => return Err(error),
            }
        }
    }

    fn line(&self) -> Box<dyn WorkLine + '_> {
        Box::new(RemoteLine { link: self, blocking_req: None })
    }

    fn work_limit(&self, has_outcomes: bool) -> Duration {
        if has_outcomes { CONFIRM_WAIT + ANSWER_GRACE } else { WORK_WAIT + ANSWER_GRACE }
    }

    fn look_around(&self) {
        // What one thread finds is for all.
        let Some(_looking) = try_lock(&self.looking) else { return };
        let Some(heard) = self.discovery.newest() else { return };
        let limit = Duration::from_secs(1);
        let Ok(Some(welcome)) = hello(&*self.transport, &heard.base_address, self.format, limit) else { return };
        let (base, cluster) = lock(&self.cluster).clone();
        // At the address where it was, it may have lost its id; elsewhere another id is another cluster.
        if heard.base_address != base && !welcome.is_of(cluster) {
            debug!(address = %heard.base_address, cluster = %welcome.cluster_id, "another cluster is announced");
            return;
        }
        *lock(&self.cluster) = (heard.base_address.clone(), welcome.cluster_id);
        let Ok(told) = welcome.subworker_address.parse::<Address>().map(|told| told.to_string()) else { return };
        if self.address() == told {
            return;
        }
        info!(address = %heard.base_address, cluster = %welcome.cluster_id, "the control plane has moved");
        *lock(&self.address) = told;
    }

    fn beat_limit(&self) -> Duration {
        BEAT_WAIT + ANSWER_GRACE
    }

    fn is_within_the_process(&self) -> bool {
        false
    }
}

/// The line of one thread to a control plane elsewhere.
struct RemoteLine<'a> {
    link: &'a RemoteLink,
    /// None until it is needed.
    blocking_req: Option<Box<dyn BlockingReq>>,
}

impl WorkLine for RemoteLine<'_> {
    fn ask(
        &mut self,
        request: &WorkerRequest,
        limit: Duration,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<WorkerReply, CallError> {
        let body = codec::encode(self.link.format, request);
        let blocking_req = self.link.blocking_req(self.blocking_req.take())?;
        let mut answer = None;
        self.blocking_req.insert(blocking_req).ask(&body, limit, meanwhile, &mut |body| answer = Some(read(body)))?;
        Ok(answer.expect("a dialog reads the answer that it got"))
    }
}

/// The answer, or in its place why it makes no sense.
fn read(body: &[u8]) -> WorkerReply {
    codec::decode(body).unwrap_or_else(|error| WorkerReply::Refused(format!("its answer makes no sense: {error}")))
}

/// Asks who is at a base address. None if nobody answers within `limit`.
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
