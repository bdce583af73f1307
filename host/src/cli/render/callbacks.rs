//! Output of `fastworker listen`.

use super::output::{eprint_escaped, print_escaped, print_json_line};
use crate::{cli::CliError, escape, protocol::CallbackMessage};

/// Prints the address on which callbacks are received, to stderr.
pub(in crate::cli) fn print_listening(address: &str) {
    eprint_escaped(format_args!("listening on {address}"));
}

/// Prints a received callback, as one line of JSON or as text.
pub(in crate::cli) fn print_callback(message: &CallbackMessage, json: bool) -> Result<(), CliError> {
    if json {
        return print_json_line(message);
    }
    let CallbackMessage { task_id, status, result, error, callback_data, .. } = message;
    let end = match (result, error) {
        (Some(result), _) => format!(" {}", escape::line(result.as_str())),
        (None, Some(error)) => format!(" {}", escape::indented(error.trim_start_matches(['\n', '\r']), "    ")),
        (None, None) => String::new(),
    };
    let data = callback_data.as_ref().map(|data| format!("  {}", escape::line(data.as_str()))).unwrap_or_default();
    let id = task_id.to_string();
    print_escaped(format_args!("{} {status}{end}{data}", escape::line(&id)));
    Ok(())
}
