//! What the shell completes: words that are fixed, and what the running control plane knows.
//!
//! Apart because it is asked by the shell, at each press of Tab, with a line that is not finished:
//! it never fails and never keeps anybody waiting. Without a control plane it knows nothing.

use std::{env, path::Path, sync::mpsc, thread, time::Duration};

use clap_complete::{
    CompleteEnv,
    engine::{CompletionCandidate, PathCompleter},
};

use super::{Connection, man, usage};
use crate::{
    client::{Client, ClientError},
    protocol::{EventKind, TaskQuery, TaskSummary},
    subworker::ModulesConfig,
    task::{SerializationFormat, TaskPriority, TaskStatus, schedule::Overlap},
    visible,
};

/// Tells this program which shell asks it to complete a line.
pub(super) const VARIABLE: &str = "FASTWORKER_COMPLETE";
/// The longest that a press of Tab waits for the control plane.
const PATIENCE: Duration = Duration::from_millis(300);
/// So many tasks are offered, those that are looked for most first.
const TASKS_OFFERED: u32 = 50;

/// Answers a shell, if it is one that called this program. Returns whether it was.
pub(super) fn answer_shell() -> bool {
    let here = env::current_dir().ok();
    CompleteEnv::with_factory(usage::command)
        .var(VARIABLE)
        .try_complete(env::args_os(), here.as_deref())
        .unwrap_or_else(|error| error.exit())
}

/// The task names that workers offer.
pub(super) fn task_names() -> Vec<CompletionCandidate> {
    let workers = ask(async |client| client.list_tasks().await);
    let tasks = workers.into_iter().flat_map(|worker| worker.modules).flat_map(|module| module.tasks);
    let mut names: Vec<(String, String)> = tasks.map(|task| (task.name, task.documentation)).collect();
    names.sort();
    names.dedup_by(|later, first| later.0 == first.0);
    names.into_iter().filter_map(|(name, about)| candidate(name, about.lines().next().unwrap_or_default())).collect()
}

/// The ids of the workers.
pub(super) fn workers() -> Vec<CompletionCandidate> {
    let workers = ask(async |client| client.list_tasks().await);
    workers.into_iter().filter_map(|worker| candidate(worker.id, &worker.address)).collect()
}

/// The ids of tasks, unfinished ones first.
pub(super) fn tasks() -> Vec<CompletionCandidate> {
    tasks_that(Vec::new())
}

/// The ids of tasks that have not ended.
pub(super) fn unfinished_tasks() -> Vec<CompletionCandidate> {
    tasks_that(vec![TaskStatus::Pending, TaskStatus::Scheduled, TaskStatus::Started, TaskStatus::Retrying])
}

fn tasks_that(statuses: Vec<TaskStatus>) -> Vec<CompletionCandidate> {
    let query = TaskQuery { statuses, limit: TASKS_OFFERED, ..TaskQuery::default() };
    let tasks = ask(async |client| client.tasks(query).await.map(|page| page.tasks));
    let about = |task: &TaskSummary| format!("{} {}", task.name, task.status);
    let in_order = |(order, task): (usize, TaskSummary)| {
        Some(candidate(task.task_id.to_string(), &about(&task))?.display_order(Some(order)))
    };
    tasks.into_iter().enumerate().filter_map(in_order).collect()
}

/// The names of the schedules.
pub(super) fn schedules() -> Vec<CompletionCandidate> {
    let schedules = ask(async |client| client.schedules().list().await);
    schedules.into_iter().filter_map(|info| candidate(info.schedule.name.clone(), &info.schedule.task_name)).collect()
}

