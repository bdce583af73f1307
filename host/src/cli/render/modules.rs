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
    task::{LoadFailure, ModuleInfo, ModuleStatus, Policy, TaskInfo, schedule::When},
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
    let mut loaded: Vec<(&ModuleInfo, Vec<ModuleOwner<'_>>)> = Vec::new();
    for (module, worker) in present_modules() {
        let owner = ModuleOwner { worker, path: &module.path, is_taken: module.is_taken() };
        match loaded.iter_mut().find(|(other, _)| identity(other) == identity(module)) {
            Some((_, owners)) => owners.push(owner),
            None => loaded.push((module, vec![owner])),
        }
    }
    if present().next().is_none() {
        print_no_worker();
    } else if loaded.is_empty() {
        print_note("the workers have no task modules");
    }
    for (index, (module, owners)) in loaded.iter().enumerate().filter(|_| !json) {
        if index > 0 {
            print_escaped("");
        }
        print_module(module, owners, verbosity);
        print_other_versions(module, &loaded);
    }
    Ok(0)
}

/// A worker that has loaded a module.
struct ModuleOwner<'a> {
    worker: &'a str,
    path: &'a str,
    is_taken: bool,
}

impl ModuleOwner<'_> {
    fn format(&self, verbosity: Verbosity) -> String {
        match verbosity {
            _ if self.is_taken => format!("{} (from the control plane)", self.worker),
            Verbosity::Full => format!("{} ({})", self.worker, self.path),
            Verbosity::Short => self.worker.to_owned(),
        }
    }
}

/// Prints which other workers have another version of a module.
fn print_other_versions(module: &ModuleInfo, loaded: &[(&ModuleInfo, Vec<ModuleOwner<'_>>)]) {
    let differs = |other: &ModuleInfo| {
        other.name == module.name
            && ![&other.hash, &module.hash].iter().any(|hash| hash.is_empty())
            && other.hash != module.hash
    };
    for (other, owners) in loaded.iter().filter(|(other, _)| differs(other)) {
        let workers: Vec<&str> = owners.iter().map(|owner| owner.worker).collect();
        print_detail(&format!("another version, {}, is loaded by {}", other.version(), workers.join(", ")));
    }
}

/// The parts of a module that must be equal for it to be shown once for several workers.
fn identity(module: &ModuleInfo) -> (&str, &str, ModuleStatus, Option<&str>) {
    let error = module.last_error.as_ref().map(|error| error.message.as_str());
    (&module.name, &module.hash, module.status, error)
}

fn print_module(module: &ModuleInfo, owners: &[ModuleOwner<'_>], verbosity: Verbosity) {
    print_escaped(escape::line(&module.name));
    module.tasks.iter().for_each(print_task);
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
        (_, Verbosity::Short) if !owners.is_empty() => print_detail(&format!("version {version}, {imports}")),
        (_, Verbosity::Short) => {
            print_detail(&format!("{path}, {kilobytes} KB"));
            print_detail(&format!("hash {version}, {imports}"));
        }
        (_, Verbosity::Full) => {
            let place = if owners.is_empty() { format!("{path}, ") } else { String::new() };
            print_detail(&format!(
                "{place}{kilobytes} KB, {engine} engine, loaded {}",
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
    if !owners.is_empty() {
        let workers: Vec<String> = owners.iter().map(|owner| owner.format(verbosity)).collect();
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

fn print_task(task: &TaskInfo) {
    print_detail(&signature::line(task));
    let print_below = |line: &str| print_indented("      ", line);
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
