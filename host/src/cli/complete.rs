//! Shell completion: fixed words, and names that the running control plane knows.
//!
//! The shell calls it at each press of Tab with an unfinished line, so it never fails and returns
//! quickly. Without a control plane it offers no names.

use std::{env, path::Path, sync::mpsc, thread, time::Duration};

use clap_complete::{
    CompleteEnv,
    engine::{CompletionCandidate, PathCompleter},
};

use super::{ConnectionOptions, build::Language, command_tree, usage};
use crate::{
    client::{Client, ClientError},
    escape,
    protocol::{EventKind, TaskQuery, TaskSummary},
    subworker::ModulesConfig,
    task::{SerializationFormat, TaskPriority, TaskStatus, schedule::Overlap},
};

/// The variable by which the generated script makes this program complete a line.
pub(super) const VARIABLE: &str = "FASTWORKER_COMPLETE";
/// Maximum time that a press of Tab waits for the control plane.
const CONTROL_PLANE_TIMEOUT: Duration = Duration::from_millis(300);
/// Maximum number of task ids to offer.
const TASKS_MAX: u32 = 50;

/// Prints completions if a shell called this program for them. Returns whether it did.
pub(super) fn complete_for_shell() -> bool {
    let current_dir = env::current_dir().ok();
    CompleteEnv::with_factory(usage::command)
        .var(VARIABLE)
        .try_complete(env::args_os(), current_dir.as_deref())
        .unwrap_or_else(|error| error.exit())
}

/// The names of the tasks that workers have.
pub(super) fn task_names() -> Vec<CompletionCandidate> {
    let workers = query_control_plane(async |client| client.list_tasks().await);
    let tasks = workers.into_iter().flat_map(|worker| worker.modules).flat_map(|module| module.tasks);
    let mut names: Vec<(String, String)> = tasks.map(|task| (task.name, task.documentation)).collect();
    names.sort();
    names.dedup_by(|later, first| later.0 == first.0);
    names
        .into_iter()
        .filter_map(|(name, description)| candidate(name, description.lines().next().unwrap_or_default()))
        .collect()
}

/// The ids of the workers.
pub(super) fn workers() -> Vec<CompletionCandidate> {
    let workers = query_control_plane(async |client| client.list_tasks().await);
    workers.into_iter().filter_map(|worker| candidate(worker.id, &worker.address)).collect()
}

/// The ids of tasks, unfinished ones first.
pub(super) fn tasks() -> Vec<CompletionCandidate> {
    tasks_with_status(Vec::new())
}

/// The ids of tasks that have not ended.
pub(super) fn unfinished_tasks() -> Vec<CompletionCandidate> {
    tasks_with_status(vec![TaskStatus::Pending, TaskStatus::Scheduled, TaskStatus::Started, TaskStatus::Retrying])
}

fn tasks_with_status(statuses: Vec<TaskStatus>) -> Vec<CompletionCandidate> {
    let query = TaskQuery { statuses, limit: TASKS_MAX, ..TaskQuery::default() };
    let tasks = query_control_plane(async |client| client.tasks(query).await.map(|page| page.tasks));
    let description = |task: &TaskSummary| format!("{} {}", task.name, task.status);
    let in_order = |(order, task): (usize, TaskSummary)| {
        Some(candidate(task.task_id.to_string(), &description(&task))?.display_order(Some(order)))
    };
    tasks.into_iter().enumerate().filter_map(in_order).collect()
}

/// The names of the schedules.
pub(super) fn schedules() -> Vec<CompletionCandidate> {
    let schedules = query_control_plane(async |client| client.schedules().list().await);
    schedules.into_iter().filter_map(|info| candidate(info.schedule.name.clone(), &info.schedule.task_name)).collect()
}

/// The tasks of the module that the line contains.
pub(super) fn tasks_of_module() -> Vec<CompletionCandidate> {
    let line: Vec<String> = env::args().skip_while(|word| word != "--").collect();
    let module = line.into_iter().skip_while(|word| word != "dev").nth(1);
    let Some(module) = module.filter(|module| Path::new(module).is_file()) else { return Vec::new() };
    let (sender, receiver) = mpsc::channel();
    // Compiling a module takes longer: then the thread ends with the process.
    let load = move || {
        let config = ModulesConfig { sources: vec![module], concurrency: 1, ..ModulesConfig::default() };
        if let Ok((_runtime, catalog)) = config.load() {
            drop(sender.send(catalog.describe()));
        }
    };
    if thread::Builder::new().spawn(load).is_err() {
        return Vec::new();
    }
    let modules = receiver.recv_timeout(CONTROL_PLANE_TIMEOUT).unwrap_or_default();
    let tasks = modules.into_iter().flat_map(|module| module.tasks);
    tasks.filter_map(|task| candidate(task.name, task.documentation.lines().next().unwrap_or_default())).collect()
}

