//! `fastworker control-plane`

use std::time::Duration;

use clap::{ArgAction, Args};
use clap_complete::engine::ArgValueCandidates;
use tracing::info;
use uuid::Uuid;

use super::{
    CliError, CommandResult, DISCOVERY_VARIABLE, EXIT_USAGE, ModuleOptions, ServerOptions, complete,
    config_file::ConfigFile,
    parse_base_address, parse_bool, parse_duration, parse_from_str, parse_number, print_when_loaded, render,
    values::{self, parse_worker_id},
};
use crate::{
    config::{Address, BASE_ADDRESS, DISCOVERY_ADDRESS, MANAGEMENT_OFFSET, SUBWORKER_PORT},
    gui::{self, ApiKey, GuiConfig, HealthAddress, HealthConfig},
    runtime::grants::GrantTable,
    server::{ControlPlaneConfig, ControlPlaneWorker},
    shutdown::Signals,
    subworker::ModulesConfig,
    task::SerializationFormat,
};

#[derive(Args, Debug)]
#[command(
    after_help = "With --task-modules, the control plane also runs tasks itself. SIGTERM, SIGHUP or Ctrl-C drains it. A second signal, more than 200 ms after the first, stops it immediately."
)]
pub(super) struct ControlPlaneCommand {
    /// Worker id of the control plane
    #[arg(long, env = "FASTWORKER_WORKER_ID", default_value = "control-plane", value_name = "ID", value_parser = parse_worker_id)]
    worker_id: String,
    /// Listen on this port and the four ports after it: one for each priority (critical, high, normal, low),
    /// and one for all other requests
    #[arg(long, env = "FASTWORKER_BASE_ADDRESS", default_value = BASE_ADDRESS, value_name = "ADDRESS",
          value_parser = parse_base_address)]
    base_address: Address,
    /// Announce the base address at this address
    #[arg(long, env = DISCOVERY_VARIABLE, default_value = DISCOVERY_ADDRESS, value_name = "ADDRESS",
          value_parser = parse_from_str::<Address>)]
    discovery_address: Address,
    /// Listen for subworkers on this port, on the host of the base address
    #[arg(long, env = "FASTWORKER_SUBWORKER_PORT", default_value_t = SUBWORKER_PORT, value_name = "PORT",
          value_parser = parse_number::<u16, 1, { u16::MAX as u64 }>)]
    subworker_port: u16,
    /// Maximum number of results to keep
    #[arg(long, env = "FASTWORKER_RESULT_CACHE_SIZE", default_value = "10000", value_name = "COUNT",
          value_parser = parse_number::<usize, 0, { u64::MAX }>)]
    result_cache_size: usize,
    /// Maximum time to keep a result
    #[arg(long, env = "FASTWORKER_RESULT_CACHE_TTL", default_value = "1h", value_name = "DURATION", value_parser = parse_duration)]
    result_cache_ttl: Duration,
    /// Maximum time that tasks whose name no worker serves wait for one, after startup and after the loss of a
    /// worker. Then they fail as not-found
    #[arg(long, env = "FASTWORKER_UNKNOWN_GRACE", default_value = "30s", value_name = "DURATION", value_parser = parse_duration)]
    unknown_grace: Duration,
    /// Format of the control plane's own messages: json or postcard. Replies use the format of the request
    #[arg(long, env = "FASTWORKER_SERIALIZATION_FORMAT", default_value = "json", value_name = "FORMAT",
          value_parser = parse_from_str::<SerializationFormat>, add = ArgValueCandidates::new(complete::formats))]
    serialization_format: SerializationFormat,
    /// Base address for clients and subworkers to connect to, if it differs from --base-address
    #[arg(long, env = "FASTWORKER_ADVERTISE_ADDRESS", value_name = "ADDRESS", value_parser = parse_base_address)]
    advertise_address: Option<Address>,
    /// Allow listening on non-loopback addresses. Anyone who can reach the ports can run tasks
    #[arg(long, env = "FASTWORKER_INSECURE", value_parser = parse_bool)]
    insecure: bool,
    /// Cluster id, a UUID. Clients and subworkers that have joined this cluster find it again by this id, even
    /// at another address [default: a random id, stored in fastworker in your state folder]
    #[arg(long, env = "FASTWORKER_CLUSTER_ID", value_name = "UUID", value_parser = values::parse_cluster_id)]
    cluster_id: Option<Uuid>,
    #[command(flatten)]
    gui: Gui,
    #[command(flatten)]
    modules: ModuleOptions,
    #[command(flatten)]
    server: ServerOptions,
}

