//! A new Rust crate: a template, and its place in the workspaces around it.

use std::{fs, io, path::PathBuf};

use super::{
    NewProject, SDK_FOLDER, sdk,
    template::{self, Values, library_name},
    workspace::{WorkspacePlacement, normalize},
};
use crate::cli::{
    CliError, EXIT_USAGE,
    build::{Language, sdk::RUST_FOLDER},
    render,
};

/// Names that cargo or the compiler reserves, in addition to keywords.
const RESERVED_NAMES: [&str; 10] =
    ["test", "core", "std", "alloc", "proc_macro", "proc-macro", "fastworker-guest", "deps", "build", "examples"];

/// Writes the crate. Returns the name of its library, which is that of the module.
pub(super) fn create(project: &NewProject<'_>) -> Result<String, CliError> {
    if is_reserved(project.name) {
        let message = format!("a crate cannot be called '{}': cargo or the compiler reserves the name", project.name);
        return Err(CliError::new(EXIT_USAGE, message).hint("choose another name"));
    }
    let placement = WorkspacePlacement::of(project.folder, project.sdk.is_none().then_some(SDK_FOLDER))?;
    write(project, &placement).map_err(|error| project.cannot_create(&error))?;
    if let WorkspacePlacement::Member { root } = &placement {
        render::print_note(&format!(
            "the crate is a member of the workspace in {}: cargo uses the target folder and the profiles of the workspace",
            root.display()
        ));
    }
    Ok(library_name(project.name))
}

/// Writes the files of the crate, and those of the SDK unless another one is used.
fn write(project: &NewProject<'_>, placement: &WorkspacePlacement) -> io::Result<()> {
    // The crates of a workspace share one copy: cargo does not allow two packages of the same version.
    let copy = placement.relative_root(project.folder).join(SDK_FOLDER);
    let sdk = project.sdk.map_or_else(|| copy.join(RUST_FOLDER), PathBuf::from).display().to_string();
    template::write(Language::Rust, project.folder, &Values { name: project.name, sdk: &sdk })?;
    if *placement == WorkspacePlacement::Standalone {
        let manifest = project.folder.join("Cargo.toml");
        let text = fs::read_to_string(&manifest)? + WORKSPACE_SECTIONS;
        fs::write(manifest, text)?;
    }
    let copy = normalize(&std::path::absolute(project.folder)?.join(copy));
    if project.sdk.is_none() && !copy.join("Cargo.toml").exists() {
        sdk::write(Language::Rust, &copy)?;
    }
    Ok(())
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

fn is_reserved(name: &str) -> bool {
    RESERVED_NAMES.contains(&name) || KEYWORDS.split(' ').any(|keyword| keyword == name)
}

const KEYWORDS: &str = "abstract as async await become box break const continue crate do dyn else enum extern false \
    final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self static struct super \
    trait true try type typeof unsafe unsized use virtual where while yield";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cargo_would_refuse_are_reserved() {
        assert!(["test", "match", "build", "gen"].into_iter().all(is_reserved));
        assert!(!["hello", "my-tasks", "matches"].into_iter().any(is_reserved));
    }
}