/// The tasks of the module that the line names.
pub(super) fn tasks_of_module() -> Vec<CompletionCandidate> {
    let line: Vec<String> = env::args().skip_while(|word| word != "--").collect();
    let module = line.into_iter().skip_while(|word| word != "dev").nth(1);
    let Some(module) = module.filter(|module| Path::new(module).is_file()) else { return Vec::new() };
    let (sender, answer) = mpsc::channel();
    // One that has not been compiled yet takes longer, and is left to do so until this process ends.
    let load = move || {
        let config = ModulesConfig { sources: vec![module], concurrency: 1, ..ModulesConfig::default() };
        if let Ok((_runtime, catalog)) = config.load() {
            drop(sender.send(catalog.describe()));
        }
    };
    if thread::Builder::new().spawn(load).is_err() {
        return Vec::new();
    }
    let modules = answer.recv_timeout(PATIENCE).unwrap_or_default();
    let tasks = modules.into_iter().flat_map(|module| module.tasks);
    tasks.filter_map(|task| candidate(task.name, task.documentation.lines().next().unwrap_or_default())).collect()
}

/// What a schedule may do while its last task has not ended.
pub(super) fn overlaps() -> Vec<CompletionCandidate> {
    Overlap::ALL.map(|overlap| overlap.as_str().into()).into()
}

/// The statuses of tasks.
pub(super) fn statuses() -> Vec<CompletionCandidate> {
    TaskStatus::ALL.map(|status| status.as_str().into()).into()
}

/// How urgent a task may be.
pub(super) fn priorities() -> Vec<CompletionCandidate> {
    TaskPriority::ALL.map(|priority| priority.as_str().into()).into()
}

/// How messages may be written.
pub(super) fn formats() -> Vec<CompletionCandidate> {
    SerializationFormat::ALL.map(|format| format.as_str().into()).into()
}

/// The kinds of events.
pub(super) fn event_kinds() -> Vec<CompletionCandidate> {
    EventKind::ALL.map(|kind| kind.as_str().into()).into()
}

/// The commands that have a page of the manual.
pub(super) fn commands() -> Vec<CompletionCandidate> {
    let names = man::names();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Task modules, and folders that may hold some.
pub(super) fn modules() -> PathCompleter {
    PathCompleter::any().filter(|path: &Path| path.is_dir() || path.extension().is_some_and(|it| it == "wasm"))
}

/// A word to choose, unless it has something in it that a terminal would not show: it must be inserted as
/// it is.
fn candidate(value: String, about: &str) -> Option<CompletionCandidate> {
    let is_plain = visible::line(&value) == value;
    is_plain.then(|| CompletionCandidate::new(value).help(Some(visible::line(about).into_owned().into())))
}

/// What the control plane answers, or nothing if it does not do so in time.
fn ask<T: Default>(question: impl AsyncFnOnce(&Client) -> Result<T, ClientError>) -> T {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return T::default() };
    let Some(connection) = Connection::of_line() else { return T::default() };
    runtime.block_on(async {
        let answer = async {
            let client = connection.client();
            client.start().await?;
            question(&client).await
        };
        tokio::time::timeout(PATIENCE, answer).await.ok().and_then(Result::ok).unwrap_or_default()
    })
}

impl Connection {
    /// The connection that the line asks for which is being written, or the variables.
    fn of_line() -> Option<Self> {
        let address = |option: &str| said(option).map(|text| text.parse()).transpose().ok();
        let discovery = address("--discovery-address")?;
        Some(Self {
            discovery_address: discovery.or_else(|| crate::config::DISCOVERY_ADDRESS.parse().ok())?,
            control_plane_address: address("--control-plane-address")?,
            timeout: PATIENCE,
            serialization_format: SerializationFormat::Json,
            json: false,
        })
    }
}

/// What an option is set to in the line that is being written, else by its variable.
fn said(option: &str) -> Option<String> {
    let line: Vec<String> = env::args().skip_while(|word| word != "--").collect();
    let behind = |(at, word): (usize, &String)| match word.strip_prefix(option)? {
        "" => line.get(at + 1).cloned(),
        rest => rest.strip_prefix('=').map(str::to_owned),
    };
    let variable = || env::var(format!("FASTWORKER{}", option[1..].replace('-', "_").to_uppercase()));
    line.iter().enumerate().rev().find_map(behind).or_else(|| variable().ok().filter(|value| !value.is_empty()))
}
