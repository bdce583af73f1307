//! Why a command did not work out: what happened, what to do about it, and the exit code.
//!
//! Apart so that all errors of the program become words in one place. A hint says what to do, and
//! is left out where nothing but the message itself would be known.

use std::{
    fmt, io,
    net::{IpAddr, ToSocketAddrs as _},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::{INTERRUPTED, NOT_FOUND, TASK_FAILED, TIMED_OUT, UNREACHABLE, WRONG_USAGE, usage};
use crate::{
    client::{ClientError, Place},
    clock::seconds,
    config::{Address, Exposed},
    control_plane::ControlPlaneError,
    gui::GuiError,
    runtime::{ModuleError, SourceError},
    subworker::{ModulesError, SubWorkerError, link::NotFound, worker::WorkerError},
    task::TaskId,
    transport::OpenError,
};

/// The longest that an error waits to learn whether its host exists.
const RESOLVE_WAIT: Duration = Duration::from_secs(1);
/// How alike a name is to the one that is proposed instead, from 0 to 1.
const ALIKE: f64 = 0.7;
/// Names that are proposed instead of one that nobody has.
const NAMED_MAX: usize = 3;

/// How much is told of what a server said, in bytes.
const MESSAGE_MAX: usize = 2_000;

const START_ONE: &str = "start one with: fastworker control-plane --task-modules X.wasm";

/// Why a command did not work out, in words for people.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The task that it is about.
    pub(super) task_id: Option<TaskId>,
}

impl Failure {
    pub(super) fn new(code: u8, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), hint: None, task_id: None }
    }

    /// A signal that ended the command.
    pub(super) fn interrupted() -> Self {
        Self::new(INTERRUPTED, "interrupted")
    }

    /// A task that has not ended in time.
    pub(super) fn not_ended(id: &TaskId, waited: Duration) -> Self {
        ClientError::TimedOut { task_id: id.clone(), waited }.into()
    }

    /// An interruption, where it leaves this task to itself.
    pub(super) fn leaves(self, id: &TaskId) -> Self {
        if self.code != INTERRUPTED {
            return self;
        }
        Self::new(INTERRUPTED, format!("interrupted; task {id} goes on"))
            .hint(format!("wait for it with: fastworker result {id} --wait; or stop it: fastworker cancel {id}"))
            .about(id)
    }

    /// With more to say, in a line of its own.
    pub(super) fn with(mut self, more: Option<String>) -> Self {
        if let Some(more) = more {
            self.message = format!("{}\n{more}", self.message);
        }
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says which task it is about.
    pub(super) fn about(mut self, id: &TaskId) -> Self {
        self.task_id = Some(id.clone());
        self
    }

    /// A name that nobody has, with those that are most like it. `otherwise` is the hint where none is.
    pub(super) fn unknown<'a>(
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
        otherwise: impl Into<String>,
    ) -> Self {
        let hint = did_you_mean(name, known).unwrap_or_else(|| otherwise.into());
        Self::new(NOT_FOUND, format!("there is no {what} '{name}'")).hint(hint)
    }
}

/// What the system says, without its number for it.
pub(super) fn plain(error: &io::Error) -> String {
    let told = error.to_string();
    told.split_once(" (os error").map(|(what, _)| what.to_owned()).unwrap_or(told)
}

/// Proposes the names that are most like one that nobody has: `did you mean 'add'?`
pub(super) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let likeness = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase());
    let mut near: Vec<(f64, &str)> = known.into_iter().map(|known| (likeness(known), known)).collect();
    near.retain(|(likeness, _)| *likeness > ALIKE);
    near.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.dedup();
    let names: Vec<String> = near.into_iter().take(NAMED_MAX).map(|(_, name)| format!("'{name}'")).collect();
    (!names.is_empty()).then(|| format!("did you mean {}?", names.join(" or ")))
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let mut message = error.to_string();
        // Whoever answers may not be what it should be.
        message.truncate(message.floor_char_boundary(MESSAGE_MAX));
        match error {
            ClientError::Unreachable { place, .. } => unreachable(&place, message),
            ClientError::NotAControlPlane { .. } => Self::new(UNREACHABLE, message).hint(
                "a control plane logs its base address when it starts, as base=tcp://…; \
                 by default it is tcp://127.0.0.1:5555",
            ),
            ClientError::TimedOut { task_id, .. } => Self::new(TIMED_OUT, message)
                .hint(format!("wait for it with: fastworker result {task_id} --wait"))
                .about(&task_id),
            ClientError::Refused(why) if why.contains("is stopping") => {
                Self::new(UNREACHABLE, why).hint("try again once it has restarted")
            }
            ClientError::Refused(why) if why.ends_with(": use a new one") => {
                Self::new(WRONG_USAGE, why.trim_end_matches(": use a new one"))
                    .hint("choose another --task-id, or leave it out for a new one")
            }
            ClientError::BadArguments(_) | ClientError::Address(_) => Self::new(WRONG_USAGE, message),
            ClientError::TooLarge { .. } => {
                Self::new(WRONG_USAGE, message).hint("pass where the data is, such as a URL, instead of the data")
            }
            ClientError::Open(error) => error.into(),
            ClientError::Confused { .. } => {
                Self::new(TASK_FAILED, message).hint("compare fastworker --version here and at the control plane")
            }
            ClientError::Stopped | ClientError::Refused(_) => Self::new(TASK_FAILED, message),
        }
    }
}

