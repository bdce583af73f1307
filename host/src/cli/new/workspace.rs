//! Finds the cargo workspaces around a new crate, by reading manifests the way cargo does.
//!
//! A crate that a workspace includes as a member must not be a workspace itself, or neither builds.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use glob::{MatchOptions, Pattern};

/// Maximum size of a manifest to read, in bytes.
const MANIFEST_MAX: usize = 4 << 20;

/// A workspace around a folder.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Its folder.
    pub(super) root: PathBuf,
    members: Vec<String>,
    exclude: Vec<String>,
}

impl Workspace {
    /// The workspaces around a folder, nearest first. The folder must be an absolute path.
    pub(super) fn around(folder: &Path) -> Vec<Self> {
        let read = |root: &Path| {
            let manifest = fs::read_to_string(root.join("Cargo.toml")).ok().filter(|it| it.len() <= MANIFEST_MAX)?;
            Self::of(root, &manifest)
        };
        folder.ancestors().skip(1).filter_map(read).collect()
    }

    fn of(root: &Path, manifest: &str) -> Option<Self> {
        let (mut table, mut is_one) = (String::new(), false);
        let (mut members, mut exclude) = (Vec::new(), Vec::new());
        let bare = without_comments(manifest);
        let mut lines = bare.lines();
        while let Some(line) = lines.next() {
            let line = line.trim();
            if line.starts_with('[') {
                line.trim_matches(['[', ']']).trim().clone_into(&mut table);
                is_one |= table == "workspace" || table.starts_with("workspace.");
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            let mut value = value.to_owned();
            while is_open(&value) {
                let Some(line) = lines.next() else { break };
                value.push_str(line);
            }
            let key: String = key.split_whitespace().collect();
            let path = if table.is_empty() { key } else { format!("{table}.{key}") };
            match path.as_str() {
                "workspace.members" => members = strings(&value),
                "workspace.exclude" => exclude = strings(&value),
                "workspace" => {
                    members = inline_strings(&value, "members");
                    exclude = inline_strings(&value, "exclude");
                }
                _ => {}
            }
            is_one |= path == "workspace" || path.starts_with("workspace.");
        }
        is_one.then(|| Self { root: root.to_owned(), members, exclude })
    }

    /// Whether the workspace excludes a folder. As with cargo, a folder that is listed as a member is not excluded.
    pub(super) fn excludes(&self, folder: &Path) -> bool {
        let is_below = |path: &String| folder.starts_with(normal(&self.root.join(path)));
        self.exclude.iter().any(is_below) && !self.members.iter().any(is_below)
    }

    /// Whether the workspace includes a folder as a member.
    pub(super) fn includes(&self, folder: &Path) -> bool {
        if self.excludes(folder) {
            return false;
        }
        let root = Pattern::escape(&self.root.to_string_lossy());
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        self.members.iter().any(|member| {
            let pattern = normal(&Path::new(&root).join(member));
            Pattern::new(&pattern.to_string_lossy()).is_ok_and(|pattern| pattern.matches_path_with(folder, options))
        })
    }
}

/// A path without `.` and `..`.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
    }
    normal
}

fn without_comments(manifest: &str) -> String {
    let bare = |line: &str| {
        let mut quote = None;
        let end = line.char_indices().find(|(_, c)| {
            match (quote, c) {
                (None, '"' | '\'') => quote = Some(*c),
                (Some(open), c) if open == *c => quote = None,
                _ => {}
            }
            quote.is_none() && *c == '#'
        });
        format!("{}\n", &line[..end.map_or(line.len(), |(at, _)| at)])
    };
    manifest.lines().map(bare).collect()
}

/// Whether an array continues in the next line.
fn is_open(value: &str) -> bool {
    let count = |bracket| value.matches(bracket).count();
    count('[') > count(']') || count('{') > count('}')
}

/// The strings in an array.
fn strings(array: &str) -> Vec<String> {
    let mut rest = array;
    let mut found = Vec::new();
    while let Some(at) = rest.find(['"', '\'']) {
        let quote = rest[at..].chars().next().unwrap_or('"');
        let Some((text, after)) = rest[at + 1..].split_once(quote) else { break };
        found.push(text.to_owned());
        rest = after;
    }
    found
}

/// The strings of an array in an inline table.
fn inline_strings(table: &str, key: &str) -> Vec<String> {
    let Some((_, after)) = table.split_once(key) else { return Vec::new() };
    after
        .split_once('[')
        .and_then(|(_, after)| after.split_once(']'))
        .map(|(array, _)| strings(array))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_the_same_as_for_cargo() {
        let includes = |manifest: &str, folder: &str| {
            Workspace::of(Path::new("/w"), manifest).map(|workspace| workspace.includes(Path::new(folder)))
        };
        let plain = "[package]\nname = \"a\" # [workspace]\n";
        assert_eq!(includes(plain, "/w/x"), None);
        for globs in [
            "[workspace]\nmembers = [\"crates/*\"]",
            "[ workspace ]\nresolver = \"3\"\nmembers = [\n  'app', # one\n  './crates/*/',\n]\n[profile.release]\nmembers = []",
            "workspace.members = [\"crates/*\"]\n[package]\nname = \"a\"",
            "workspace = { resolver = \"3\", members = [\"crates/*\"] }",
        ] {
            let found = ["/w/crates/x", "/w/crates/x/y", "/w/other"].map(|folder| includes(globs, folder));
            assert_eq!(found, [Some(true), Some(false), Some(false)], "{globs}");
        }
        let deep = "[workspace]\nmembers = [\"crates/**\", \"tools/a\"]\nexclude = [\"crates/old\", \"tools\"]";
        let found =
            ["/w/crates/x/y", "/w/crates/old/z", "/w/tools/a", "/w/tools/b"].map(|folder| includes(deep, folder));
        assert_eq!(found, [Some(true), Some(false), Some(true), Some(false)]);
        let deep = Workspace::of(Path::new("/w"), deep).expect("a workspace");
        let found = ["/w/tools/b", "/w/tools/a", "/w/.fastworker"].map(|folder| deep.excludes(Path::new(folder)));
        assert_eq!(found, [true, false, false]);
        assert_eq!(includes("[workspace]\n", "/w/x"), Some(false));
        assert_eq!(includes("[workspace.dependencies]\nserde = \"1\"\n", "/w/x"), Some(false));
    }
}
