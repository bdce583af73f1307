//! `fastworker new`
//!
//! The new crate builds as it stands, with no registry that has the guest SDK: the SDK's sources are
//! in this program ([`sdk`]) and go along, as a path dependency.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};

use super::{Failure, Outcome, TASK_FAILED, WRONG_USAGE, failure::plain, render, switch};

mod sdk;
mod workspace;

use workspace::{Workspace, normal};

/// Bytes of a crate's name.
const NAME_MAX: usize = 64;
/// Names that mean something else to cargo or to the compiler.
const RESERVED: [&str; 10] =
    ["test", "core", "std", "alloc", "proc_macro", "proc-macro", "fastworker-guest", "deps", "build", "examples"];
/// Where the SDK is in a new crate.
const SDK: &str = ".fastworker/sdk";

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct New {
    /// The crate's name: letters, digits, - and _
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,
    /// Create it in this folder, new or empty [default: NAME]
    #[arg(long, env = "FASTWORKER_PATH", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    path: Option<PathBuf>,
    /// Depend on the guest SDK in this folder, such as guest-sdk of a clone, instead of a copy of it
    #[arg(long, env = "FASTWORKER_SDK", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    sdk: Option<PathBuf>,
    /// Print JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = switch)]
    json: bool,
}

const AFTER_HELP: &str = "\
The crate has two tasks and their tests. Cargo builds it for the target wasm32-wasip2. Its folder .fastworker \
contains a copy of this version's guest SDK.";

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
            Failure::new(TASK_FAILED, format!("cannot create the crate in {}: {}", folder.display(), plain(&error)))
                .hint("choose a folder that you may write to with --path")
        })?;
        if let Home::Member { root } = &home {
            render::note(&format!(
                "the crate is a member of the workspace in {}: cargo builds it to the target folder there, by the profiles \
                 in its Cargo.toml",
                root.display()
            ));
        }
        render::created(&self.name, &folder, &home.above(&folder).join("target"), self.json)
    }

    /// Writes the files of the crate, and those of the SDK unless another is to be used.
    fn write(&self, folder: &Path, sdk: Option<&Path>, home: &Home) -> io::Result<()> {
        // Crates of one workspace share one: it has no place for two of one version.
        let above = home.above(folder);
        let copy = above.join(SDK);
        let dependency = match sdk {
            Some(sdk) => sdk.display().to_string(),
            None => copy.join("guest-sdk").display().to_string(),
        };
        let library = self.name.replace('-', "_");
        // Within a text of TOML.
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

/// What a new crate is to cargo.
#[derive(Debug, PartialEq, Eq)]
enum Home {
    /// A workspace of its own.
    Own,
    /// A member of the workspace in this folder.
    Member { root: PathBuf },
}

/// What a crate has that is a workspace of its own. Of a member, cargo would refuse or ignore it.
const OWN_WORKSPACE: &str = r#"
[profile.release]
opt-level = "s"
lto = true
strip = "debuginfo" # keeps the function names that a backtrace shows

# A workspace of its own, wherever it is. The SDK's folder is another.
[workspace]
exclude = [".fastworker"]
"#;

impl Home {
    /// Whether the crate is a workspace of its own, or has to be a member of one around it.
    fn of(folder: &Path, sdk: Option<&Path>) -> Result<Self, Failure> {
        let whole = normal(&std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()));
        let around = Workspace::around(&whole);
        let home = match around.iter().position(|workspace| workspace.takes(&whole)) {
            None => Self::Own,
            Some(0) => Self::Member { root: around[0].root.clone() },
            Some(outer) => return Err(between(&around[outer].root, &around[0].root)),
        };
        // cargo takes what a member depends on for a member, too, if it is below the workspace.
        let copies = |folder: &Path| ["", "guest-sdk", "guest-sdk/macros"].map(|part| folder.join(SDK).join(part));
        let taken = match &home {
            Self::Own => around.iter().find(|workspace| copies(&whole).iter().any(|folder| workspace.takes(folder))),
            Self::Member { root } => around.first().filter(|workspace| !workspace.leaves_out(&root.join(SDK))),
        };
        match taken.filter(|_| sdk.is_none()) {
            Some(workspace) => Err(Failure::new(
                WRONG_USAGE,
                format!(
                    "the workspace in {} would take the copy of the guest SDK, which goes along, for a member of its own",
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

    /// The way from the crate's folder up to that of the workspace: `../..`, or nothing.
    fn above(&self, folder: &Path) -> PathBuf {
        let Self::Member { root } = self else { return PathBuf::new() };
        let whole = normal(&std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()));
        let below = whole.strip_prefix(root).map_or(0, |below| below.components().count());
        std::iter::repeat_n("..", below).collect()
    }
}

/// No crate can be here: two workspaces, one in the other, would quarrel about it.
fn between(outer: &Path, inner: &Path) -> Failure {
    let words = format!(
        "the workspace in {} would take the crate for a member, and the one in {} lies between",
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
