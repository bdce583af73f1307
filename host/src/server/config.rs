//! The configuration of a control plane, and why it cannot start.

use std::{path::PathBuf, time::Duration};

use uuid::Uuid;

use crate::{
    config::{Address, BASE_ADDRESS, DISCOVERY_ADDRESS, ExposureError, NotAnAddress, SUBWORKER_PORT},
    control_plane::{cluster, state::UNKNOWN_GRACE},
    task::{InvalidWorkerId, SerializationFormat},
    transport::{OPEN_REQUESTS_MAX, OpenError},
};
#[cfg(feature = "runtime")]
use crate::{
    gui::{GuiConfig, GuiError, HealthConfig},
    subworker::{ModulesConfig, ModulesError, worker::WorkerError},
};

/// The configuration of a control plane.
#[derive(Clone, Debug)]
pub struct ControlPlaneConfig {
    /// Its worker id. Without a colon, so that it can be announced.
    pub worker_id: String,
    /// Where it listens: on this port and the four after it.
    pub base_address: Address,
    /// Where it announces itself.
    pub discovery_address: Address,
    /// The format of messages that it starts. Requests are answered in their own format.
    pub serialization_format: SerializationFormat,
    /// The port for subworkers, on the host of the base address.
    pub subworker_management_port: u16,
    /// Maximum number of results in the cache.
    pub result_cache_max_size: usize,
    /// Time to live of a result, in seconds.
    pub result_cache_ttl_seconds: u64,
    /// Time for which calls of a name that no worker has wait for one, after the start and after each loss
    /// of a worker.
    pub unknown_grace: Duration,
    /// The base address as peers reach it, if it differs from the one it listens on.
    pub advertise_address: Option<Address>,
    /// Listen beyond loopback, although everyone who reaches it can run tasks.
    pub insecure: bool,
    /// Maximum number of open requests at each address.
    pub open_requests_max: usize,
    /// The id of the cluster. None for the one in the state folder, or else a new one.
    pub cluster_id: Option<Uuid>,
    /// Where that id is kept. None to keep nothing.
    pub state_dir: Option<PathBuf>,
    /// The web interface. None for none.
    #[cfg(feature = "runtime")]
    pub gui: Option<GuiConfig>,
    /// A separate address for health checks and metrics. None for none.
    #[cfg(feature = "runtime")]
    pub health: Option<HealthConfig>,
    /// The modules that it runs itself. Without sources it runs nothing.
    #[cfg(feature = "runtime")]
    pub modules: ModulesConfig,
}

impl Default for ControlPlaneConfig {
    fn default() -> Self {
        let parse = |address: &str| address.parse().expect("the default addresses are valid");
        Self {
            worker_id: "control-plane".into(),
            base_address: parse(BASE_ADDRESS),
            discovery_address: parse(DISCOVERY_ADDRESS),
            serialization_format: SerializationFormat::Json,
            subworker_management_port: SUBWORKER_PORT,
            result_cache_max_size: 10_000,
            result_cache_ttl_seconds: 3_600,
            unknown_grace: UNKNOWN_GRACE,
            advertise_address: None,
            insecure: false,
            open_requests_max: OPEN_REQUESTS_MAX,
            cluster_id: None,
            state_dir: cluster::default_state_dir(),
            #[cfg(feature = "runtime")]
            gui: None,
            #[cfg(feature = "runtime")]
            health: None,
            #[cfg(feature = "runtime")]
            modules: ModulesConfig::default(),
        }
    }
}

/// Why a control plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// A socket could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An address is invalid.
    #[error(transparent)]
    Address(#[from] NotAnAddress),
    /// An address must not be listened on.
    #[error(transparent)]
    Exposed(#[from] ExposureError),
    /// The worker id cannot be announced.
    #[error(transparent)]
    WorkerId(#[from] InvalidWorkerId),
    /// The system has no more threads.
    #[error("cannot start a thread: {}", crate::system::explain(.0))]
    Thread(#[from] std::io::Error),
    /// The web interface could not start.
    #[cfg(feature = "runtime")]
    #[error(transparent)]
    Gui(#[from] GuiError),
    /// The modules could not be loaded.
    #[cfg(feature = "runtime")]
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// Its own worker could not start.
    #[cfg(feature = "runtime")]
    #[error(transparent)]
    Worker(#[from] WorkerError),
}
