//! Errors, hints, notes and warnings: what is said about the output, on the standard error.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _},
};

use clap::builder::styling::{AnsiColor, Effects, Style, Styles};
use serde::Serialize;

use super::{Failure, colours, err, out};
use crate::task::TaskId;

const ERROR: Style = AnsiColor::Red.on_default().effects(Effects::BOLD);
const WARNING: Style = AnsiColor::Yellow.on_default().effects(Effects::BOLD);
const NOTE: Style = AnsiColor::Cyan.on_default().effects(Effects::BOLD);

/// How help looks on a terminal.
pub(in crate::cli) const STYLES: Styles = Styles::styled()
    .header(Style::new().effects(Effects::BOLD))
    .usage(Style::new().effects(Effects::BOLD))
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default())
    .error(ERROR);

/// A word and its colon, in colour where there is any.
fn label(style: Style, word: &str) -> String {
    if colours(&io::stderr()) { format!("{style}{word}:{style:#}") } else { format!("{word}:") }
}

/// Says why a command did not work out, and what to do; to programs that asked for JSON on the
/// standard output, too.
pub(in crate::cli) fn failure(failure: &Failure, json: bool) {
    #[derive(Serialize)]
    struct Told<'a> {
        error: &'a str,
        hint: Option<&'a str>,
        code: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        task_id: Option<&'a TaskId>,
    }
    let Failure { code, message, hint: next, task_id } = failure;
    err(format_args!("{} {message}", label(ERROR, "error")));
    if let Some(next) = next {
        err("");
        err(format_args!("{} {next}", label(NOTE, "hint")));
    }
    if json {
        let told = Told { error: message, hint: next.as_deref(), code: *code, task_id: task_id.as_ref() };
        // One line, as it may follow lines of JSON.
        out(serde_json::to_string(&told).unwrap_or_default());
    }
}

/// Says something about what is printed.
pub(in crate::cli) fn note(words: &str) {
    err(format_args!("{} {words}", label(NOTE, "note")));
}

/// Tells of something that is wrong and does not matter to what goes on.
pub(in crate::cli) fn warning(what: &impl Display) {
    err(format_args!("{} {what}", label(WARNING, "warning")));
}

/// Says what could be done next, if a person reads it.
pub(super) fn hint(next: impl Display) {
    if io::stderr().is_terminal() {
        err(format_args!("{} {next}", label(NOTE, "hint")));
    }
}
