//! Builds C and C++ with the compiler in zig, which brings libc and libc++: all sources of a project's folder and of its
//! folder `src`, or a lone file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Artifact, Build, Language, cannot,
    zig::{TARGET, Zig},
};
use crate::cli::{CliError, EXIT_USAGE};

/// Flags of all C files.
const C_FLAGS: [&str; 2] = ["-std=c17", "-O2"];
/// Flags of all C++ files.
const CPP_FLAGS: [&str; 3] = ["-std=c++23", "-O2", "-fno-exceptions"];
/// Flags of the author's sources.
const WARNINGS: &str = "-Wall";
/// Further flags of a project, one a line, as clang's tools read them.
const FLAGS_FILE: &str = "compile_flags.txt";
/// The sources of the SDK, below its folder.
const SDK_SOURCES: [&str; 7] = [
    "src/arguments.c",
    "src/call.c",
    "src/module.c",
    "src/task.c",
    "src/text.c",
    "src/yyjson/yyjson.c",
    "bindings/task_module.c",
];

/// Builds the project or the file.
pub(super) fn build(build: &Build<'_>) -> Result<Artifact, CliError> {
    let zig = Zig::of(build)?;
    let sdk = build.sdk(Language::C)?;
    let sources = sources(build);
    if sources.is_empty() {
        let message = format!("there are no sources in {}", build.source.path.display());
        return Err(CliError::new(EXIT_USAGE, message).hint("they are in the folder itself, or in its folder src"));
    }
    let compiler = Compiler { build, zig: &zig, include: sdk.join("include") };
    let flags = project_flags(build);
    let mut objects = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let path = shown(build, source);
        let object = build.scratch().join(format!("{number}.o"));
        compiler.compile(&path, &flags, &object, &format!("compiling {} with {}", path.display(), zig.title))?;
        objects.push(object);
    }
    objects.extend(compiler.sdk_objects(&sdk)?);
    let module = build.scratch().join("module.wasm");
    let mut link = zig.command(build)?;
    link.arg(if build.source.language == Language::Cpp { "c++" } else { "cc" });
    link.args(["-target", TARGET, "-mexec-model=reactor", "-s", "-o"]).arg(&module).args(objects);
    build.run(&format!("linking {}", build.source.path.display()), &mut link)?;
    Artifact::read_core(&module)
}

struct Compiler<'a> {
    build: &'a Build<'a>,
    zig: &'a Zig,
    /// The folder of the SDK's headers.
    include: PathBuf,
}

impl Compiler<'_> {
    /// Compiles a source file into an object file.
    fn compile(&self, source: &Path, flags: &[String], object: &Path, step: &str) -> Result<(), CliError> {
        let mut command = self.zig.command(self.build)?;
        if self.build.source.file.is_none() {
            command.current_dir(&self.build.source.folder);
        }
        let is_cpp = Language::of_file(source) == Some(Language::Cpp);
        command.arg(if is_cpp { "c++" } else { "cc" }).args(["-c", "-target", TARGET, "-g0"]);
        command.args(if is_cpp { CPP_FLAGS.as_slice() } else { &C_FLAGS });
        command.arg("-I").arg(&self.include).args(flags).arg(source).arg("-o").arg(object);
        self.build.run(step, &mut command)
    }

    /// The object files of the SDK, which are compiled once.
    fn sdk_objects(&self, sdk: &Path) -> Result<Vec<PathBuf>, CliError> {
        let name = sdk.file_name().unwrap_or_default().to_string_lossy();
        let folder = self.build.cache(&format!("{name}-{}", Zig::VERSION))?;
        let mut objects = Vec::new();
        for (number, source) in SDK_SOURCES.iter().enumerate() {
            let object = folder.join(format!("{number}.o"));
            if !object.is_file() {
                // Several builds may do this at the same time.
                let new = self.build.scratch().join(format!("sdk-{number}.o"));
                self.compile(&sdk.join(source), &[], &new, &format!("compiling {source} of the C SDK"))?;
                fs::rename(&new, &object).map_err(|error| cannot("write", &object, &error))?;
            }
            objects.push(object);
        }
        Ok(objects)
    }
}

/// The path of a source in messages of the compiler: as it was given, or within the project.
fn shown(build: &Build<'_>, source: &Path) -> PathBuf {
    match build.source.file {
        Some(_) => build.source.path.clone(),
        None => build.source.relative(source).to_owned(),
    }
}

/// The sources: those in the folder and in its folder src, without tests.
fn sources(build: &Build<'_>) -> Vec<PathBuf> {
    if let Some(file) = &build.source.file {
        return vec![file.clone()];
    }
    let mut found = Vec::new();
    for folder in [build.source.folder.clone(), build.source.folder.join("src")] {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        found.extend(entries.filter(|path| path.is_file() && is_source(path)));
    }
    found.sort();
    found
}

fn is_source(path: &Path) -> bool {
    let is_test = path.file_stem().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with("_test"));
    !is_test && matches!(Language::of_file(path), Some(Language::C | Language::Cpp))
}

/// Flags of the author's sources, with those of the project's own file, whose relative folders are those of the project.
fn project_flags(build: &Build<'_>) -> Vec<String> {
    let folder = build.source.file.is_none().then_some(&build.source.folder);
    let text = folder.and_then(|folder| fs::read_to_string(folder.join(FLAGS_FILE)).ok()).unwrap_or_default();
    let flags = text.lines().map(str::trim).filter(|line| !line.is_empty());
    std::iter::once(WARNINGS).chain(flags).map(str::to_owned).collect()
}
