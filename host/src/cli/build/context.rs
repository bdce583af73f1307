//! What a build may use: its source, tools, the SDK, folders for its files, and a way to run programs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::Pid;

use super::{
    Language, Source, process,
    process::BuildOutput,
    sdk,
    tools::{self, InstalledTool, MissingTools, Tool, cache_folder},
};
use crate::cli::{CliError, EXIT_FAILURE, error::os_message};

/// What a language's build returns.
#[derive(Debug)]
pub(in crate::cli) struct Artifact {
    /// A component, or a core module with a `component-type` section, which becomes one.
    pub(super) bytes: Vec<u8>,
    /// The name of the module, if the project itself has one.
    pub(super) name: Option<String>,
}

impl Artifact {
    /// The WebAssembly file that a tool has written.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self, CliError> {
        let bytes = fs::read(path).map_err(|error| cannot("read", path, &error))?;
        Ok(Self { bytes, name: None })
    }

    /// The core module that a compiler has written, whose imports and exports are those of a task module: it becomes
    /// one by a section that says so.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn read_core(path: &Path) -> Result<Self, CliError> {
        let mut artifact = Self::read(path)?;
        artifact.bytes.extend(sdk::COMPONENT_TYPE);
        Ok(artifact)
    }

    /// Sets the name of the module.
    pub(super) fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }
}

/// One build.
pub(in crate::cli) struct Build<'a> {
    pub(super) source: &'a Source,
    pub(super) missing: MissingTools,
    pub(super) output: &'a dyn BuildOutput,
    /// The folder `fastworker` in the user's cache folder.
    caches: PathBuf,
    scratch: ScratchFolder,
}

impl<'a> Build<'a> {
    pub(super) fn new(
        source: &'a Source,
        missing: MissingTools,
        output: &'a dyn BuildOutput,
    ) -> Result<Self, CliError> {
        let caches = cache_folder()?;
        let scratch = ScratchFolder::new(&caches.join("build"))?;
        Ok(Self { source, missing, output, caches, scratch })
    }

    /// Finds pinned tools, or installs them if that was asked for, in the order of `wanted`.
    ///
    /// # Errors
    /// If one is missing: what, how large it is, and the command that installs it.
    pub(super) fn tools(&self, wanted: &[&'static Tool]) -> Result<Vec<InstalledTool>, CliError> {
        tools::find_all(wanted, self.missing, &self.source.path, self.output)
    }

    /// Finds one pinned tool.
    ///
    /// # Errors
    /// As [`Build::tools`].
    pub(super) fn tool(&self, wanted: &'static Tool) -> Result<InstalledTool, CliError> {
        Ok(self.tools(&[wanted])?.swap_remove(0))
    }

    /// The folder of a language's SDK, whose files must not be changed.
    ///
    /// # Errors
    /// If it cannot be unpacked.
    pub(super) fn sdk(&self, language: Language) -> Result<PathBuf, CliError> {
        sdk::unpack(language, &self.caches)
    }

    /// A folder for the files of this build. It is empty at first, and removed afterwards.
    pub(super) fn scratch(&self) -> &Path {
        &self.scratch.0
    }

    /// A folder that is kept between builds, for the caches of a tool. Its name should have the tool's version. Several
    /// builds may use it at the same time.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(super) fn cache(&self, name: &str) -> Result<PathBuf, CliError> {
        let folder = self.caches.join("build").join(name);
        fs::create_dir_all(&folder).map_err(|error| cannot("create", &folder, &error))?;
        Ok(folder)
    }

    /// Runs a tool, whose output is shown as it comes. `step` says what it does, such as "building tasks.py with
    /// componentize-py 0.25.1", and is shown at once.
    ///
    /// # Errors
    /// If it cannot be started or fails. The message has its command line.
    pub(super) fn run(&self, step: &str, command: &mut Command) -> Result<(), CliError> {
        self.output.begin(step);
        let result = process::run(command, self.output);
        self.output.end();
        result
    }

    /// Runs a tool and returns its standard output; its standard error is shown as it comes.
    ///
    /// # Errors
    /// As [`Build::run`], with the output.
    pub(super) fn run_captured(&self, step: &str, command: &mut Command) -> Result<Vec<u8>, (CliError, Vec<u8>)> {
        self.output.begin(step);
        let result = process::run_captured(command, self.output);
        self.output.end();
        result
    }

    /// Tells the author something, such as a choice that the build made.
    pub(super) fn note(&self, note: &str) {
        self.output.note(note);
    }

    /// Writes a file, with its folder. A relative path is one in the folder for the files of this build.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, path: &Path, text: &str) -> Result<(), CliError> {
        let path = self.scratch().join(path);
        let written = fs::create_dir_all(path.parent().unwrap_or(&path)).and_then(|()| fs::write(&path, text));
        written.map_err(|error| cannot("write", &path, &error))
    }
}

/// The error of reading, writing or creating a file of a build.
pub(in crate::cli) fn cannot(verb: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::new(EXIT_FAILURE, format!("cannot {verb} {}: {}", path.display(), os_message(error)))
}

/// A new, empty folder that is removed when it is dropped.
#[derive(Debug)]
pub(super) struct ScratchFolder(pub(super) PathBuf);

impl ScratchFolder {
    /// Creates one in the folder `within`.
    pub(super) fn new(within: &Path) -> Result<Self, CliError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = within.join(format!("{SCRATCH_PREFIX}{}-{number}", std::process::id()));
        remove_abandoned(within);
        fs::create_dir_all(&folder).map_err(|error| cannot("create", &folder, &error))?;
        Ok(Self(folder))
    }
}

/// The start of the names of scratch folders; the id of their process follows.
const SCRATCH_PREFIX: &str = ".fastworker-build-";

/// Removes the folders of processes that ended without removing them.
fn remove_abandoned(within: &Path) {
    for entry in fs::read_dir(within).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(SCRATCH_PREFIX)?.split_once('-')?.0.parse().ok());
        let Some(process) = process.and_then(Pid::from_raw) else { continue };
        if rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
