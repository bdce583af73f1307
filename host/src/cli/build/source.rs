//! What is to be built: a lone source file or the folder of a project, its language, and the name of its module.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::Language;
use crate::cli::{CliError, EXIT_NOT_FOUND, EXIT_USAGE, error::os_message};

/// Maximum number of entries of a folder that are looked at.
const ENTRIES_MAX: usize = 10_000;

/// A lone file or a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Source {
    /// As it was given.
    pub(in crate::cli) path: PathBuf,
    /// The project's folder, or the folder of the lone file: an absolute path without links.
    pub(in crate::cli) folder: PathBuf,
    /// The lone file: an absolute path. None for a project.
    pub(in crate::cli) file: Option<PathBuf>,
    pub(in crate::cli) language: Language,
    /// The name of its module without `.wasm`: that of the file without its ending, or that of the folder.
    pub(in crate::cli) name: String,
}

impl Source {
    /// Finds out what `path` is. `language` overrides what its files say.
    ///
    /// # Errors
    /// If there is no such file or folder, or its language is not clear.
    pub(in crate::cli) fn find(path: &Path, language: Option<Language>) -> Result<Self, CliError> {
        let shown = path.display();
        let absolute = fs::canonicalize(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                CliError::new(EXIT_NOT_FOUND, format!("there is no file or folder {shown}")).hint(SOURCES_HINT)
            }
            _ => CliError::new(EXIT_USAGE, format!("cannot read {shown}: {}", os_message(&error))),
        })?;
        let is_folder = absolute.is_dir();
        let found = if is_folder { language_of_folder(path, &absolute) } else { language_of_file(path) };
        let language = language.map_or(found, Ok)?;
        if !is_folder && language == Language::Rust {
            return Err(CliError::new(EXIT_USAGE, format!("{shown} is a Rust file: cargo builds crates only"))
                .hint("give the folder with its Cargo.toml, or create one with: fastworker new NAME"));
        }
        let name = if is_folder { absolute.file_name() } else { absolute.file_stem() };
        let name = name.and_then(|name| name.to_str()).ok_or_else(|| {
            CliError::new(EXIT_USAGE, format!("{shown} has no name that a module can have")).hint("rename it")
        })?;
        let (name, path) = (name.to_owned(), path.to_owned());
        Ok(if is_folder {
            Self { path, folder: absolute, file: None, language, name }
        } else {
            let folder = absolute.parent().unwrap_or(&absolute).to_owned();
            Self { path, folder, file: Some(absolute), language, name }
        })
    }

    /// Whether `path` is something to build, and not a module: a source file, or a folder of a project.
    pub(in crate::cli) fn is_source(path: &Path) -> bool {
        if path.is_dir() {
            language_of_folder(path, path).is_ok()
        } else {
            path.is_file() && Language::of_file(path).is_some()
        }
    }

    /// The name of a file within the folder, for messages.
    pub(in crate::cli) fn relative<'a>(&self, file: &'a Path) -> &'a Path {
        file.strip_prefix(&self.folder).unwrap_or(file)
    }

    /// Its source files in the folder itself, in order: those with an ending of its language. The lone file alone if it
    /// is one.
    pub(in crate::cli) fn files(&self) -> Vec<PathBuf> {
        if let Some(file) = &self.file {
            return vec![file.clone()];
        }
        let names = names_in(&self.folder).unwrap_or_default();
        let files = names.iter().map(|name| self.folder.join(name));
        files.filter(|path| path.is_file() && Language::of_file(path) == Some(self.language)).collect()
    }
}

const SOURCES_HINT: &str = "fastworker build takes a source file (.py, .ts, .js, .go, .c, .cpp, .zig), or the folder of a \
                            project: with Cargo.toml, pyproject.toml, requirements.txt, package.json, go.mod, or files \
                            in one of these languages";

fn language_of_file(path: &Path) -> Result<Language, CliError> {
    Language::of_file(path).ok_or_else(|| {
        let shown = path.display();
        if path.extension().is_some_and(|ending| ending == "wasm") {
            let message = format!("{shown} is built already: it is a WebAssembly file");
            return CliError::new(EXIT_USAGE, message)
                .hint(format!("list its tasks with: fastworker list --task-modules {shown}"));
        }
        CliError::new(EXIT_USAGE, format!("the language of {shown} is not clear from its name"))
            .hint(format!("{SOURCES_HINT}; or set the language with --lang"))
    })
}

/// The names in a folder, in order.
fn names_in(folder: &Path) -> std::io::Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder)?.flatten().take(ENTRIES_MAX);
    Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// The language of a project: that of its manifest, else that of its source files.
