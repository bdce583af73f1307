//! Errors of client calls.

use std::{fmt, time::Duration};

use crate::{
    clock::seconds,
    config::{Address, NotAnAddress},
    protocol::{Refusal, RefusalCode},
    task::TaskId,
    transport::{OpenError, PAYLOAD_MAX},
};

/// Error of a call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The control plane did not reply.
    #[error("{endpoint} within {} s", seconds(*waited))]
    Unreachable {
        /// Address where a control plane was expected.
        endpoint: Endpoint,
        /// Time that the client waited.
        waited: Duration,
    },
    /// The task has not ended within the timeout. It is still running: get its result later.
    #[error("task {task_id} has not ended within {} s; it is still running", seconds(*waited))]
    TimedOut {
        /// The task.
        task_id: TaskId,
        /// Time that the client waited.
        waited: Duration,
    },
    /// The client is stopped, or was never started.
    #[error("the client is stopped")]
    Stopped,
    /// The control plane refused the request. Match on the code; the message is human-readable.
    #[error("the control plane refused: {0}")]
    Refused(Refusal),
    /// The arguments have no JSON form, or the wrong one.
    #[error("bad arguments: {0}")]
    BadArguments(String),
    /// The arguments are over the limit.
    #[error("the arguments of {size} bytes are over the limit of {PAYLOAD_MAX} bytes")]
    TooLarge {
        /// Their size in bytes.
        size: usize,
    },
    /// Something other than a control plane replied at its address.
    #[error("{base} is not the base address of a control plane: something else replied at its port {port}")]
    NotAControlPlane {
        /// The base address that was given or announced.
        base: Address,
        /// The port of the request.
        port: u16,
    },
    /// The reply cannot be read, or does not match the request.
    #[error("unexpected reply from {address}: {what}")]
    UnexpectedReply {
        /// The address of the control plane.
        address: String,
        /// Description of the problem.
        what: String,
    },
    /// The socket could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The address has no valid port.
    #[error(transparent)]
    Address(#[from] NotAnAddress),
}

/// Address where a control plane was expected. Displayed as the reason why none was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// On this discovery address, without an announcement.
    Discovery(Address),
    /// At the given base address.
    Given(Address),
    /// At the given base address, while another one was announced.
    GivenNotAnnounced {
        /// The base address that was given.
        base: Address,
        /// The base address that was announced.
        announced: Address,
        /// The discovery address.
        discovery: Address,
    },
    /// At an announced base address.
    Announced {
        /// The base address.
        base: Address,
        /// The discovery address.
        discovery: Address,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discovery(address) => write!(f, "no control plane announced itself at {address}"),
            Self::Given(base) | Self::GivenNotAnnounced { base, .. } => {
                write!(f, "no reply from the control plane at {base}")
            }
            Self::Announced { base, discovery } => {
                write!(f, "no reply from the control plane at {base}, announced at {discovery},")
            }
        }
    }
}

impl ClientError {
    /// Whether the task was certainly not accepted.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::TooLarge { .. } | Self::BadArguments(_))
    }

    /// Whether the control plane refused the request because it is stopping, so that the next one may
    /// accept it.
    pub fn is_stopping(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == RefusalCode::Stopping)
    }
}
