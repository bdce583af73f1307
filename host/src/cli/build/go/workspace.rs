//! The workspace that adds the SDK to the modules of a project, without a change of its files.
//!
//! The project's modules are found as they would be without the SDK: those of its own go.work, and packages in its folder
//! vendor. Both depend on where go.work is, so Go is given a file of the build in that place, by `-overlay`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::json;

use super::{OLDEST_TEXT, Project, directive, numbers};
use crate::cli::{CliError, EXIT_FAILURE, build::cannot, build::process::first_line};

/// The first version of Go that builds from a folder vendor by itself.
const VENDORS: [u32; 2] = [1, 14];
/// The first line of the list of packages in a folder vendor that belongs to a workspace.
const WORKSPACE_MARK: &str = "## workspace";

/// The go.work of a build.
pub(super) struct Workspace {
    /// Where it is for Go.
    pub(super) path: PathBuf,
    /// The file that Go reads instead. None if it is at `path`.
    pub(super) content: Option<PathBuf>,
    /// Whether the project builds from its folder vendor. Go decides that itself for the project's own go.work.
    pub(super) is_vendored: bool,
}

/// The go.work of which a project is a part.
pub(super) struct OwnWorkspace {
    path: PathBuf,
    /// The version of Go that it asks for.
    version: Option<String>,
    /// The folders of its modules, without links.
    pub(super) folders: Vec<PathBuf>,
}

/// What `go work edit -json` prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WorkFile {
    go: Option<String>,
    #[serde(default)]
    r#use: Option<Vec<Use>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Use {
    disk_path: PathBuf,
}

impl Project<'_> {
    /// Finds the go.work that Go uses for the project. None if there is none, or the project is not one of its modules.
    pub(super) fn find_own_workspace(&self) -> Result<Option<OwnWorkspace>, CliError> {
        let Some(root) = &self.root else { return Ok(None) };
        let mut command = self.plain_go();
        command.current_dir(root).args(["env", "GOWORK"]);
        let Some(path) = first_line(&mut command).filter(|path| Path::new(path).is_absolute()).map(PathBuf::from)
        else {
            return Ok(None);
        };
        let mut command = self.plain_go();
        command.args(["work", "edit", "-json"]).arg(&path);
        let step = format!("reading {}", path.display());
        let text = self.build.run_captured(&step, &mut command).map_err(|(error, _)| error)?;
        let file: WorkFile = serde_json::from_slice(&text).map_err(|error| {
            CliError::new(EXIT_FAILURE, format!("cannot read what go says of {}: {error}", path.display()))
        })?;
        let base = path.parent().unwrap_or(root);
        let folders = file.r#use.unwrap_or_default().into_iter();
        let folders: Vec<PathBuf> = folders.filter_map(|it| fs::canonicalize(base.join(it.disk_path)).ok()).collect();
        Ok(folders.contains(root).then_some(OwnWorkspace { path, version: file.go, folders }))
    }

    /// Writes a workspace of the project and the SDK. A lone file is in neither, and sees the SDK alone.
    pub(super) fn write_workspace(&self) -> Result<Workspace, CliError> {
        let content = self.build.scratch().join("go.work");
        if let Some(own) = &self.own {
            self.extend(own, &content)?;
            return Ok(Workspace { path: own.path.clone(), content: Some(content), is_vendored: false });
        }
        let mut folders = vec![self.sdk.clone()];
        folders.extend(self.root.as_ref().or(self.without_manifest()).cloned());
        let version = newest(folders.iter().filter_map(|folder| go_version(folder)));
        let uses: Vec<String> = folders.iter().map(|folder| format!("use {}\n", quoted(folder))).collect();
        self.build.write(&content, &format!("go {version}\n\n{}", uses.concat()))?;
        Ok(match self.root.as_ref().filter(|root| is_vendored(root)) {
            Some(root) => Workspace { path: root.join("go.work"), content: Some(content), is_vendored: true },
            None => Workspace { path: content, content: None, is_vendored: false },
        })
    }

    /// Writes a copy of the project's go.work, with the SDK.
    fn extend(&self, own: &OwnWorkspace, copy: &Path) -> Result<(), CliError> {
        fs::copy(&own.path, copy).map_err(|error| cannot("read", &own.path, &error))?;
        let version = newest(go_version(&self.sdk).into_iter().chain(own.version.clone()));
        let mut command = self.plain_go();
        command.args(["work", "edit"]).arg(format!("-go={version}")).arg("-use").arg(&self.sdk).arg(copy);
        self.build.run(&format!("adding the Go SDK to {}", own.path.display()), &mut command)
    }
}

/// Whether Go builds the module from its folder vendor, when it is alone.
fn is_vendored(root: &Path) -> bool {
    let list = fs::read_to_string(root.join("vendor/modules.txt"));
    let is_new = go_version(root).is_some_and(|version| numbers(&version) >= VENDORS.to_vec());
    is_new && list.is_ok_and(|list| !list.starts_with(WORKSPACE_MARK))
}

/// The version of Go that the go.mod in a folder asks for.
fn go_version(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("go.mod")).ok()?;
    directive(&text, "go").map(str::to_owned)
}

fn newest(versions: impl Iterator<Item = String>) -> String {
    versions.max_by_key(|version| numbers(version)).unwrap_or_else(|| OLDEST_TEXT.to_owned())
}

/// A path as a string of go.work.
fn quoted(path: &Path) -> String {
    json!(path.to_string_lossy()).to_string()
}
