//! Errors of clients, and of connecting: no control plane, a refusal, an address that cannot be used.

use super::{
    CliError, START_CONTROL_PLANE_HINT,
    host::{is_unknown_host, unknown_host},
};
use crate::{
    cli::{EXIT_FAILURE, EXIT_NOT_FINISHED, EXIT_UNREACHABLE, EXIT_USAGE, usage},
    client::{ClientError, Endpoint},
    clock::seconds,
    config::Address,
    protocol::{Refusal, RefusalCode},
    subworker::link::NotFound,
    transport::OpenError,
};

/// Maximum size of a message from a server, in bytes.
const MESSAGE_MAX: usize = 2_000;

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let mut message = error.to_string();
        // The peer may be any program, and its message of any length.
        message.truncate(message.floor_char_boundary(MESSAGE_MAX));
        match error {
            ClientError::Unreachable { endpoint, .. } => unreachable(&endpoint, message),
            ClientError::NotAControlPlane { .. } => Self::new(EXIT_UNREACHABLE, message).hint(
                "a control plane logs its base address at startup as base=tcp://…; the default is tcp://127.0.0.1:5555",
            ),
            ClientError::TimedOut { task_id, .. } => Self::new(EXIT_NOT_FINISHED, message)
                .hint(format!("wait for it with: fastworker result {task_id} --wait"))
                .for_task(&task_id),
            ClientError::Refused(Refusal { code: RefusalCode::Stopping, message }) => {
                Self::new(EXIT_UNREACHABLE, message).hint("try again once it has restarted")
            }
            ClientError::Refused(Refusal { code: RefusalCode::IdTaken, message }) => {
                Self::new(EXIT_USAGE, message).hint("choose another --task-id, or omit it to use a new one")
            }
            ClientError::BadArguments(_) | ClientError::Address(_) => Self::new(EXIT_USAGE, message),
            ClientError::TooLarge { .. } => Self::new(EXIT_USAGE, message)
                .hint("pass a reference to the data, such as a URL, instead of the data itself"),
            ClientError::Open(error) => error.into(),
            ClientError::UnexpectedReply { .. } => Self::new(EXIT_FAILURE, message)
                .hint("check that fastworker --version is compatible with that of the control plane"),
            ClientError::Stopped | ClientError::Refused(_) => Self::new(EXIT_FAILURE, message),
        }
    }
}

/// No control plane replies, or the host of its address does not exist.
fn unreachable(endpoint: &Endpoint, message: String) -> CliError {
    let (address, option, hint) = match endpoint {
        Endpoint::Discovery(address) => (
            address,
            "--discovery-address",
            format!(
                "{START_CONTROL_PLANE_HINT}; or set the address of its announcements with --discovery-address, \
                 or its base address with --control-plane-address"
            ),
        ),
        Endpoint::GivenNotAnnounced { base, announced, discovery } => (
            base,
            "--control-plane-address",
            format!(
                "another control plane is announced at {discovery}, with the base address {announced}: to use it, set \
                 --control-plane-address {announced}; else {START_CONTROL_PLANE_HINT}"
            ),
        ),
        Endpoint::Given(address) => (
            address,
            "--control-plane-address",
            format!("{START_CONTROL_PLANE_HINT}; or set its base address with --control-plane-address"),
        ),
        Endpoint::Announced { base, .. } => {
            let hint = "it may have stopped, or its address is not reachable from here: see --advertise-address of the \
                        control plane";
            return CliError::new(EXIT_UNREACHABLE, message).hint(if is_unknown_host(base) {
                format!(
                    "the host {} cannot be resolved here: see --advertise-address of the control plane",
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
        return unknown_host(EXIT_UNREACHABLE, address.host(), &format!("{option}{origin}"));
    }
    let origin = variable.map(|name| format!("; {option} is set by {name}")).unwrap_or_default();
    CliError::new(EXIT_UNREACHABLE, message).hint(hint + &origin)
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        let message = error.to_string();
        match error {
            OpenError::BadAddress { address } => Self::new(EXIT_USAGE, format!("'{address}' is not an address"))
                .hint("write it like tcp://127.0.0.1:5555"),
            OpenError::InUse { .. } => {
                Self::new(EXIT_FAILURE, message).hint("choose another port, or port 0 for any free port")
            }
            OpenError::NotHere { address } => match address.parse::<Address>() {
                Ok(address) if is_unknown_host(&address) => {
                    unknown_host(EXIT_USAGE, address.host(), &address.to_string())
                }
                _ => Self::new(EXIT_USAGE, message)
                    .hint("listen on an address of this machine, such as tcp://127.0.0.1:5555"),
            },
            OpenError::Refused { .. } => Self::new(EXIT_FAILURE, message),
        }
    }
}

impl From<NotFound> for CliError {
    fn from(error: NotFound) -> Self {
        match error {
            NotFound::Unreachable { address, waited, announced } => {
                let waited = seconds(waited);
                let message = format!("no reply from the control plane at {address} within {waited} s");
                match announced {
                    None => unreachable(&Endpoint::Given(address), message + ", and no other was announced"),
                    Some(announced) => {
                        let hint = format!(
                            "another control plane is announced, with the base address {announced}: to use it, set \
                             --control-plane-address {announced}; else {START_CONTROL_PLANE_HINT}"
                        );
                        CliError::new(EXIT_UNREACHABLE, message).hint(hint)
                    }
                }
            }
            NotFound::Open(error) => error.into(),
            NotFound::Address(_) => Self::new(EXIT_USAGE, error),
        }
    }
}
