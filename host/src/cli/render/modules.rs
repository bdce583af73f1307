//! Output of task modules: their tasks, then their origin.

use super::{
    CommandResult,
    diagnostics::print_note,
    json::ModuleJson,
    output::{print_escaped, print_json, print_lines},
    text::wrap,
    time::format_timestamp,
    workers::print_no_worker,
};
use crate::{
    clock::exactly,
    escape,
    protocol::{RefusalCode, WorkerInfo, WorkerStatus},
    signature,
    task::{LoadFailure, ModuleInfo, ModuleStatus, NotCallable, Policy, TaskInfo, schedule::When},
};

/// The level of detail of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Verbosity {
    /// The tasks, the file and the version.
    Short,
    /// All details.
    Full,
}

/// Prints the tasks in module files.
pub(in crate::cli) fn print_modules(modules: &[ModuleInfo], verbosity: Verbosity, json: bool) -> CommandResult {
    if json {
        print_json(&modules.iter().map(|module| ModuleJson::of(module, None)).collect::<Vec<_>>())?;
        return Ok(0);
    }
    for (index, module) in modules.iter().enumerate() {
        if index > 0 {
            print_escaped("");
        }
        print_module(module, &[], verbosity);
    }
    Ok(0)
}

/// Prints the modules that workers have loaded.
pub(in crate::cli) fn print_loaded_modules(workers: &[WorkerInfo], verbosity: Verbosity, json: bool) -> CommandResult {
    let present = || workers.iter().filter(|worker| worker.status != WorkerStatus::Lost);
    let present_modules =
        || present().flat_map(|worker| worker.modules.iter().map(|module| (module, worker.id.as_str())));
    if json {
        print_json(
            &present_modules().map(|(module, worker)| ModuleJson::of(module, Some(worker))).collect::<Vec<_>>(),
        )?;
    }
    // A module that several workers have loaded is shown once, with their ids.
    let mut loaded: Vec<(&ModuleInfo, Vec<&str>)> = Vec::new();
    for (module, worker) in present_modules() {
        match loaded.iter_mut().find(|(other, _)| identity(other) == identity(module)) {
            Some((_, workers)) => workers.push(worker),
            None => loaded.push((module, vec![worker])),
        }
    }
    if present().next().is_none() {
        print_no_worker();
    } else if loaded.is_empty() {
        print_note("the workers have no task modules");
    }
    for (index, (module, workers)) in loaded.iter().enumerate().filter(|_| !json) {
        if index > 0 {
            print_escaped("");
        }
        print_module(module, workers, verbosity);
    }
    Ok(0)
}

/// The parts of a module that must be equal for it to be shown once for several workers.
fn identity(module: &ModuleInfo) -> (&str, &str, ModuleStatus, Option<&str>) {
    let error = module.last_error.as_ref().map(|error| error.message.as_str());
    (&module.name, &module.hash, module.status, error)
}

fn print_module(module: &ModuleInfo, workers: &[&str], verbosity: Verbosity) {
    print_escaped(escape::line(&module.name));
    // A function of a plain component is shown under its short name, if it has one.
    let has_short_name = |name: &str| module.tasks.iter().any(|task| task.full_name.as_deref() == Some(name));
    let shown = module.tasks.iter().filter(|task| task.full_name.is_some() || !has_short_name(&task.name));
    shown.for_each(|task| print_task(task, verbosity));
    for NotCallable { name, reason } in &module.not_callable {
        print_detail(&format!("not callable: {name}, as {reason}"));
    }
    let (path, engine) = (&module.path, &module.engine);
    let (version, kilobytes) = (module.version(), module.size.div_ceil(1024));
    let imports = match module.imports.len() {
        0 => "no imports".to_owned(),
        1 => "imports 1 interface".to_owned(),
        count => format!("imports {count} interfaces"),
    };
    match (module.status, verbosity) {
        (ModuleStatus::Broken, _) => print_detail(&format!("could not be loaded: {path}")),
        (ModuleStatus::Loading, _) => print_detail(&format!("loading (compiling, or registering its tasks): {path}")),
        // Workers may have it at different paths.
        (_, Verbosity::Short) if !workers.is_empty() => print_detail(&format!("version {version}, {imports}")),
        (_, Verbosity::Short) => {
            print_detail(&format!("{path}, {kilobytes} KB"));
            print_detail(&format!("hash {version}, {imports}"));
        }
        (_, Verbosity::Full) => {
            print_detail(&format!(
                "{path}, {kilobytes} KB, {engine} engine, loaded {}",
                format_timestamp(module.loaded_at)
            ));
            print_detail(&format!("hash {}", module.hash));
            print_detail(&format!("{imports}{}", if module.imports.is_empty() { "" } else { ":" }));
            module.imports.iter().for_each(|import| print_escaped(format_args!("    {}", escape::line(import))));
        }
    }
    match module.status {
        ModuleStatus::Missing => print_detail("missing: its file no longer exists; this version stays loaded"),
        ModuleStatus::Leaving => {
            print_detail("leaving: its file no longer exists; it still runs tasks that were submitted before");
        }
        ModuleStatus::Loaded | ModuleStatus::Broken | ModuleStatus::Loading => {}
        ModuleStatus::Other(status) => print_detail(status.as_str()),
    }
    if let Some(LoadFailure { at, message, code }) = &module.last_error {
        print_escaped(format_args!("  error since {}:", format_timestamp(*at)));
        let force =
            if *code == Some(RefusalCode::CatalogConflict) { ", or immediately with --force-reload" } else { "" };
        let message = format!("{message}{force}");
        message.lines().for_each(|line| print_indented("    ", line));
    }
    if !workers.is_empty() {
        let verb = match module.status {
            ModuleStatus::Broken => "not loaded by",
            ModuleStatus::Loading => "being loaded by",
            _ => "loaded by",
        };
        print_detail(&format!("{verb} {}", workers.join(", ")));
    }
}

/// Prints a detail below the name of a module.
fn print_detail(line: &str) {
    print_lines(wrap(escape::line(line).split(' '), " ", "  ", "    "));
}

/// Prints a line of a longer text, with more indentation.
fn print_indented(indent: &str, line: &str) {
    print_lines(wrap(escape::line(line).split(' '), " ", indent, indent));
}

fn print_task(task: &TaskInfo, verbosity: Verbosity) {
    print_detail(&signature::line(task));
    let print_below = |line: &str| print_indented("      ", line);
    if let Some(full_name) = task.full_name.as_ref().filter(|_| verbosity == Verbosity::Full) {
        print_below(&format!("in full {full_name}"));
    }
    task.documentation.lines().for_each(print_below);
    let schedule = task.schedule.as_ref().map(|spec| match &spec.when {
        When::Every(_) => spec.to_string(),
        When::Cron { .. } => format!("cron {spec}"),
    });
    let policy = Some(format_policy(&task.policy)).filter(|policy| !policy.is_empty());
    let policy: Vec<String> = policy.into_iter().chain(schedule).collect();
    if !policy.is_empty() {
        print_below(&format!("[{}]", policy.join(", ")));
    }
    task.warnings.iter().for_each(|warning| print_below(&format!("warning: {warning}")));
}

fn format_policy(policy: &Policy) -> String {
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