/// The overlap policies of schedules.
pub(super) fn overlaps() -> Vec<CompletionCandidate> {
    Overlap::ALL.map(|overlap| overlap.as_str().into()).into()
}

/// The statuses of tasks.
pub(super) fn statuses() -> Vec<CompletionCandidate> {
    TaskStatus::ALL.map(|status| status.as_str().into()).into()
}

/// The priorities of tasks.
pub(super) fn priorities() -> Vec<CompletionCandidate> {
    TaskPriority::ALL.map(|priority| priority.as_str().into()).into()
}

/// The message formats.
pub(super) fn formats() -> Vec<CompletionCandidate> {
    SerializationFormat::ALL.map(|format| format.as_str().into()).into()
}

/// The kinds of events.
pub(super) fn event_kinds() -> Vec<CompletionCandidate> {
    EventKind::ALL.map(|kind| kind.as_str().into()).into()
}

/// The languages of sources.
pub(super) fn languages() -> Vec<CompletionCandidate> {
    Language::ALL.map(|language| language.as_str().into()).into()
}

/// The commands that have a manual page.
pub(super) fn commands() -> Vec<CompletionCandidate> {
    command_tree::names().into_iter().map(CompletionCandidate::new).collect()
}

/// Task modules, and folders that may contain some.
pub(super) fn modules() -> PathCompleter {
    PathCompleter::any().filter(|path: &Path| path.is_dir() || path.extension().is_some_and(|it| it == "wasm"))
}

/// Task modules, sources, and folders that may contain some.
pub(super) fn modules_and_sources() -> PathCompleter {
    let is_file = |path: &Path| Language::of_file(path).is_some() || path.extension().is_some_and(|it| it == "wasm");
    PathCompleter::any().filter(move |path: &Path| path.is_dir() || is_file(path))
}

/// A candidate, unless it contains characters that a terminal would not show: a candidate is inserted unchanged,
/// so it cannot be escaped.
fn candidate(value: String, description: &str) -> Option<CompletionCandidate> {
    let is_plain = escape::line(&value) == value;
    is_plain.then(|| CompletionCandidate::new(value).help(Some(escape::line(description).into_owned().into())))
}

/// Queries the control plane. Returns the default if it does not reply within the timeout.
fn query_control_plane<T: Default>(query: impl AsyncFnOnce(&Client) -> Result<T, ClientError>) -> T {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return T::default() };
    let Some(connection) = ConnectionOptions::from_command_line() else { return T::default() };
    runtime.block_on(async {
        let reply = async {
            let client = connection.client();
            client.start().await?;
            query(&client).await
        };
        tokio::time::timeout(CONTROL_PLANE_TIMEOUT, reply).await.ok().and_then(Result::ok).unwrap_or_default()
    })
}

impl ConnectionOptions {
    /// The connection that the unfinished command line or the variables describe.
    fn from_command_line() -> Option<Self> {
        let address = |option: &str| option_value(option).map(|text| text.parse()).transpose().ok();
        let discovery = address("--discovery-address")?;
        Some(Self {
            discovery_address: discovery.or_else(|| crate::config::DISCOVERY_ADDRESS.parse().ok())?,
            control_plane_address: address("--control-plane-address")?,
            timeout: CONTROL_PLANE_TIMEOUT,
            serialization_format: SerializationFormat::Json,
            json: false,
        })
    }
}

/// The value of an option in the unfinished command line, else in its variable.
fn option_value(option: &str) -> Option<String> {
    let line: Vec<String> = env::args().skip_while(|word| word != "--").collect();
    let value = |(at, word): (usize, &String)| match word.strip_prefix(option)? {
        "" => line.get(at + 1).cloned(),
        rest => rest.strip_prefix('=').map(str::to_owned),
    };
    let variable = || env::var(format!("FASTWORKER{}", option[1..].replace('-', "_").to_uppercase()));
    line.iter().enumerate().rev().find_map(value).or_else(|| variable().ok().filter(|value| !value.is_empty()))
}
