//! `fastworker subworker`

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use tracing::info;

use super::{Failure, Modules, Outcome, Serving, complete, render, span};
use crate::{
    config::{Address, BASE_ADDRESS, DISCOVERY_ADDRESS},
    shutdown::Signals,
    subworker::{SubWorker, SubWorkerConfig},
    task::SerializationFormat,
};

#[derive(Args, Debug)]
pub(super) struct Subworker {
    /// Worker identifier; no two workers of a control plane have the same
    #[arg(long, env = "FASTWORKER_WORKER_ID", value_name = "ID")]
    worker_id: String,
    /// Control plane address: its base address
    #[arg(long, env = "FASTWORKER_CONTROL_PLANE_ADDRESS", value_name = "ADDRESS")]
    control_plane_address: Address,
    /// Base address to be shown for this subworker; nothing listens there
    #[arg(long, env = "FASTWORKER_BASE_ADDRESS", default_value = BASE_ADDRESS, value_name = "ADDRESS")]
    base_address: Address,
    /// Where to look for the control plane when it does not answer at its address
    #[arg(long, env = "FASTWORKER_DISCOVERY_ADDRESS", default_value = DISCOVERY_ADDRESS, value_name = "ADDRESS")]
    discovery_address: Address,
    /// How messages are written: json or postcard
    #[arg(long, env = "FASTWORKER_SERIALIZATION_FORMAT", default_value = "postcard", value_name = "FORMAT",
          add = ArgValueCandidates::new(complete::formats))]
    serialization_format: SerializationFormat,
    /// How long to look for the control plane at the start
    #[arg(long, env = "FASTWORKER_TIMEOUT", default_value = "30s", value_parser = span, value_name = "SPAN")]
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
            let (runtime, catalog) = config.modules.load()?;
            let tasks: usize = catalog.describe().iter().map(|module| module.tasks.len()).sum();
            let mut subworker = SubWorker::new(config.clone());
            subworker.start_with(runtime, catalog)?;
            signals.serve();
            info!(
                worker = config.worker_id,
                control_plane = %config.control_plane_address,
                slots = config.modules.concurrency,
                tasks,
                "subworker ready"
            );
            if json {
                render::ready(&config.worker_id, &config.control_plane_address, None)?;
            }
            Ok::<_, Failure>(subworker)
        };
        self.serving.run(start, |mut subworker, limit| subworker.stop(limit))
    }
}
