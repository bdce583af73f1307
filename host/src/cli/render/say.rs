//! Errors, hints, notes and warnings: what is said about the output, on the standard error.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _},
};

use clap::builder::styling::{AnsiColor, Effects, Style, Styles};
use serde::Serialize;

use super::{Failure, colours, err, out_document, write_err};
use crate::{task::TaskId, visible};

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

/// What is said after a word and its colon, which is in colour where there is any. Lines after the
/// first are indented, so that none of them can pass for one of ours.
fn labelled(style: Style, word: &str, text: impl Display) {
    let text = visible::indented(&text.to_string(), "  ");
    let label = if colours(&io::stderr()) { format!("{style}{word}:{style:#}") } else { format!("{word}:") };
    write_err(&format!("{label} {text}"));
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
    labelled(ERROR, "error", message);
    if let Some(next) = next {
        err("");
        labelled(NOTE, "hint", next);
    }
    if json {
        let told = Told { error: message, hint: next.as_deref(), code: *code, task_id: task_id.as_ref() };
        // One line, as it may follow lines of JSON.
        out_document(&serde_json::to_string(&told).unwrap_or_default());
    }
}

/// Says something about what is printed.
pub(in crate::cli) fn note(words: &str) {
    labelled(NOTE, "note", words);
}

/// Tells of something that is wrong and does not matter to what goes on.
pub(in crate::cli) fn warning(what: &impl Display) {
    labelled(WARNING, "warning", what);
}

/// Says what could be done next, if a person reads it.
pub(super) fn hint(next: impl Display) {
    if io::stderr().is_terminal() {
        labelled(NOTE, "hint", next);
    }
}
