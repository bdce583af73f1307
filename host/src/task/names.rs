//! Enums whose variants have names: written in lower case, read in any case, a number in postcard.
//!
//! The macro `named!` implements this, here and elsewhere.

use super::open::open_enum;

/// The priority of a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskPriority {
    /// Before everything else (0).
    Critical,
    /// Before normal and low (1).
    High,
    /// The default (2).
    #[default]
    Normal,
    /// When nothing else waits (3).
    Low,
}

impl TaskPriority {
    /// All priorities, the highest first.
    pub const ALL: [TaskPriority; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// 0 for critical to 3 for low.
    pub const fn level(self) -> usize {
        self as usize
    }
}

open_enum! {
    /// The status of a task.
    pub enum TaskStatus: "task status" {
        /// Waits in the queue.
        Pending = "pending",
        /// Waits for its start time (eta, countdown).
        Scheduled = "scheduled",
        /// A slot runs it.
        Started = "started",
        /// An attempt failed; waits for the next one.
        Retrying = "retrying",
        /// Ended with a result.
        Success = "success",
        /// Ended with an error.
        Failure = "failure",
        /// Ended by a cancellation.
        Cancelled = "cancelled",
    }
}

impl TaskStatus {
    /// Whether a task of this status has ended. An unknown status has not: messages mark ended tasks otherwise.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Cancelled)
    }
}

open_enum! {
    /// The kind of a task's error.
    pub enum ErrorKind: "error kind" {
        /// The arguments do not fit the task.
        BadArguments = "bad-arguments",
        /// The task returned an error.
        Failed = "failed",
        /// An attempt ran longer than its timeout.
        Timeout = "timeout",
        /// An attempt used more CPU time than it may.
        CpuTimeLimit = "cpu-time-limit",
        /// An attempt waited longer in calls of the host than it may.
        HostTimeLimit = "host-time-limit",
        /// An attempt exceeded its memory limit.
        OutOfMemory = "out-of-memory",
        /// An attempt recursed too deeply.
        StackOverflow = "stack-overflow",
        /// An attempt returned more, or submitted larger follow-up tasks, than it may.
        ResultLimit = "result-limit",
        /// An attempt printed more than it may.
        OutputLimit = "output-limit",
        /// An attempt logged more than it may.
        LogLimit = "log-limit",
        /// An attempt opened more connections at a time than it may.
        ConnectionLimit = "connection-limit",
        /// An attempt received or sent more bytes than it may.
        NetworkLimit = "network-limit",
        /// An attempt ended in a WebAssembly trap: a panic, a bad access, a division by zero.
        Trap = "trap",
        /// Its workers were lost repeatedly.
        WorkerLost = "worker-lost",
        /// No worker has a task of this name.
        NotFound = "not-found",
        /// The task itself failed and requested no retry.
        GaveUp = "gave-up",
    }
}

/// The encoding of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SerializationFormat {
    /// JSON text, the default; used by the Python clients.
    #[default]
    Json,
    /// Postcard, a compact binary format. Replaces PICKLE of the original.
    Postcard,
}

impl SerializationFormat {
    /// Both.
    pub const ALL: [SerializationFormat; 2] = [Self::Json, Self::Postcard];

    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Postcard => "postcard",
        }
    }
}

/// The level of a log line of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For the author, in detail.
    Trace,
    /// For the author.
    Debug,
    /// For the operator.
    Info,
    /// A possible problem.
    Warn,
    /// An error.
    Error,
}

impl LogLevel {
    /// All of them.
    pub const ALL: [LogLevel; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Error for a string that is not the name of a variant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is not a valid {what}: choose one of {choices}")]
pub struct UnknownName {
    what: &'static str,
    given: String,
    choices: String,
}

impl UnknownName {
    pub(crate) fn new(what: &'static str, given: &str, choices: &[&str]) -> Self {
        Self { what, given: given.chars().take(64).collect(), choices: choices.join(", ") }
    }
}

/// Implements the text forms of an enum of names, and serde: text in JSON, a number in postcard.
macro_rules! named {
    ($type:ty, $what:literal) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::task::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let named = Self::ALL.into_iter().find(|choice| choice.as_str().eq_ignore_ascii_case(text));
                named.ok_or_else(|| $crate::task::UnknownName::new($what, text, &Self::ALL.map(Self::as_str)))
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.serialize_str(self.as_str())
                } else {
                    serializer.serialize_u8(*self as u8)
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
                } else {
                    let number = <u8 as serde::Deserialize>::deserialize(deserializer)?;
                    Self::ALL
                        .into_iter()
                        .find(|choice| *choice as u8 == number)
                        .ok_or_else(|| serde::de::Error::custom(format_args!("{number} is not a valid {}", $what)))
                }
            }
        }
    };
}

pub(crate) use named;

named!(TaskPriority, "priority");
named!(SerializationFormat, "serialization format");
named!(LogLevel, "log level");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_written_in_lower_case() {
        assert_eq!("CRITICAL".parse(), Ok(TaskPriority::Critical));
        assert_eq!(serde_json::to_string(&TaskPriority::High).expect("text"), "\"high\"");
        assert!(
            "urgent"
                .parse::<TaskPriority>()
                .is_err_and(|error| error.to_string().contains("critical, high, normal, low"))
        );
        for priority in TaskPriority::ALL {
            let bytes = postcard::to_stdvec(&priority).expect("to postcard");
            assert_eq!((bytes.len(), postcard::from_bytes::<TaskPriority>(&bytes)), (1, Ok(priority)));
        }
    }
}
