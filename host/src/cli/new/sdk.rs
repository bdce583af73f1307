//! The sources of the guest SDK, embedded when this program is built.
//!
//! `new` writes them into the new crate with the folders of the repository, below a separate workspace
//! manifest, from which they inherit the same settings as here.

/// A file of this package. All of them are links into the repository, which `cargo package` follows.
macro_rules! source {
    ($path:expr) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path))
    };
}

/// A source file of the SDK.
macro_rules! guest {
    ($file:literal) => {
        (concat!("guest-sdk/rust/src/", $file), source!(concat!("sdk/guest/", $file)))
    };
}

/// A source file of the SDK's macros.
macro_rules! macros {
    ($file:literal) => {
        (concat!("guest-sdk/rust/macros/src/", $file), source!(concat!("sdk/macros/", $file)))
    };
}

/// The files of the SDK, by their path below its folder.
pub(super) const FILES: [(&str, &str); 28] = [
    ("guest-sdk/rust/Cargo.toml", source!("sdk/guest.toml")),
    ("guest-sdk/rust/macros/Cargo.toml", source!("sdk/macros.toml")),
    macros!("check.rs"),
    macros!("expand.rs"),
    macros!("lib.rs"),
    macros!("errors.rs"),
    macros!("parse.rs"),
    macros!("schedule.rs"),
    macros!("settings.rs"),
    macros!("task.rs"),
    macros!("types.rs"),
    macros!("value.rs"),
    guest!("arguments.rs"),
    guest!("context.rs"),
    guest!("error.rs"),
    guest!("export.rs"),
    guest!("follow_up.rs"),
    guest!("host/imports.rs"),
    guest!("host/mod.rs"),
    guest!("lib.rs"),
    guest!("log.rs"),
    guest!("schema.rs"),
    guest!("task.rs"),
    guest!("testing.rs"),
    guest!("wait.rs"),
    ("guest-sdk/rust/wit/task.wit", source!("wit/task.wit")),
    ("LICENSE-APACHE", source!("LICENSE-APACHE")),
    ("LICENSE-MIT", source!("LICENSE-MIT")),
];

/// The manifest of the SDK's workspace: that of the repository, without other members and without profiles, which
/// the new crate defines.
pub(super) fn workspace_manifest() -> String {
    let manifest = source!("sdk/workspace.toml");
    let (without_profiles, _) = manifest.split_once("\n[profile").unwrap_or((manifest, ""));
    let (before, rest) = without_profiles.split_once("members = [").expect("a workspace has members");
    let (_, after) = rest.split_once("]\n").expect("the list ends");
    let after = after.lines().filter(|line| !line.starts_with("default-members"));
    let members = r#"members = ["guest-sdk/rust", "guest-sdk/rust/macros"]"#;
    [before, members, "\n"].concat() + &after.chain([""]).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                rust_files(&path, found);
            } else if path.extension().is_some_and(|it| it == "rs" || it == "toml") {
                found.push(path);
            }
        }
    }

    #[test]
    fn no_file_of_the_sdk_is_missing() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut found = Vec::new();
        rust_files(&root.join("guest-sdk/rust"), &mut found);
        let within = found.iter().map(|path| path.strip_prefix(&root).expect("it is there").to_str().expect("UTF-8"));
        for path in within.filter(|path| !path.contains("/tests/")) {
            assert!(FILES.iter().any(|(known, _)| *known == path), "{path} is missing in cli/new/sdk.rs");
        }
    }

    #[test]
    fn the_workspace_has_only_what_its_members_inherit() {
        let manifest = workspace_manifest();
        for section in ["[workspace]", "[workspace.package]", "[workspace.dependencies]", "[workspace.lints.clippy]"] {
            assert!(manifest.contains(section), "{manifest}");
        }
        assert!(manifest.contains("\nmembers = [\"guest-sdk/rust\", \"guest-sdk/rust/macros\"]\n"), "{manifest}");
        assert!(!manifest.contains("default-members") && !manifest.contains("[profile"), "{manifest}");
    }
}
