//! `fastworker subworker`

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use tracing::info;

use super::{
    ADDRESS_VARIABLE, CliError, CommandResult, DISCOVERY_VARIABLE, EXIT_USAGE, ModuleOptions, ServerOptions, complete,
    config_file::ConfigFile,
    parse_base_address, parse_from_str, parse_positive_duration, print_when_loaded, render,
    values::{parse_modules_from, parse_worker_id},
};
use crate::{
    config::{Address, BASE_ADDRESS, DISCOVERY_ADDRESS},
    shutdown::Signals,
    subworker::{ModuleFilter, SubWorker, SubWorkerConfig},
    task::SerializationFormat,
};

#[derive(Args, Debug)]
#[command(
    after_help = "SIGTERM, SIGHUP or Ctrl-C drains the subworker. A second signal, more than 200 ms after the first, stops it immediately."
)]
pub(super) struct SubworkerCommand {
    /// Worker id of the subworker. It must be unique among the workers of a control plane
    #[arg(long, env = "FASTWORKER_WORKER_ID", value_name = "ID", value_parser = parse_worker_id)]
    worker_id: String,
    /// Base address of the control plane
    #[arg(long, env = ADDRESS_VARIABLE, value_name = "ADDRESS", value_parser = parse_base_address)]
    control_plane_address: Address,
    /// Address to show for the subworker. Nothing listens there
    #[arg(long, env = "FASTWORKER_BASE_ADDRESS", default_value = BASE_ADDRESS, value_name = "ADDRESS",
          value_parser = parse_from_str::<Address>)]
    base_address: Address,
    /// Find the control plane through its announcements at this address, if it has moved since this subworker
    /// joined it
    #[arg(long, env = DISCOVERY_VARIABLE, default_value = DISCOVERY_ADDRESS, value_name = "ADDRESS",
          value_parser = parse_from_str::<Address>)]
    discovery_address: Address,
    /// Message format: json or postcard
    #[arg(long, env = "FASTWORKER_SERIALIZATION_FORMAT", default_value = "postcard", value_name = "FORMAT",
          value_parser = parse_from_str::<SerializationFormat>, add = ArgValueCandidates::new(complete::formats))]
    serialization_format: SerializationFormat,
    /// Maximum time to wait at startup for the control plane, and for another worker with the same id to leave
    #[arg(long, env = "FASTWORKER_TIMEOUT", default_value = "30s", value_parser = parse_positive_duration, value_name = "DURATION")]
    timeout: Duration,
    /// Take modules from the control plane: control-plane for all, or control-plane:NAME,NAME for some. New versions
    /// are taken, too [default: control-plane, without --task-modules]
    #[arg(long, env = "FASTWORKER_MODULES_FROM", value_name = "SOURCE", value_parser = parse_modules_from)]
    modules_from: Option<ModuleFilter>,
    #[command(flatten)]
    modules: ModuleOptions,
    #[command(flatten)]
    server: ServerOptions,
}

impl SubworkerCommand {
    pub(super) fn run(self, file: &ConfigFile) -> CommandResult {
        let modules = self.modules.config(file, self.modules.grants(file)?);
        if modules.concurrency == 0 {
            let message = "a subworker with --concurrency 0 would run no tasks";
            return Err(CliError::new(EXIT_USAGE, message).hint("use 1 or more; a control plane can have 0"));
        }
        let all = || modules.sources.is_empty().then_some(ModuleFilter::All);
        let config = SubWorkerConfig {
            modules_from_control_plane: self.modules_from.or_else(all),
            worker_id: self.worker_id,
            control_plane_address: self.control_plane_address,
            base_address: self.base_address,
            discovery_address: self.discovery_address,
            serialization_format: self.serialization_format,
            modules,
            timeout: self.timeout,
        };
        let json = self.server.json;
        let start = |signals: &Signals| {
            info!(control_plane = %config.control_plane_address, "connecting to the control plane");
            let mut subworker = SubWorker::new(config.clone());
            subworker.start()?;
            signals.mark_ready();
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
                render::print_ready(&config.worker_id, &config.control_plane_address, None, None, cluster)?;
                if !config.modules.sources.is_empty() || config.modules_from_control_plane.is_some() {
                    print_when_loaded(&config.worker_id, subworker.loading());
                }
            }
            Ok::<_, CliError>(subworker)
        };
        let on_second_signal = |subworker: &SubWorker| subworker.leave();
        self.server.run(start, on_second_signal, |mut subworker, limit| subworker.stop(limit))
    }
}
