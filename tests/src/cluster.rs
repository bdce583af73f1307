//! A cluster: a control plane and subworkers, each a separate process.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use fastworker::{
    client::{Client, ClientBuilder},
    config::Address,
    protocol::WorkerInfo,
    task::SerializationFormat,
};
use tempfile::TempDir;

use crate::{
    cli::{self, Ran, fastworker},
    modules,
    ports::Ports,
    process::Process,
    wait::{TIMEOUT, eventually_async},
};

/// The configuration of a cluster.
#[derive(Debug)]
pub struct Builder {
    modules: Vec<PathBuf>,
    own_slots: u16,
    subworkers: u16,
    slots: u16,
    gui: bool,
    advertised: Option<String>,
    control_plane_args: Vec<String>,
    subworker_args: Vec<String>,
    /// Whether to wait for its modules.
    waits: bool,
}

impl Builder {
    /// The example modules of every worker.
    #[must_use]
    pub fn modules(mut self, names: &[&str]) -> Self {
        self.modules = names.iter().map(|name| modules::module(name)).collect();
        self
    }

    /// The modules of every worker, as files, directories and patterns.
    #[must_use]
    pub fn sources<P: Into<PathBuf>>(mut self, sources: impl IntoIterator<Item = P>) -> Self {
        self.modules = sources.into_iter().map(Into::into).collect();
        self
    }

    /// Number of slots of the control plane itself; none by default.
    #[must_use]
    pub fn own_slots(mut self, slots: u16) -> Self {
        self.own_slots = slots;
        self
    }

    /// Number of subworkers; none by default.
    #[must_use]
    pub fn subworkers(mut self, number: u16) -> Self {
        self.subworkers = number;
        self
    }

    /// Number of slots of each subworker; one by default.
    #[must_use]
    pub fn slots(mut self, slots: u16) -> Self {
        self.slots = slots;
        self
    }

    /// Enables the web interface, on the last of the spare ports.
    #[must_use]
    pub fn gui(mut self) -> Self {
        self.gui = true;
        self
    }

    /// Lets calls of unavailable tasks fail immediately.
    #[must_use]
    pub fn without_unknown_grace(self) -> Self {
        self.control_plane_args(&["--unknown-grace", "0s"])
    }

    /// Advertises this host name, with the same ports.
    #[must_use]
    pub fn advertise(mut self, host: &str) -> Self {
        self.advertised = Some(host.to_owned());
        self
    }

    /// More options of the control plane.
    #[must_use]
    pub fn control_plane_args(mut self, args: &[&str]) -> Self {
        self.control_plane_args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// More options of each subworker.
    #[must_use]
    pub fn subworker_args(mut self, args: &[&str]) -> Self {
        self.subworker_args.extend(args.iter().map(ToString::to_string));
        self
    }

    /// Starts the cluster, and waits until it is ready and all modules are loaded or refused.
    pub fn start(self) -> Cluster {
        self.start_and(true)
    }

    /// The same, without waiting for modules.
    pub fn start_without_waiting(self) -> Cluster {
        self.start_and(false)
    }

    fn start_and(mut self, waits: bool) -> Cluster {
        self.waits = waits;
        let directory = TempDir::new().expect("temporary directory created");
        let ports = Ports::claim();
        let (control_plane, ready) = start_control_plane(&self, &ports, directory.path());
        let mut cluster = Cluster {
            control_plane,
            ready,
            subworkers: Vec::new(),
            host: LOCALHOST.to_owned(),
            plan: self,
            ports,
            directory,
        };
        for number in 1..=cluster.plan.subworkers {
            cluster.start_subworker(&format!("sw{number}"));
        }
        cluster
    }
}

/// A running cluster, which ends when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// Its control plane.
    pub control_plane: Process,
    /// Its subworkers, in the order in which they were started.
    pub subworkers: Vec<Process>,
    /// The line that the control plane printed when it was ready.
    ready: String,
    /// The host at which others reach it.
    host: String,
    plan: Builder,
    ports: Ports,
    directory: TempDir,
}

impl Cluster {
    /// Configures a cluster.
    pub fn builder() -> Builder {
        Builder {
            modules: Vec::new(),
            own_slots: 0,
            subworkers: 0,
            slots: 1,
            gui: false,
            advertised: None,
            control_plane_args: Vec::new(),
            subworker_args: Vec::new(),
            waits: true,
        }
    }

    /// Starts one more subworker and waits until it is ready.
    pub fn start_subworker(&mut self, id: &str) -> &mut Process {
        let has_modules = self.plan.waits && !self.plan.modules.is_empty();
        let process = self.launch_subworker(id);
        process.wait_until_ready();
        if has_modules {
            process.wait_until_loaded();
        }
        process
    }

    /// Starts one more subworker, without waiting.
    pub fn launch_subworker(&mut self, id: &str) -> &mut Process {
        let command = self.subworker(id);
        self.subworkers.push(Process::start(id, command, self.directory.path()));
        self.subworkers.last_mut().expect("just added")
    }

