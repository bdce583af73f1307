//! Joining a cluster when a client starts.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout_at};

use super::{
    ClientError, Endpoint, Inner,
    connection::{Connection, dial},
};
use crate::{
    config::{Address, MANAGEMENT_OFFSET},
    discovery::Discovery,
    protocol::{RefusalCode, Reply, Request, Welcome},
    transport::nng::Nng,
};

/// Time without a reply from a given address after which the client listens for announcements, to name
/// them in its error.
const LISTEN_AFTER: Duration = Duration::from_secs(1);
/// Minimum part of the timeout for listening to announcements.
const LISTEN_MIN: Duration = Duration::from_millis(100);

impl Inner {
    /// Connects to the control plane at the given address.
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
        let result = tokio::select! {
            biased;
            result = self.handshake(&connection, until) => result,
            () = listen => return Err(ClientError::Stopped),
        };
        match result {
            Ok(welcome) => return Ok(joined(connection, welcome)),
            Err(ClientError::Unreachable { .. }) => {}
            Err(error) => return Err(error),
        }
        let newest = listening.get().and_then(Discovery::newest);
        let endpoint = match newest.map(|announcement| announcement.base_address) {
            Some(announced) if announced != *base => Endpoint::GivenNotAnnounced {
                base: base.clone(),
                announced,
                discovery: self.config.discovery_address.clone(),
            },
            _ => Endpoint::Given(base.clone()),
        };
        Err(self.unreachable(endpoint))
    }

    /// Connects to any announced control plane.
    pub(super) async fn join_announced(&self, until: Instant) -> Result<Connection, ClientError> {
        let discovery = Arc::new(Discovery::listen(&Nng, &self.config.discovery_address)?);
        let first = timeout_at(until.into(), discovery.first()).await;
        let mut announced =
            first.map_err(|_| self.unreachable(Endpoint::Discovery(self.config.discovery_address.clone())))?;
        loop {
            let connection = self.connection_to(announced.base_address, Some(Arc::clone(&discovery)))?;
            announced = tokio::select! {
                biased;
                result = self.handshake(&connection, until) => return match result {
                    Ok(welcome) => Ok(joined(connection, welcome)),
                    Err(ClientError::Unreachable { endpoint, .. }) => Err(self.unreachable(endpoint)),
                    Err(error) => Err(error),
                },
                elsewhere = discovery.elsewhere(&connection.base, || !connection.caller.is_connected()) => elsewhere,
            };
        }
    }

    fn connection_to(&self, base: Address, discovery: Option<Arc<Discovery>>) -> Result<Connection, ClientError> {
        let caller = dial(&base, self.config.serialization_format)?;
        Ok(Connection::new(caller, base, discovery, Arc::default()))
    }

    /// Sends the handshake and waits for its reply.
    async fn handshake(&self, connection: &Connection, until: Instant) -> Result<Welcome, ClientError> {
        let not_a_control_plane = || {
            let base = connection.base.clone();
            let port = base.port() + MANAGEMENT_OFFSET;
            ClientError::NotAControlPlane { base, port }
        };
        let left = until.saturating_duration_since(Instant::now());
        match self.request_on(connection, &Request::Hello, left).await {
            Ok(Reply::Welcome(welcome)) => Ok(welcome),
            // For example a control plane of another version, or one with too many open requests.
            Ok(Reply::Refused(refusal)) if refusal.code != RefusalCode::Unreadable => {
                Err(ClientError::Refused(refusal))
            }
            Ok(_) | Err(ClientError::UnexpectedReply { .. }) => Err(not_a_control_plane()),
            Err(error) => Err(error),
        }
    }

    fn unreachable(&self, endpoint: Endpoint) -> ClientError {
        ClientError::Unreachable { endpoint, waited: self.config.timeout }
    }
}

fn joined(mut connection: Connection, welcome: Welcome) -> Connection {
    connection.welcome = Arc::new(OnceLock::from(welcome));
    connection
}
