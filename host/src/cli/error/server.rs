//! Errors of servers: modules, the control plane, the web interface, workers.

use std::{io, path::Path};

use super::{
    CliError,
    host::{is_unknown_host, unknown_host},
    os_message,
};
use crate::{
    cli::{
        EXIT_FAILURE, EXIT_NOT_FOUND, EXIT_UNREACHABLE, EXIT_USAGE,
        build::{Language, Source, quote},
    },
    config::{Address, ExposureError},
    gui::GuiError,
    protocol::RefusalCode,
    runtime::{CompileError, LoadError, ModuleError, SourceError},
    server::ControlPlaneError,
    subworker::{ModulesError, SubWorkerError, worker::WorkerError},
    transport::OpenError,
};

impl From<ModulesError> for CliError {
    fn from(error: ModulesError) -> Self {
        match &error {
            ModulesError::Source(SourceError::Pattern { .. }) => {
                Self::new(EXIT_USAGE, error).hint("write a pattern like 'build/*.wasm'")
            }
            ModulesError::Source(SourceError::EmptyDirectory(folder)) if Source::is_source(Path::new(folder)) => {
                Self::new(EXIT_USAGE, format!("the folder {folder} has sources, but no .wasm file"))
                    .hint(build_hint(folder))
            }
            ModulesError::Source(_) => Self::new(EXIT_NOT_FOUND, error)
                .hint("specify .wasm files, folders that contain some, or patterns such as 'build/*.wasm'"),
            ModulesError::Load(errors) if errors.iter().any(is_source) => {
                let sources: Vec<_> = errors.iter().filter(|error| is_source(error)).collect();
                let lines = sources.iter().map(|error| source_message(&error.path));
                let hint = sources.first().map(|error| build_hint(&error.path.display().to_string()));
                Self::new(EXIT_USAGE, lines.collect::<Vec<_>>().join("\n")).hint(hint.unwrap_or_default())
            }
            ModulesError::Load(errors) => {
                let hint = errors.first().and_then(|error| hint_of(&error.why));
                let failed = Self::new(EXIT_USAGE, &error);
                match hint {
                    Some(hint) => failed.hint(hint),
                    None => failed,
                }
            }
            ModulesError::Reserved(_) => Self::new(EXIT_USAGE, error),
            ModulesError::Runtime(_) => Self::new(EXIT_FAILURE, error),
        }
    }
}

/// Whether a file is no module because it is a source that can become one.
fn is_source(error: &LoadError) -> bool {
    let is_no_module = matches!(error.why, ModuleError::NotWasm | ModuleError::Text | ModuleError::Empty);
    is_no_module && Language::of_file(&error.path).is_some()
}

fn source_message(path: &Path) -> String {
    let language = Language::of_file(path).map(Language::title).unwrap_or_default();
    format!("{} is a {language} source, not a task module", path.display())
}

fn build_hint(path: &str) -> String {
    let path = quote(path.as_ref());
    format!("build it with: fastworker build {path}; or build and serve it with: fastworker dev --serve {path}")
}

/// The hint for a module that cannot be loaded, if its message does not contain one.
fn hint_of(why: &ModuleError) -> Option<&'static str> {
    match why {
        ModuleError::NotWasm
        | ModuleError::CoreModule
        | ModuleError::Text
        | ModuleError::NoTasks { .. }
        | ModuleError::Nothing => {
            Some("build a task module with: fastworker build PATH; create a project with: fastworker new NAME")
        }
        ModuleError::Compile(CompileError::Memory { .. }) => Some("the compile memory limit is --compile-memory"),
        ModuleError::Compile(CompileError::Time { .. }) => Some("the compile timeout is --compile-timeout"),
        ModuleError::Empty | ModuleError::Truncated { .. } => Some("build or copy the file again"),
        ModuleError::Unreadable(_) => Some("check the permissions of the file"),
        ModuleError::TaskTaken { .. } => Some("fastworker list --task-modules FILE shows the tasks of one file"),
        _ => None,
    }
}

