//! Loads a module from a path, so that it can run.
//!
//! All errors of a module are found here, before it is live: afterwards only attempts fail.

use std::{
    collections::HashSet,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    marker::PhantomData,
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use wasmtime::{
    Engine,
    component::{Component, InstancePre},
};

use super::{
    Inner,
    attempt::{Attempt, AttemptInfo},
    call::{CallMode, GuestCall, Instantiate, Prepared, PreparedModule, TypedCall},
    compiled::{self, Code, Instantiable},
    compiler::CompileJob,
    component,
    contract_v1::{self, Exports, RegisterResults},
    ending,
    engine::EngineProfile,
    entry::{Contract, Entry},
    error::ModuleError,
    host_errors::explain,
    mismatch,
    module::{LoadedModule, Module, module_name},
    output::cut,
    plain::Exported,
    policies,
    program::{self, Program},
    reach::Reach,
    slot::CallEnd,
    watchdog::EndReason,
};
use crate::{
    clock::{Now, Timestamp},
    system,
    task::{MODULE_TASKS_MAX, ModuleInfo, ModuleStatus, ModuleVersion, NotCallable, TASK_NAME_MAX, TaskInfo, TaskName},
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
    component::kind(bytes)?;
    let hash = blake3::hash(bytes);
    let compile = || {
        tracing::info!(module = module_name(path), path = %crate::escape::path(path), bytes = bytes.len(), "compiling a module");
        runtime.cache.compile(runtime, &hash, bytes, job)
    };
    let code = runtime.cache.get(&runtime.engines[0].engine, &hash).map_or_else(compile, Ok)?;
    load_code(runtime, path, bytes, &code, job)
}

/// Loads the compiled code of the bytes that were read from `path`.
pub(super) fn load_code<'a>(
    runtime: &'a Inner,
    path: &Path,
    bytes: &[u8],
    code: &Code,
    job: &CompileJob<'a>,
) -> Result<Module, ModuleError> {
    job.release_permit();
    job.lower_priority();
    let hash = blake3::hash(bytes);
    let registered = match instantiate_and_register(runtime, path, code) {
        // Cached code that no engine accepts.
        Err(ModuleError::Invalid(_)) if code.is_cached => {
            let code = runtime.cache.compile(runtime, &hash, bytes, job)?;
            instantiate_and_register(runtime, path, &code)
        }
        result => result,
    };
    let RegisteredModule { prepared, entry, mut tasks, not_callable, imports, engine } = registered?;
    let (name, config) = (module_name(path), &runtime.config);
    for task in config.policies.apply(&name, &config.limits, &mut tasks) {
        tracing::warn!(module = name, task, "the configuration sets a policy for a task that the module does not have");
    }
    let memory_at_start = prepared.memory_at_start.load(Relaxed) as u64;
    policies::warn_of_memory(&config.limits, memory_at_start, &mut tasks);
    let grants = config.grants.of(&name);
    let (tasks, ungranted) =
        if config.checks_needs { policies::without_ungranted(tasks, &grants) } else { (tasks, Vec::new()) };
    let task_index = tasks.iter().enumerate().map(|(index, task)| (task.name.clone(), index)).collect();
    let limits = tasks.iter().map(|task| config.limits.of(&task.limits)).collect();
    let version = hash.as_bytes().first_chunk().map(|first| ModuleVersion(u64::from_be_bytes(*first)));
    let version = version.expect("a hash has 32 bytes");
    let info = ModuleInfo {
        name,
        path: path.display().to_string(),
        hash: hash.to_hex().to_string(),
        size: bytes.len() as u64,
        loaded_at: Timestamp::now(),
        engine: engine.to_owned(),
        imports,
        tasks,
        not_callable,
        ungranted,
        grants: grants.names(),
        status: ModuleStatus::Loaded,
        last_error: None,
    };
    let (content, path) = (*hash.as_bytes(), path.to_owned());
    Ok(Module::new(LoadedModule { info, version, content, path, task_index, limits, prepared, entry }))
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
    entry: Entry,
    tasks: Vec<TaskInfo>,
    not_callable: Vec<NotCallable>,
    imports: Vec<String>,
    engine: &'static str,
}

