//! `fastworker control-plane`

use clap::{ArgAction, Args, builder::BoolishValueParser};
use clap_complete::engine::ArgValueCandidates;
use tracing::info;

use super::{Failure, Modules, Outcome, Serving, complete, render};
use crate::{
    config::{Address, BASE_ADDRESS, DISCOVERY_ADDRESS, SUBWORKER_PORT},
    control_plane::{ControlPlaneConfig, ControlPlaneWorker},
    gui::{self, ApiKey, GuiConfig},
    shutdown::Signals,
    task::SerializationFormat,
};

#[derive(Args, Debug)]
pub(super) struct ControlPlane {
    /// Worker identifier
    #[arg(long, env = "FASTWORKER_WORKER_ID", default_value = "control-plane", value_name = "ID")]
    worker_id: String,
    /// Base address: this port takes critical tasks, the next three high, normal and low ones,
    /// and the fourth after it everything else
    #[arg(long, env = "FASTWORKER_BASE_ADDRESS", default_value = BASE_ADDRESS, value_name = "ADDRESS")]
    base_address: Address,
    /// Where the control plane announces itself
    #[arg(long, env = "FASTWORKER_DISCOVERY_ADDRESS", default_value = DISCOVERY_ADDRESS, value_name = "ADDRESS")]
    discovery_address: Address,
    /// Subworker management port, on the host of the base address
    #[arg(long, env = "FASTWORKER_SUBWORKER_PORT", default_value_t = SUBWORKER_PORT, value_name = "PORT",
          value_parser = clap::value_parser!(u16).range(1..))]
    subworker_port: u16,
    /// Maximum cached results
    #[arg(long, env = "FASTWORKER_RESULT_CACHE_SIZE", default_value_t = 10_000, value_name = "COUNT")]
    result_cache_size: usize,
    /// Cache TTL in seconds
    #[arg(long, env = "FASTWORKER_RESULT_CACHE_TTL", default_value_t = 3_600, value_name = "SECONDS")]
    result_cache_ttl: u64,
    /// How the control plane writes messages of its own; questions are answered in their own form
    #[arg(long, env = "FASTWORKER_SERIALIZATION_FORMAT", default_value = "json", value_name = "FORMAT",
          add = ArgValueCandidates::new(complete::formats))]
    serialization_format: SerializationFormat,
    /// The base address that others dial, where it is not the one to listen on
    #[arg(long, env = "FASTWORKER_ADVERTISE_ADDRESS", value_name = "ADDRESS")]
    advertise_address: Option<Address>,
    /// Listen beyond this machine although whoever reaches the ports can run tasks
    #[arg(long, env = "FASTWORKER_INSECURE", value_parser = BoolishValueParser::new())]
    insecure: bool,
    #[command(flatten)]
    gui: Gui,
    #[command(flatten)]
    modules: Modules,
    #[command(flatten)]
    serving: Serving,
}

/// The web interface.
#[derive(Args, Debug)]
#[allow(clippy::struct_field_names, reason = "the fields are named like the options")]
struct Gui {
    /// Where the web interface listens
    #[arg(long, env = "FASTWORKER_GUI_HOST", default_value = gui::HOST, value_name = "HOST")]
    gui_host: String,
    /// Its port, 0 for any that is free [default: 8080, and no web interface where that is taken]
    #[arg(long, env = "FASTWORKER_GUI_PORT", value_name = "PORT")]
    gui_port: Option<u16>,
    /// What everybody must show who asks it. Better set by the variable: others can see a command line
    #[arg(long, env = "FASTWORKER_GUI_API_KEY", hide_env_values = true, value_name = "KEY")]
    gui_api_key: Option<ApiKey>,
    /// No web interface, nor metrics and health [env: `FASTWORKER_GUI_ENABLED=false`]
    #[arg(long)]
    no_gui: bool,
    /// What --no-gui says, as the Python original says it
    #[arg(long, env = "FASTWORKER_GUI_ENABLED", hide = true, default_value = "true", value_parser = BoolishValueParser::new(),
          action = ArgAction::Set, value_name = "BOOL")]
    gui_enabled: bool,
}

impl Gui {
    fn config(self) -> Option<GuiConfig> {
        let wanted = self.gui_enabled && !self.no_gui;
        wanted.then_some(GuiConfig { host: self.gui_host, port: self.gui_port, api_key: self.gui_api_key })
    }
}

impl ControlPlane {
    pub(super) fn run(self) -> Outcome {
        let config = ControlPlaneConfig {
            worker_id: self.worker_id,
            base_address: self.base_address,
            discovery_address: self.discovery_address,
            serialization_format: self.serialization_format,
            subworker_management_port: self.subworker_port,
            result_cache_max_size: self.result_cache_size,
            result_cache_ttl_seconds: self.result_cache_ttl,
            advertise_address: self.advertise_address,
            insecure: self.insecure,
            gui: self.gui.config(),
            modules: self.modules.config(),
            ..ControlPlaneConfig::default()
        };
        let json = self.serving.json;
        let start = |signals: &Signals| {
            let mut control_plane = ControlPlaneWorker::new(config.clone());
            control_plane.start()?;
            let tasks = control_plane.get_subworker_status().iter().map(render::task_count).sum::<usize>();
            signals.serve();
            info!(
                worker = config.worker_id,
                base = %config.base_address,
                discovery = %config.discovery_address,
                subworkers = %config.base_address.with_port(config.subworker_management_port),
                gui = control_plane.gui_url(),
                tasks,
                "control plane ready"
            );
            if json {
                render::ready(&config.worker_id, &config.base_address, control_plane.gui_url())?;
            }
            Ok::<_, Failure>(control_plane)
        };
        self.serving.run(start, |mut control_plane, limit| control_plane.stop(limit))
    }
}
