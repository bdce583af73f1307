//! The sources of the guest SDK, embedded when this program is built.
//!
//! `new` writes them into the new crate with the folders of the repository, below a separate workspace
//! manifest, from which they inherit the same settings as here.

/// A source file by its path in the repository.
macro_rules! source {
    ($path:literal) => {
        ($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../", $path)))
    };
}

/// The files of the SDK, by their path below its folder.
pub(super) const FILES: [(&str, &str); 28] = [
    source!("guest-sdk/Cargo.toml"),
    source!("guest-sdk/macros/Cargo.toml"),
    source!("guest-sdk/macros/src/check.rs"),
    source!("guest-sdk/macros/src/expand.rs"),
    source!("guest-sdk/macros/src/lib.rs"),
    source!("guest-sdk/macros/src/mistakes.rs"),
    source!("guest-sdk/macros/src/parse.rs"),
    source!("guest-sdk/macros/src/schedule.rs"),
    source!("guest-sdk/macros/src/settings.rs"),
    source!("guest-sdk/macros/src/task.rs"),
    source!("guest-sdk/macros/src/types.rs"),
    source!("guest-sdk/macros/src/value.rs"),
    source!("guest-sdk/src/arguments.rs"),
    source!("guest-sdk/src/context.rs"),
    source!("guest-sdk/src/error.rs"),
    source!("guest-sdk/src/export.rs"),
    source!("guest-sdk/src/follow_up.rs"),
    source!("guest-sdk/src/host/imports.rs"),
    source!("guest-sdk/src/host/mod.rs"),
    source!("guest-sdk/src/lib.rs"),
    source!("guest-sdk/src/log.rs"),
    source!("guest-sdk/src/schema.rs"),
    source!("guest-sdk/src/task.rs"),
    source!("guest-sdk/src/testing.rs"),
    source!("guest-sdk/src/wait.rs"),
    // A link in the repository.
    ("guest-sdk/wit/task.wit", source!("wit/v1/task.wit").1),
    source!("LICENSE-APACHE"),
    source!("LICENSE-MIT"),
];

/// The manifest of the SDK's workspace: that of the repository, without other members and without profiles, which
/// the new crate defines.
pub(super) fn workspace() -> String {
    let (_, whole) = source!("Cargo.toml");
    let (kept, _) = whole.split_once("\n[profile").unwrap_or((whole, ""));
    let lines = kept
        .lines()
        .filter(|line| !line.starts_with("default-members"))
        .map(|line| if line.starts_with("members") { r#"members = ["guest-sdk", "guest-sdk/macros"]"# } else { line });
    lines.chain([""]).collect::<Vec<_>>().join("\n")
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
        rust_files(&root.join("guest-sdk"), &mut found);
        let within = found.iter().map(|path| path.strip_prefix(&root).expect("it is there").to_str().expect("UTF-8"));
        for path in within.filter(|path| !path.contains("/tests/")) {
            assert!(FILES.iter().any(|(known, _)| *known == path), "{path} is missing in cli/new/sdk.rs");
        }
    }

    #[test]
    fn the_workspace_has_only_what_its_members_inherit() {
        let manifest = workspace();
        for section in ["[workspace]", "[workspace.package]", "[workspace.dependencies]", "[workspace.lints.clippy]"] {
            assert!(manifest.contains(section), "{manifest}");
        }
        assert!(manifest.contains("\nmembers = [\"guest-sdk\", \"guest-sdk/macros\"]\n"), "{manifest}");
        assert!(!manifest.contains("default-members") && !manifest.contains("[profile"), "{manifest}");
    }
}
