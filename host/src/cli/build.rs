//! `fastworker build`: a task module from sources in any supported language.
//!
//! This file has the command and the steps that all languages share: find out what the source is, build it, make a
//! component of a core module, load it as a worker would, and only then replace the module file.
//!
//! Each language has a file with its own part: its pinned [`Tool`](tools::Tool)s and a function that gets a [`Build`] and
//! returns an [`Artifact`], the bytes of a component or of a core module. Its SDK is a link in `sdk/` of this package
//! ([`sdk`]), and its template for `fastworker new` a folder in `new/templates/`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};
use clap_complete::engine::ArgValueCandidates;

use super::{
    CliError, CommandResult, EXIT_FAILURE, EXIT_USAGE, complete, interruption_handler, parse_bool, parse_from_str,
    render,
};
use crate::{
    runtime::{self, inspect::add_producers},
    shutdown::Signals,
    signature::CHECKED_BY_TASK_ONLY,
    subworker::ModulesConfig,
    task::{AttemptLimits, ModuleInfo},
};

// What is built, and with what.
mod context;
mod language;
mod source;

// Tools, and the SDKs of the languages.
mod process;
pub(super) mod sdk;
mod tools;

// One file per language.
mod c;
mod go;
mod js;
mod python;
mod rust;
mod zig;

use context::ScratchFolder;
pub(super) use context::{Artifact, Build, cannot};
pub(super) use language::Language;
pub(super) use process::{BuildOutput, kill_all, quote};
pub(super) use source::Source;
pub(super) use tools::{MissingTools, cache_folder};

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct BuildCommand {
    /// Source file, or folder of a project
    #[arg(value_name = "PATH", default_value = ".", value_hint = ValueHint::AnyPath)]
    path: PathBuf,
    /// Write the module to this file [default: NAME.wasm next to the source file, or in the project's folder]
    #[arg(short, long, env = "FASTWORKER_OUTPUT", value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Language of the source, if its files leave that open: rust, python, js, ts, go, c, cpp or zig
    #[arg(long, env = "FASTWORKER_LANG", value_name = "LANGUAGE", value_parser = parse_from_str::<Language>,
          add = ArgValueCandidates::new(complete::languages))]
    lang: Option<Language>,
    /// Install the tools that are missing, in their pinned versions, into the folder of the tools
    #[arg(long, env = "FASTWORKER_INSTALL", value_parser = parse_bool)]
    install: bool,
    /// Print JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = parse_bool)]
    json: bool,
}

const AFTER_HELP: &str = "\
Rust needs cargo and the target wasm32-wasip2. For the other languages, missing tools are installed with --install into \
$FASTWORKER_TOOLS [default: fastworker/tools in your cache folder]: wheels with pip, packages with npm, each checked by \
its hash, and without running their scripts.

Exit codes: 0 the module is built, 1 it could not be built, 2 it is not clear what to build, 5 there is no such file, 6 \
a tool is missing.";

impl BuildCommand {
    pub(super) fn run(self) -> CommandResult {
        let _signals = listen_for_signals(self.json)?;
        let source = Source::find(&self.path, self.lang)?;
        let missing = if self.install { MissingTools::Install } else { MissingTools::Report };
        let output = render::BuildProgress::new();
        let destination = self.output.as_deref().map_or(Destination::Source, Destination::File);
        let module = build(&source, destination, missing, &output)?;
        render::print_built(&module, self.json)
    }
}

/// Handles signals while sources are built: the tools end with this program.
///
/// # Errors
/// When the system does not allow it.
pub(super) fn listen_for_signals(json: bool) -> Result<Signals, CliError> {
    let interrupted = interruption_handler("interrupted", json);
    let leave = move || {
        kill_all();
        interrupted()
    };
    Signals::listen(leave).map_err(|error| CliError::new(EXIT_FAILURE, format!("cannot listen for signals: {error}")))
}

/// Where a module is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Destination<'a> {
    /// `NAME.wasm` next to the source file, or in the project's folder.
    Source,
    /// `NAME.wasm` in this folder.
    Folder(&'a Path),
    /// This file.
    File(&'a Path),
}

impl Destination<'_> {
    /// The path of a module with this name; relative if the source was given so.
    fn path(self, source: &Source, name: &str) -> PathBuf {
        let folder = match self {
            Self::File(file) => return file.to_owned(),
            Self::Folder(folder) => folder,
            Self::Source if source.file.is_some() => source.path.parent().unwrap_or(Path::new("")),
            Self::Source => &source.path,
        };
        let file = format!("{name}.wasm");
        if folder == Path::new(".") { PathBuf::from(file) } else { folder.join(file) }
    }
}

