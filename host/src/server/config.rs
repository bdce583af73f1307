//! The configuration of a control plane, and its errors.

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
    /// The address to listen on: this port and the four after it.
    pub base_address: Address,
    /// The address of its announcements.
    pub discovery_address: Address,
    /// The format of messages that it initiates. Replies use the format of the request.
    pub serialization_format: SerializationFormat,
    /// The port for subworkers, on the host of the base address.
    pub subworker_management_port: u16,
    /// Maximum number of results in the cache.
    pub result_cache_max_size: usize,
    /// Time to live of a result, in seconds.
    pub result_cache_ttl_seconds: u64,
    /// Time for which tasks that no worker has wait for a worker, after the start and after each loss of a worker.
    pub unknown_grace: Duration,
    /// The base address as peers reach it, if it differs from the one it listens on.
    pub advertise_address: Option<Address>,
    /// Allow listening on non-loopback addresses. Anyone who can reach them can run tasks.
    pub insecure: bool,
    /// Maximum number of open requests at each address.
    pub open_requests_max: usize,
    /// The id of the cluster. None for the one in the state folder, else a new one.
    pub cluster_id: Option<Uuid>,
    /// The folder that stores that id. None to store nothing.
    pub state_dir: Option<PathBuf>,
    /// The web interface, if there is to be one.
    #[cfg(feature = "runtime")]
    pub gui: Option<GuiConfig>,
    /// A separate address for health checks and metrics, if there is to be one.
    #[cfg(feature = "runtime")]
    pub health: Option<HealthConfig>,
    /// The modules of its own worker. Without sources it has no worker.
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

/// The error of a control plane that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// A socket could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An address is invalid.
    #[error(transparent)]
    Address(#[from] NotAnAddress),
    /// Listening on an address is not allowed.
    #[error(transparent)]
    Exposed(#[from] ExposureError),
    /// The worker id cannot be announced.
    #[error(transparent)]
    WorkerId(#[from] InvalidWorkerId),
    /// A thread cannot be started.
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
