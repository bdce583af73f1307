//! Writes to the log of the task.

use std::fmt;

use crate::host;

/// The severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details for the author of the task.
    Trace,
    /// Details for diagnosing problems.
    Debug,
    /// Normal events.
    Info,
    /// Problems that do not stop the task.
    Warn,
    /// Problems that stop the task or a part of it.
    Error,
}

/// Adds a line to the log of the task.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    match message.as_str() {
        Some(text) => host::log(level, text),
        None => host::log(level, &message.to_string()),
    }
}

/// Logs a line at level trace. Accepts the arguments of [`format!`].
#[macro_export]
macro_rules! trace {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Trace, ::core::format_args!($($message)+))
    };
}

/// Logs a line at level debug. Accepts the arguments of [`format!`].
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Debug, ::core::format_args!($($message)+))
    };
}

/// Logs a line at level info. Accepts the arguments of [`format!`].
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Info, ::core::format_args!($($message)+))
    };
}

/// Logs a line at level warn. Accepts the arguments of [`format!`].
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Warn, ::core::format_args!($($message)+))
    };
}

/// Logs a line at level error. Accepts the arguments of [`format!`].
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Error, ::core::format_args!($($message)+))
    };
}
