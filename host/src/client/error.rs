//! Why a client's call did not work out.

use std::{fmt, time::Duration};

use crate::{
    clock::seconds,
    config::{Address, NotAnAddress},
    protocol::{Refusal, RefusalCode},
    task::TaskId,
    transport::{OpenError, PAYLOAD_MAX},
};

/// Why a call did not work out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered.
    #[error("{place} within {} s", seconds(*waited))]
    Unreachable {
        /// Where the control plane should have been.
        place: Place,
        /// How long we waited.
        waited: Duration,
    },
    /// The task has not ended in time. It goes on; ask for its result later.
    #[error("task {task_id} has not ended within {} s; it goes on", seconds(*waited))]
    TimedOut {
        /// The task.
        task_id: TaskId,
        /// How long we waited.
        waited: Duration,
    },
    /// The client was stopped, or never started.
    #[error("the client is stopped")]
    Stopped,
    /// The control plane said no.
    #[error("the control plane refused: {0}")]
    Refused(Refusal),
    /// The arguments have no JSON form, or are no list.
    #[error("bad arguments: {0}")]
    BadArguments(String),
    /// The task is larger than may be sent.
    #[error("the arguments of {size} bytes are over the limit of {PAYLOAD_MAX} bytes")]
    TooLarge {
        /// Their size in bytes.
        size: usize,
    },
    /// Something else answered where the control plane should be.
    #[error("{base} is not the base address of a control plane: something else answers at its port {port}")]
    NotAControlPlane {
        /// The base address that was given or announced.
        base: Address,
        /// The port that was asked.
        port: u16,
    },
    /// The control plane's answer cannot be understood.
    #[error("the answer from {address} cannot be understood: {what}")]
    Confused {
        /// Who was asked.
        address: String,
        /// What is wrong with it.
        what: String,
    },
    /// The socket could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no such port.
    #[error(transparent)]
    Address(#[from] NotAnAddress),
}

/// Where a control plane should have been. In words it is nobody's answer from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a discovery bus, on which no announcement was heard.
    Discovery(Address),
    /// At the base address that the client was given.
    Given(Address),
    /// At the base address that the client was given, while another one was announced.
    GivenNotAnnounced {
        /// The base address that was given.
        base: Address,
        /// The base address that was announced.
        announced: Address,
        /// The bus.
        discovery: Address,
    },
    /// At a base address that was announced.
    Announced {
        /// The base address.
        base: Address,
        /// The bus.
        discovery: Address,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discovery(address) => write!(f, "no control plane announced itself at {address}"),
            Self::Given(base) | Self::GivenNotAnnounced { base, .. } => {
                write!(f, "no answer from the control plane at {base}")
            }
            Self::Announced { base, discovery } => {
                write!(f, "no answer from the control plane at {base}, announced at {discovery},")
            }
        }
    }
}

impl ClientError {
    /// Whether the task was certainly not taken.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::TooLarge { .. } | Self::BadArguments(_))
    }

    /// Whether a control plane refused something because it is about to stop, so that the next one
    /// may take it.
    pub fn is_stopping(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == RefusalCode::Stopping)
    }
}