impl From<ControlPlaneError> for CliError {
    fn from(error: ControlPlaneError) -> Self {
        let message = error.to_string();
        match error {
            ControlPlaneError::Modules(error) => error.into(),
            ControlPlaneError::Open(error @ OpenError::InUse { .. }) => Self::new(EXIT_FAILURE, error).hint(
                "another control plane may be running: set other ports with --base-address, --discovery-address and \
                 --subworker-port",
            ),
            ControlPlaneError::Open(error) => error.into(),
            ControlPlaneError::Exposed(ExposureError::NotLoopback(address)) if is_unknown_host(&address) => {
                unknown_host(EXIT_USAGE, address.host(), &address.to_string())
            }
            ControlPlaneError::Exposed(ExposureError::NotLoopback(_)) => Self::new(EXIT_USAGE, message)
                .hint("listen on 127.0.0.1, or use --insecure on a network where everyone is trusted"),
            ControlPlaneError::Exposed(ExposureError::NotDialable(_)) => Self::new(EXIT_USAGE, message)
                .hint("set the address that others connect to, such as --advertise-address tcp://10.0.0.5:5555"),
            ControlPlaneError::Address(_) => Self::new(EXIT_USAGE, message),
            ControlPlaneError::WorkerId(_) => Self::new(EXIT_USAGE, message).hint("choose another --worker-id"),
            ControlPlaneError::Worker(error) => error.into(),
            ControlPlaneError::Gui(error) => error.into(),
            ControlPlaneError::Thread(_) => Self::new(EXIT_FAILURE, message),
        }
    }
}

impl From<GuiError> for CliError {
    fn from(error: GuiError) -> Self {
        let message = error.to_string();
        let is_unknown =
            |host: &str| format!("tcp://{host}:1").parse().is_ok_and(|address: Address| is_unknown_host(&address));
        match error {
            GuiError::Listen { host, .. } | GuiError::Exposed(host) if is_unknown(&host) => {
                unknown_host(EXIT_USAGE, &host, "--gui-host")
            }
            GuiError::Health { address, .. } if is_unknown(address.host()) => {
                unknown_host(EXIT_USAGE, address.host(), "--health-address")
            }
            GuiError::Health { address, error } => Self::new(
                EXIT_FAILURE,
                format!("cannot listen on the health address {address}: {}", listen_error(&error)),
            )
            .hint("choose another --health-address; port 0 selects any free port"),
            GuiError::Exposed(_) => Self::new(EXIT_USAGE, message).hint(
                "set a key with FASTWORKER_GUI_API_KEY, or use --insecure on a network where everyone is trusted",
            ),
            GuiError::Listen { host, port, error } => {
                let reason = listen_error(&error);
                Self::new(EXIT_FAILURE, format!("the web interface cannot listen on {host}:{port}: {reason}"))
                    .hint("choose another port with --gui-port (0 selects any free port), or disable the web interface with --no-gui")
            }
        }
    }
}

/// The reason why listening on an address fails.
fn listen_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another program".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have this address".to_owned(),
        _ => os_message(error),
    }
}

impl From<WorkerError> for CliError {
    fn from(error: WorkerError) -> Self {
        let message = error.to_string();
        match error {
            WorkerError::Refused(refusal) => match refusal.code {
                RefusalCode::WorkerIdReserved => {
                    Self::new(EXIT_USAGE, refusal).hint("give this worker another --worker-id")
                }
                RefusalCode::Stopping => Self::new(EXIT_UNREACHABLE, refusal).hint("try again once it has restarted"),
                _ => Self::new(EXIT_USAGE, message),
            },
            WorkerError::UnexpectedReply => Self::new(EXIT_USAGE, message),
            WorkerError::IdInUse { .. } => Self::new(EXIT_USAGE, message).hint(
                "stop the other worker, choose another --worker-id for this one, or wait longer with --timeout; \
                 see: fastworker workers",
            ),
            WorkerError::Call(_) => Self::new(EXIT_UNREACHABLE, message).hint(
                "the control plane replies, but its subworker port does not: see its --subworker-port and \
                 --advertise-address",
            ),
            WorkerError::Thread(_) => Self::new(EXIT_FAILURE, message),
        }
    }
}

impl From<SubWorkerError> for CliError {
    fn from(error: SubWorkerError) -> Self {
        match error {
            SubWorkerError::Modules(error) => error.into(),
            SubWorkerError::NotFound(error) => error.into(),
            SubWorkerError::Worker(error) => error.into(),
        }
    }
}
