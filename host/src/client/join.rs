//! How a client joins a cluster when it starts.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout_at};

use super::{
    ClientError, Inner, Place,
    connection::{Connection, dial},
};
use crate::{
    config::{Address, MANAGEMENT_OFFSET},
    discovery::Discovery,
    protocol::{RefusalCode, Reply, Request, Welcome},
    transport::nng::Nng,
};

/// When nobody has answered at a given address for this long, the client listens to what is announced
/// instead, to say so in its error.
const LISTEN_AFTER: Duration = Duration::from_secs(1);
/// How much of the timeout is enough to hear what is announced.
const LISTEN_MIN: Duration = Duration::from_millis(100);

impl Inner {
    /// Goes to the control plane at the address that was given.
    pub(super) async fn join_given(&self, base: &Address, until: Instant) -> Result<Connection, ClientError> {
        let connection = self.connection_to(base.clone(), None)?;
        let listening = OnceLock::new();
        let listen = async {
            let after = LISTEN_AFTER.min(self.config.timeout.saturating_sub(LISTEN_MIN));
            sleep(after).await;
            if let Ok(discovery) = Discovery::listen(&Nng, &self.config.discovery_address) {
                listening.get_or_init(|| discovery);
            }
            std::future::pending::<()>().await;
        };
        let answer = tokio::select! {
            biased;
            answer = self.hello(&connection, until) => answer,
            () = listen => return Err(ClientError::Stopped),
        };
        match answer {
            Ok(welcome) => return Ok(joined(connection, welcome)),
            Err(ClientError::Unreachable { .. }) => {}
            Err(error) => return Err(error),
        }
        let heard = listening.get().and_then(Discovery::newest);
        let place = match heard.map(|heard| heard.base_address) {
            Some(announced) if announced != *base => Place::GivenNotAnnounced {
                base: base.clone(),
                announced,
                discovery: self.config.discovery_address.clone(),
            },
            _ => Place::Given(base.clone()),
        };
        Err(self.unreachable(place))
    }

    /// Goes to a control plane that is announced: any, as no cluster was joined yet.
    pub(super) async fn join_announced(&self, until: Instant) -> Result<Connection, ClientError> {
        let discovery = Arc::new(Discovery::listen(&Nng, &self.config.discovery_address)?);
        let heard = timeout_at(until.into(), discovery.first()).await;
        let mut base = heard.map_err(|_| self.unreachable(Place::Discovery(self.config.discovery_address.clone())))?;
        loop {
            let connection = self.connection_to(base.base_address, Some(Arc::clone(&discovery)))?;
            base = tokio::select! {
                biased;
                answer = self.hello(&connection, until) => return match answer {
                    Ok(welcome) => Ok(joined(connection, welcome)),
                    Err(ClientError::Unreachable { place, .. }) => Err(self.unreachable(place)),
                    Err(error) => Err(error),
                },
                heard = discovery.elsewhere(&connection.base, || !connection.caller.is_connected()) => heard,
            };
        }
    }

    fn connection_to(&self, base: Address, discovery: Option<Arc<Discovery>>) -> Result<Connection, ClientError> {
        let caller = dial(&base, self.config.serialization_format)?;
        Ok(Connection::new(caller, base, discovery, Arc::default()))
    }

    /// Asks who it is, until somebody answers.
    async fn hello(&self, connection: &Connection, until: Instant) -> Result<Welcome, ClientError> {
        let stranger = || {
            let base = connection.base.clone();
            let port = base.port() + MANAGEMENT_OFFSET;
            ClientError::NotAControlPlane { base, port }
        };
        let left = until.saturating_duration_since(Instant::now());
        match self.ask_on(connection, &Request::Hello, left).await {
            Ok(Reply::Welcome(welcome)) => Ok(welcome),
            // Such as a control plane of another version, or one that has too much to do.
            Ok(Reply::Refused(refusal)) if refusal.code != RefusalCode::Unreadable => {
                Err(ClientError::Refused(refusal))
            }
            Ok(_) | Err(ClientError::Confused { .. }) => Err(stranger()),
            Err(error) => Err(error),
        }
    }

    fn unreachable(&self, place: Place) -> ClientError {
        ClientError::Unreachable { place, waited: self.config.timeout }
    }
}

fn joined(mut connection: Connection, welcome: Welcome) -> Connection {
    connection.welcome = Arc::new(OnceLock::from(welcome));
    connection
}
