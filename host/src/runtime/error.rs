//! Errors of modules, each with a message for the author.

use std::{fmt, io, path::PathBuf, time::Duration};

use super::{contract_v1::TASKS, reach::FolderUnavailable};
use crate::{
    clock::seconds,
    task::{MODULE_TASKS_MAX, TASK_NAME_MAX},
};

/// A file could not be loaded as a task module.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", crate::escape::line(&path.display().to_string()))]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// The error.
    pub why: ModuleError,
}

/// An error of a module.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Unreadable(io::Error),
    /// There is no such file.
    #[error("there is no such file")]
    Missing,
    /// The path does not lead to a file.
    #[error("this is {0}, not a file")]
    NoFile(&'static str),
    /// The file has no content.
    #[error("the file is empty: it may still be written, or its build failed")]
    Empty,
    /// The file is larger than a module may be.
    #[error("the file is too large: {size} bytes, limit {max}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The file is incomplete.
    #[error("the file ends in the middle, after {size} bytes: it may still be written, or was not copied whole")]
    Truncated {
        /// Its size in bytes.
        size: usize,
    },
    /// The file is the text format.
    #[error("the file is WebAssembly text: assemble it with `wasm-tools parse`")]
    Text,
    /// The file is not WebAssembly.
    #[error("the file is not WebAssembly")]
    NotWasm,
    /// The file is a core module that is not a program, and says nothing of the component to make of it.
    #[error(
        "the file is a core module without a function `_start`, so it is not a program: link it as a program, or build a \
         component (`fastworker build`, `cargo build --target wasm32-wasip2`, or `wasm-tools component new`)"
    )]
    CoreModule,
    /// The file is a core module that imports more than WASI preview 1.
    #[error(
        "the program imports {0}, and programs can import only wasi_snapshot_preview1: build it for WASI, as with \
         `-target wasm32-wasi`, GOOS=wasip1 or wasm32-wasip1"
    )]
    CoreImport(String),
    /// The name of a program's file is not a task name.
    #[error(
        "the file is a program, whose task is named after it, and {0:?} is not a task name: rename the file to 1 to \
         {TASK_NAME_MAX} bytes without control characters, and .wasm"
    )]
    FileName(String),
    /// The compiler rejects it.
    #[error("the module cannot be compiled: {0}")]
    Invalid(String),
    /// It cannot be compiled within its limits, or not now.
    #[error("the module is not compiled: {0}")]
    Compile(#[from] CompileError),
    /// It did not arrive from the control plane.
    #[error("the module cannot be taken from the control plane: {0}. It will be retried")]
    Transfer(#[from] TransferError),
    /// It is a component without functions.
    #[error("the file is a component without functions: it exports {}, and not {TASKS}", Exported(exports))]
    NoTasks {
        /// Its exports.
        exports: Vec<String>,
    },
    /// It is a component, and none of its functions can be called.
    #[error("the component exports no function that can be called as a task: {name} cannot, as {reason}")]
    NotCallable {
        /// The first of its functions.
        name: String,
        /// The reason why it cannot be called.
        reason: String,
    },
    /// It imports an interface that nothing provides.
    #[error("the module imports {interface}, but {problem}")]
    Import {
        /// The interface.
        interface: String,
        /// What is near, and what to do.
        problem: String,
    },
    /// A folder that is granted to it cannot be opened.
    #[error("{0}")]
    Folder(#[from] FolderUnavailable),
    /// The threads on which its attempts wait cannot be started.
    #[error("the threads for its files and connections cannot be started: {0}")]
    Threads(String),
    /// The engine rejects it.
    #[error("the module cannot be instantiated: {0}")]
    Unfit(String),
    /// Its imports or exports have other types than the contract's.
    #[error("the module does not fit the contract: {0}")]
    Contract(String),
    /// It failed while it was instantiated or registered its tasks.
    #[error("the module failed while it registered its tasks: {0}")]
    Register(String),
    /// It took too long to be instantiated or to register its tasks.
    #[error("the module did not register its tasks within {} s", seconds(*.0))]
    RegisterTimeout(Duration),
    /// It registered no task.
    #[error("the module registers no tasks: does it contain a function with #[task]?")]
    Nothing,
    /// It registered more tasks than a module may have.
    #[error("the module registers too many tasks: {0}, limit {MODULE_TASKS_MAX}")]
    TooManyTasks(usize),
    /// It registered a task under an invalid name.
    #[error(
        "the module registers a task under the name {0:?}: a task name is text of 1 to {TASK_NAME_MAX} bytes without control characters"
    )]
    TaskName(String),
    /// It registered two tasks under the same name.
    #[error("the module registers two tasks under the name '{0}': rename one of them")]
    TaskTwice(String),
    /// Another module has a task of that name.
    #[error("the module has a task '{task}', and so has {}: rename one of them or load only one of the two", crate::escape::line(&other.display().to_string()))]
    TaskTaken {
        /// The task name.
        task: String,
        /// The module that has it already.
        other: PathBuf,
    },
}

