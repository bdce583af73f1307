//! Errors, hints, notes and warnings, on stderr.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _},
};

use clap::builder::styling::{AnsiColor, Effects, Style, Styles};
use serde::Serialize;

use super::{
    CliError,
    output::{eprint_escaped, eprint_raw, print_json_line, uses_colours},
};
use crate::{escape, task::TaskId};

const ERROR: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
const WARNING: Style = AnsiColor::Yellow.on_default().effects(Effects::BOLD);
const NOTE: Style = AnsiColor::Cyan.on_default().effects(Effects::BOLD);

/// The styles of help on a terminal.
pub(in crate::cli) const STYLES: Styles = Styles::styled()
    .header(Style::new().effects(Effects::BOLD))
    .usage(Style::new().effects(Effects::BOLD))
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default())
    .error(ERROR);

/// Prints a message after a label such as `error:`, which is coloured on a terminal. Further lines are indented,
/// so that a line of the message cannot be mistaken for a label.
fn eprint_labelled(style: Style, label: &str, text: impl Display) {
    let text = escape::indented(&text.to_string(), "  ");
    let label = if uses_colours(&io::stderr()) { format!("{style}{label}:{style:#}") } else { format!("{label}:") };
    eprint_raw(&format!("{label} {text}"));
}

/// Prints an error with its hint; with `json`, also as one line of JSON to stdout.
pub(in crate::cli) fn print_error(error: &CliError, json: bool) {
    #[derive(Serialize)]
    struct ErrorJson<'a> {
        error: &'a str,
        hint: Option<&'a str>,
        code: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        task_id: Option<&'a TaskId>,
    }
    let CliError { code, message, hint, task_id } = error;
    eprint_labelled(ERROR, "error", message);
    if let Some(hint) = hint {
        eprint_escaped("");
        eprint_labelled(NOTE, "hint", hint);
    }
    if json {
        let error = ErrorJson { error: message, hint: hint.as_deref(), code: *code, task_id: task_id.as_ref() };
        // One line, as it may follow other lines of JSON.
        let _ = print_json_line(&error);
    }
}

/// Prints a note about the output.
pub(in crate::cli) fn print_note(message: &str) {
    eprint_labelled(NOTE, "note", message);
}

/// Prints a warning about a problem that does not stop the command.
pub(in crate::cli) fn print_warning(message: &impl Display) {
    eprint_labelled(WARNING, "warning", message);
}

/// Prints a hint if both stdout and stderr are terminals.
pub(super) fn print_hint(message: impl Display) {
    if io::stdout().is_terminal() && io::stderr().is_terminal() {
        eprint_labelled(NOTE, "hint", message);
    }
}
