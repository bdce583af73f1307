//! How task modules are shown: what one can call first, then where it comes from.

use super::{
    Outcome, note, out, out_json, out_lines,
    shapes::ModuleShape,
    text::{fold, moment},
    workers::note_no_worker,
};
use crate::{
    clock::exactly,
    protocol::{WorkerInfo, WorkerStatus},
    signature,
    task::{LoadFailure, ModuleInfo, ModuleStatus, Policy, TaskInfo, schedule::When},
    visible,
};

/// How much is told of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Telling {
    /// What it takes to call its tasks, and which file and version it is.
    Short,
    /// All of it.
    Whole,
}

/// Shows what module files offer.
pub(in crate::cli) fn modules(modules: &[ModuleInfo], telling: Telling, json: bool) -> Outcome {
    if json {
        out_json(&modules.iter().map(|module| ModuleShape::of(module, None)).collect::<Vec<_>>())?;
        return Ok(0);
    }
    for (index, module) in modules.iter().enumerate() {
        if index > 0 {
            out("");
        }
        module_with(module, &[], telling);
    }
    Ok(0)
}

/// Shows what workers have loaded.
pub(in crate::cli) fn loaded(workers: &[WorkerInfo], telling: Telling, json: bool) -> Outcome {
    let present = || workers.iter().filter(|worker| worker.status != WorkerStatus::Lost);
    let all = || present().flat_map(|worker| worker.modules.iter().map(|module| (module, worker.id.as_str())));
    if json {
        out_json(&all().map(|(module, worker)| ModuleShape::of(module, Some(worker))).collect::<Vec<_>>())?;
    }
    // A module that several have loaded is shown once, with those that have it.
    let mut loaded: Vec<(&ModuleInfo, Vec<&str>)> = Vec::new();
    for (module, worker) in all() {
        match loaded.iter_mut().find(|(other, _)| stands(other) == stands(module)) {
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
        module_with(module, workers, telling);
    }
    Ok(0)
}

/// What must be the same of a module for workers to have it alike.
fn stands(module: &ModuleInfo) -> (&str, &str, ModuleStatus, Option<&str>) {
    let error = module.last_error.as_ref().map(|error| error.message.as_str());
    (&module.name, &module.hash, module.status, error)
}

fn module_with(module: &ModuleInfo, workers: &[&str], telling: Telling) {
    out(visible::line(&module.name));
    module.tasks.iter().for_each(task);
    let (path, engine) = (&module.path, &module.engine);
    let (version, kilobytes) = (module.version(), module.size.div_ceil(1024));
    let imports = match module.imports.len() {
        0 => "no imports".to_owned(),
        1 => "imports 1 interface".to_owned(),
        many => format!("imports {many} interfaces"),
    };
    match (module.status, telling) {
        (ModuleStatus::Broken, _) => words(&format!("could not be loaded: {path}")),
        (ModuleStatus::Loading, _) => words(&format!("loading: it is compiled or registers its tasks: {path}")),
        // Each worker may have it elsewhere.
        (_, Telling::Short) if !workers.is_empty() => words(&format!("version {version}, {imports}")),
        (_, Telling::Short) => {
            words(&format!("{path}, {kilobytes} KB"));
            words(&format!("hash {version}, {imports}"));
        }
        (_, Telling::Whole) => {
            words(&format!("{path}, {kilobytes} KB, {engine} engine, loaded {}", moment(module.loaded_at)));
            words(&format!("hash {}", module.hash));
            words(&format!("{imports}{}", if module.imports.is_empty() { "" } else { ":" }));
            module.imports.iter().for_each(|import| out(format_args!("    {}", visible::line(import))));
        }
    }
    match module.status {
        ModuleStatus::Missing => words("missing: its file is gone; this version runs on"),
        ModuleStatus::Leaving => words("leaving: its file is gone; it runs what was submitted before"),
        ModuleStatus::Loaded | ModuleStatus::Broken | ModuleStatus::Loading => {}
    }
    if let Some(LoadFailure { at, message }) = &module.last_error {
        out(format_args!("  error since {}:", moment(*at)));
        message.lines().for_each(|line| below("    ", line));
    }
    if !workers.is_empty() {
        let verb = match module.status {
            ModuleStatus::Broken => "not loaded by",
            ModuleStatus::Loading => "being loaded by",
            _ => "loaded by",
        };
        words(&format!("{verb} {}", workers.join(", ")));
    }
}

/// A line below the name of a module.
fn words(line: &str) {
    out_lines(fold(visible::line(line).split(' '), " ", "  ", "    "));
}

/// A line of a longer text, further in.
fn below(indent: &str, line: &str) {
    out_lines(fold(visible::line(line).split(' '), " ", indent, indent));
}

fn task(task: &TaskInfo) {
    words(&signature::line(task));
    let below = |line: &str| below("      ", line);
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
