//! Writes to stdout and stderr.
//!
//! Functions `print_…` write to stdout. They end the process if that fails: with exit code 0 on a closed pipe, else
//! with an error. In a server they wait only a short time, and log a failure instead. Functions `eprint_…` write to
//! stderr, in a server through its log, and ignore failures.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    process,
};

use serde::Serialize;

use super::{diagnostics, log, pretty_json::pretty_json};
use crate::{
    cli::{CliError, CommandResult, EXIT_FAILURE, error::os_message},
    escape,
};

/// Whether to use colours on a stream: on a terminal only, and never if `NO_COLOR` is set.
pub(super) fn uses_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints text, with control characters escaped.
pub(super) fn print_escaped(text: impl Display) {
    print_raw(&escape::lines(&text.to_string()));
}

/// Prints lines, with control characters escaped.
pub(super) fn print_lines(lines: Vec<String>) {
    lines.into_iter().for_each(print_escaped);
}

/// Prints an id or a name: unchanged to a file or a pipe; on a terminal, invisible characters are escaped.
pub(super) fn print_name(name: &str) {
    if io::stdout().is_terminal() { print_raw(&escape::line(name)) } else { print_raw(name) }
}

/// Prints a JSON document: unchanged to a file or a pipe; on a terminal, invisible characters are written as
/// equivalent JSON escapes.
pub(super) fn print_json_text(document: &str) {
    if io::stdout().is_terminal() { print_raw(&escape::json(document)) } else { print_raw(document) }
}

/// Prints a value as JSON in one line.
pub(super) fn print_json_line(value: &impl Serialize) -> Result<(), CliError> {
    print_json_text(&serde_json::to_string(value).map_err(|error| cannot_serialize(&error))?);
    Ok(())
}

/// Prints a value as JSON with line breaks and indentation.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    print_json_text(&serde_json::to_string_pretty(value).map_err(|error| cannot_serialize(&error))?);
    Ok(())
}

/// Prints a value that contains JSON documents with line breaks and indentation, also inside of the documents.
pub(in crate::cli) fn print_pretty_json(value: &impl Serialize) -> CommandResult {
    print_json_text(&pretty_json(&serde_json::to_string(value).map_err(|error| cannot_serialize(&error))?));
    Ok(0)
}

fn cannot_serialize(error: &serde_json::Error) -> CliError {
    CliError::new(EXIT_FAILURE, format!("cannot write JSON: {error}"))
}

/// Prints text such as a script, without trailing line breaks.
pub(in crate::cli) fn print_text(text: &str) {
    print_escaped(text.trim_end_matches('\n'));
}

/// Prints text unchanged.
fn print_raw(text: &str) {
    if log::print_line(text) {
        return;
    }
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => {}
        // The reader has closed the pipe.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        Err(error) => {
            let error = CliError::new(EXIT_FAILURE, format!("cannot write the output: {}", os_message(&error)));
            diagnostics::print_error(&error.hint("check the destination of the output: the disk may be full"), false);
            process::exit(EXIT_FAILURE.into());
        }
    }
}

/// Prints text to stderr, with control characters escaped.
pub(super) fn eprint_escaped(text: impl Display) {
    eprint_raw(&escape::lines(&text.to_string()));
}

/// Prints text to stderr unchanged. It must be escaped already, and may contain this program's colours.
pub(super) fn eprint_raw(text: &str) {
    if !log::append_line(text) {
        // A failure cannot be reported anywhere else.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}
