//! Loads a module from a path, so that it can run.
//!
//! All errors of a module are found here, before it is live: afterwards only attempts fail.

use std::{
    collections::HashSet,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use wasmtime::{
    Engine,
    component::{Component, ComponentExportIndex},
};

use super::{
    Inner,
    attempt::AttemptInfo,
    call::PreparedModule,
    compiled::{self, Code},
    compiler::CompileJob,
    component,
    contract_v1::{self, Exports, RegisterResults, TASKS},
    ending,
    engine::EngineProfile,
    error::ModuleError,
    host_errors::explain,
    module::{LoadedModule, Module, module_name},
    output::cut,
    slot::CallEnd,
    watchdog::EndReason,
};
use crate::{
    clock::{Now, Timestamp},
    task::{MODULE_TASKS_MAX, ModuleInfo, ModuleStatus, ModuleVersion, TASK_NAME_MAX, TaskInfo, TaskName},
};

/// Loads the module at `path`; see [`Runtime::load`](super::Runtime::load).
pub(super) fn load<'a>(runtime: &'a Inner, path: &Path, job: &CompileJob<'a>) -> Result<Module, ModuleError> {
    load_bytes(runtime, path, &read(path, runtime.config.module_max)?, job)
}

/// Loads the bytes that were read from `path`.
pub(super) fn load_bytes<'a>(
    runtime: &'a Inner,
    path: &Path,
    bytes: &[u8],
    job: &CompileJob<'a>,
) -> Result<Module, ModuleError> {
    component::check(bytes)?;
    let hash = blake3::hash(bytes);
    let compile = || {
        tracing::info!(module = module_name(path), path = %crate::escape::path(path), bytes = bytes.len(), "compiling a module");
        runtime.cache.compile(runtime, &hash, bytes, job)
    };
    let code = runtime.cache.get(&runtime.engines[0].engine, &hash).map_or_else(compile, Ok)?;
    job.release_permit();
    job.lower_priority();
    let registered = match instantiate_and_register(runtime, &code) {
        // Cached code that no engine accepts.
        Err(ModuleError::Invalid(_)) if code.is_cached => instantiate_and_register(runtime, &compile()?),
        result => result,
    };
    let RegisteredModule { prepared, run, tasks, engine } = registered?;
    let task_index = tasks.iter().enumerate().map(|(index, task)| (task.name.clone(), index)).collect();
    let imports = component::imports(prepared.pre.engine(), prepared.pre.component());
    let version = hash.as_bytes().first_chunk().map(|first| ModuleVersion(u64::from_be_bytes(*first)));
    let version = version.expect("a hash has 32 bytes");
    let info = ModuleInfo {
        name: module_name(path),
        path: path.display().to_string(),
        hash: hash.to_hex().to_string(),
        size: bytes.len() as u64,
        loaded_at: Timestamp::now(),
        engine: engine.to_owned(),
        imports,
        tasks,
        status: ModuleStatus::Loaded,
        last_error: None,
    };
    let (content, path) = (*hash.as_bytes(), path.to_owned());
    Ok(Module::new(LoadedModule { info, version, content, path, task_index, prepared, run }))
}

/// Reads a file of at most `max` bytes.
pub(super) fn read(path: &Path, max: u64) -> Result<Vec<u8>, ModuleError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ModuleError::Missing,
        _ => ModuleError::Unreadable(error),
    };
    check_kind(&fs::metadata(path).map_err(unreadable)?)?;
    // Non-blocking: it may have become a pipe since, whose writer would block this thread.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    check_kind(&meta)?;
    let size = meta.len();
    let mut bytes = Vec::new();
    // One byte more than allowed, as the file may grow while it is read.
    let read = file.take(max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if read as u64 > max { Err(ModuleError::TooLarge { size: size.max(max + 1), max }) } else { Ok(bytes) }
}

/// Accepts only regular files: a pipe would block this thread, and a device may never end.
fn check_kind(meta: &Metadata) -> Result<(), ModuleError> {
    let kind = meta.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let names = [
        (kind.is_dir(), "a folder"),
        (kind.is_fifo(), "a pipe"),
        (kind.is_socket(), "a socket"),
        (kind.is_char_device() || kind.is_block_device(), "a device"),
    ];
    Err(ModuleError::NoFile(
        names.into_iter().find_map(|(matches, name)| matches.then_some(name)).unwrap_or("something else"),
    ))
}

