//! Options of a client.

use std::{sync::Arc, time::Duration};

use super::{Client, Inner};
use crate::{
    clock::DURATION_MAX,
    config::{Address, DISCOVERY_ADDRESS},
    task::SerializationFormat,
};

/// Options of a client, from [`Client::builder`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use fastworker::{client::Client, task::SerializationFormat};
///
/// let client = Client::builder()
///     .timeout(Duration::from_secs(10))
///     .serialization_format(SerializationFormat::Postcard)
///     .build();
/// ```
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    pub(super) discovery_address: Address,
    pub(super) control_plane_address: Option<Address>,
    pub(super) serialization_format: SerializationFormat,
    pub(super) timeout: Duration,
    pub(super) retries: u32,
}

impl ClientBuilder {
    /// Address where the control plane is announced; default `tcp://127.0.0.1:5550`.
    #[must_use]
    pub fn discovery_address(mut self, address: Address) -> Self {
        self.discovery_address = address;
        self
    }

    /// Base address of the control plane. The client then uses no discovery.
    #[must_use]
    pub fn control_plane_address(mut self, address: Address) -> Self {
        self.control_plane_address = Some(address);
        self
    }

    /// Format of messages; default JSON.
    #[must_use]
    pub fn serialization_format(mut self, format: SerializationFormat) -> Self {
        self.serialization_format = format;
        self
    }

    /// Timeout of each call; default 30 s, at most ten years.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(DURATION_MAX);
        self
    }

    /// Maximum number of repetitions of a request without a reply, within the timeout; default 3.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Returns the client, not started yet.
    pub fn build(self) -> Client {
        Client(Arc::new(Inner::new(self)))
    }
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            discovery_address: DISCOVERY_ADDRESS.parse().expect("the default addresses are addresses"),
            control_plane_address: None,
            serialization_format: SerializationFormat::Json,
            timeout: Duration::from_secs(30),
            retries: 3,
        }
    }
}
