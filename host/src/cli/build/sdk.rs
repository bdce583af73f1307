//! The sources of the guest SDKs, embedded when this program is built: `fastworker build` and `fastworker new` need no
//! network for them.
//!
//! `sdk/` of this package has one link a language into the repository, which `cargo package` follows. The Rust SDK is
//! linked by its parts: cargo leaves out folders that have their own Cargo.toml, so its manifests are called
//! `manifest.toml` there.

use std::{
    borrow::Cow,
    fs, io,
    path::{Path, PathBuf},
};

use include_dir::{Dir, include_dir};

use super::Language;
use crate::cli::{CliError, EXIT_FAILURE, error::os_message};

/// The SDKs, by [`Language::sdk_name`].
static SDKS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/sdk");
/// The custom section that makes a core module a task module.
pub(super) const COMPONENT_TYPE: &[u8] = include_bytes!("../../../sdk/c/bindings/component-type.section");
/// Folders of an SDK that its users do not need: its tests, and what appears when these run.
const OTHER_FOLDERS: [&str; 6] = ["tests", "__pycache__", "node_modules", ".zig-cache", "zig-out", "target"];
/// The folder of the Rust SDK below that of its workspace, as in the repository.
pub(in crate::cli) const RUST_FOLDER: &str = "guest-sdk/rust";

/// A file of an SDK: its path below the folder of the SDK, and its content.
type SdkFile = (PathBuf, Cow<'static, [u8]>);

/// The files of a language's SDK, in the order of their paths.
pub(in crate::cli) fn files(language: Language) -> Vec<SdkFile> {
    let mut files = Vec::new();
    let name = language.sdk_name();
    if let Some(folder) = SDKS.get_dir(name) {
        collect(folder, Path::new(name), &mut files);
    }
    if language == Language::Rust {
        files = rust_workspace(files);
    }
    files.sort();
    files
}

fn collect(folder: &Dir<'static>, root: &Path, files: &mut Vec<SdkFile>) {
    for file in folder.files() {
        let path = file.path().strip_prefix(root).unwrap_or(file.path());
        files.push((path.to_owned(), Cow::Borrowed(file.contents())));
    }
    let is_part = |folder: &&Dir<'static>| {
        folder.path().file_name().is_none_or(|name| !OTHER_FOLDERS.iter().any(|other| name == *other))
    };
    folder.dirs().filter(is_part).for_each(|below| collect(below, root, files));
}

/// The Rust SDK with the folders of the repository, below a workspace manifest from which its packages inherit the same
/// settings as there.
fn rust_workspace(files: Vec<SdkFile>) -> Vec<SdkFile> {
    let place = |(path, content): SdkFile| {
        let path = if path.ends_with("manifest.toml") { path.with_file_name("Cargo.toml") } else { path };
        (Path::new(RUST_FOLDER).join(path), content)
    };
    let mut files: Vec<SdkFile> = files.into_iter().map(place).collect();
    files.push(("Cargo.toml".into(), Cow::Owned(rust_workspace_manifest().into_bytes())));
    files.push(("LICENSE-APACHE".into(), Cow::Borrowed(include_bytes!("../../../LICENSE-APACHE"))));
    files.push(("LICENSE-MIT".into(), Cow::Borrowed(include_bytes!("../../../LICENSE-MIT"))));
    files
}

/// The manifest of the Rust SDK's workspace: that of the repository, without other members and without profiles, which
/// the crate of the tasks defines.
fn rust_workspace_manifest() -> String {
    let manifest = include_str!("../../../sdk/workspace.toml");
    let (without_profiles, _) = manifest.split_once("\n[profile").unwrap_or((manifest, ""));
    let mut lines = without_profiles.lines();
    let mut kept = Vec::new();
    while let Some(line) = lines.next() {
        let is_list_of_members = ["members", "default-members", "exclude"].iter().any(|key| line.starts_with(key));
        if !is_list_of_members {
            kept.push(line);
        } else if !line.contains(']') {
            // It goes on until its closing bracket.
            lines.by_ref().find(|line| line.starts_with(']'));
        }
    }
    let members = format!("[workspace]\nmembers = [\"{RUST_FOLDER}\", \"{RUST_FOLDER}/macros\"]\n");
    kept.join("\n").replacen("[workspace]\n", &members, 1) + "\n"
}

