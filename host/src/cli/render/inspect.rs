//! Output of `inspect`.

use std::path::Path;

use serde::Serialize;

use super::{
    CommandResult,
    diagnostics::print_error,
    grants,
    json::TaskInfoJson,
    modules::{Verbosity, print_detail, print_indented, print_tasks_of},
    output::{print_escaped, print_json},
};
use crate::{
    cli::{CliError, EXIT_USAGE},
    runtime::{
        Module, ModuleError,
        grants::{GrantKind, Grants, ImportAccess},
        inspect::{CompileCost, Inspection, Interface, import_problem},
    },
    task::{NotCallable, TaskInfo, UngrantedTask},
};

/// Prefixes of exports that need no types: the contract, and the entry of a program.
const KNOWN_EXPORTS: [&str; 2] = ["fastworker:task/tasks@", "wasi:cli/run@"];

/// Prints what is known of a module, and why it cannot be loaded.
pub(in crate::cli) fn print_inspection(
    path: &Path,
    inspection: &Inspection,
    granted: &Grants,
    json: bool,
) -> CommandResult {
    if json {
        print_json(&InspectionJson::of(path, inspection, granted))?;
        return Ok(0);
    }
    print_escaped(path.display());
    let Inspection { size, hash, producers, exports, imports, module, .. } = inspection;
    let kind = if inspection.is_component { "component" } else { "core module" };
    let language = producers.language.as_ref().map(|language| format!(", {language}")).unwrap_or_default();
    print_detail(&format!("{kind}{language}, {} KB", size.div_ceil(1024)));
    print_detail(&format!("hash {hash}"));
    let all = producers.languages.iter().chain(&producers.tools).chain(&producers.sdks);
    let all: Vec<String> = all.map(|(name, version)| format!("{name} {version}").trim_end().to_owned()).collect();
    if !all.is_empty() {
        print_detail(&format!("made by {}", all.join(", ")));
    }
    print_detail(&cost(inspection));
    print_exports(exports);
    if let Ok(module) = module {
        print_escaped("\ntasks");
        print_tasks_of(module.info(), &[], Verbosity::Full);
    }
    let names = granted.names();
    print_escaped(if imports.is_empty() { "\nno imports" } else { "\nimports" });
    for Interface { name, .. } in imports {
        let note = grants::import_note(name, &names).map(|note| format!(": {note}")).unwrap_or_default();
        print_indented("  ", &format!("{name}{note}"));
    }
    let unused = unused(&names, imports);
    if !unused.is_empty() {
        print_escaped("\ngranted without an import that uses it");
        print_detail(&unused.join(", "));
    }
    if let Err(why) = module {
        print_error(&load_error(path, why), false);
    }
    Ok(0)
}

fn load_error(path: &Path, why: &ModuleError) -> CliError {
    let message = format!("{}: {why}", path.display());
    CliError::new(EXIT_USAGE, message)
}

/// What it took to compile and instantiate a module, and on which engine it runs.
fn cost(inspection: &Inspection) -> String {
    let mut parts = Vec::new();
    if let Ok(module) = &inspection.module {
        parts.push(format!("{} engine", module.info().engine));
    }
    match inspection.compiled {
        Some(CompileCost { time, memory }) => {
            let memory = memory.map(|bytes| format!(" with {} MB", bytes.div_ceil(1 << 20))).unwrap_or_default();
            parts.push(format!("compiled in {}{memory}", milliseconds(time)));
        }
        None if inspection.module.is_ok() => {
            parts.push("compiled code from the cache (--recompile measures)".to_owned());
        }
        None => parts.push("not compiled".to_owned()),
    }
    parts.extend(inspection.instantiation.map(|time| format!("instantiated in {}", milliseconds(time))));
    parts.join(", ")
}

fn milliseconds(time: std::time::Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    if milliseconds < 10.0 { format!("{milliseconds:.2} ms") } else { format!("{milliseconds:.0} ms") }
}

fn print_exports(exports: &[Interface]) {
    print_escaped(if exports.is_empty() { "\nno exports" } else { "\nexports" });
    for Interface { name, functions } in exports {
        match functions.as_slice() {
            [function] if function.starts_with(name.as_str()) => print_indented("  ", function),
            functions => {
                print_detail(name);
                let is_known = KNOWN_EXPORTS.iter().any(|prefix| name.starts_with(prefix));
                functions.iter().filter(|_| !is_known).for_each(|function| print_indented("    ", function));
            }
        }
    }
}

