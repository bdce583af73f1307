//! Decides whether a new crate is its own workspace or a member of one around it, as cargo does.
//!
//! A crate that a workspace includes as a member must not be a workspace itself, or neither builds.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use glob::{MatchOptions, Pattern};
use serde::Deserialize;

use crate::cli::{CliError, EXIT_USAGE};

/// Maximum size of a manifest to read, in bytes.
const MANIFEST_MAX: usize = 4 << 20;

/// The relation of a new crate to the workspaces around it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WorkspacePlacement {
    /// It is its own workspace.
    Standalone,
    /// It is a member of the workspace in this folder.
    Member { root: PathBuf },
}

impl WorkspacePlacement {
    /// Decides on the placement of a crate in `folder`. `sdk_copy` is the folder of the copy of the SDK, relative to
    /// the workspace, if there is to be one.
    pub(super) fn of(folder: &Path, sdk_copy: Option<&str>) -> Result<Self, CliError> {
        let folder = absolute(folder);
        let around = Workspace::around(&folder);
        let placement = match around.iter().position(|workspace| workspace.includes(&folder)) {
            None => Self::Standalone,
            Some(0) => Self::Member { root: around[0].root.clone() },
            Some(outer) => return Err(nested_workspaces(&around[outer].root, &around[0].root)),
        };
        let Some(sdk_copy) = sdk_copy else { return Ok(placement) };
        let packages =
            ["", "guest-sdk/rust", "guest-sdk/rust/macros"].map(|package| folder.join(sdk_copy).join(package));
        let including = match &placement {
            Self::Standalone => {
                around.iter().find(|workspace| packages.iter().any(|package| workspace.includes(package)))
            }
            // cargo treats path dependencies of a member below the workspace as members as well.
            Self::Member { root } => around.first().filter(|workspace| !workspace.excludes(&root.join(sdk_copy))),
        };
        match including {
            Some(workspace) => Err(sdk_copy_included(&workspace.root)),
            None => Ok(placement),
        }
    }

    /// The relative path from the crate up to its workspace: `../..`, or empty.
    pub(super) fn relative_root(&self, folder: &Path) -> PathBuf {
        let Self::Member { root } = self else { return PathBuf::new() };
        let folder = absolute(folder);
        let depth = folder.strip_prefix(root).map_or(0, |below| below.components().count());
        std::iter::repeat_n("..", depth).collect()
    }
}

/// The error for a folder inside two nested workspaces, where no crate can be created.
fn nested_workspaces(outer: &Path, inner: &Path) -> CliError {
    let message = format!(
        "the workspace in {} would include the crate as a member, but the workspace in {} is in between",
        outer.display(),
        inner.display()
    );
    CliError::new(EXIT_USAGE, message).hint("choose another folder with --path")
}

/// The error for a workspace that would include the copy of the SDK.
fn sdk_copy_included(root: &Path) -> CliError {
    let message = format!("the workspace in {} would include the copy of the guest SDK as a member", root.display());
    CliError::new(EXIT_USAGE, message).hint(
        "add exclude = [\".fastworker\"] to [workspace] in its Cargo.toml and try again, or choose a folder outside of \
         it with --path",
    )
}

/// A workspace around a folder.
#[derive(Debug)]
struct Workspace {
    /// Its folder.
    root: PathBuf,
    patterns: MemberPatterns,
}

/// The patterns that select the members of a workspace.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MemberPatterns {
    members: Vec<String>,
    exclude: Vec<String>,
}

/// The part of a manifest that defines a workspace.
#[derive(Debug, Deserialize)]
struct Manifest {
    workspace: Option<MemberPatterns>,
}

impl Workspace {
    /// The workspaces around a folder, nearest first. The folder must be an absolute path. Manifests that cannot be
    /// read are ignored.
    fn around(folder: &Path) -> Vec<Self> {
        let read = |root: &Path| {
            let manifest = fs::read_to_string(root.join("Cargo.toml")).ok().filter(|it| it.len() <= MANIFEST_MAX)?;
            Self::parse(root, &manifest)
        };
        folder.ancestors().skip(1).filter_map(read).collect()
    }

    /// Parses a manifest. None if it does not define a workspace.
    fn parse(root: &Path, manifest: &str) -> Option<Self> {
        let patterns = toml::from_str::<Manifest>(manifest).ok()?.workspace?;
        Some(Self { root: root.to_owned(), patterns })
    }

    /// Whether the workspace excludes a folder. As with cargo, a folder that is listed as a member is not excluded.
    fn excludes(&self, folder: &Path) -> bool {
        let contains = |path: &String| folder.starts_with(normalize(&self.root.join(path)));
        self.patterns.exclude.iter().any(contains) && !self.patterns.members.iter().any(contains)
    }

    /// Whether the workspace includes a folder as a member.
    fn includes(&self, folder: &Path) -> bool {
        if self.excludes(folder) {
            return false;
        }
        let root = Pattern::escape(&self.root.to_string_lossy());
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        self.patterns.members.iter().any(|member| {
            let pattern = normalize(&Path::new(&root).join(member));
            Pattern::new(&pattern.to_string_lossy()).is_ok_and(|pattern| pattern.matches_path_with(folder, options))
        })
    }
}

/// The absolute path of a folder that may not exist.
fn absolute(folder: &Path) -> PathBuf {
    normalize(&std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()))
}

/// A path without `.` and `..`.
pub(super) fn normalize(path: &Path) -> PathBuf {
    let mut normalized = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normalized.pop()),
            part => normalized.push(part),
        }
    }
    normalized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_the_same_as_for_cargo() {
        let includes = |manifest: &str, folder: &str| {
            Workspace::parse(Path::new("/w"), manifest).map(|workspace| workspace.includes(Path::new(folder)))
        };
        let plain = "[package]\nname = \"a\" # [workspace]\n";
        assert_eq!(includes(plain, "/w/x"), None);
        for globs in [
            "[workspace]\nmembers = [\"crates/*\"]",
            "[ workspace ]\nresolver = \"3\"\nmembers = [\n  'app', # one\n  './crates/*/',\n]\n[profile.release]\nmembers = []",
            "workspace.members = [\"crates/*\"]\n[package]\nname = \"a\"",
            "workspace = { resolver = \"3\", members = [\"crates/*\"] }",
            "workspace = { default-members = [\"other\"], members = [\"crates/*\"] }",
            "[workspace]\nmetadata.note = \"[ {\"\nmembers = [\"crates/*\"]",
        ] {
            let found = ["/w/crates/x", "/w/crates/x/y", "/w/other"].map(|folder| includes(globs, folder));
            assert_eq!(found, [Some(true), Some(false), Some(false)], "{globs}");
        }
        let deep = "[workspace]\nmembers = [\"crates/**\", \"tools/a\"]\nexclude = [\"crates/old\", \"tools\"]";
        let found =
            ["/w/crates/x/y", "/w/crates/old/z", "/w/tools/a", "/w/tools/b"].map(|folder| includes(deep, folder));
        assert_eq!(found, [Some(true), Some(false), Some(true), Some(false)]);
        let deep = Workspace::parse(Path::new("/w"), deep).expect("a workspace");
        let found = ["/w/tools/b", "/w/tools/a", "/w/.fastworker"].map(|folder| deep.excludes(Path::new(folder)));
        assert_eq!(found, [true, false, false]);
        assert_eq!(includes("[workspace]\n", "/w/x"), Some(false));
        assert_eq!(includes("[workspace\n", "/w/x"), None, "not TOML");
        assert_eq!(includes("[workspace.dependencies]\nserde = \"1\"\n", "/w/x"), Some(false));
    }
}