/// The web interface.
#[derive(Args, Debug)]
#[command(next_help_heading = "Web interface")]
#[allow(clippy::struct_field_names, reason = "the fields are named like the options")]
struct Gui {
    /// Host for the web interface to listen on
    #[arg(long, env = "FASTWORKER_GUI_HOST", default_value = gui::HOST, value_name = "HOST")]
    gui_host: String,
    /// Port for the web interface, 0 for any free port [default: 8080; without a web interface if it is in use]
    #[arg(long, env = "FASTWORKER_GUI_PORT", value_name = "PORT", value_parser = parse_number::<u16, 0, { u16::MAX as u64 }>)]
    gui_port: Option<u16>,
    /// API key that every request must carry. Prefer the variable: other users can see the command line
    #[arg(long, env = "FASTWORKER_GUI_API_KEY", hide_env_values = true, value_name = "KEY", value_parser = parse_from_str::<ApiKey>)]
    gui_api_key: Option<ApiKey>,
    /// Also serve health checks and metrics on this host and port, independently of the load on the web interface.
    /// /healthz and /readyz need no key; /metrics needs the API key, or --insecure on non-loopback addresses
    #[arg(long, env = "FASTWORKER_HEALTH_ADDRESS", value_name = "HOST:PORT", value_parser = parse_from_str::<HealthAddress>)]
    health_address: Option<HealthAddress>,
    /// Disable the web interface. Metrics and health checks are served at --health-address only [env: `FASTWORKER_GUI_ENABLED=false`]
    #[arg(long)]
    no_gui: bool,
    /// The variable behind --no-gui, with the name that the Python original uses
    #[arg(long, env = "FASTWORKER_GUI_ENABLED", hide = true, default_value = "true", value_parser = parse_bool,
          action = ArgAction::Set, value_name = "BOOL")]
    gui_enabled: bool,
}

impl Gui {
    fn is_enabled(&self) -> bool {
        self.gui_enabled && !self.no_gui
    }

    fn health(&self) -> Option<HealthConfig> {
        let address = self.health_address.clone()?;
        Some(HealthConfig { address, api_key: self.gui_api_key.clone() })
    }

    fn config(self) -> Option<GuiConfig> {
        self.is_enabled().then_some(GuiConfig { host: self.gui_host, port: self.gui_port, api_key: self.gui_api_key })
    }
}