/// Nobody at a place where the control plane should be, or no such place.
fn unreachable(place: &Place, message: String) -> Failure {
    let (address, option, hint) = match place {
        Place::Discovery(address) => (
            address,
            "--discovery-address",
            format!(
                "{START_ONE}; or say where it is announced with --discovery-address, \
                 or give its base address with --control-plane-address"
            ),
        ),
        Place::GivenNotAnnounced { base, announced, discovery } => (
            base,
            "--control-plane-address",
            format!(
                "another control plane announces itself at {discovery}, with the base address {announced}: if it is \
                 meant, give that one with --control-plane-address; else {START_ONE}"
            ),
        ),
        Place::Given(address) => (
            address,
            "--control-plane-address",
            format!("{START_ONE}; or give its base address with --control-plane-address"),
        ),
        Place::Announced { base, .. } => {
            let hint = "it may have stopped, or its address cannot be reached from here: \
                        see --advertise-address of the control plane";
            return Failure::new(UNREACHABLE, message).hint(if is_unknown_host(base) {
                format!(
                    "the host {} cannot be found from here: see --advertise-address of the control plane",
                    base.host()
                )
            } else {
                hint.to_owned()
            });
        }
    };
    let variable = usage::variable(option);
    if is_unknown_host(address) {
        let origin = variable.map(|name| format!(" (from {name})")).unwrap_or_default();
        return no_host(UNREACHABLE, address.host(), &format!("{option}{origin}"));
    }
    let origin = variable.map(|name| format!("; {option} is set by {name}")).unwrap_or_default();
    Failure::new(UNREACHABLE, message).hint(hint + &origin)
}

fn no_host(code: u8, host: &str, option: &str) -> Failure {
    Failure::new(code, format!("the host '{host}' of {option} cannot be found"))
        .hint("check its name, or write its IP address")
}

/// Whether it is known that there is no such host.
fn is_unknown_host(address: &Address) -> bool {
    let host = address.host().trim_matches(['[', ']']).to_owned();
    if host == "*" || host.parse::<IpAddr>().is_ok() {
        return false;
    }
    let (sender, answer) = mpsc::channel();
    let resolve = move || sender.send((host.as_str(), 0).to_socket_addrs().is_err());
    // Without a thread it is not known.
    thread::Builder::new().spawn(resolve).is_ok() && answer.recv_timeout(RESOLVE_WAIT).unwrap_or(false)
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let message = error.to_string();
        match error {
            OpenError::BadAddress { address } => Self::new(WRONG_USAGE, format!("'{address}' is not an address"))
                .hint("write it like tcp://127.0.0.1:5555"),
            OpenError::InUse { .. } => {
                Self::new(TASK_FAILED, message).hint("choose another port, or port 0 for any that is free")
            }
            OpenError::NotHere { address } => match address.parse::<Address>() {
                Ok(address) if is_unknown_host(&address) => no_host(WRONG_USAGE, address.host(), &address.to_string()),
                _ => Self::new(WRONG_USAGE, message)
                    .hint("listen on an address of this machine, such as tcp://127.0.0.1:5555"),
            },
            OpenError::Refused { .. } => Self::new(TASK_FAILED, message),
        }
    }
}

impl From<ModulesError> for Failure {
    fn from(error: ModulesError) -> Self {
        match &error {
            ModulesError::Source(SourceError::Pattern { .. }) => {
                Self::new(WRONG_USAGE, error).hint("write a pattern like 'build/*.wasm'")
            }
            ModulesError::Source(_) => Self::new(NOT_FOUND, error)
                .hint("name .wasm files, folders that contain some, or patterns such as 'build/*.wasm'"),
            ModulesError::Load(errors) => {
                let hint = errors.first().and_then(|error| hint_of(&error.why));
                let failure = Self::new(WRONG_USAGE, &error);
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            ModulesError::Runtime(_) => Self::new(TASK_FAILED, error),
        }
    }
}

/// What to do about a module that cannot be used, where its message does not say it.
fn hint_of(why: &ModuleError) -> Option<&'static str> {
    match why {
        ModuleError::NotWasm
        | ModuleError::CoreModule
        | ModuleError::Text
        | ModuleError::NoTasks { .. }
        | ModuleError::Nothing => Some(
            "cargo build --release --target wasm32-wasip2 builds a task module; \
                 fastworker new NAME makes a crate to start from",
        ),
        ModuleError::Empty | ModuleError::Truncated { .. } => Some("build or copy it again"),
        ModuleError::Unreadable(_) => Some("check the permissions of the file"),
        ModuleError::TaskTaken { .. } => Some("fastworker list --task-modules FILE shows the tasks of one file"),
        _ => None,
    }
}