/// Instantiates a module on the first engine that accepts it, and calls `register`.
fn instantiate_and_register(runtime: &Inner, path: &Path, code: &Code) -> Result<RegisteredModule, ModuleError> {
    let (mut refusal, mut has_run) = (ModuleError::Unfit("there is no engine".to_owned()), false);
    for profile in &runtime.engines {
        let registered = match compiled::instantiable(&profile.engine, code) {
            Ok(Instantiable::Component(component)) => component_module(runtime, profile, path, &component),
            Ok(Instantiable::Core(module)) => core_module(runtime, profile, path, &module),
            // It was compiled for another engine, or is too large for the pool.
            Err(error) => {
                tracing::debug!(engine = profile.name, %error, "a module is not for this engine");
                // What an engine refused that can run it tells more.
                if !has_run {
                    refusal = invalid(&error);
                }
                continue;
            }
        };
        match registered {
            // Another engine may have room for it.
            Err(why @ (ModuleError::Invalid(_) | ModuleError::Unfit(_))) => {
                tracing::debug!(engine = profile.name, %why, "a module does not fit this engine");
                (refusal, has_run) = (why, true);
            }
            registered => return registered,
        }
    }
    Err(refusal)
}

/// A component that fulfils the contract, exports functions, or is a program.
fn component_module(
    runtime: &Inner,
    profile: &EngineProfile,
    path: &Path,
    component: &Component,
) -> Result<RegisteredModule, ModuleError> {
    let engine = &profile.engine;
    let exports = Exports::of(component);
    let command = program::command(component);
    let functions =
        if exports.is_none() { Exported::of(engine, component, &module_name(path)) } else { Exported::default() };
    let imports = component::imports(engine, component);
    let reach = runtime.reach(path, &imports)?;
    let mode = component::call_mode(engine, component);
    let mode = if reach.io().is_some() { CallMode::Async } else { mode };
    // First of all, as a component for another host also has other exports.
    let pre = profile.linker(mode).instantiate_pre(component);
    let pre = pre.map_err(|error| not_linked(engine, component, &error))?;
    if exports.is_none() {
        let names = component::exports(engine, component);
        if let Some(problem) = mismatch::of_exports(&names) {
            return Err(ModuleError::Contract(problem));
        }
        if command.is_none() && functions.tasks.is_empty() {
            return Err(no_tasks(names, functions.not_callable));
        }
    }
    let prepared = PreparedModule::new(Prepared::Component(pre.clone()), mode, reach);
    let mut not_callable = functions.not_callable.clone();
    let (entry, tasks) = match (exports, command) {
        (Some(exports), _) => {
            exports.check(&pre).map_err(|error| ModuleError::Contract(format!("{error:#}")))?;
            let tasks = register(runtime, &prepared, &pre, &exports)?;
            (Entry::Contract(Contract { pre, run: exports.run }), tasks)
        }
        (None, Some(run)) if functions.tasks.is_empty() => {
            try_instance(runtime, &prepared)?;
            not_callable.retain(|function| !program::is_command(&function.name));
            (Entry::Program(Program::Command { pre, run }), vec![program::task(path)?])
        }
        (None, _) => {
            try_instance(runtime, &prepared)?;
            check_names(&functions.tasks)?;
            let tasks = functions.tasks.clone();
            (Entry::Functions(functions.into_functions(pre)), tasks)
        }
    };
    Ok(RegisteredModule { prepared, entry, tasks, not_callable, imports, engine: profile.name })
}

