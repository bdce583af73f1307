//! Lines for the log of the task.

use std::fmt;

use crate::host;

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What only the author of the task wants to know.
    Trace,
    /// What helps to find out why something went wrong.
    Debug,
    /// What happened.
    Info,
    /// What went wrong without stopping the task.
    Warn,
    /// What stopped the task or a part of it.
    Error,
}

/// Adds a line to the log of the task.
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    match message.as_str() {
        Some(text) => host::log(level, text),
        None => host::log(level, &message.to_string()),
    }
}

/// Logs a line that only the author of the task wants to see. Takes what [`format!`] takes.
#[macro_export]
macro_rules! trace {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Trace, ::core::format_args!($($message)+))
    };
}

/// Logs a line that helps to find out why something went wrong. Takes what [`format!`] takes.
#[macro_export]
macro_rules! debug {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Debug, ::core::format_args!($($message)+))
    };
}

/// Logs what happened. Takes what [`format!`] takes.
#[macro_export]
macro_rules! info {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Info, ::core::format_args!($($message)+))
    };
}

/// Logs what went wrong without stopping the task. Takes what [`format!`] takes.
#[macro_export]
macro_rules! warn {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Warn, ::core::format_args!($($message)+))
    };
}

/// Logs what stopped the task or a part of it. Takes what [`format!`] takes.
#[macro_export]
macro_rules! error {
    ($($message:tt)+) => {
        $crate::__private::log($crate::Level::Error, ::core::format_args!($($message)+))
    };
}
