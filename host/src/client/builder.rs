//! What a client is told before it starts.

use std::{sync::Arc, time::Duration};

use super::{Client, Inner};
use crate::{
    clock::DURATION_MAX,
    config::{Address, DISCOVERY_ADDRESS},
    task::SerializationFormat,
};

/// Settles what a client does. From [`Client::builder`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    pub(super) discovery_address: Address,
    pub(super) control_plane_address: Option<Address>,
    pub(super) serialization_format: SerializationFormat,
    pub(super) timeout: Duration,
    pub(super) retries: u32,
}

impl ClientBuilder {
    /// Where to listen for the control plane; default `tcp://127.0.0.1:5550`.
    #[must_use]
    pub fn discovery_address(mut self, address: Address) -> Self {
        self.discovery_address = address;
        self
    }

    /// The control plane's base address, for a client that need not look for it.
    #[must_use]
    pub fn control_plane_address(mut self, address: Address) -> Self {
        self.control_plane_address = Some(address);
        self
    }

    /// How messages are written; default JSON.
    #[must_use]
    pub fn serialization_format(mut self, format: SerializationFormat) -> Self {
        self.serialization_format = format;
        self
    }

    /// Bounds the whole of each wait; default 30 s, at most [`DURATION_MAX`].
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(DURATION_MAX);
        self
    }

    /// How often a question is asked again that brought no answer, within the timeout; default 3.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// A client that has not started.
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
