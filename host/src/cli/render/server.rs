//! The state of a server, as lines of JSON on stdout. Failing to write one does not stop the server.

use std::{
    io::{self, Write as _},
    process,
};

use serde::Serialize;
use uuid::Uuid;

use super::log;
use crate::{
    cli::{CliError, EXIT_FAILURE},
    config::Address,
    subworker::LoadSummary,
};

/// Prints that a server is ready.
pub(in crate::cli) fn print_ready(
    worker_id: &str,
    address: &Address,
    gui: Option<&str>,
    health: Option<&str>,
    cluster_id: Option<Uuid>,
) -> Result<(), CliError> {
    #[derive(Serialize)]
    struct Ready<'a> {
        event: &'static str,
        worker_id: &'a str,
        address: &'a Address,
        #[serde(skip_serializing_if = "Option::is_none")]
        gui: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        health: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cluster_id: Option<Uuid>,
        pid: u32,
    }
    let ready = Ready { event: "ready", worker_id, address, gui, health, cluster_id, pid: process::id() };
    let text = serde_json::to_string(&ready).map_err(|error| CliError::new(EXIT_FAILURE, error))?;
    if !log::print_line(&text) {
        let _ = writeln!(io::stdout().lock(), "{text}");
    }
    Ok(())
}

/// Prints that all modules of a server have been loaded or refused.
pub(in crate::cli) fn print_all_loaded(worker_id: &str, end: LoadSummary) {
    #[derive(Serialize)]
    struct Loaded<'a> {
        event: &'static str,
        worker_id: &'a str,
        modules: usize,
        broken: usize,
        tasks: usize,
    }
    let LoadSummary { modules, broken, tasks } = end;
    let loaded = Loaded { event: "loaded", worker_id, modules, broken, tasks };
    if let Ok(text) = serde_json::to_string(&loaded) {
        let _ = writeln!(io::stdout().lock(), "{text}");
    }
}
