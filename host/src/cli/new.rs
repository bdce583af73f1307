//! `fastworker new`
//!
//! The guest SDK is not in a registry: its sources are embedded in this program ([`sdk`]) and copied next to the new
//! crate, which has a path dependency on them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, ValueHint};

use super::{CliError, CommandResult, EXIT_FAILURE, EXIT_USAGE, error::os_message, parse_bool, render};

mod sdk;
mod workspace;

use workspace::{WorkspacePlacement, normalize};

/// Maximum length of a crate name in bytes.
const NAME_MAX: usize = 64;
/// Names that cargo or the compiler reserves, in addition to keywords.
const RESERVED_NAMES: [&str; 10] =
    ["test", "core", "std", "alloc", "proc_macro", "proc-macro", "fastworker-guest", "deps", "build", "examples"];
/// The folder of the SDK in a new crate.
const SDK_FOLDER: &str = ".fastworker/sdk";

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct NewCommand {
    /// Name of the crate: letters, digits, - and _
    #[arg(value_name = "NAME", value_parser = parse_crate_name)]
    name: String,
    /// Folder to create the crate in, new or empty [default: NAME]
    #[arg(long, env = "FASTWORKER_PATH", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    path: Option<PathBuf>,
    /// Folder of a guest SDK to depend on, such as guest-sdk/rust of a clone, instead of a copy
    #[arg(long, env = "FASTWORKER_SDK", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    sdk: Option<PathBuf>,
    /// Print JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = parse_bool)]
    json: bool,
}

const AFTER_HELP: &str = "\
The crate contains two tasks with tests, and builds for the target wasm32-wasip2. Its folder .fastworker contains a \
copy of the guest SDK of this version.";

impl NewCommand {
    pub(super) fn run(self) -> CommandResult {
        let folder = self.path.clone().unwrap_or_else(|| PathBuf::from(&self.name));
        if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
            let message = format!("the folder {} is not empty", folder.display());
            return Err(CliError::new(EXIT_USAGE, message).hint("choose another folder with --path"));
        }
        let sdk = self.sdk.as_deref().map(absolute_sdk_path).transpose()?;
        let placement = WorkspacePlacement::of(&folder, sdk.is_none().then_some(SDK_FOLDER))?;
        self.write(&folder, sdk.as_deref(), &placement).map_err(|error| {
            CliError::new(
                EXIT_FAILURE,
                format!("cannot create the crate in {}: {}", folder.display(), os_message(&error)),
            )
            .hint("choose a folder that you can write to with --path")
        })?;
        if let WorkspacePlacement::Member { root } = &placement {
            render::print_note(&format!(
                "the crate is a member of the workspace in {}: cargo uses the target folder and the profiles of the workspace",
                root.display()
            ));
        }
        render::print_created(&self.name, &folder, &placement.relative_root(&folder).join("target"), self.json)
    }

    /// Writes the files of the crate, and those of the SDK unless `sdk` is given.
    fn write(&self, folder: &Path, sdk: Option<&Path>, placement: &WorkspacePlacement) -> io::Result<()> {
        // The crates of a workspace share one copy: cargo does not allow two packages of the same version.
        let relative_root = placement.relative_root(folder);
        let copy = relative_root.join(SDK_FOLDER);
        let dependency = match sdk {
            Some(sdk) => sdk.display().to_string(),
            None => copy.join("guest-sdk/rust").display().to_string(),
        };
        let library = self.name.replace('-', "_");
        // Escaped for a TOML string.
        let dependency = dependency.replace('\\', "\\\\").replace('"', "\\\"");
        for (path, text) in TEMPLATE {
            let text = text.replace("@NAME@", &self.name).replace("@LIBRARY@", &library);
            let text = text.replace("@TARGET@", &relative_root.join("target").display().to_string());
            let is_workspace = path == "Cargo.toml" && *placement == WorkspacePlacement::Standalone;
            let workspace = if is_workspace { WORKSPACE_SECTIONS } else { "" };
            write_file(&folder.join(path), &(text.replace("@SDK@", &dependency) + workspace))?;
        }
        let copy = normalize(&std::path::absolute(folder)?.join(copy));
        if sdk.is_none() && !copy.join("Cargo.toml").exists() {
            for (path, text) in sdk::FILES {
                write_file(&copy.join(path), text)?;
            }
            write_file(&copy.join("Cargo.toml"), &sdk::workspace_manifest())?;
        }
        Ok(())
    }
}

/// The part of the manifest that only a workspace may have: in a member, cargo refuses or ignores it.
const WORKSPACE_SECTIONS: &str = r#"
[profile.release]
opt-level = "s"
lto = true
strip = "debuginfo" # keeps the function names that a backtrace shows

# This crate is its own workspace, and the folder of the SDK is another one.
[workspace]
exclude = [".fastworker"]
"#;

/// The files of a new crate.
const TEMPLATE: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("new/Cargo.toml.in")),
    ("src/lib.rs", include_str!("new/lib.rs.in")),
    ("README.md", include_str!("new/README.md.in")),
    (".gitignore", "/target\n"),
];

fn write_file(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}

/// Checks that a folder contains the SDK, and returns its absolute path.
fn absolute_sdk_path(folder: &Path) -> Result<PathBuf, CliError> {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    if !manifest.contains("name = \"fastworker-guest\"\n") {
        let message = format!("{} does not contain the crate fastworker-guest", folder.display());
        return Err(
            CliError::new(EXIT_USAGE, message).hint("in a clone of fastworker it is in the folder guest-sdk/rust")
        );
    }
    fs::canonicalize(folder).map_err(|error| CliError::new(EXIT_FAILURE, format!("{}: {error}", folder.display())))
}

/// Parses the name of a crate.
fn parse_crate_name(text: &str) -> Result<String, String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) || !text.chars().all(is_allowed) {
        return Err("write letters, digits, - and _, beginning with a letter".into());
    }
    if text.len() > NAME_MAX {
        return Err(format!("choose a name of at most {NAME_MAX} characters"));
    }
    if RESERVED_NAMES.contains(&text) || KEYWORDS.split(' ').any(|keyword| keyword == text) {
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
            assert_eq!(parse_crate_name(good).as_deref(), Ok(good));
        }
        for wrong in ["", "2fast", "a b", "../up", "größe", "test", "match", "-x", &"x".repeat(65)] {
            assert!(parse_crate_name(wrong).is_err(), "{wrong}");
        }
    }
}
