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
        self.write(&folder, sdk.as_deref()).map_err(|error| {
            Failure::new(TASK_FAILED, format!("cannot create the crate in {}: {}", folder.display(), plain(&error)))
                .hint("choose a folder that you may write to with --path")
        })?;
        render::created(&self.name, &folder, self.json)
    }

    /// Writes the files of the crate, and those of the SDK unless another is to be used.
    fn write(&self, folder: &Path, sdk: Option<&Path>) -> io::Result<()> {
        let dependency = match sdk {
            Some(sdk) => sdk.display().to_string(),
            None => format!("{SDK}/guest-sdk"),
        };
        let library = self.name.replace('-', "_");
        // Within a text of TOML.
        let dependency = dependency.replace('\\', "\\\\").replace('"', "\\\"");
        for (path, text) in TEMPLATE {
            let text = text.replace("@NAME@", &self.name).replace("@LIBRARY@", &library);
            put(&folder.join(path), &text.replace("@SDK@", &dependency))?;
        }
        if sdk.is_none() {
            for (path, text) in sdk::FILES {
                put(&folder.join(SDK).join(path), text)?;
            }
            put(&folder.join(SDK).join("Cargo.toml"), &sdk::workspace())?;
        }
        Ok(())
    }
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
