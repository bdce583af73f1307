//! How a question reaches the control plane, and the next one when that is gone.
//!
//! Apart because everything that is asked goes this way. Invariants: no question takes longer than it was
//! given, whatever becomes of the control plane; and a client that has joined a cluster never goes over
//! to another one by itself: it follows announcements only to a control plane with the same cluster id.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{ClientBuilder, ClientError, Inner, Place};
use crate::{
    clock::after,
    config::{Address, MANAGEMENT_OFFSET},
    discovery::{Announcement, Discovery},
    lock::lock,
    protocol::{Refusal, RefusalCode, Reply, Request, Welcome, codec},
    task::{SerializationFormat, TaskId},
    transport::{self, CallError, Caller, Transport as _, nng::Nng},
};

/// An answer that should come at once is asked for again after so long.
const PROMPT: Duration = Duration::from_secs(5);
/// How long an announced control plane may take to say which cluster it is.
const JOIN_LIMIT: Duration = Duration::from_secs(2);
/// The pause before the same is asked again of a control plane that is stopping, or of its successor.
pub(super) const STOPPING_PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Connection {
    pub(super) caller: Arc<dyn Caller>,
    pub(super) base: Address,
    pub(super) discovery: Option<Arc<Discovery>>,
    /// Empty until the control plane that was found since has answered.
    pub(super) welcome: Arc<OnceLock<Welcome>>,
    /// Held while one of those who wait looks for the control plane elsewhere.
    pub(super) looking: tokio::sync::Mutex<()>,
}

/// A socket for the control plane at a base address.
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
        Self { caller, base, discovery, welcome, looking: tokio::sync::Mutex::default() }
    }

    /// Where this control plane should be.
    pub(super) fn place(&self, config: &ClientBuilder) -> Place {
        let base = self.base.clone();
        match self.discovery {
            None => Place::Given(base),
            Some(_) => Place::Announced { base, discovery: config.discovery_address.clone() },
        }
    }

    /// The cluster that it is part of; nil if that is not known.
    fn cluster(&self) -> Uuid {
        self.welcome.get().map(|welcome| welcome.cluster_id).unwrap_or_default()
    }
}

impl Inner {
    /// Why a wait for a task is over, which is known to have been taken or not.
    pub(super) fn out_of_time(&self, task_id: TaskId, taken: bool) -> ClientError {
        let waited = self.config.timeout;
        match lock(&self.connection).as_ref() {
            Some(connection) if !taken && !connection.caller.is_connected() => {
                ClientError::Unreachable { place: connection.place(&self.config), waited }
            }
            _ => ClientError::TimedOut { task_id, waited },
        }
    }

    /// Asks what should be answered at once.
    pub(super) async fn ask(&self, request: &Request) -> Result<Reply, ClientError> {
        self.ask_for(request, Duration::ZERO).await
    }

    /// Asks what may be parked for `parked`. Asks again, and looks for the control plane
    /// elsewhere, when there is no answer; at most `retries` times, not counting those for which there
    /// was no connection, and no longer than the timeout beyond `parked`.
    pub(super) async fn ask_for(&self, request: &Request, parked: Duration) -> Result<Reply, ClientError> {
        self.ask_until(request, parked, after(parked + self.config.timeout)).await
    }

    /// The same, no longer than until then. A control plane that is stopping is waited for, too.
    pub(super) async fn ask_until(
        &self,
        request: &Request,
        parked: Duration,
        until: Instant,
    ) -> Result<Reply, ClientError> {
        let (started, mut tries) = (Instant::now(), 0);
        // What the control plane said that has stopped since.
        let mut last_words = None;
        loop {
            let connection = lock(&self.connection).clone().ok_or(ClientError::Stopped)?;
            let left = until.saturating_duration_since(Instant::now());
            let limit = left.min(parked + self.config.timeout.min(PROMPT));
            let answered = tokio::select! {
                biased;
                answered = self.ask_on(&connection, request, limit) => answered,
                () = self.moved(&connection) => continue,
            };
            match answered {
                Err(ClientError::Unreachable { place, .. }) => {
                    // Without a connection nobody was asked.
                    tries += u32::from(connection.caller.is_connected());
                    if Instant::now() >= until || tries > self.config.retries {
                        let unreachable = ClientError::Unreachable { place, waited: started.elapsed() };
                        return Err(last_words.unwrap_or(unreachable));
                    }
                    self.greet_again(&connection);
                }
                Ok(Reply::Refused(refusal)) => {
                    let refused = ClientError::Refused(refusal);
                    let left = until.saturating_duration_since(Instant::now());
                    // Readers of events are told that it stops.
                    if !refused.is_stopping() || left.is_zero() || matches!(request, Request::Events(_)) {
                        return Err(refused);
                    }
                    last_words = Some(refused);
                    tokio::time::sleep(STOPPING_PAUSE.min(left)).await;
                }
                answered => return answered,
            }
        }
    }

