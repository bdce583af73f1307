//! `fastworker new`
//!
//! The guest SDK is not in a registry: its sources are embedded in this program ([`sdk`]) and copied next to the new
//! crate, which has a path dependency on them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};

use super::{Failure, Outcome, TASK_FAILED, WRONG_USAGE, failure::os_message, render, switch};

mod sdk;
mod workspace;

use workspace::{Workspace, normal};

/// Maximum length of a crate name in bytes.
const NAME_MAX: usize = 64;
/// Names that cargo or the compiler reserves.
const RESERVED: [&str; 10] =
    ["test", "core", "std", "alloc", "proc_macro", "proc-macro", "fastworker-guest", "deps", "build", "examples"];
/// The folder of the SDK in a new crate.
const SDK: &str = ".fastworker/sdk";

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct New {
    /// Name of the crate: letters, digits, - and _
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// Folder to create the crate in, new or empty [default: NAME]
    #[arg(long, env = "FASTWORKER_PATH", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    path: Option<PathBuf>,
    /// Folder of a guest SDK to depend on, such as guest-sdk of a clone, instead of a copy
    #[arg(long, env = "FASTWORKER_SDK", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    sdk: Option<PathBuf>,
    /// Print JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = switch)]
    json: bool,
}

const AFTER_HELP: &str = "\
The crate contains two tasks with tests, and builds for the target wasm32-wasip2. Its folder .fastworker contains a \
copy of the guest SDK of this version.";

impl New {
    pub(super) fn run(self) -> Outcome {
        let folder = self.path.clone().unwrap_or_else(|| PathBuf::from(&self.name));
        if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
            let words = format!("the folder {} is not empty", folder.display());
            return Err(Failure::new(WRONG_USAGE, words).hint("choose another folder with --path"));
        }
        let sdk = self.sdk.as_deref().map(sdk_at).transpose()?;
        let home = Home::of(&folder, sdk.as_deref())?;
        self.write(&folder, sdk.as_deref(), &home).map_err(|error| {
            Failure::new(
                TASK_FAILED,
                format!("cannot create the crate in {}: {}", folder.display(), os_message(&error)),
            )
            .hint("choose a folder that you can write to with --path")
        })?;
        if let Home::Member { root } = &home {
            render::note(&format!(
                "the crate is a member of the workspace in {}: cargo uses the target folder and the profiles of the workspace",
                root.display()
            ));
        }
        render::created(&self.name, &folder, &home.above(&folder).join("target"), self.json)
    }

    /// Writes the files of the crate, and those of the SDK unless `sdk` is given.
    fn write(&self, folder: &Path, sdk: Option<&Path>, home: &Home) -> io::Result<()> {
        // The crates of a workspace share one copy: cargo does not allow two packages of the same version.
        let above = home.above(folder);
        let copy = above.join(SDK);
        let dependency = match sdk {
            Some(sdk) => sdk.display().to_string(),
            None => copy.join("guest-sdk").display().to_string(),
        };
        let library = self.name.replace('-', "_");
        // Escaped for a TOML string.
        let dependency = dependency.replace('\\', "\\\\").replace('"', "\\\"");
        for (path, text) in TEMPLATE {
            let text = text.replace("@NAME@", &self.name).replace("@LIBRARY@", &library);
            let text = text.replace("@TARGET@", &above.join("target").display().to_string());
            let own = if path == "Cargo.toml" && *home == Home::Own { OWN_WORKSPACE } else { "" };
            put(&folder.join(path), &(text.replace("@SDK@", &dependency) + own))?;
        }
        let copy = normal(&std::path::absolute(folder)?.join(copy));
        if sdk.is_none() && !copy.join("Cargo.toml").exists() {
            for (path, text) in sdk::FILES {
                put(&copy.join(path), text)?;
            }
            put(&copy.join("Cargo.toml"), &sdk::workspace())?;
        }
        Ok(())
    }
}

/// How cargo treats a new crate.
#[derive(Debug, PartialEq, Eq)]
enum Home {
    /// It is its own workspace.
    Own,
    /// It is a member of the workspace in this folder.
    Member { root: PathBuf },
}