fn language_of_folder(path: &Path, folder: &Path) -> Result<Language, CliError> {
    let shown = path.display();
    let names = names_in(folder).map_err(|error| {
        CliError::new(EXIT_USAGE, format!("cannot read the folder {shown}: {}", os_message(&error)))
    })?;
    // A script's package of JavaScript may have its TypeScript below src.
    let below = names_in(&folder.join("src")).unwrap_or_default();
    let evidence = evidence(&names, &below);
    match evidence.as_slice() {
        [] => Err(CliError::new(EXIT_USAGE, format!("there is nothing to build in {shown}")).hint(SOURCES_HINT)),
        [(language, _)] => Ok(*language),
        several => {
            let files: Vec<String> = several.iter().map(|(language, file)| format!("{file} ({language})")).collect();
            let choices: Vec<&str> = several.iter().map(|(language, _)| language.as_str()).collect();
            Err(CliError::new(
                EXIT_USAGE,
                format!("the language of {shown} is not clear: it has {}", files.join(" and ")),
            )
            .hint(format!("choose one with --lang {}", choices.join(" or --lang "))))
        }
    }
}

/// The languages that a folder with these names may be written in, each with a file that says so. `below` are the names
/// in its folder `src`.
fn evidence(names: &BTreeSet<String>, below: &BTreeSet<String>) -> Vec<(Language, String)> {
    let manifest = |language: Language| language.manifests().iter().find(|name| names.contains(**name));
    let mut found: Vec<(Language, String)> =
        Language::ALL.into_iter().filter_map(|language| Some((language, (*manifest(language)?).to_owned()))).collect();
    if found.is_empty() {
        let source =
            |language: Language| names.iter().find(|name| Language::of_file(Path::new(name)) == Some(language));
        found = Language::ALL
            .into_iter()
            .filter(|language| *language != Language::Rust)
            .filter_map(|language| Some((language, source(language)?.clone())))
            .collect();
    }
    let has = |found: &[(Language, String)], language| found.iter().any(|(other, _)| *other == language);
    let has_typescript =
        names.iter().chain(below).any(|name| Language::of_file(Path::new(name)) == Some(Language::TypeScript));
    if has(&found, Language::JavaScript) && (has_typescript || has(&found, Language::TypeScript)) {
        found.retain(|(language, _)| *language != Language::TypeScript);
        found
            .iter_mut()
            .filter(|(language, _)| *language == Language::JavaScript)
            .for_each(|it| it.0 = Language::TypeScript);
    }
    // The compilers of C++ and Zig also take C.
    if has(&found, Language::Cpp) || has(&found, Language::Zig) {
        found.retain(|(language, _)| *language != Language::C);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn languages(names: &[&str], below: &[&str]) -> Vec<Language> {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        evidence(&set(names), &set(below)).into_iter().map(|(language, _)| language).collect()
    }

    #[test]
    fn a_manifest_decides_over_other_sources() {
        assert_eq!(languages(&["Cargo.toml", "gen.py", "src"], &["lib.rs"]), [Language::Rust]);
        assert_eq!(languages(&["requirements.txt", "pyproject.toml", "a.js"], &[]), [Language::Python]);
        assert_eq!(languages(&["package.json", "tasks.js"], &[]), [Language::JavaScript]);
        assert_eq!(languages(&["package.json", "src"], &["tasks.ts"]), [Language::TypeScript]);
        assert_eq!(languages(&["package.json", "tsconfig.json"], &[]), [Language::TypeScript]);
        assert_eq!(languages(&["go.mod", "tasks.go"], &[]), [Language::Go]);
    }

    #[test]
    fn without_a_manifest_the_sources_decide() {
        assert_eq!(languages(&["a.py", "README.md"], &[]), [Language::Python]);
        assert_eq!(languages(&["a.ts", "b.js"], &[]), [Language::TypeScript]);
        assert_eq!(languages(&["a.c", "b.cpp"], &[]), [Language::Cpp]);
        assert_eq!(languages(&["a.zig", "b.c"], &[]), [Language::Zig]);
        assert_eq!(languages(&["a.c", "a.h"], &[]), [Language::C]);
        assert_eq!(languages(&["a.rs", "README.md"], &[]), []);
    }

    #[test]
    fn two_manifests_or_two_languages_are_ambiguous() {
        assert_eq!(languages(&["pyproject.toml", "package.json"], &[]), [Language::Python, Language::JavaScript]);
        assert_eq!(languages(&["a.py", "b.go"], &[]), [Language::Python, Language::Go]);
    }
}