/// Builds a source, loads the module, and puts it at its destination. If anything fails, an older module there stays as
/// it is. Returns the module with its path and tasks.
///
/// # Errors
/// If a tool is missing or fails, or the module cannot be loaded.
pub(super) fn build(
    source: &Source,
    destination: Destination<'_>,
    missing: MissingTools,
    progress: &dyn BuildOutput,
) -> Result<ModuleInfo, CliError> {
    let build = Build::new(source, missing, progress)?;
    let Artifact { bytes, name } = build_language(&build)?;
    let mut bytes = component_of(bytes, source)?;
    if source.language != Language::Rust {
        // Rust states its language itself; the others' modules look like what their tools are made of.
        add_producers(&mut bytes, source.language.title(), ("fastworker", env!("CARGO_PKG_VERSION")));
    }
    let module = destination.path(source, name.as_deref().unwrap_or(&source.name));
    let cannot_write = |error| cannot("write", &module, &error).hint("choose another file with --output");
    let folder = module.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(cannot_write)?;
    // In the same file system, and under the same name: some modules are named after their file.
    let new_folder = ScratchFolder::new(folder)?;
    let file_name = module.file_name().ok_or_else(|| {
        CliError::new(EXIT_USAGE, format!("{} is not the name of a file", module.display()))
            .hint("choose a file with --output, such as tasks.wasm")
    })?;
    let new = new_folder.0.join(file_name);
    fs::write(&new, &bytes).map_err(cannot_write)?;
    progress.begin(&format!("compiling and checking {}", module.display()));
    let loaded = load(&new);
    progress.end();
    let info = loaded.map_err(|error| unusable(source, &new, &module, error))?;
    fs::rename(&new, &module).map_err(cannot_write)?;
    Ok(ModuleInfo { path: module.display().to_string(), ..info })
}

/// Builds with the language's own tools.
fn build_language(build: &Build<'_>) -> Result<Artifact, CliError> {
    match build.source.language {
        Language::Rust => rust::build(build),
        Language::Python => python::build(build),
        Language::JavaScript | Language::TypeScript => js::build(build),
        Language::Go => go::build(build),
        Language::C | Language::Cpp => c::build(build),
        Language::Zig => zig::build(build),
    }
}

/// Makes a component of a core module. A component stays as it is.
fn component_of(bytes: Vec<u8>, source: &Source) -> Result<Vec<u8>, CliError> {
    /// Magic number, version and layer of a core module.
    const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if !bytes.starts_with(CORE_MODULE) {
        return Ok(bytes);
    }
    runtime::wrap_core_module(&bytes).map_err(|error| {
        CliError::new(
            EXIT_FAILURE,
            format!("{} was built, but its core module is unusable: {error}", source.path.display()),
        )
    })
}

/// Loads a module as a worker does that grants and allows everything.
fn load(path: &Path) -> Result<ModuleInfo, CliError> {
    let (sources, limits) = (vec![path.display().to_string()], AttemptLimits::greatest());
    let config = ModulesConfig { sources, limits, concurrency: 1, checks_needs: false, ..ModulesConfig::default() };
    let (_runtime, catalog) = config.load()?;
    let info = catalog.describe().into_iter().next();
    let info = info.ok_or_else(|| CliError::new(EXIT_FAILURE, "it is not a module"))?;
    match declared_wrongly(&info) {
        mistakes if mistakes.is_empty() => Ok(info),
        mistakes => Err(CliError::new(EXIT_FAILURE, mistakes.join("\n"))
            .hint("correct what the tasks declare: a worker would run them without it")),
    }
}

/// What the tasks of a module declare and a worker ignores, such as a schedule at no time.
fn declared_wrongly(info: &ModuleInfo) -> Vec<String> {
    let mistakes = info.tasks.iter().flat_map(|task| {
        let mistakes = task.warnings.iter().filter(|warning| !warning.starts_with(CHECKED_BY_TASK_ONLY));
        mistakes.map(|mistake| format!("task {}: {mistake}", task.name))
    });
    mistakes.collect()
}

/// The error for a module that was built but cannot be loaded, which names the file that the author knows.
fn unusable(source: &Source, new: &Path, module: &Path, mut error: CliError) -> CliError {
    let message = error.message.replace(&new.display().to_string(), &module.display().to_string());
    error.message = format!("{} was built, but its module cannot be used: {message}", source.path.display());
    CliError { code: EXIT_FAILURE, ..error }
}