    /// Asks once.
    pub(super) async fn ask_on(
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
                Err(ClientError::Confused { address: caller.address().to_owned(), what: error.to_string() })
            }
            Err(CallError::TimedOut { waited, .. }) => {
                Err(ClientError::Unreachable { place: connection.place(&self.config), waited })
            }
            Err(CallError::Closed { .. }) => Err(ClientError::Stopped),
            Err(CallError::TooLarge { size }) => Err(ClientError::TooLarge { size }),
            Err(error @ CallError::TooMany { .. }) => {
                Err(ClientError::Refused(Refusal::new(RefusalCode::TooManyRequests, error.to_string())))
            }
        }
    }

    /// Waits until this connection is lost and the same cluster is announced elsewhere, without an end,
    /// and goes over to it.
    async fn moved(&self, connection: &Arc<Connection>) {
        let Some(discovery) = &connection.discovery else { return std::future::pending().await };
        loop {
            let heard = discovery.elsewhere(&connection.base, || !connection.caller.is_connected()).await;
            let looking = connection.looking.lock().await;
            // Another one may have found it, or the client was stopped.
            if !self.is_current(connection) || self.follow_to(connection, discovery, heard).await {
                return;
            }
            // It is another cluster, or nobody answers there.
            discovery.next().await;
            drop(looking);
        }
    }

    fn is_current(&self, connection: &Arc<Connection>) -> bool {
        lock(&self.connection).as_ref().is_some_and(|current| Arc::ptr_eq(current, connection))
    }

    /// Goes over to an announced control plane, if it is of the same cluster. Returns whether.
    async fn follow_to(&self, connection: &Arc<Connection>, discovery: &Arc<Discovery>, heard: Announcement) -> bool {
        let base = heard.base_address;
        let Ok(caller) = dial(&base, self.config.serialization_format) else { return false };
        let next = Connection::new(caller, base, Some(Arc::clone(discovery)), Arc::default());
        match self.ask_on(&next, &Request::Hello, JOIN_LIMIT).await {
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

    /// Asks again who it is at the address where the control plane was, if another one is announced
    /// there: it has restarted under another name.
    fn greet_again(&self, connection: &Arc<Connection>) {
        let Some(discovery) = &connection.discovery else { return };
        let Some(heard) = discovery.newest().filter(|heard| heard.base_address == connection.base) else { return };
        if connection.welcome.get().is_some_and(|welcome| welcome.worker_id == heard.worker_id) {
            return;
        }
        let mut current = lock(&self.connection);
        if !current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            return;
        }
        let caller = Arc::clone(&connection.caller);
        let welcome = self.greet(&*caller);
        let (base, discovery) = (heard.base_address, Some(Arc::clone(discovery)));
        *current = Some(Arc::new(Connection::new(caller, base, discovery, welcome)));
    }

    /// Asks a control plane who it is; the answer comes in its own time.
    fn greet(&self, caller: &dyn Caller) -> Arc<OnceLock<Welcome>> {
        let welcome = Arc::new(OnceLock::new());
        let slot = Arc::clone(&welcome);
        let hello = codec::encode(self.config.serialization_format, &Request::Hello);
        let done = move |answer: Result<&[u8], CallError>| {
            if let Ok(Ok(Reply::Welcome(said))) = answer.map(codec::decode::<Reply>) {
                slot.get_or_init(|| said);
            }
        };
        caller.call(&hello, self.config.timeout, Box::new(done));
        welcome
    }

    pub(super) fn confused(&self) -> ClientError {
        match lock(&self.connection).as_ref() {
            Some(connection) => ClientError::Confused {
                address: connection.caller.address().to_owned(),
                what: "it answers another question".to_owned(),
            },
            None => ClientError::Stopped,
        }
    }
}
