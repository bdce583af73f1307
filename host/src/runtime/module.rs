//! Loading a module, from a path to something that can run.
//!
//! Apart because everything that can be wrong with a module is found here, before it is live:
//! afterwards only attempts fail. Invariant: a [`Module`] has been instantiated once and has
//! registered its tasks, under the same bounds as any attempt.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use wasmtime::component::{Component, ComponentExportIndex};

use super::{
    AttemptId, Inner,
    call::{Call, Ended, Prepared, Span},
    compiled::{self, Code},
    compiler::{CompileError, Effort},
    component,
    contract_v1::{self, Exports, RegisterResults, TASKS},
    ending,
    engine::Ground,
    output::cut,
    watchdog::Why,
};
use crate::{
    clock::{Now, Timestamp},
    task::{MODULE_TASKS_MAX, ModuleInfo, ModuleStatus, ModuleVersion, TASK_NAME_MAX, TaskInfo, is_task_name},
};

/// Why a file is not used as a task module.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", crate::visible::line(&path.display().to_string()))]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: ModuleError,
}

/// What can be wrong with a module.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Unreadable(io::Error),
    /// There is no such file.
    #[error("there is no such file")]
    Missing,
    /// The path leads to something that is no file and cannot be read as one.
    #[error("this is {0}, not a file")]
    NoFile(&'static str),
    /// The file has no content.
    #[error("the file is empty: it may still be written, or its build failed")]
    Empty,
    /// The file is larger than a module may be.
    #[error("the file has {size} bytes, and a module may have {max}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The largest size in bytes.
        max: u64,
    },
    /// The file ends in the middle.
    #[error("the file ends in the middle, after {size} bytes: it may still be written, or was not copied whole")]
    Truncated {
        /// Its size in bytes.
        size: usize,
    },
    /// The file is the text format.
    #[error("the file is WebAssembly text: assemble it with `wasm-tools parse`")]
    Text,
    /// The file is something else.
    #[error("the file is not WebAssembly")]
    NotWasm,
    /// The file is a core module.
    #[error(
        "the file is a core module, not a component: build it for wasm32-wasip2, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// The compiler refuses it.
    #[error("the module cannot be compiled: {0}")]
    Invalid(String),
    /// It cannot be compiled within bounds, or not just now.
    #[error("the module is not compiled: {0}")]
    Compile(#[from] CompileError),
    /// It is a component, but no task module.
    #[error("the file is a component but no task module: it exports {}, and not {TASKS}", Exported(exports))]
    NoTasks {
        /// What it does export.
        exports: Vec<String>,
    },
    /// It imports what nothing grants.
    #[error(
        "the module imports {interface}, which is not granted to task modules; they get fastworker:task/host@1 and WASI 0.2 without files and network"
    )]
    Import {
        /// The interface.
        interface: String,
    },
    /// The engine does not take it.
    #[error("the module cannot be instantiated: {0}")]
    Unfit(String),
    /// Its imports or exports have other types than the contract's.
    #[error("the module does not fit the contract: {0}")]
    Contract(String),
    /// It did not come up or did not register.
    #[error("the module failed while it registered its tasks: {0}")]
    Register(String),
    /// It took too long to come up or to register.
    #[error("the module did not register its tasks within {} s", crate::clock::seconds(*.0))]
    RegisterTimeout(Duration),
    /// It registered no task.
    #[error("the module registers no tasks: does it contain a function with #[task]?")]
    Nothing,
    /// It registered more tasks than a module may have.
    #[error("the module registers {0} tasks, and may register {MODULE_TASKS_MAX}")]
    TooManyTasks(usize),
    /// It registered a task under an impossible name.
    #[error(
        "the module registers a task under the name {0:?}: a task name is text of 1 to {TASK_NAME_MAX} bytes without control characters"
    )]
    TaskName(String),
    /// It registered two tasks under one name.
    #[error("the module registers two tasks under the name '{0}': rename one of them")]
    TaskTwice(String),
    /// Another module has a task of that name.
    #[error("the module has a task '{task}', and so has {}: rename one of them or load only one of the two", crate::visible::line(&other.display().to_string()))]
    TaskTaken {
        /// The task name.
        task: String,
        /// The module that has it already.
        other: PathBuf,
    },
}

