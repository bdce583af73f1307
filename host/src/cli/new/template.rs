//! The templates of new projects: embedded files with placeholders.

use std::{fs, io, path::Path};

use include_dir::{Dir, include_dir};

use crate::cli::build::Language;

/// The templates, by the short names of the languages.
static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/cli/new/templates");

/// What a template's placeholders stand for.
pub(super) struct Values<'a> {
    /// `@NAME@`; also `@LIBRARY@` with underscores for hyphens, and `@LOWER@` in lower case.
    pub(super) name: &'a str,
    /// `@SDK@`: the path of the SDK, from the project or absolute. Escaped for a string in TOML or JSON. As
    /// `@SDK_FOLDER@`, a path from the project begins with `./`.
    pub(super) sdk: &'a str,
}

impl Values<'_> {
    fn fill(&self, text: &str) -> String {
        let sdk = self.sdk.replace('\\', "\\\\").replace('"', "\\\"");
        let folder = if Path::new(self.sdk).is_absolute() { sdk.clone() } else { format!("./{sdk}") };
        let text = text.replace("@SDK_FOLDER@", &folder);
        let text = text.replace("@NAME@", self.name).replace("@LIBRARY@", &library_name(self.name));
        text.replace("@LOWER@", &self.name.to_ascii_lowercase()).replace("@SDK@", &sdk)
    }
}

/// A project's name as an identifier.
pub(super) fn library_name(name: &str) -> String {
    name.replace('-', "_")
}

/// Writes the files of a language's template into a folder.
pub(super) fn write(language: Language, folder: &Path, values: &Values<'_>) -> io::Result<()> {
    let root = Path::new(language.as_str());
    let mut folders: Vec<&Dir<'_>> = TEMPLATES.get_dir(root).into_iter().collect();
    while let Some(template) = folders.pop() {
        folders.extend(template.dirs());
        for file in template.files() {
            let path = file.path().strip_prefix(root).unwrap_or(file.path()).with_extension("");
            let text = file.contents_utf8().unwrap_or_default();
            write_file(&folder.join(path), &values.fill(text))?;
        }
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_has_instructions_and_only_known_placeholders() {
        let mut folders: Vec<&Dir<'_>> = Vec::new();
        for language in Language::ALL {
            let template = TEMPLATES.get_dir(language.as_str());
            let template = template.unwrap_or_else(|| panic!("{language} has no template"));
            for name in ["README.md.in", ".gitignore.in"] {
                assert!(template.get_file(template.path().join(name)).is_some(), "{language} has no {name}");
            }
            folders.push(template);
        }
        while let Some(template) = folders.pop() {
            folders.extend(template.dirs());
            for file in template.files() {
                let (path, text) = (file.path().display(), file.contents_utf8().expect("text"));
                assert!(file.path().extension().is_some_and(|it| it == "in"), "{path} does not end in .in");
                let filled = Values { name: "my-tasks", sdk: "sdk" }.fill(text);
                let is_placeholder = |word: &str| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
                assert!(!filled.split('@').skip(1).any(is_placeholder), "{path}: {filled}");
            }
        }
    }
}