/// The exports of a component, for an error message.
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
    /// Whether loading the same file may succeed later.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self, Self::Compile(error) if error.is_temporary())
    }
}

/// A module could not be taken from the control plane.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// It is larger than a module may be.
    #[error("it is too large: {size} bytes, limit {max}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// It cannot be stored here.
    #[error("it cannot be stored in the cache folder: {}", crate::system::explain(.0))]
    Store(io::Error),
    /// What arrived is something else.
    #[error("it arrived damaged: its content does not have its hash")]
    Damaged,
    /// The control plane does not have its bytes.
    #[error("the control plane lists this version, but does not have it any more")]
    Gone,
    /// The control plane sent something else than the requested part.
    #[error("the control plane sent another part than the requested one")]
    WrongPart,
    /// The control plane refused.
    #[error("the control plane refused: {0}")]
    Refused(String),
}

/// A module could not be compiled within its limits, or its compiler failed.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It needs too much memory.
    #[error(
        "compiling it takes more than {max_mib} MiB of memory, for a module of {} KB: split its largest functions, or raise {limit}",
        size.div_ceil(1024)
    )]
    Memory {
        /// Bytes of the module.
        size: usize,
        /// The limit in MiB.
        max_mib: u64,
        /// The setting that limits it.
        limit: &'static str,
    },
    /// It took too long.
    #[error(
        "compiling it takes more than {} s {clock}, for a module of {} KB: split its largest functions, or raise the compile timeout",
        seconds(*max),
        size.div_ceil(1024)
    )]
    Time {
        /// Bytes of the module.
        size: usize,
        /// The limit.
        max: Duration,
        /// The limited time: processor time, or time by the clock.
        clock: &'static str,
    },
    /// Its code is too large.
    #[error("its compiled code is too large: {size} bytes, limit {max}")]
    CodeSize {
        /// Bytes of code.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// The compiler was killed.
    #[error("its compiler was killed by signal {signal}: the system may be out of memory. It will be retried")]
    Killed {
        /// The signal.
        signal: i32,
    },
    /// The compiler crashed.
    #[error("the compiler crashed on it ({status}), which is a bug in the compiler{}", CompilerOutput(printed))]
    Crashed {
        /// Its exit status.
        status: String,
        /// Its last output.
        printed: String,
    },
    /// No compiler could be started.
    #[error("its compiler, {program}, cannot be started: {why}. It will be retried")]
    Start {
        /// The program.
        program: String,
        /// The reason.
        why: io::Error,
    },
    /// The program is not a compiler, or one of another version.
    #[error("{program} is not the compiler of this version of fastworker: use the program of the same version")]
    WrongProgram {
        /// The program.
        program: String,
    },
    /// The module is no longer needed.
    #[error("it is no longer needed")]
    Unwanted,
}

impl CompileError {
    /// Whether compiling the same module may succeed later.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self, Self::Killed { .. } | Self::Start { .. })
    }
}

/// The last output of a compiler, for an error message.
struct CompilerOutput<'a>(&'a str);

impl fmt::Display for CompilerOutput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}