/// The part of the manifest that only a workspace may have: in a member, cargo refuses or ignores it.
const OWN_WORKSPACE: &str = r#"
[profile.release]
opt-level = "s"
lto = true
strip = "debuginfo" # keeps the function names that a backtrace shows

# This crate is its own workspace, and the folder of the SDK is another one.
[workspace]
exclude = [".fastworker"]
"#;

impl Home {
    /// Decides whether the crate is its own workspace or a member of one around it.
    fn of(folder: &Path, sdk: Option<&Path>) -> Result<Self, Failure> {
        let whole = normal(&std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()));
        let around = Workspace::around(&whole);
        let home = match around.iter().position(|workspace| workspace.includes(&whole)) {
            None => Self::Own,
            Some(0) => Self::Member { root: around[0].root.clone() },
            Some(outer) => return Err(nested_workspaces(&around[outer].root, &around[0].root)),
        };
        // cargo treats path dependencies of a member below the workspace as members as well.
        let copies = |folder: &Path| ["", "guest-sdk", "guest-sdk/macros"].map(|part| folder.join(SDK).join(part));
        let taken = match &home {
            Self::Own => around.iter().find(|workspace| copies(&whole).iter().any(|folder| workspace.includes(folder))),
            Self::Member { root } => around.first().filter(|workspace| !workspace.excludes(&root.join(SDK))),
        };
        match taken.filter(|_| sdk.is_none()) {
            Some(workspace) => Err(Failure::new(
                WRONG_USAGE,
                format!(
                    "the workspace in {} would include the copy of the guest SDK as a member",
                    workspace.root.display()
                ),
            )
            .hint(
                "add exclude = [\".fastworker\"] to [workspace] in its Cargo.toml and try again, or choose a folder \
                 outside of it with --path",
            )),
            None => Ok(home),
        }
    }

    /// The relative path from the crate up to its workspace: `../..`, or empty.
    fn above(&self, folder: &Path) -> PathBuf {
        let Self::Member { root } = self else { return PathBuf::new() };
        let whole = normal(&std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()));
        let below = whole.strip_prefix(root).map_or(0, |below| below.components().count());
        std::iter::repeat_n("..", below).collect()
    }
}

/// The error for a folder inside two nested workspaces, where no crate can be created.
fn nested_workspaces(outer: &Path, inner: &Path) -> Failure {
    let words = format!(
        "the workspace in {} would include the crate as a member, but the workspace in {} is in between",
        outer.display(),
        inner.display()
    );
    Failure::new(WRONG_USAGE, words).hint("choose another folder with --path")
}

/// The files of a new crate.
const TEMPLATE: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("new/Cargo.toml.in")),
    ("src/lib.rs", include_str!("new/lib.rs.in")),
    ("README.md", include_str!("new/README.md.in")),
    (".gitignore", "/target\n"),
];

fn put(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}

/// The whole path of the SDK that is in this folder.
fn sdk_at(folder: &Path) -> Result<PathBuf, Failure> {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    if !manifest.contains("name = \"fastworker-guest\"\n") {
        let words = format!("{} does not hold the crate fastworker-guest", folder.display());
        return Err(Failure::new(WRONG_USAGE, words).hint("in a clone of fastworker it is in the folder guest-sdk"));
    }
    fs::canonicalize(folder).map_err(|error| Failure::new(TASK_FAILED, format!("{}: {error}", folder.display())))
}

/// Reads the name of a crate.
fn name(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) || !text.chars().all(is_allowed) {
        return Err("write letters, digits, - and _, beginning with a letter".into());
    }
    if text.len() > NAME_MAX {
        return Err(format!("choose a name of at most {NAME_MAX} characters"));
    }
    if RESERVED.contains(&text) || KEYWORDS.split(' ').any(|word| word == text) {
        return Err("choose another name: cargo or the compiler reserves this one".into());
    }
    Ok(text.to_owned())
}

const KEYWORDS: &str = "abstract as async await become box break const continue crate do dyn else enum extern false \
    final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self static struct super \
    trait true try type typeof unsafe unsized use virtual where while yield";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cargo_would_refuse_are_refused() {
        for good in ["hello", "my-tasks", "reports_2"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for wrong in ["", "2fast", "a b", "../up", "größe", "test", "match", "-x", &"x".repeat(65)] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }
}
