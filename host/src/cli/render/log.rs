//! The log of servers: which lines, and how they are written.

use std::io;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt};

use super::colours;

/// The least important lines to print, of everything or of parts.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Levels(String);

/// How a line is written: for people, or as one JSON object for programs.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum LogFormat {
    Text,
    Json,
}

/// Reads `debug`, or levels of parts: `info,task=debug,fastworker::runtime=trace`.
pub(in crate::cli) fn levels(text: &str) -> Result<Levels, String> {
    const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];
    let is_level = |text: &str| LEVELS.contains(&text);
    let directive = |part: &str| match part.split_once('=') {
        None if is_level(part) => Some(format!("fastworker={part},task={part}")),
        Some((target, level)) if !target.is_empty() && is_level(level) => Some(part.to_owned()),
        _ => None,
    };
    let lower = text.to_lowercase();
    let directives: Option<Vec<String>> = lower.split(',').map(|part| directive(part.trim())).collect();
    let directives = directives.map(|directives| Levels(directives.join(",")));
    directives.ok_or_else(|| {
        format!("choose one of {}; parts can have levels of their own, as in info,task=debug", LEVELS.join(", "))
    })
}

/// Starts logging to the standard error.
pub(in crate::cli) fn log(levels: &Levels, format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).parse_lossy(&levels.0);
    // It tells of a closed pipe by eprintln!, which panics for the same reason: hence no internal errors.
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr).log_internal_errors(false);
    let _ = match format {
        LogFormat::Text => lines.with_target(false).with_ansi(colours(&io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_all_or_of_parts() {
        let read = |text: &str| levels(text).map(|levels| levels.0);
        assert_eq!(read("debug").as_deref(), Ok("fastworker=debug,task=debug"));
        assert_eq!(read("warn, Task=debug").as_deref(), Ok("fastworker=warn,task=warn,task=debug"));
        assert!(read("loud").is_err() && read("task=loud").is_err() && read("").is_err());
    }
}
