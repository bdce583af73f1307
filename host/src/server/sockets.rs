//! The sockets of a control plane, and the data that it sends to peers about itself.

use std::sync::Arc;

use tracing::warn;
use uuid::Uuid;

use super::{ControlPlaneConfig, ControlPlaneError};
use crate::{
    config::MANAGEMENT_OFFSET,
    control_plane::{
        cluster,
        core::Core,
        handler::{ChunkReader, ClientService, WorkerService},
    },
    discovery::Announcement,
    protocol::{self, Welcome},
    task::{TaskPriority, WorkerId},
    transport::{Announcer, OpenError, PAYLOAD_MAX, Server, Transport, nng::Nng},
};

/// The data that a control plane sends to peers about itself.
pub(super) struct PeerInfo {
    pub(super) welcome: Welcome,
    pub(super) announcement: Announcement,
}

impl PeerInfo {
    pub(super) fn new(config: &ControlPlaneConfig) -> Result<Self, ControlPlaneError> {
        let id = &config.worker_id;
        WorkerId::check(id)?;
        let base_address = config.base_address.for_peers(config.advertise_address.as_ref(), config.insecure)?;
        // The discovery address is not sent to peers, so this only checks whether listening on it is allowed.
        config.discovery_address.for_peers(Some(&base_address), config.insecure)?;
        let welcome = Welcome {
            worker_id: id.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: protocol::VERSION,
            base_address: base_address.to_string(),
            subworker_address: base_address.with_port(config.subworker_management_port).to_string(),
            payload_max: PAYLOAD_MAX as u64,
            cluster_id: cluster_id(config),
        };
        Ok(Self { welcome, announcement: Announcement { worker_id: id.clone(), base_address } })
    }
}

/// The id of the cluster: the configured one, the one on disk, or a new one.
fn cluster_id(config: &ControlPlaneConfig) -> Uuid {
    if let Some(id) = config.cluster_id {
        return id;
    }
    let Some(folder) = &config.state_dir else { return Uuid::new_v4() };
    cluster::id_in(folder, &config.worker_id, config.base_address.port()).unwrap_or_else(|(id, error)| {
        warn!(
            folder = %folder.display(),
            %error,
            "cannot store the cluster's id: after a restart at another address, clients and subworkers will not \
             find this cluster again by its announcements; set XDG_STATE_HOME or a cluster id"
        );
        id
    })
}

/// Opens the sockets of the four priorities, of management and of subworkers.
pub(super) fn listen(
    config: &ControlPlaneConfig,
    core: &Arc<Core>,
    welcome: &Welcome,
    chunks: Option<Box<dyn ChunkReader>>,
) -> Result<Vec<Box<dyn Server>>, ControlPlaneError> {
    let lanes = TaskPriority::ALL.into_iter().map(Some).chain([None]);
    let mut servers = Vec::new();
    for (offset, lane) in (0..=MANAGEMENT_OFFSET).zip(lanes) {
        let service = ClientService::new(Arc::clone(core), welcome.clone(), lane);
        let address = config.base_address.plus(offset)?;
        servers.push(Nng.serve(&address.to_string(), config.open_requests_max, Arc::new(service))?);
    }
    let address = config.base_address.with_port(config.subworker_management_port);
    let service = WorkerService::new(Arc::clone(core), chunks);
    servers.push(Nng.serve(&address.to_string(), config.open_requests_max, Arc::new(service))?);
    Ok(servers)
}

/// Opens the socket for announcements.
pub(super) fn announcer(
    config: &ControlPlaneConfig,
    announcement: &Announcement,
) -> Result<Box<dyn Announcer>, OpenError> {
    let announcement = announcement.clone();
    Nng.announcer(&config.discovery_address.to_string(), Box::new(move || announcement.to_message()))
}