fn invalid(error: &wasmtime::Error) -> ModuleError {
    ModuleError::Invalid(format!("{error:#}"))
}

/// A module that was instantiated and has registered its tasks.
struct RegisteredModule {
    prepared: PreparedModule,
    run: ComponentExportIndex,
    tasks: Vec<TaskInfo>,
    engine: &'static str,
}

/// Instantiates a module on the first engine that accepts it, and calls `register`.
fn instantiate_and_register(runtime: &Inner, code: &Code) -> Result<RegisteredModule, ModuleError> {
    let mut result = Err(ModuleError::Unfit("there is no engine".to_owned()));
    for profile in &runtime.engines {
        result = try_engine(runtime, profile, code);
        match &result {
            // The pool rejects a module that is too large with one of these two errors.
            Err(ModuleError::Invalid(why) | ModuleError::Unfit(why)) => {
                tracing::debug!(engine = profile.name, why, "a module does not fit this engine");
            }
            _ => return result,
        }
    }
    result
}

fn try_engine(runtime: &Inner, profile: &EngineProfile, code: &Code) -> Result<RegisteredModule, ModuleError> {
    let engine = &profile.engine;
    let component = compiled::instantiable(engine, code).map_err(|error| invalid(&error))?;
    let exports = Exports::of(&component).ok_or_else(|| no_tasks(component::exports(engine, &component)))?;
    let mode = component::call_mode(engine, &component);
    let pre = profile.linker(mode).instantiate_pre(&component);
    let pre = pre.map_err(|error| not_linked(engine, &component, &error))?;
    exports.check(&pre).map_err(|error| ModuleError::Contract(format!("{error:#}")))?;
    let prepared = PreparedModule { pre, mode };
    let tasks = register(runtime, &prepared, &exports)?;
    Ok(RegisteredModule { prepared, run: exports.run, tasks, engine: profile.name })
}

fn no_tasks(exports: Vec<String>) -> ModuleError {
    if exports.iter().any(|export| export == TASKS) {
        return ModuleError::Contract(format!("{TASKS} has no register or no run"));
    }
    ModuleError::NoTasks { exports }
}

/// The error of a component that could not be linked: an import that is not granted, or of the wrong type.
fn not_linked(engine: &Engine, component: &Component, error: &wasmtime::Error) -> ModuleError {
    let mut imports = component::imports(engine, component).into_iter();
    match imports.find(|interface| !component::is_granted(interface)) {
        Some(interface) => ModuleError::Import { interface },
        None => ModuleError::Contract(format!("{error:#}")),
    }
}

/// Calls `register` and checks the tasks that it returns.
fn register(runtime: &Inner, prepared: &PreparedModule, exports: &Exports) -> Result<Vec<TaskInfo>, ModuleError> {
    let timeout = runtime.config.register_timeout;
    let end: CallEnd<RegisterResults> = runtime.with_load_slot(|slot| {
        let info = AttemptInfo::without_task(Now::read().mono + timeout);
        slot.call(prepared, &exports.register, (), info)
    });
    let tasks = match end.result {
        _ if end.reason == Some(EndReason::TimedOut) => return Err(ModuleError::RegisterTimeout(timeout)),
        Ok((descriptors,)) => descriptors.into_iter().map(contract_v1::task_info).collect::<Vec<_>>(),
        Err(error) if ending::is_refused_by_engine(&error, end.store.data()) => {
            return Err(ModuleError::Unfit(explain(&error)));
        }
        Err(error) => return Err(ModuleError::Register(ending::aborted(&error, end.store.data()).message)),
    };
    check_names(&tasks)?;
    Ok(tasks)
}

fn check_names(tasks: &[TaskInfo]) -> Result<(), ModuleError> {
    if tasks.is_empty() {
        return Err(ModuleError::Nothing);
    }
    if tasks.len() > MODULE_TASKS_MAX {
        return Err(ModuleError::TooManyTasks(tasks.len()));
    }
    let mut names = HashSet::new();
    for TaskInfo { name, .. } in tasks {
        if TaskName::check(name).is_err() {
            return Err(ModuleError::TaskName(cut(name, TASK_NAME_MAX).into_owned()));
        }
        if !names.insert(name) {
            return Err(ModuleError::TaskTwice(name.clone()));
        }
    }
    Ok(())
}
