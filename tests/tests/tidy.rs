//! The fences of the code, checked over its sources: which file may name what.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fastworker_tests::binary::root;

/// More lines than this are two files.
const LINES_MAX: usize = 800;

/// A source file, by its path within the repository.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Its lines of code, with their numbers: no comments, no empty ones.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        lines.filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
    }

    fn is_below(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }
}

/// Every file of these folders whose name ends so.
fn sources(folders: &[&str], endings: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        collect(&root().join(folder), endings, &mut found);
    }
    found.sort();
    assert!(!found.is_empty(), "nothing in {folders:?} ends in {endings:?}");
    let read = |path: PathBuf| {
        let within = path.strip_prefix(root()).expect("it is in the repository").to_str().expect("UTF-8").to_owned();
        Source { path: within, text: fs::read_to_string(&path).unwrap_or_default() }
    };
    found.into_iter().map(read).collect()
}

fn collect(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_symlink() {
            // What it leads to is in the repository, too.
        } else if path.is_dir() {
            if !["target", ".git", "__pycache__"].contains(&name) {
                collect(&path, endings, found);
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
}

fn rust(folders: &[&str]) -> Vec<Source> {
    sources(folders, &[".rs"])
}

/// Fails with every line of code for which `is_wrong`.
#[track_caller]
fn no_line(sources: &[Source], rule: &str, is_wrong: impl Fn(&Source, &str) -> bool) {
    let wrong: Vec<String> = sources
        .iter()
        .flat_map(|source| source.code().map(move |line| (source, line)))
        .filter(|(source, (_, line))| is_wrong(source, line))
        .map(|(source, (number, line))| format!("{}:{number}: {line}", source.path))
        .collect();
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

/// Whether this word is in the line, and not only as a part of another.
fn names(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

#[test]
fn only_one_folder_names_the_messaging_library() {
    let names_nng = |line: &str| {
        let others = line.replace("nng::Nng", "").replace("transport::nng", "");
        others.contains("nng::") || others.contains("nng_sys") || names(&others, "extern crate nng")
    };
    let is_wrong = |source: &Source, line: &str| {
        !source.is_below(&["host/src/transport/nng.rs", "host/src/transport/nng/"]) && names_nng(line)
    };
    no_line(&rust(&["host/src"]), "only transport/nng names NNG", is_wrong);
}

#[test]
fn only_the_runtime_names_wasmtime() {
    let is_wrong = |source: &Source, line: &str| {
        !source.is_below(&["host/src/runtime/"])
            && ["wasmtime", "wasmtime_wasi"].iter().any(|word| names(line, word) && line.contains(&format!("{word}::")))
    };
    no_line(&rust(&["host/src"]), "only runtime/ names wasmtime", is_wrong);
}

#[test]
fn only_the_web_interface_names_its_framework() {
    let crates = ["axum", "hyper", "hyper_util", "prometheus_client"];
    let is_wrong = |source: &Source, line: &str| {
        !source.is_below(&["host/src/gui/"])
            && crates.iter().any(|word| names(line, word) && line.contains(&format!("{word}::")))
    };
    no_line(&rust(&["host/src"]), "only gui/ names the web framework", is_wrong);
}

#[test]
fn only_one_file_prints() {
    let is_wrong = |source: &Source, line: &str| {
        let prints = ["println!", "eprintln!", "print!", "eprint!", "dbg!", "io::stdout", "io::stderr"];
        // A compiler answers its parent.
        let answers = "host/src/runtime/compiler/child.rs";
        !source.is_below(&["host/src/cli/render.rs", "host/src/cli/render/", answers])
            && prints.iter().any(|word| names(line, word))
    };
    no_line(&rust(&["host/src"]), "only cli/render.rs prints", is_wrong);
}

#[test]
fn libraries_have_errors_with_names() {
    no_line(&rust(&["host/src", "guest-sdk"]), "each module has an error type", |_, line| line.contains("anyhow::"));
}

#[test]
fn unsafe_code_is_where_it_is_explained() {
    let allowed = [
        "host/src/memory.rs",
        "host/src/runtime/compiled.rs",
        "host/src/runtime/compiler/child.rs",
        "host/src/transport/nng/server/received.rs",
        "guest-sdk/src/",
    ];
    let is_wrong = |source: &Source, line: &str| {
        let word = concat!("unsafe", "_code");
        line.contains(word) && line.contains("allow") && !source.is_below(&allowed)
    };
    no_line(&rust(&["host", "guest-sdk", "tests", "examples"]), "unsafe code", is_wrong);
}

#[test]
fn no_test_is_left_out_and_none_sleeps() {
    let ignored = concat!("#[", "ignore");
    let everything = rust(&["host", "guest-sdk", "tests", "examples"]);
    no_line(&everything, "a test that is left out tests nothing", |_, line| line.contains(ignored));
    let sleeps = [concat!("thread", "::sleep"), concat!("sleep", "_ms(")];
    let waits = rust(&["host", "tests"]);
    no_line(&waits, "wait for something, with a deadline", |_, line| sleeps.iter().any(|it| line.contains(it)));
}

#[test]
fn every_file_says_what_it_is_and_is_short_enough_to_read() {
    for source in rust(&["host/src", "tests", "guest-sdk/src", "guest-sdk/macros/src", "examples/tasks"]) {
        let first = source.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        assert!(first.starts_with("//!"), "{} opens without saying what it is", source.path);
        let lines = source.text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines: more than {LINES_MAX} are two files", source.path);
    }
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let folders = ["host", "tests", "guest-sdk", "examples", "scripts", "docs", "wit", ".ci", ".github"];
    let endings = [
        ".rs", ".toml", ".md", ".py", ".wit", ".sh", ".json", ".yml", ".yaml", ".js", ".css", ".html", "test", "demo",
        "setup", "dist", "run",
    ];
    let homes = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let mut everything = sources(&folders, &endings);
    let top = [
        "AGENTS.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.toml",
        "README.md",
        "SECURITY.md",
        "deny.toml",
        "justfile",
    ];
    for name in top {
        let text = fs::read_to_string(root().join(name)).unwrap_or_default();
        everything.push(Source { path: name.to_owned(), text });
    }
    for source in &everything {
        for (number, line) in source.text.lines().enumerate() {
            let home = homes.iter().find(|home| line.contains(**home));
            assert!(home.is_none(), "{}:{}: {line}", source.path, number + 1);
        }
    }
}

#[test]
fn every_crate_comes_from_the_public_registry() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("there is a lock file");
    let usual = r#"source = "registry+https://github.com/rust-lang/crates.io-index""#;
    for line in lock.lines().filter(|line| line.starts_with("source = ")) {
        assert_eq!(line, usual);
    }
}

#[test]
fn the_top_folder_holds_only_what_belongs_there() {
    let known = [
        "AGENTS.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "SECURITY.md",
        "_typos.toml",
        "deny.toml",
        "docs",
        "examples",
        "guest-sdk",
        "host",
        "justfile",
        "packaging",
        "rustfmt.toml",
        "scripts",
        "target",
        "tests",
        "wit",
    ];
    let entries = fs::read_dir(root()).expect("the repository").map(|entry| entry.expect("an entry").file_name());
    let names = entries.map(|name| name.to_string_lossy().into_owned());
    // Hidden ones may be an editor's.
    let strangers: Vec<_> = names.filter(|name| !name.starts_with('.') && !known.contains(&name.as_str())).collect();
    assert!(strangers.is_empty(), "measurements and notes belong elsewhere: {strangers:?}");
}