/// The exports of a component that is no task module, for its message.
struct Exported<'a>(&'a [String]);

impl fmt::Display for Exported<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("nothing"),
            names => f.write_str(&names.join(", ")),
        }
    }
}

impl ModuleError {
    /// Whether the same file may well be of use a little later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Compile(error) if error.may_pass())
    }
}

/// A task module that can run. Cloning it is cheap; it lives on while attempts run on it.
#[derive(Clone)]
pub struct Module(Arc<Loaded>);

struct Loaded {
    info: ModuleInfo,
    version: ModuleVersion,
    content: [u8; 32],
    path: PathBuf,
    /// The places of the tasks by their names.
    by_name: HashMap<String, usize>,
    prepared: Prepared,
    run: ComponentExportIndex,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.0.path).field(&self.hash()).finish()
    }
}

impl Module {
    /// What is known about it.
    pub fn info(&self) -> &ModuleInfo {
        &self.0.info
    }

    /// The file it was loaded from, as it was given.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// BLAKE3 of the file, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.0.info.hash
    }

    /// BLAKE3 of the file.
    pub fn content(&self) -> &[u8; 32] {
        &self.0.content
    }

    /// The version of the file, as results name it.
    pub fn version(&self) -> ModuleVersion {
        self.0.version
    }

    /// The task of that name.
    pub fn task(&self, name: &str) -> Option<&TaskInfo> {
        self.0.by_name.get(name).map(|place| &self.0.info.tasks[*place])
    }

    /// How to run an attempt.
    pub(super) fn run(&self) -> (&Prepared, &ComponentExportIndex) {
        (&self.0.prepared, &self.0.run)
    }
}

/// Loads the module at `path`; see [`Runtime::load`](super::Runtime::load).
pub(super) fn load<'a>(runtime: &'a Inner, path: &Path, effort: &Effort<'a>) -> Result<Module, ModuleError> {
    load_bytes(runtime, path, &read(path, runtime.config.module_max)?, effort)
}

/// Loads what was read from `path`.
pub(super) fn load_bytes<'a>(
    runtime: &'a Inner,
    path: &Path,
    bytes: &[u8],
    effort: &Effort<'a>,
) -> Result<Module, ModuleError> {
    component::check(bytes)?;
    let hash = blake3::hash(bytes);
    let compile = || {
        tracing::info!(module = name_of(path), path = %crate::visible::path(path), bytes = bytes.len(), "compiling a module");
        runtime.cache.compile(runtime, &hash, bytes, effort)
    };
    let code = runtime.cache.kept(&runtime.grounds[0].engine, &hash).map_or_else(compile, Ok)?;
    effort.give_turn_back();
    effort.before_it_runs();
    let live = match bring_up(runtime, &code) {
        // Code of an earlier start that no engine takes any more.
        Err(ModuleError::Invalid(_)) if code.kept => bring_up(runtime, &compile()?),
        result => result,
    };
    let Live { prepared, run, tasks, engine } = live?;
    let by_name = tasks.iter().enumerate().map(|(place, task)| (task.name.clone(), place)).collect();
    let imports = component::imports(prepared.pre.engine(), prepared.pre.component());
    let version = hash.as_bytes().first_chunk().map(|first| ModuleVersion(u64::from_be_bytes(*first)));
    let version = version.expect("a hash has 32 bytes");
    let info = ModuleInfo {
        name: name_of(path),
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
    Ok(Module(Arc::new(Loaded {
        info,
        version,
        content: *hash.as_bytes(),
        path: path.to_owned(),
        by_name,
        prepared,
        run,
    })))
}

/// What a module is called, after its file.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Reads a file whole, unless it has more than `max` bytes.
pub(super) fn read(path: &Path, max: u64) -> Result<Vec<u8>, ModuleError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ModuleError::Missing,
        _ => ModuleError::Unreadable(error),
    };
    check_kind(&fs::metadata(path).map_err(unreadable)?)?;
    // What has become a pipe since then must not let us wait for a writer.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    check_kind(&meta)?;
    let size = meta.len();
    let mut bytes = Vec::new();
    // One more than allowed, as a file may grow.
    let read = file.take(max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if read as u64 > max { Err(ModuleError::TooLarge { size: size.max(max + 1), max }) } else { Ok(bytes) }
}

