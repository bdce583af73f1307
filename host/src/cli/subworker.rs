//! `fastworker subworker`

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use tracing::info;

use super::{
    ADDRESS_VARIABLE, DISCOVERY_VARIABLE, Failure, Modules, Outcome, Serving, base_address, complete, named, render,
    span_above_zero, tell_when_loaded, values::worker_id,
};
use crate::{
    config::{Address, BASE_ADDRESS, DISCOVERY_ADDRESS},
    shutdown::Signals,
    subworker::{SubWorker, SubWorkerConfig},
    task::SerializationFormat,
};

#[derive(Args, Debug)]
#[command(
    after_help = "SIGTERM, SIGHUP or Ctrl-C drains it, a second signal later than 500 ms after the first stops it at once."
)]
pub(super) struct Subworker {
    /// Name the subworker. No two workers of a control plane have the same name
    #[arg(long, env = "FASTWORKER_WORKER_ID", value_name = "ID", value_parser = worker_id)]
    worker_id: String,
    /// Run tasks for the control plane at this base address
    #[arg(long, env = ADDRESS_VARIABLE, value_name = "ADDRESS", value_parser = base_address)]
    control_plane_address: Address,
    /// Show this address for the subworker. Nothing listens there
    #[arg(long, env = "FASTWORKER_BASE_ADDRESS", default_value = BASE_ADDRESS, value_name = "ADDRESS",
          value_parser = named::<Address>)]
    base_address: Address,
    /// If the control plane has moved since this subworker joined it, find it by its announcements at this
    /// address
    #[arg(long, env = DISCOVERY_VARIABLE, default_value = DISCOVERY_ADDRESS, value_name = "ADDRESS",
          value_parser = named::<Address>)]
    discovery_address: Address,
    /// Write messages as json or postcard
    #[arg(long, env = "FASTWORKER_SERIALIZATION_FORMAT", default_value = "postcard", value_name = "FORMAT",
          value_parser = named::<SerializationFormat>, add = ArgValueCandidates::new(complete::formats))]
    serialization_format: SerializationFormat,
    /// Look for the control plane for this long at the start, and wait for a worker of the same name to be gone
    #[arg(long, env = "FASTWORKER_TIMEOUT", default_value = "30s", value_parser = span_above_zero, value_name = "SPAN")]
    timeout: Duration,
    #[command(flatten)]
    modules: Modules,
    #[command(flatten)]
    serving: Serving,
}

impl Subworker {
    pub(super) fn run(self) -> Outcome {
        let config = SubWorkerConfig {
            worker_id: self.worker_id,
            control_plane_address: self.control_plane_address,
            base_address: self.base_address,
            discovery_address: self.discovery_address,
            serialization_format: self.serialization_format,
            modules: self.modules.config(),
            timeout: self.timeout,
        };
        let json = self.serving.json;
        let start = |signals: &Signals| {
            info!(control_plane = %config.control_plane_address, "looking for the control plane");
            let mut subworker = SubWorker::new(config.clone());
            subworker.start()?;
            signals.serve();
            let joined = subworker.control_plane();
            let cluster = joined.map(|joined| joined.cluster_id);
            info!(
                worker = config.worker_id,
                control_plane = %config.control_plane_address,
                control_plane_id = joined.map(|joined| joined.worker_id.as_str()),
                cluster = cluster.map(tracing::field::display),
                slots = config.modules.concurrency,
                tasks = subworker.tasks(),
                "subworker ready"
            );
            if json {
                render::ready(&config.worker_id, &config.control_plane_address, None, None, cluster)?;
                if !config.modules.sources.is_empty() {
                    tell_when_loaded(&config.worker_id, subworker.loading());
                }
            }
            Ok::<_, Failure>(subworker)
        };
        let stop_now = |subworker: &SubWorker| subworker.leave();
        self.serving.run(start, stop_now, |mut subworker, limit| subworker.stop(limit))
    }
}
