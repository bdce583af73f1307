//! Errors, hints, notes and warnings, on the standard error.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _},
};

use clap::builder::styling::{AnsiColor, Effects, Style, Styles};
use serde::Serialize;

use super::{Failure, colours, err, out_document, write_err};
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
fn labelled(style: Style, label: &str, text: impl Display) {
    let text = escape::indented(&text.to_string(), "  ");
    let label = if colours(&io::stderr()) { format!("{style}{label}:{style:#}") } else { format!("{label}:") };
    write_err(&format!("{label} {text}"));
}

/// Prints an error with its hint; with `json`, also as one line of JSON to the standard output.
pub(in crate::cli) fn failure(failure: &Failure, json: bool) {
    #[derive(Serialize)]
    struct FailureJson<'a> {
        error: &'a str,
        hint: Option<&'a str>,
        code: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        task_id: Option<&'a TaskId>,
    }
    let Failure { code, message, hint, task_id } = failure;
    labelled(ERROR, "error", message);
    if let Some(hint) = hint {
        err("");
        labelled(NOTE, "hint", hint);
    }
    if json {
        let error = FailureJson { error: message, hint: hint.as_deref(), code: *code, task_id: task_id.as_ref() };
        // One line, as it may follow other lines of JSON.
        out_document(&serde_json::to_string(&error).unwrap_or_default());
    }
}

/// Prints a note about the output.
pub(in crate::cli) fn note(message: &str) {
    labelled(NOTE, "note", message);
}

/// Prints a warning about a problem that does not stop the command.
pub(in crate::cli) fn warning(message: &impl Display) {
    labelled(WARNING, "warning", message);
}

/// Prints a hint if the standard error is a terminal.
pub(super) fn hint(message: impl Display) {
    if io::stderr().is_terminal() {
        labelled(NOTE, "hint", message);
    }
}