/// Only a file is read: a pipe would keep us waiting, and a device may never end.
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
        names.into_iter().find_map(|(is_it, name)| is_it.then_some(name)).unwrap_or("something else"),
    ))
}

fn invalid(error: &wasmtime::Error) -> ModuleError {
    ModuleError::Invalid(format!("{error:#}"))
}

/// A module that came up.
struct Live {
    prepared: Prepared,
    run: ComponentExportIndex,
    tasks: Vec<TaskInfo>,
    engine: &'static str,
}

/// Brings a module up on the first ground that it fits.
fn bring_up(runtime: &Inner, code: &Code) -> Result<Live, ModuleError> {
    let mut result = Err(ModuleError::Unfit("there is no engine".to_owned()));
    for ground in &runtime.grounds {
        result = on(runtime, ground, code);
        match &result {
            // The pool refuses what is too large for it in one of these two ways.
            Err(ModuleError::Invalid(why) | ModuleError::Unfit(why)) => {
                tracing::debug!(engine = ground.name, why, "a module does not fit this engine");
            }
            _ => return result,
        }
    }
    result
}

fn on(runtime: &Inner, ground: &Ground, code: &Code) -> Result<Live, ModuleError> {
    let component = compiled::instantiable(&ground.engine, code).map_err(|error| invalid(&error))?;
    let exports = Exports::of(&component).ok_or_else(|| no_tasks(component::exports(&ground.engine, &component)))?;
    let calling = component::calling(&ground.engine, &component);
    let pre =
        ground.linker(calling).instantiate_pre(&component).map_err(|error| not_linked(ground, &component, &error))?;
    exports.check(&pre).map_err(|error| ModuleError::Contract(format!("{error:#}")))?;
    let prepared = Prepared { pre, calling };
    let tasks = register(runtime, &prepared, &exports)?;
    Ok(Live { prepared, run: exports.run, tasks, engine: ground.name })
}

fn no_tasks(exports: Vec<String>) -> ModuleError {
    if exports.iter().any(|export| export == TASKS) {
        return ModuleError::Contract(format!("{TASKS} has no register or no run"));
    }
    ModuleError::NoTasks { exports }
}

/// Why a component could not be linked: an import that nobody grants, or one of another shape.
fn not_linked(ground: &Ground, component: &Component, error: &wasmtime::Error) -> ModuleError {
    let mut imports = component::imports(&ground.engine, component).into_iter();
    match imports.find(|interface| !component::is_granted(interface)) {
        Some(interface) => ModuleError::Import { interface },
        None => ModuleError::Contract(format!("{error:#}")),
    }
}

/// Lets a module say what tasks it has.
fn register(runtime: &Inner, prepared: &Prepared, exports: &Exports) -> Result<Vec<TaskInfo>, ModuleError> {
    let timeout = runtime.config.register_timeout;
    let ended: Ended<RegisterResults> = runtime.with_registry(|slot| {
        let span = Span { id: AttemptId(0), deadline: Now::read().mono + timeout };
        slot.call(prepared, &exports.register, (), slot.attempt(Call::register()), span)
    });
    let tasks = match ended.result {
        _ if ended.why == Some(Why::TimedOut) => return Err(ModuleError::RegisterTimeout(timeout)),
        Ok((descriptors,)) => descriptors.into_iter().map(contract_v1::task_info).collect::<Vec<_>>(),
        Err(error) if ending::is_refusal(&error, ended.store.data()) => {
            return Err(ModuleError::Unfit(ending::explained(&error)));
        }
        Err(error) => return Err(ModuleError::Register(ending::cut_short(&error, ended.store.data()).message)),
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
        if !is_task_name(name) {
            return Err(ModuleError::TaskName(cut(name, TASK_NAME_MAX).into_owned()));
        }
        if !names.insert(name) {
            return Err(ModuleError::TaskTwice(name.clone()));
        }
    }
    Ok(())
}
