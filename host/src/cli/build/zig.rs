//! Builds Zig: projects with a build.zig by `zig build`, other folders and lone files by the compiler.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use wasmparser::{Parser, Payload};

use super::{
    Artifact, Build, Language, cannot,
    tools::{InstalledTool, Installer, OnPath, Tool},
};
use crate::cli::{CliError, EXIT_USAGE};

const ZIG_VERSION: &str = "0.17.1";
/// Zig, from the wheel that has it.
static ZIG: Tool = Tool {
    name: "ziglang",
    version: ZIG_VERSION,
    download_mb: 101,
    disk_mb: 440,
    installer: Installer::Pip { requirements: include_str!("pins/ziglang.txt") },
    on_path: Some(OnPath {
        program: "zig",
        version_args: &["version"],
        is_usable: |version| version.starts_with(&[0, 17]),
        condition: "zig 0.17",
    }),
};
/// Zig within the tool's folder.
const ZIG_PROGRAM: &str = "ziglang/zig";
/// The target of modules.
pub(super) const TARGET: &str = "wasm32-wasi";
/// The root file of the SDK.
const SDK_ROOT: &str = "src/fastworker.zig";
/// The option of a build.zig that takes the SDK.
const SDK_OPTION: &str = "fastworker";
const SDK_HINT: &str = "to import the SDK of this fastworker, let build.zig ask for it, and make a module of it: \
                        b.option(std.Build.LazyPath, \"fastworker\", \"The SDK\")";
const MODULE_HINT: &str = "install it with b.installArtifact: an executable for wasm32-wasi with `entry = .disabled` and \
                           `rdynamic = true`, whose root file calls fw.exportTasks in a comptime block";
/// The name of a function that every module exports.
const EXPORT: &str = "fastworker:task/tasks@1.0.0#run";
/// The root files of a project without build.zig, in the order in which they are looked for.
const ROOTS: [&str; 6] = ["src/tasks.zig", "src/root.zig", "src/main.zig", "tasks.zig", "root.zig", "main.zig"];

/// The compiler, also of C and C++.
pub(super) struct Zig {
    tool: InstalledTool,
    /// Its name and version.
    pub(super) title: String,
}

impl Zig {
    /// The version for which this program has been made, whose objects all usable ones can link.
    pub(super) const VERSION: &'static str = ZIG_VERSION;

    pub(super) fn of(build: &Build<'_>) -> Result<Self, CliError> {
        let tool = build.tool(&ZIG)?;
        let title = match &tool {
            InstalledTool::Program(_) => "zig".to_owned(),
            InstalledTool::Folder(_) => format!("zig {ZIG_VERSION}"),
        };
        Ok(Self { tool, title })
    }

    /// A command of zig, whose caches are kept.
    pub(super) fn command(&self, build: &Build<'_>) -> Result<Command, CliError> {
        let cache = build.cache(&format!("zig-{ZIG_VERSION}"))?;
        let mut command = self.tool.command(ZIG_PROGRAM);
        command.env("ZIG_GLOBAL_CACHE_DIR", &cache).env("ZIG_LOCAL_CACHE_DIR", &cache);
        Ok(command)
    }
}

/// Builds the project or the file.
pub(super) fn build(build: &Build<'_>) -> Result<Artifact, CliError> {
    let zig = Zig::of(build)?;
    let module = if build.source.file.is_none() && build.source.folder.join("build.zig").is_file() {
        by_script(build, &zig)?
    } else {
        by_compiler(build, &zig)?
    };
    Artifact::read_core(&module)
}