/// The names of the grants that no import uses.
fn unused<'a>(names: &'a [String], imports: &[Interface]) -> Vec<&'a str> {
    let used: Vec<GrantKind> = imports
        .iter()
        .filter_map(|import| match ImportAccess::of(&import.name) {
            ImportAccess::Granted(kinds) => Some(kinds),
            ImportAccess::Nothing | ImportAccess::Denied => None,
        })
        .flatten()
        .copied()
        .collect();
    let is_used = |name: &&str| used.iter().any(|kind| name.starts_with(kind.prefix()));
    names.iter().map(String::as_str).filter(|name| !is_used(name)).collect()
}

/// A module file.
#[derive(Serialize)]
struct InspectionJson<'a> {
    path: &'a Path,
    size: u64,
    hash: &'a str,
    /// component or core-module.
    kind: &'static str,
    language: Option<&'a str>,
    /// Each with its version.
    languages: &'a [(String, String)],
    tools: &'a [(String, String)],
    sdks: &'a [(String, String)],
    /// pooling or on-demand; null if it cannot be loaded.
    engine: Option<&'a str>,
    /// Seconds; null if its code was in the cache.
    compile_time: Option<f64>,
    /// Peak memory in bytes.
    compile_memory: Option<u64>,
    /// Seconds.
    instantiation_time: Option<f64>,
    exports: Vec<ExportJson<'a>>,
    imports: Vec<ImportJson<'a>>,
    /// The names of all grants of the module.
    grants: Vec<String>,
    tasks: Vec<TaskInfoJson<'a>>,
    ungranted: &'a [UngrantedTask],
    not_callable: &'a [NotCallable],
    /// Why it cannot be loaded.
    error: Option<String>,
}

#[derive(Serialize)]
struct ExportJson<'a> {
    name: &'a str,
    functions: &'a [String],
}

#[derive(Serialize)]
struct ImportJson<'a> {
    name: &'a str,
    /// Whether the host provides it.
    is_provided: bool,
    /// The names of the grants that it uses.
    grants: Vec<String>,
    /// The options that would grant something, if nothing is granted.
    options: Vec<&'static str>,
    /// Why it is not provided.
    problem: Option<String>,
}

impl<'a> InspectionJson<'a> {
    fn of(path: &'a Path, inspection: &'a Inspection, granted: &Grants) -> Self {
        let grants = granted.names();
        let info = inspection.module.as_ref().ok().map(Module::info);
        let tasks: &[TaskInfo] = info.map_or(&[], |info| &info.tasks);
        Self {
            path,
            size: inspection.size,
            hash: &inspection.hash,
            kind: if inspection.is_component { "component" } else { "core-module" },
            language: inspection.producers.language.as_deref(),
            languages: &inspection.producers.languages,
            tools: &inspection.producers.tools,
            sdks: &inspection.producers.sdks,
            engine: info.map(|info| info.engine.as_str()),
            compile_time: inspection.compiled.map(|cost| cost.time.as_secs_f64()),
            compile_memory: inspection.compiled.and_then(|cost| cost.memory),
            instantiation_time: inspection.instantiation.map(|time| time.as_secs_f64()),
            exports: inspection
                .exports
                .iter()
                .map(|Interface { name, functions }| ExportJson { name, functions })
                .collect(),
            imports: inspection.imports.iter().map(|import| ImportJson::of(&import.name, &grants)).collect(),
            grants,
            tasks: tasks.iter().map(TaskInfoJson::from).collect(),
            ungranted: info.map_or(&[], |info| &info.ungranted),
            not_callable: info.map_or(&[], |info| &info.not_callable),
            error: inspection.module.as_ref().err().map(ToString::to_string),
        }
    }
}

impl<'a> ImportJson<'a> {
    fn of(name: &'a str, granted: &[String]) -> Self {
        let problem = import_problem(name);
        let kinds = match ImportAccess::of(name) {
            ImportAccess::Granted(kinds) => kinds,
            ImportAccess::Nothing | ImportAccess::Denied => &[],
        };
        let grants: Vec<String> = grants::names_of(kinds, granted).into_iter().map(str::to_owned).collect();
        let options = if grants.is_empty() { kinds.iter().map(|kind| kind.example()).collect() } else { Vec::new() };
        Self { name, is_provided: problem.is_none(), grants, options, problem }
    }
}