    fn subworker(&self, id: &str) -> Command {
        let mut command = fastworker();
        command.args(["subworker", "--json", "--worker-id", id, "--control-plane-address", &self.base()]);
        command.args(["--discovery-address", &self.discovery(), "--concurrency", &self.plan.slots.to_string()]);
        load(&mut command, &self.plan.modules);
        command.args(&self.plan.subworker_args);
        command
    }

    /// Starts one more subworker with a changed command, without waiting.
    pub fn launch_subworker_with(&mut self, id: &str, change: impl FnOnce(&Command) -> Command) -> &mut Process {
        let command = change(&self.subworker(id));
        self.subworkers.push(Process::start(id, command, self.directory.path()));
        self.subworkers.last_mut().expect("just added")
    }

    /// Starts the control plane again, after it has ended.
    pub fn restart_control_plane(&mut self) {
        (self.control_plane, self.ready) = start_control_plane(&self.plan, &self.ports, self.directory.path());
    }

    /// Its base address.
    pub fn base(&self) -> String {
        address(&self.host, self.ports.base())
    }

    /// Lets subworkers and clients started from now on use this host.
    pub fn use_host(&mut self, host: &str) {
        host.clone_into(&mut self.host);
    }

    /// Its discovery address.
    pub fn discovery(&self) -> String {
        address(&self.host, self.ports.discovery())
    }

    /// The URL of its web interface.
    ///
    /// # Panics
    /// When it has none.
    pub fn gui(&self) -> String {
        let ready: serde_json::Value = serde_json::from_str(&self.ready).expect("valid JSON line");
        ready["gui"].as_str().expect("there is a web interface").to_owned()
    }

    /// The line of JSON that its control plane printed when it was ready.
    pub fn ready(&self) -> &str {
        &self.ready
    }

    /// Its ports.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// A directory for files of the test.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Creates a command for this cluster.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = fastworker();
        command.env("FASTWORKER_DISCOVERY_ADDRESS", self.discovery()).args(args);
        command
    }

    /// Runs a command for this cluster to its end.
    pub fn cli<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        cli::run(self.command(args))
    }

    /// A started client.
    ///
    /// # Panics
    /// When it does not find the control plane.
    pub async fn client(&self) -> Client {
        self.client_with(|builder| builder).await
    }

    /// A started client that speaks this format.
    ///
    /// # Panics
    /// When it does not find the control plane.
    pub async fn client_with_format(&self, format: SerializationFormat) -> Client {
        self.client_with(|builder| builder.serialization_format(format)).await
    }

    /// A started client with these settings.
    ///
    /// # Panics
    /// When it does not find the control plane.
    pub async fn client_with(&self, configure: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
        let discovery: Address = self.discovery().parse().expect("valid address");
        let client = configure(Client::builder().discovery_address(discovery)).build();
        client.start().await.expect("control plane reachable");
        client
    }

    /// Waits until the workers fulfil a condition.
    pub async fn wait_for_workers(&self, client: &Client, what: &str, condition: impl Fn(&[WorkerInfo]) -> bool) {
        self.wait_for_workers_within(client, what, TIMEOUT, condition).await;
    }

    /// Waits until the workers fulfil a condition, at most `limit`.
    pub async fn wait_for_workers_within(
        &self,
        client: &Client,
        what: &str,
        limit: Duration,
        condition: impl Fn(&[WorkerInfo]) -> bool,
    ) {
        let condition = &condition;
        let poll = || async move { client.list_tasks().await.ok().filter(|workers| condition(workers)).map(drop) };
        eventually_async(what, limit, poll).await;
    }
}

fn start_control_plane(plan: &Builder, ports: &Ports, directory: &Path) -> (Process, String) {
    let mut command = fastworker();
    command.args(["control-plane", "--json", "--base-address", &address(LOCALHOST, ports.base())]);
    command.args(["--discovery-address", &address(LOCALHOST, ports.discovery())]);
    command.args(["--subworker-port", &ports.subworkers().to_string()]);
    if plan.gui {
        command.env("FASTWORKER_GUI_ENABLED", "true").args(["--gui-port", &ports.spare(8).to_string()]);
    }
    if plan.own_slots > 0 {
        command.args(["--concurrency", &plan.own_slots.to_string()]);
        load(&mut command, &plan.modules);
    }
    if let Some(host) = &plan.advertised {
        command.args(["--advertise-address", &address(host, ports.base())]);
    }
    command.args(&plan.control_plane_args);
    let mut process = Process::start("control-plane", command, directory);
    let ready = process.wait_until_ready();
    if plan.waits && plan.own_slots > 0 && !plan.modules.is_empty() {
        process.wait_until_loaded();
    }
    (process, ready)
}

fn load(command: &mut Command, modules: &[PathBuf]) {
    if !modules.is_empty() {
        command.arg("--task-modules").args(modules);
    }
}

const LOCALHOST: &str = "127.0.0.1";

fn address(host: &str, port: u16) -> String {
    format!("tcp://{host}:{port}")
}
