//! Output of task modules: their tasks, then their origin.

use super::{
    CommandResult,
    diagnostics::print_note,
    grants,
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
    runtime::grants::Need,
    signature,
    task::{LoadFailure, ModuleInfo, ModuleStatus, NotCallable, Policy, TaskInfo, UngrantedTask, schedule::When},
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
    let mut loaded: Vec<Vec<LoadedModule<'_>>> = Vec::new();
    for (module, worker) in present_modules() {
        match loaded.iter_mut().find(|workers| identity(workers[0].0) == identity(module)) {
            Some(workers) => workers.push((module, worker)),
            None => loaded.push(vec![(module, worker)]),
        }
    }
    if present().next().is_none() {
        print_no_worker();
    } else if loaded.is_empty() {
        print_note("the workers have no task modules");
    }
    for (index, workers) in loaded.iter().enumerate().filter(|_| !json) {
        if index > 0 {
            print_escaped("");
        }
        // Workers serve fewer of its tasks if they lack grants.
        if let Some((module, _)) = workers.iter().max_by_key(|(module, _)| module.tasks.len()) {
            print_module(module, workers, verbosity);
            print_other_versions(module, &loaded);
        }
    }
    Ok(0)
}

/// A module, and the id of a worker that has loaded it.
pub(super) type LoadedModule<'a> = (&'a ModuleInfo, &'a str);

/// The worker that has loaded a module, and where it has it from.
fn owner((module, worker): LoadedModule<'_>, verbosity: Verbosity) -> String {
    match verbosity {
        _ if module.is_taken() => format!("{worker} (from the control plane)"),
        Verbosity::Full => format!("{worker} ({})", module.path),
        Verbosity::Short => worker.to_owned(),
    }
}

/// Prints which other workers have another version of a module.
fn print_other_versions(module: &ModuleInfo, loaded: &[Vec<LoadedModule<'_>>]) {
    let differs = |other: &ModuleInfo| {
        other.name == module.name
            && ![&other.hash, &module.hash].iter().any(|hash| hash.is_empty())
            && other.hash != module.hash
    };
    for workers in loaded.iter().filter(|workers| differs(workers[0].0)) {
        let names: Vec<&str> = workers.iter().map(|(_, worker)| *worker).collect();
        print_detail(&format!("another version, {}, is loaded by {}", workers[0].0.version(), names.join(", ")));
    }
}

/// The parts of a module that must be equal for it to be shown once for several workers.
fn identity(module: &ModuleInfo) -> (&str, &str, ModuleStatus, Option<&str>) {
    let error = module.last_error.as_ref().map(|error| error.message.as_str());
    (&module.name, &module.hash, module.status, error)
}

/// Prints the tasks of a module, and why others of its functions are none.
pub(super) fn print_tasks_of(module: &ModuleInfo, workers: &[LoadedModule<'_>], verbosity: Verbosity) {
    // A function of a plain component is shown under its short name, if it has one.
    let has_short_name = |name: &str| module.tasks.iter().any(|task| task.full_name.as_deref() == Some(name));
    let shown = module.tasks.iter().filter(|task| task.full_name.is_some() || !has_short_name(&task.name));
    shown.for_each(|task| print_task(task, verbosity));
    for NotCallable { name, reason } in &module.not_callable {
        print_detail(&format!("not callable: {name}, as {reason}"));
    }
    print_ungranted(module, workers);
}

fn print_module(module: &ModuleInfo, workers: &[LoadedModule<'_>], verbosity: Verbosity) {
    print_escaped(escape::line(&module.name));
    print_tasks_of(module, workers, verbosity);
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
            let place = if workers.is_empty() { format!("{path}, ") } else { String::new() };
            print_detail(&format!(
                "{place}{kilobytes} KB, {engine} engine, loaded {}",
                format_timestamp(module.loaded_at)
            ));
            print_detail(&format!("hash {}", module.hash));
            print_detail(&format!("{imports}{}", if module.imports.is_empty() { "" } else { ":" }));
            for import in &module.imports {
                let note = grants::import_note(import, &module.grants).map(|note| format!(" ({note})"));
                print_indented("    ", &format!("{import}{}", note.unwrap_or_default()));
            }
        }
    }
    print_grants(module, workers);
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
    print_owners(module, workers, verbosity);
}

/// Prints which workers have loaded a module, and where they have it from.
fn print_owners(module: &ModuleInfo, workers: &[LoadedModule<'_>], verbosity: Verbosity) {
    if !workers.is_empty() {
        let owners: Vec<String> = workers.iter().map(|loaded| owner(*loaded, verbosity)).collect();
        let verb = match module.status {
            ModuleStatus::Broken => "not loaded by",
            ModuleStatus::Loading => "being loaded by",
            _ => "loaded by",
        };
        print_detail(&format!("{verb} {}", owners.join(", ")));
    }
}

/// Prints the tasks that workers do not serve, as they lack grants.
fn print_ungranted(module: &ModuleInfo, workers: &[LoadedModule<'_>]) {
    let by_worker = workers.iter().map(|(module, worker)| (*module, format!("not served by {worker}, which")));
    let alone = workers.is_empty().then(|| (module, "not served: this command".to_owned()));
    for (module, subject) in by_worker.chain(alone) {
        for UngrantedTask { name, missing } in &module.ungranted {
            let flags: Vec<String> =
                missing.iter().filter_map(|need| Some(need.parse::<Need>().ok()?.flag())).collect();
            let hint = if flags.is_empty() { String::new() } else { format!("; grant with: {}", flags.join(" ")) };
            print_detail(&format!("{name}: {subject} does not grant {}{hint}", missing.join(", ")));
        }
    }
}

/// Prints what workers grant to a module, each alone if they differ.
fn print_grants(module: &ModuleInfo, workers: &[LoadedModule<'_>]) {
    let list = |module: &ModuleInfo| match module.grants.as_slice() {
        [] => "nothing".to_owned(),
        grants => grants.join(", "),
    };
    if workers.iter().all(|(other, _)| other.grants == module.grants) {
        if !module.grants.is_empty() {
            print_detail(&format!("grants {}", list(module)));
        }
        return;
    }
    print_detail("its workers differ in what they grant:");
    for (module, worker) in workers {
        print_indented("    ", &format!("{worker} grants {}", list(module)));
    }
}

/// Prints a detail below the name of a module.
pub(super) fn print_detail(line: &str) {
    print_lines(wrap(escape::line(line).split(' '), " ", "  ", "    "));
}

/// Prints a line of a longer text, with more indentation.
pub(super) fn print_indented(indent: &str, line: &str) {
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
    let needs = (!task.needs.is_empty()).then(|| format!("needs {}", task.needs.join(", ")));
    let limits = (!task.limits.is_empty()).then(|| task.limits.to_string());
    let policy: Vec<String> = policy.into_iter().chain(schedule).chain(limits).chain(needs).collect();
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
