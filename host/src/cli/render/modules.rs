//! How task modules are shown: their tasks first, then where they come from.

use super::{
    Outcome,
    json::ModuleJson,
    note, out, out_json, out_lines,
    text::{fold, moment},
    workers::note_no_worker,
};
use crate::{
    clock::exactly,
    escape,
    protocol::{RefusalCode, WorkerInfo, WorkerStatus},
    signature,
    task::{LoadFailure, ModuleInfo, ModuleStatus, Policy, TaskInfo, schedule::When},
};

/// How much detail to show of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Verbosity {
    /// The tasks, the file and the version.
    Short,
    /// Everything.
    Full,
}

/// Prints the tasks in module files.
pub(in crate::cli) fn modules(modules: &[ModuleInfo], verbosity: Verbosity, json: bool) -> Outcome {
    if json {
        out_json(&modules.iter().map(|module| ModuleJson::of(module, None)).collect::<Vec<_>>())?;
        return Ok(0);
    }
    for (index, module) in modules.iter().enumerate() {
        if index > 0 {
            out("");
        }
        module_with(module, &[], verbosity);
    }
    Ok(0)
}

/// Prints the modules that workers have loaded.
pub(in crate::cli) fn loaded(workers: &[WorkerInfo], verbosity: Verbosity, json: bool) -> Outcome {
    let present = || workers.iter().filter(|worker| worker.status != WorkerStatus::Lost);
    let all = || present().flat_map(|worker| worker.modules.iter().map(|module| (module, worker.id.as_str())));
    if json {
        out_json(&all().map(|(module, worker)| ModuleJson::of(module, Some(worker))).collect::<Vec<_>>())?;
    }
    // A module that several workers have loaded is shown once, with their ids.
    let mut loaded: Vec<(&ModuleInfo, Vec<&str>)> = Vec::new();
    for (module, worker) in all() {
        match loaded.iter_mut().find(|(other, _)| identity(other) == identity(module)) {
            Some((_, workers)) => workers.push(worker),
            None => loaded.push((module, vec![worker])),
        }
    }
    if present().next().is_none() {
        note_no_worker();
    } else if loaded.is_empty() {
        note("the workers have no task modules");
    }
    for (index, (module, workers)) in loaded.iter().enumerate().filter(|_| !json) {
        if index > 0 {
            out("");
        }
        module_with(module, workers, verbosity);
    }
    Ok(0)
}

/// The parts of a module that must be equal for it to be shown once for several workers.
fn identity(module: &ModuleInfo) -> (&str, &str, ModuleStatus, Option<&str>) {
    let error = module.last_error.as_ref().map(|error| error.message.as_str());
    (&module.name, &module.hash, module.status, error)
}

fn module_with(module: &ModuleInfo, workers: &[&str], verbosity: Verbosity) {
    out(escape::line(&module.name));
    module.tasks.iter().for_each(task);
    let (path, engine) = (&module.path, &module.engine);
    let (version, kilobytes) = (module.version(), module.size.div_ceil(1024));
    let imports = match module.imports.len() {
        0 => "no imports".to_owned(),
        1 => "imports 1 interface".to_owned(),
        many => format!("imports {many} interfaces"),
    };
    match (module.status, verbosity) {
        (ModuleStatus::Broken, _) => line_below(&format!("could not be loaded: {path}")),
        (ModuleStatus::Loading, _) => line_below(&format!("loading (compiling, or registering its tasks): {path}")),
        // Workers may have it at different paths.
        (_, Verbosity::Short) if !workers.is_empty() => line_below(&format!("version {version}, {imports}")),
        (_, Verbosity::Short) => {
            line_below(&format!("{path}, {kilobytes} KB"));
            line_below(&format!("hash {version}, {imports}"));
        }
        (_, Verbosity::Full) => {
            line_below(&format!("{path}, {kilobytes} KB, {engine} engine, loaded {}", moment(module.loaded_at)));
            line_below(&format!("hash {}", module.hash));
            line_below(&format!("{imports}{}", if module.imports.is_empty() { "" } else { ":" }));
            module.imports.iter().for_each(|import| out(format_args!("    {}", escape::line(import))));
        }
    }
    match module.status {
        ModuleStatus::Missing => line_below("missing: its file is gone; this version stays loaded"),
        ModuleStatus::Leaving => {
            line_below("leaving: its file is gone; it still runs tasks that were submitted before");
        }
        ModuleStatus::Loaded | ModuleStatus::Broken | ModuleStatus::Loading => {}
        ModuleStatus::Other(status) => line_below(status.as_str()),
    }
    if let Some(LoadFailure { at, message, code }) = &module.last_error {
        out(format_args!("  error since {}:", moment(*at)));
        let force = if *code == Some(RefusalCode::CatalogConflict) { ", or at once with --force-reload" } else { "" };
        let message = format!("{message}{force}");
        message.lines().for_each(|line| indented_line("    ", line));
    }
    if !workers.is_empty() {
        let verb = match module.status {
            ModuleStatus::Broken => "not loaded by",
            ModuleStatus::Loading => "being loaded by",
            _ => "loaded by",
        };
        line_below(&format!("{verb} {}", workers.join(", ")));
    }
}

/// Prints a line below the name of a module.
fn line_below(line: &str) {
    out_lines(fold(escape::line(line).split(' '), " ", "  ", "    "));
}

/// Prints a line of a longer text, with more indentation.
fn indented_line(indent: &str, line: &str) {
    out_lines(fold(escape::line(line).split(' '), " ", indent, indent));
}

fn task(task: &TaskInfo) {
    line_below(&signature::line(task));
    let below = |line: &str| indented_line("      ", line);
    task.documentation.lines().for_each(below);
    let schedule = task.schedule.as_ref().map(|spec| match &spec.when {
        When::Every(_) => spec.to_string(),
        When::Cron { .. } => format!("cron {spec}"),
    });
    let policy = Some(policy(&task.policy)).filter(|policy| !policy.is_empty());
    let policy: Vec<String> = policy.into_iter().chain(schedule).collect();
    if !policy.is_empty() {
        below(&format!("[{}]", policy.join(", ")));
    }
    task.warnings.iter().for_each(|warning| below(&format!("warning: {warning}")));
}

fn policy(policy: &Policy) -> String {
    let parts = [
        policy.priority.map(|priority| format!("priority {priority}")),
        policy.timeout.map(|timeout| format!("timeout {}", exactly(timeout))),
        policy.max_retries.map(|retries| format!("max_retries {retries}")),
        policy.retry_delay.map(|delay| format!("retry_delay {}", exactly(delay))),
        policy.retry_backoff.map(|backoff| format!("retry_backoff {backoff}")),
        policy.retry_backoff_max.map(|longest| format!("retry_backoff_max {}", exactly(longest))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