/// A core module that is a program.
fn core_module(
    runtime: &Inner,
    profile: &EngineProfile,
    path: &Path,
    module: &wasmtime::Module,
) -> Result<RegisteredModule, ModuleError> {
    program::check_core(module)?;
    let tasks = vec![program::task(path)?];
    let pre = profile.core_linker.instantiate_pre(module);
    let pre = pre.map_err(|error| ModuleError::Contract(format!("{error:#}")))?;
    let imports = program::imports(module);
    let reach = runtime.reach(path, &imports)?;
    let prepared = PreparedModule::new(Prepared::Core(pre.clone()), CallMode::Async, reach);
    try_instance(runtime, &prepared)?;
    let entry = Entry::Program(Program::Core(pre));
    Ok(RegisteredModule { prepared, entry, tasks, not_callable: Vec::new(), imports, engine: profile.name })
}

impl Inner {
    /// What the module at `path`, which imports these interfaces, may reach.
    fn reach(&self, path: &Path, imports: &[String]) -> Result<Arc<Reach>, ModuleError> {
        let grants = self.config.grants.of(&module_name(path));
        let reach = Reach::new(grants, self.config.network.clone())?;
        let reach = reach.with_io(&self.io, imports);
        Ok(Arc::new(reach.map_err(|error| ModuleError::Threads(system::explain(&error)))?))
    }
}

fn no_tasks(exports: Vec<String>, not_callable: Vec<NotCallable>) -> ModuleError {
    match not_callable.into_iter().next() {
        Some(NotCallable { name, reason }) => ModuleError::NotCallable { name, reason },
        None => ModuleError::NoTasks { exports },
    }
}

/// The error of a component that could not be linked: an import that nothing provides, or of the wrong type.
fn not_linked(engine: &Engine, component: &Component, error: &wasmtime::Error) -> ModuleError {
    let mut imports = component::imports(engine, component).into_iter();
    match imports.find(|interface| !mismatch::is_provided(interface)) {
        Some(interface) => ModuleError::Import { problem: mismatch::of_import(&interface), interface },
        None => ModuleError::Contract(format!("{error:#}")),
    }
}

/// Instantiates a module that registers no tasks itself.
fn try_instance(runtime: &Inner, prepared: &PreparedModule) -> Result<(), ModuleError> {
    load_call(runtime, prepared, Instantiate(prepared))
}

/// Calls `register` and checks the tasks that it returns.
fn register(
    runtime: &Inner,
    prepared: &PreparedModule,
    pre: &InstancePre<Attempt>,
    exports: &Exports,
) -> Result<Vec<TaskInfo>, ModuleError> {
    let call = TypedCall { pre, export: &exports.register, params: (), results: PhantomData::<RegisterResults> };
    let (descriptors,) = load_call(runtime, prepared, call)?;
    let tasks = descriptors.into_iter().map(contract_v1::task_info);
    let tasks: Vec<TaskInfo> = match prepared.reach.mask() {
        Some(mask) => tasks.map(|task| mask.task(task)).collect(),
        None => tasks.collect(),
    };
    check_names(&tasks)?;
    Ok(tasks)
}

/// Makes a call of a module that is being loaded.
fn load_call<C>(runtime: &Inner, prepared: &PreparedModule, call: C) -> Result<C::Output, ModuleError>
where
    C: GuestCall<Output: Send> + Send,
{
    let (timeout, limits) = (runtime.config.register_timeout, runtime.config.limits);
    let deadline = Now::read().mono + timeout;
    let end: CallEnd<C::Output> = runtime
        .with_load_slot(|slot| slot.call(prepared, AttemptInfo::without_task(deadline, limits), call))
        .map_err(|error| ModuleError::Threads(system::explain(&error)))?;
    match end.result {
        _ if end.reason == Some(EndReason::TimedOut) => Err(ModuleError::RegisterTimeout(timeout)),
        Ok(output) => {
            prepared.memory_at_start.store(end.store.data().limits.memory_used(), Relaxed);
            Ok(output)
        }
        Err(error) if ending::is_refused_by_engine(&error, end.store.data()) => {
            Err(ModuleError::Unfit(explain(&error)))
        }
        Err(error) => {
            let message = ending::aborted(&error, end.store.data()).message;
            let masked = prepared.reach.mask().map(|mask| mask.text(&message).into_owned());
            Err(ModuleError::Register(masked.unwrap_or(message)))
        }
    }
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
