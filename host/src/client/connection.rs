//! How a question reaches the control plane, and the next one when that is gone.
//!
//! Apart because everything that is asked goes this way. Invariant: no question takes longer than it was
//! given, whatever becomes of the control plane.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use super::{ClientBuilder, ClientError, Inner, Place};
use crate::{
    clock::after,
    config::{Address, MANAGEMENT_OFFSET},
    discovery::Discovery,
    lock::lock,
    protocol::{Reply, Request, Welcome, codec},
    task::TaskId,
    transport::{self, CallError, Caller, Transport as _, nng::Nng},
};

/// An answer that should come at once is asked for again after so long.
const PROMPT: Duration = Duration::from_secs(5);

pub(super) struct Connection {
    pub(super) caller: Arc<dyn Caller>,
    pub(super) base: Address,
    pub(super) discovery: Option<Arc<Discovery>>,
    /// Empty until the control plane that was found since has answered.
    pub(super) welcome: Arc<OnceLock<Welcome>>,
}

impl Connection {
    /// Where this control plane should be.
    pub(super) fn place(&self, config: &ClientBuilder) -> Place {
        let base = self.base.clone();
        match self.discovery {
            None => Place::Given(base),
            Some(_) => Place::Announced { base, discovery: config.discovery_address.clone() },
        }
    }

    /// Waits until the connection is lost and the control plane announced elsewhere, without an end.
    async fn moved(&self) {
        match &self.discovery {
            Some(discovery) => discovery.elsewhere(&self.base, || !self.caller.is_connected()).await,
            None => std::future::pending().await,
        }
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
    /// elsewhere, when there is no answer; at most `retries` times, and no longer than the timeout
    /// beyond `parked`.
    pub(super) async fn ask_for(&self, request: &Request, parked: Duration) -> Result<Reply, ClientError> {
        self.ask_until(request, parked, after(parked + self.config.timeout)).await
    }

    /// The same, no longer than until then.
    pub(super) async fn ask_until(
        &self,
        request: &Request,
        parked: Duration,
        until: Instant,
    ) -> Result<Reply, ClientError> {
        let (started, mut tries) = (Instant::now(), 0);
        loop {
            let connection = lock(&self.connection).clone().ok_or(ClientError::Stopped)?;
            let left = until.saturating_duration_since(Instant::now());
            let limit = left.min(parked + self.config.timeout.min(PROMPT));
            let answered = tokio::select! {
                biased;
                answered = self.ask_on(&connection, request, limit) => answered,
                () = connection.moved() => {
                    Err(ClientError::Unreachable { place: connection.place(&self.config), waited: started.elapsed() })
                }
            };
            match answered {
                Err(ClientError::Unreachable { place, .. }) => {
                    tries += 1;
                    let is_over = Instant::now() >= until;
                    if !is_over {
                        self.look_around(&connection)?;
                    }
                    if is_over || tries > self.config.retries {
                        return Err(ClientError::Unreachable { place, waited: started.elapsed() });
                    }
                }
                Ok(Reply::Refused(why)) => return Err(ClientError::Refused(why)),
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
            Err(error @ CallError::TooMany { .. }) => Err(ClientError::Refused(error.to_string())),
        }
    }

    /// Goes to where the control plane is announced now, if that is elsewhere or another one.
    fn look_around(&self, connection: &Arc<Connection>) -> Result<(), ClientError> {
        let Some(discovery) = &connection.discovery else { return Ok(()) };
        let Some(heard) = discovery.newest() else { return Ok(()) };
        let is_elsewhere = heard.base_address != connection.base;
        if !is_elsewhere && connection.welcome.get().is_some_and(|welcome| welcome.worker_id == heard.worker_id) {
            return Ok(());
        }
        let mut current = lock(&self.connection);
        if !current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            // Somebody else has looked around meanwhile, or the client was stopped.
            return Ok(());
        }
        let base = heard.base_address;
        let caller = if is_elsewhere {
            Nng.connect(&base.plus(MANAGEMENT_OFFSET)?.to_string())?
        } else {
            Arc::clone(&connection.caller)
        };
        let welcome = self.greet(&*caller);
        *current = Some(Arc::new(Connection { caller, base, discovery: Some(Arc::clone(discovery)), welcome }));
        Ok(())
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
