//! The processes to measure: this program, started with the options that users have.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use super::{BenchError, Plan};
use crate::{
    client::Client,
    config::Address,
    transport::{Caller, Transport, nng::Nng},
};

/// Number of ports of one cluster: discovery, five of the control plane, one for subworkers.
const PORTS: u16 = 7;

/// A child process that is killed when dropped.
pub(super) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if the process has already ended, which is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Takes ownership of a child process.
    pub(super) fn of(child: Child) -> Self {
        Self(child)
    }

    /// Starts this program and waits for its first line.
    fn start(name: &'static str, arguments: &[String]) -> Result<Self, BenchError> {
        let failed = |reason: String| BenchError::Start { process: name, reason };
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let mut process = Self(child);
        let mut line = String::new();
        let read = process.0.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
        match read {
            Some(Ok(length)) if length > 0 => Ok(process),
            _ => Err(failed("it ended before it was ready; see its output above".into())),
        }
    }

    /// Resident memory in MB, if the system reports it.
    fn memory(&self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kilobytes / 1024.0)
    }
}

/// A server that replies to each request with the request itself.
pub(super) struct Echo {
    caller: Arc<dyn Caller>,
    _process: Process,
}

impl Echo {
    pub(super) fn start() -> Result<Self, BenchError> {
        let address = Address::loopback(free_ports(1)?);
        let arguments = ["bench".to_owned(), "--echo".to_owned(), address.to_string()];
        let process = Process::start("the echo server", &arguments)?;
        Ok(Self { caller: Nng.connect(&address.to_string())?, _process: process })
    }

    pub(super) fn caller(&self) -> &dyn Caller {
        &*self.caller
    }
}

/// The processes of a cluster that run tasks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The control plane.
    SingleProcess,
    /// A subworker.
    WithSubworker,
}

/// A control plane, perhaps a subworker, and a client.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) base: Address,
    subworker: Option<Process>,
    control_plane: Process,
}

/// Resident memory in MB.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    pub(super) control_plane: f64,
    pub(super) subworker: f64,
}

impl Cluster {
    pub(super) async fn start(plan: &Plan, shape: Shape) -> Result<Self, BenchError> {
        let first = free_ports(PORTS)?;
        let (discovery, base) = (Address::loopback(first), Address::loopback(first + 1));
        let module = plan.module.display().to_string();
        let slots = plan.slots.to_string();
        let strings = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
        let mut modules = strings(&["--task-modules", &module, "--concurrency", &slots]);
        modules.extend(plan.server_options.clone());
        let common = strings(&["--discovery-address", &discovery.to_string(), "--log-level", "warn", "--json"]);
        let subworker_port = (first + 6).to_string();
        let mut arguments = strings(&["control-plane", "--no-gui", "--base-address", &base.to_string()]);
        // A random id: the state folder is not used.
        arguments.extend(strings(&["--cluster-id", &uuid::Uuid::new_v4().to_string()]));
        arguments.extend(strings(&["--subworker-port", &subworker_port]));
        arguments.extend(common.clone());
        if shape == Shape::SingleProcess {
            arguments.extend(modules.clone());
        }
        let control_plane = Process::start("a control plane", &arguments)?;
        let subworker = if shape == Shape::WithSubworker {
            let mut arguments = strings(&["subworker", "--worker-id", "bench"]);
            arguments.extend(strings(&["--control-plane-address", &base.to_string()]));
            arguments.extend(common);
            arguments.extend(modules);
            Some(Process::start("a subworker", &arguments)?)
        } else {
            None
        };
        let client = Client::builder()
            .control_plane_address(base.clone())
            .serialization_format(plan.format)
            .timeout(Duration::from_mins(2))
            .build();
        client.start().await?;
        Ok(Self { client, base, subworker, control_plane })
    }

    /// The memory of the processes, if the cluster has a subworker.
    pub(super) fn memory(&self) -> Option<Memory> {
        let subworker = self.subworker.as_ref()?.memory()?;
        Some(Memory { control_plane: self.control_plane.memory()?, subworker })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.client.stop();
    }
}

/// Finds consecutive free ports below the range of outgoing connections, and returns the first one.
pub(super) fn free_ports(count: u16) -> Result<u16, BenchError> {
    const LOWEST: u16 = 20_000;
    const HIGHEST: u16 = 32_000;
    let spread = u16::try_from(std::process::id() % 1_000).unwrap_or(0) * 10;
    let are_free = |first: u16| {
        let listeners: Vec<_> = (first..first + count).map(|port| TcpListener::bind(("127.0.0.1", port))).collect();
        listeners.iter().all(Result::is_ok)
    };
    (LOWEST + spread..HIGHEST)
        .chain(LOWEST..HIGHEST)
        .step_by(PORTS.into())
        .find(|first| are_free(*first))
        .ok_or_else(|| BenchError::Start { process: "a cluster", reason: "no free ports were found".into() })
}