impl ControlPlaneCommand {
    /// Rejects a port that two of these options use, which would otherwise be reported as in use by another program.
    fn check_ports(&self) -> Result<(), CliError> {
        let base = &self.base_address;
        let last = base.port().saturating_add(MANAGEMENT_OFFSET);
        let used_twice = |port: u16, users: String| {
            Err(CliError::new(EXIT_USAGE, format!("port {port} is given twice: {users}"))
                .hint("give each a separate port"))
        };
        let is_base_port = |port: u16| (base.port()..=last).contains(&port);
        let base_ports = format!("--base-address, which uses {} to {last}", base.port());
        if is_base_port(self.subworker_port) {
            return used_twice(self.subworker_port, format!("by --subworker-port and by {base_ports}"));
        }
        let discovery = &self.discovery_address;
        if discovery.host() == base.host() {
            if is_base_port(discovery.port()) {
                return used_twice(discovery.port(), format!("by --discovery-address and by {base_ports}"));
            }
            if discovery.port() == self.subworker_port {
                return used_twice(discovery.port(), "by --discovery-address and by --subworker-port".into());
            }
        }
        match self.gui.gui_port.filter(|_| self.gui.gui_host == base.host() && self.gui.is_enabled()) {
            Some(port) if is_base_port(port) => return used_twice(port, format!("by --gui-port and by {base_ports}")),
            Some(port) if port == self.subworker_port => {
                return used_twice(port, "by --gui-port and by --subworker-port".into());
            }
            _ => {}
        }
        let Some(health) = self.gui.health_address.as_ref().filter(|health| health.port() != 0) else { return Ok(()) };
        let is_web_host = self.gui.is_enabled() && self.gui.gui_host == health.host();
        match health.port() {
            port if is_web_host && self.gui.gui_port == Some(port) => {
                used_twice(port, "by --health-address and by --gui-port".into())
            }
            port if health.host() == base.host() && is_base_port(port) => {
                used_twice(port, format!("by --health-address and by {base_ports}"))
            }
            port if health.host() == base.host() && port == self.subworker_port => {
                used_twice(port, "by --health-address and by --subworker-port".into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn run(self, file: &ConfigFile) -> CommandResult {
        self.run_with(file, Vec::new(), || Ok(()), || {})
    }

    /// Whether errors are also printed as JSON.
    pub(super) fn prints_json(&self) -> bool {
        self.server.json
    }

    /// How its modules are loaded.
    ///
    /// # Errors
    /// Grants that contradict each other, or that this host does not have.
    pub(super) fn modules_config(&self, file: &ConfigFile) -> Result<ModulesConfig, CliError> {
        Ok(self.modules.config(file, self.modules.grants(file)?))
    }

    /// Runs with further sources of modules. Calls `on_ready` once it is ready, and `on_stop` at the first signal.
    pub(super) fn run_with(
        self,
        file: &ConfigFile,
        sources: Vec<String>,
        on_ready: impl FnOnce() -> Result<(), CliError>,
        on_stop: impl FnOnce(),
    ) -> CommandResult {
        self.check_ports()?;
        let server = self.server.clone();
        let config = self.config(file, sources)?;
        let start = |signals: &Signals| {
            let control_plane = start(&config, signals, server.json)?;
            on_ready()?;
            Ok(control_plane)
        };
        let on_second_signal = |_: &ControlPlaneWorker| -> Box<dyn Fn() + Send> { Box::new(|| {}) };
        server.run(start, on_second_signal, |mut control_plane, limit| {
            on_stop();
            control_plane.stop(limit);
        })
    }

    fn config(self, file: &ConfigFile, more: Vec<String>) -> Result<ControlPlaneConfig, CliError> {
        // Without modules nothing is granted, so what the file grants need not exist here.
        let runs_modules = self.modules.has_sources() || !more.is_empty();
        let grants = if runs_modules { self.modules.grants(file)? } else { GrantTable::default() };
        let mut modules = self.modules.config(file, grants);
        modules.sources.extend(more);
        Ok(ControlPlaneConfig {
            worker_id: self.worker_id,
            base_address: self.base_address,
            discovery_address: self.discovery_address,
            serialization_format: self.serialization_format,
            subworker_management_port: self.subworker_port,
            result_cache_max_size: self.result_cache_size,
            // Whole seconds, rounded up so that a short time does not become zero.
            result_cache_ttl_seconds: self.result_cache_ttl.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX),
            unknown_grace: self.unknown_grace,
            advertise_address: self.advertise_address,
            insecure: self.insecure,
            cluster_id: self.cluster_id,
            health: self.gui.health(),
            gui: self.gui.config(),
            modules,
            ..ControlPlaneConfig::default()
        })
    }
}

/// Starts a control plane, and reports that it is ready.
fn start(config: &ControlPlaneConfig, signals: &Signals, json: bool) -> Result<ControlPlaneWorker, CliError> {
    let mut control_plane = ControlPlaneWorker::new(config.clone());
    control_plane.start()?;
    let tasks = control_plane.get_subworker_status().iter().map(render::task_count).sum::<usize>();
    signals.mark_ready();
    info!(
        worker = config.worker_id,
        base = %config.base_address,
        discovery = %config.discovery_address,
        subworkers = %config.base_address.with_port(config.subworker_management_port),
        gui = control_plane.gui_url(),
        cluster = %control_plane.cluster_id().unwrap_or_default(),
        health = control_plane.health_url(),
        tasks,
        "control plane ready"
    );
    if json {
        let (gui, health) = (control_plane.gui_url(), control_plane.health_url());
        let cluster = control_plane.cluster_id().unwrap_or_default();
        render::print_ready(&config.worker_id, &config.base_address, gui, health, Some(cluster))?;
        if !config.modules.sources.is_empty() {
            print_when_loaded(&config.worker_id, control_plane.loading());
        }
    }
    Ok(control_plane)
}