impl From<NotFound> for Failure {
    fn from(error: NotFound) -> Self {
        match error {
            NotFound::Unreachable { address, waited, announced } => {
                let waited = seconds(waited);
                let message = format!("no answer from the control plane at {address} within {waited} s");
                match announced {
                    None => unreachable(&Place::Given(address), message + ", and no other was announced"),
                    Some(announced) => {
                        let hint = format!(
                            "another control plane is announced, with the base address {announced}: if it is meant, \
                             give that one with --control-plane-address; else {START_ONE}"
                        );
                        Failure::new(UNREACHABLE, message).hint(hint)
                    }
                }
            }
            NotFound::Open(error) => error.into(),
            NotFound::Address(_) => Self::new(WRONG_USAGE, error),
        }
    }
}

impl From<ControlPlaneError> for Failure {
    fn from(error: ControlPlaneError) -> Self {
        let message = error.to_string();
        match error {
            ControlPlaneError::Modules(error) => error.into(),
            ControlPlaneError::Open(error @ OpenError::InUse { .. }) => Self::new(TASK_FAILED, error).hint(
                "another control plane may be running: give this one other ports with --base-address, \
                 --discovery-address and --subworker-port",
            ),
            ControlPlaneError::Open(error) => error.into(),
            ControlPlaneError::Exposed(Exposed::WithoutToken(address)) if is_unknown_host(&address) => {
                no_host(WRONG_USAGE, address.host(), &address.to_string())
            }
            ControlPlaneError::Exposed(Exposed::WithoutToken(_)) => Self::new(WRONG_USAGE, message)
                .hint("listen on 127.0.0.1, or allow it with --insecure on a network where you trust everybody"),
            ControlPlaneError::Exposed(Exposed::NotDialable(_)) => Self::new(WRONG_USAGE, message)
                .hint("say what others dial, such as --advertise-address tcp://10.0.0.5:5555"),
            ControlPlaneError::Address(_) => Self::new(WRONG_USAGE, message),
            ControlPlaneError::WorkerId(_) => Self::new(WRONG_USAGE, message).hint("choose another --worker-id"),
            ControlPlaneError::Worker(error) => error.into(),
            ControlPlaneError::Gui(error) => error.into(),
            ControlPlaneError::Thread(_) => Self::new(TASK_FAILED, message),
        }
    }
}

impl From<GuiError> for Failure {
    fn from(error: GuiError) -> Self {
        let message = error.to_string();
        let is_unknown =
            |host: &str| format!("tcp://{host}:1").parse().is_ok_and(|address: Address| is_unknown_host(&address));
        match error {
            GuiError::Listen { host, .. } | GuiError::Exposed(host) if is_unknown(&host) => {
                no_host(WRONG_USAGE, &host, "--gui-host")
            }
            GuiError::Health { address, .. } if is_unknown(address.host()) => {
                no_host(WRONG_USAGE, address.host(), "--health-address")
            }
            GuiError::Health { address, why } => Self::new(
                TASK_FAILED,
                format!("the health address {address} cannot be listened on: {}", listening(&why)),
            )
            .hint("choose another with --health-address, with port 0 for any that is free"),
            GuiError::Exposed(_) => Self::new(WRONG_USAGE, message).hint(
                "set a key with FASTWORKER_GUI_API_KEY, or allow it with --insecure on a network where you trust \
                 everybody",
            ),
            GuiError::Listen { host, port, why } => {
                let why = listening(&why);
                Self::new(TASK_FAILED, format!("the web interface cannot listen on {host}:{port}: {why}"))
                    .hint("choose another port with --gui-port, 0 for any that is free; or go without: --no-gui")
            }
        }
    }
}

/// Why an address cannot be listened on.
fn listening(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::AddrInUse => "another program uses this port".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => plain(why),
    }
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        let message = error.to_string();
        match error {
            WorkerError::Refused(why) => match why.split_once(": give ") {
                Some((what, _)) => Self::new(WRONG_USAGE, what).hint("give this worker another --worker-id"),
                None if why.contains("is stopping") => {
                    Self::new(UNREACHABLE, why).hint("try again once it has restarted")
                }
                None => Self::new(WRONG_USAGE, message),
            },
            WorkerError::IdInUse { .. } => Self::new(WRONG_USAGE, message).hint(
                "stop that worker, give this one another --worker-id, or wait longer with --timeout; \
                 see: fastworker workers",
            ),
            WorkerError::Call(_) => Self::new(UNREACHABLE, message).hint(
                "the control plane was found, but not its subworker port: see its --subworker-port and \
                 --advertise-address",
            ),
            WorkerError::Thread(_) => Self::new(TASK_FAILED, message),
        }
    }
}

impl From<SubWorkerError> for Failure {
    fn from(error: SubWorkerError) -> Self {
        match error {
            SubWorkerError::Modules(error) => error.into(),
            SubWorkerError::NotFound(error) => error.into(),
            SubWorkerError::Worker(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_alike_names_are_proposed_first() {
        let known = ["multiply", "add", "adds", "add", "reverse"];
        assert_eq!(did_you_mean("ad", known).as_deref(), Some("did you mean 'add' or 'adds'?"));
        assert_eq!(did_you_mean("xyz", known), None);
    }
}