/// Runs the project's build.zig and returns the module that it installs. If it has an option for the SDK, that gets the
/// SDK of this program.
fn by_script(build: &Build<'_>, zig: &Zig) -> Result<PathBuf, CliError> {
    let (folder, shown) = (&build.source.folder, build.source.path.display());
    let script = folder.join("build.zig");
    let takes_sdk = has_option(&fs::read_to_string(&script).map_err(|error| cannot("read", &script, &error))?);
    let prefix = build.scratch().join("out");
    let mut command = zig.command(build)?;
    command.current_dir(folder).args(["build", "--prefix"]).arg(&prefix);
    if takes_sdk {
        command.arg(argument("-Dfastworker=", &build.sdk(Language::Zig)?.join(SDK_ROOT)));
    }
    let result = build.run(&format!("building {shown} with {}", zig.title), &mut command);
    result.map_err(|error| if takes_sdk { error } else { error.hint(SDK_HINT) })?;
    let folders = [prefix.join("bin"), prefix];
    let entries = folders.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path());
    let modules: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|it| it == "wasm")).collect();
    let [module] = <[PathBuf; 1]>::try_from(modules).map_err(|modules| {
        let message =
            format!("build.zig of {shown} installs {} WebAssembly files, and must install one", modules.len());
        CliError::new(EXIT_USAGE, message).hint(MODULE_HINT)
    })?;
    let bytes = fs::read(&module).map_err(|error| cannot("read", &module, &error))?;
    if !exports_tasks(&bytes) {
        let message = format!("build.zig of {shown} installs a WebAssembly file that exports no tasks");
        return Err(CliError::new(EXIT_USAGE, message).hint(MODULE_HINT));
    }
    Ok(module)
}

/// Whether a build.zig has an option for the SDK: a call of `option` whose first text is its name.
fn has_option(script: &str) -> bool {
    let code: String = script.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    code.split("option(").skip(1).any(|call| call.split('"').nth(1) == Some(SDK_OPTION))
}

/// Whether a core module exports what every task module does.
fn exports_tasks(module: &[u8]) -> bool {
    let payloads = Parser::new(0).parse_all(module).map_while(Result::ok);
    let exports =
        payloads.filter_map(|payload| if let Payload::ExportSection(list) = payload { Some(list) } else { None });
    exports.flatten().flatten().any(|export| export.name == EXPORT)
}

/// Compiles the root file with the SDK.
fn by_compiler(build: &Build<'_>, zig: &Zig) -> Result<PathBuf, CliError> {
    let sdk = build.sdk(Language::Zig)?;
    let module = build.scratch().join("module.wasm");
    let mut command = zig.command(build)?;
    let root = if build.source.file.is_some() {
        build.source.path.clone()
    } else {
        command.current_dir(&build.source.folder);
        root_file(build)?
    };
    command.args(["build-exe", "-target", TARGET, "-fno-entry", "-rdynamic", "-OReleaseSafe", "-fstrip"]);
    command.args(["--dep", "fastworker"]).arg(argument("-Mroot=", &root));
    command.arg(argument("-Mfastworker=", &sdk.join(SDK_ROOT))).arg(argument("-femit-bin=", &module));
    build.run(&format!("building {} with {}", build.source.path.display(), zig.title), &mut command)?;
    Ok(module)
}

fn argument(option: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(option);
    argument.push(path);
    argument
}

/// The root file of a project, relative to its folder.
fn root_file(build: &Build<'_>) -> Result<PathBuf, CliError> {
    let known = ROOTS.iter().find(|name| build.source.folder.join(name).is_file());
    if let Some(name) = known {
        return Ok(PathBuf::from(name));
    }
    if let [only] = build.source.files().as_slice() {
        return Ok(build.source.relative(only).to_owned());
    }
    let message = format!("it is not clear which file of {} has the tasks", build.source.path.display());
    Err(CliError::new(EXIT_USAGE, message).hint(format!("name it {}, or give the file", ROOTS[0])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_for_the_sdk_is_found() {
        assert!(has_option("const sdk = b.option(std.Build.LazyPath, \"fastworker\", \"The SDK\").?;"));
        assert!(has_option(
            "b.option(bool, \"x\", \"\");\nb.option(\n    []const u8,\n    \"fastworker\",\n    \"\",\n);"
        ));
        for other in [
            "b.option(bool, \"x\", \"fastworker\")",
            "// b.option(bool, \"fastworker\", \"\")",
            "import(\"fastworker\")",
        ] {
            assert!(!has_option(other), "{other}");
        }
    }
}
