//! `fastworker dev --serve`: a control plane with the modules of some sources, which are built again when they change.
//!
//! Each source has a folder of its own in the user's cache folder, which the control plane loads its module from. A build
//! that fails leaves the last module there, also when the command is started again.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use tracing::{error, info};

use super::watch::{Snapshot, SourceWatcher};
use crate::{
    cli::{
        CliError, CommandResult, EXIT_FAILURE, EXIT_MISSING_TOOL,
        build::{self, BuildOutput, MissingTools, Source, cache_folder, kill_all},
        config_file::ConfigFile,
        control_plane::ControlPlaneCommand,
        error::os_message,
        render,
    },
    clock::seconds,
};

/// Maximum number of sources.
const SOURCES_MAX: usize = 64;

/// Serves the modules of these files and folders until the first signal.
pub(super) fn serve(paths: &[PathBuf], control_plane: ControlPlaneCommand, file: &ConfigFile) -> CommandResult {
    if paths.len() > SOURCES_MAX {
        return Err(CliError::new(
            super::EXIT_USAGE,
            format!("{} sources are too many: the limit is {SOURCES_MAX}", paths.len()),
        ));
    }
    let projects = paths.iter().map(|path| Project::of(path)).collect::<Result<Vec<_>, _>>()?;
    let modules = projects.iter().map(|project| project.folder.display().to_string()).collect();
    let json = control_plane.prints_json();
    let build = move || {
        let build = move || rebuild_forever(projects, json);
        thread::Builder::new().name("fw-build".into()).spawn(build).map(drop).map_err(|error| {
            CliError::new(EXIT_FAILURE, format!("cannot start the thread that builds: {}", os_message(&error)))
        })
    };
    control_plane.run_with(file, modules, build, kill_all)
}

/// A source, and the folder of its module.
struct Project {
    source: Source,
    folder: PathBuf,
    /// The files at the start of the last build.
    built: Option<Snapshot>,
}

impl Project {
    fn of(path: &Path) -> Result<Self, CliError> {
        let source = Source::find(path, None)?;
        let identity = source.file.as_ref().unwrap_or(&source.folder);
        let hash = blake3::hash(identity.as_os_str().as_encoded_bytes()).to_hex();
        let folder = cache_folder()?.join("dev").join(format!("{}-{}", source.name, &hash[..16]));
        fs::create_dir_all(&folder).map_err(|error| build::cannot("create", &folder, &error))?;
        Ok(Self { source, folder, built: None })
    }

    /// Builds the source if its files differ from those of the last build.
    fn build_if_changed(&mut self, watcher: &mut SourceWatcher) -> Result<(), CliError> {
        let files = Snapshot::of(&self.source);
        if self.built.as_ref() == Some(&files) {
            return Ok(());
        }
        watcher.watch(&files);
        self.built = Some(files);
        let since = Instant::now();
        let source = self.source.path.display();
        let module =
            build::build(&self.source, build::Destination::Folder(&self.folder), MissingTools::Report, &LogOutput)?;
        self.remove_others(Path::new(&module.path));
        let tasks: Vec<&str> = module.tasks.iter().map(|task| task.name.as_str()).collect();
        info!(%source, module = module.name, tasks = tasks.join(", "), took_s = seconds(since.elapsed()), "built");
        Ok(())
    }

    /// Removes the modules that the source had under other names.
    fn remove_others(&self, module: &Path) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let is_module = |path: &PathBuf| path.extension().is_some_and(|it| it == "wasm");
        for other in entries.map(|entry| entry.path()).filter(|path| is_module(path) && path != module) {
            if let Err(error) = fs::remove_file(&other) {
                tracing::warn!(path = %other.display(), %error, "cannot remove an old module");
            }
        }
    }
}

/// Builds all projects, then those that change. Ends the process if the first build misses a tool.
fn rebuild_forever(mut projects: Vec<Project>, json: bool) {
    let mut watcher = SourceWatcher::new();
    let mut is_first = true;
    loop {
        for project in &mut projects {
            let Err(failure) = project.build_if_changed(&mut watcher) else { continue };
            if is_first && failure.code == EXIT_MISSING_TOOL {
                render::print_error(&failure, json);
                render::flush_log();
                std::process::exit(failure.code.into());
            }
            let hint = failure.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            error!(source = %project.source.path.display(), "not built, the last module stays: {}{hint}", failure.message);
        }
        is_first = false;
        watcher.wait();
    }
}

/// Writes the output of tools to the log.
struct LogOutput;

impl BuildOutput for LogOutput {
    fn begin(&self, step: &str) {
        info!("{step}");
    }

    fn line(&self, line: &str) {
        info!("  {line}");
    }

    fn end(&self) {}

    fn note(&self, note: &str) {
        info!("{note}");
    }
}