/// Writes a language's SDK into a folder.
pub(in crate::cli) fn write(language: Language, folder: &Path) -> io::Result<()> {
    for (path, content) in files(language) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, content)?;
    }
    Ok(())
}

/// Unpacks a language's SDK below the folder `caches`, unless it is there, and returns its folder. Its name has the
/// hash of all files, so a folder of that name is complete and never changes.
///
/// # Errors
/// If the cache folder cannot be written to.
pub(super) fn unpack(language: Language, caches: &Path) -> Result<PathBuf, CliError> {
    let mut hash = blake3::Hasher::new();
    for (path, content) in files(language) {
        let path = path.to_string_lossy();
        hash.update(&(path.len() as u64).to_le_bytes()).update(path.as_bytes());
        hash.update(&(content.len() as u64).to_le_bytes()).update(&content);
    }
    let hash = hash.finalize().to_hex();
    let name = format!("{}-{}-{}", language.sdk_name(), env!("CARGO_PKG_VERSION"), &hash[..16]);
    let sdks = caches.join("sdk");
    let folder = sdks.join(&name);
    if folder.is_dir() {
        return Ok(folder);
    }
    let new = sdks.join(format!(".{name}.{}.new", std::process::id()));
    let unpacked = write(language, &new).and_then(|()| match fs::rename(&new, &folder) {
        // Another process was faster, with the same content.
        Err(_) if folder.is_dir() => fs::remove_dir_all(&new),
        renamed => renamed,
    });
    unpacked.map_err(|error| {
        let _ = fs::remove_dir_all(&new);
        let message = format!("cannot unpack the {language} SDK into {}: {}", sdks.display(), os_message(&error));
        CliError::new(EXIT_FAILURE, message).hint("set XDG_CACHE_HOME to a folder that you can write to")
    })?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_owned();
            match path.is_dir() {
                true if !OTHER_FOLDERS.iter().any(|other| name == *other) => names(&path, found),
                true => {}
                false => found.push(path),
            }
        }
    }

    #[test]
    fn no_file_of_an_sdk_is_missing() {
        for name in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk")).expect("a folder") {
            let folder = name.expect("an entry").path();
            if !folder.is_dir() {
                continue;
            }
            let mut found = Vec::new();
            names(&folder, &mut found);
            for path in found {
                let within = path.strip_prefix(folder.parent().expect("a folder")).expect("it is there");
                assert!(SDKS.get_file(within).is_some(), "{}: build this program again", within.display());
            }
        }
    }

    #[test]
    fn the_rust_sdk_is_a_workspace_of_two_packages() {
        let files = files(Language::Rust);
        let has = |path: &str| files.iter().any(|(other, _)| other == Path::new(path));
        for path in
            ["Cargo.toml", "guest-sdk/rust/Cargo.toml", "guest-sdk/rust/src/lib.rs", "guest-sdk/rust/wit/task.wit"]
        {
            assert!(has(path), "{path}");
        }
        assert!(has("guest-sdk/rust/macros/Cargo.toml") && has("guest-sdk/rust/macros/src/lib.rs"));
        let manifest = rust_workspace_manifest();
        for section in ["[workspace]", "[workspace.package]", "[workspace.dependencies]", "[workspace.lints.clippy]"] {
            assert!(manifest.contains(section), "{manifest}");
        }
        assert!(manifest.contains("\nmembers = [\"guest-sdk/rust\", \"guest-sdk/rust/macros\"]\n"), "{manifest}");
        assert!(!manifest.contains("\"host\"") && !manifest.contains("[profile"), "{manifest}");
    }

    #[test]
    fn the_rust_sdk_has_all_sources_of_the_repository() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut found = Vec::new();
        for folder in ["guest-sdk/rust/src", "guest-sdk/rust/macros/src"] {
            names(&root.join(folder), &mut found);
        }
        let files = files(Language::Rust);
        for path in found {
            let path = path.strip_prefix(&root).expect("it is there");
            assert!(files.iter().any(|(known, _)| known == path), "{} is missing below host/sdk/rust", path.display());
        }
    }
}
