//! Rules for the sources: which file may use which crate, the length of files and functions, and words that are not used
//! any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use fastworker_tests::binary::root;

#[path = "tidy/words.rs"]
mod words;

/// Maximum lines of a file, without its unit tests.
const LINES_MAX: usize = 400;
/// Maximum lines of a test file.
const TEST_LINES_MAX: usize = 800;
/// Maximum lines of a function, its signature and braces included.
const FUNCTION_LINES_MAX: usize = 60;
/// Maximum length of the name of a test.
const TEST_NAME_MAX: usize = 70;
/// All directories with Rust code.
const CODE: [&str; 4] = ["host", "guest-sdk", "tests", "examples"];

/// A source file, by its path within the repository.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Whether all of it is test code.
    fn is_test(&self) -> bool {
        let names = ["/tests.rs", "/fixtures.rs"];
        self.is_below(&["tests/"])
            || names.iter().any(|name| self.path.ends_with(name))
            || self.path.contains("/tests/")
    }

    /// The text before its unit tests, and the unit tests.
    fn parts(&self) -> (&str, &str) {
        if self.is_test() {
            return ("", &self.text);
        }
        let tests = self.text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        self.text.split_at(tests)
    }

    /// Its lines of code with their numbers, without comments and empty lines.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        lines.filter(|(_, line)| !line.is_empty() && !line.starts_with("//"))
    }

    fn has_ending(&self, ending: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == ending)
    }

    fn is_below(&self, directories: &[&str]) -> bool {
        directories.iter().any(|directory| self.path.starts_with(directory))
    }
}

/// Every file of these directories whose name has one of these endings.
fn sources(directories: &[&str], endings: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for directory in directories {
        collect(&root().join(directory), endings, &mut found);
    }
    found.sort();
    assert!(!found.is_empty(), "nothing in {directories:?} ends in {endings:?}");
    let read = |path: PathBuf| {
        let within =
            path.strip_prefix(root()).expect("it is in the repository").to_str().expect("valid UTF-8").to_owned();
        Source { path: within, text: fs::read_to_string(&path).unwrap_or_default() }
    };
    found.into_iter().map(read).collect()
}

fn collect(directory: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.map(|entry| entry.expect("directory entry").path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_symlink() {
            // The target of the link is in the repository as well.
        } else if path.is_dir() {
            if !["target", ".git", "__pycache__"].contains(&name) {
                collect(&path, endings, found);
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
}

fn rust(directories: &[&str]) -> Vec<Source> {
    sources(directories, &[".rs"])
}

/// Fails with every line of code that `is_wrong`.
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

/// Whether the line contains this word, not only as a part of another.
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
        // The requests of guests are sent with hyper, too.
        let is_of_guests = source.is_below(&["host/src/runtime/reach/"]) && names(line, "hyper");
        !source.is_below(&["host/src/gui/"])
            && !is_of_guests
            && crates.iter().any(|word| names(line, word) && line.contains(&format!("{word}::")))
    };
    no_line(&rust(&["host/src"]), "only gui/ names the web framework", is_wrong);
}

#[test]
fn only_the_renderer_prints() {
    let is_wrong = |source: &Source, line: &str| {
        let prints = ["println!", "eprintln!", "print!", "eprint!", "dbg!", "io::stdout", "io::stderr"];
        // A compiler sends its result to its parent.
        let child = "host/src/runtime/compiler/child.rs";
        !source.is_below(&["host/src/cli/render.rs", "host/src/cli/render/", child])
            && prints.iter().any(|word| names(line, word))
    };
    no_line(&rust(&["host/src"]), "only cli/render.rs prints", is_wrong);
}

#[test]
fn libraries_have_typed_errors() {
    no_line(&rust(&["host/src", "guest-sdk"]), "each module has an error type", |_, line| line.contains("anyhow::"));
}

#[test]
fn unsafe_code_is_only_in_listed_files() {
    let allowed = [
        "host/src/memory.rs",
        "host/src/runtime/compiled.rs",
        "host/src/runtime/compiler/child.rs",
        "host/src/runtime/cpu_clock.rs",
        "host/src/runtime/plain/abi.rs",
        "examples/tasks/plain-pricing/",
        "host/src/transport/nng/server/received.rs",
        "guest-sdk/rust/src/",
    ];
    let is_wrong = |source: &Source, line: &str| {
        let word = concat!("unsafe", "_code");
        line.contains(word) && line.contains("allow") && !source.is_below(&allowed)
    };
    no_line(&rust(&CODE), "unsafe code", is_wrong);
}

#[test]
fn no_test_is_ignored_or_sleeps() {
    let ignored = concat!("#[", "ignore");
    no_line(&rust(&CODE), "ignored tests", |_, line| line.contains(ignored));
    // The harness polls with a deadline, and the fault suites spread faults over time.
    let polls =
        ["tests/src/wait.rs", "tests/src/faults/", "tests/src/steady.rs", "tests/src/relay.rs", "tests/tests/tidy.rs"];
    // This test needs the pause between two halves of a frame.
    let pauses = ["host/src/transport/stream/tests.rs"];
    let sleeps = ["sleep(", "sleep_ms(", "sleep_until(", "park_timeout("];
    for source in rust(&CODE) {
        if source.is_below(&polls) || source.is_below(&pauses) {
            continue;
        }
        for line in source.parts().1.lines() {
            let is_fixed = sleeps.iter().any(|word| names(line, word) || line.contains(&format!("::{word}")));
            assert!(!is_fixed, "no fixed sleeps: wait for a condition with a deadline: {}: {line}", source.path);
        }
    }
    let sleep = concat!("thread", "::sleep");
    no_line(&rust(&["host", "tests"]), "a sleep that cannot be interrupted", |_, line| line.contains(sleep));
}

#[test]
fn test_names_are_short() {
    let mut long = BTreeSet::new();
    for source in rust(&CODE) {
        let tests = functions(&source.text).filter(|(_, is_test, _)| *is_test);
        long.extend(tests.map(|(_, _, name)| name.to_owned()).filter(|name| name.chars().count() > TEST_NAME_MAX));
    }
    assert_none("names of tests with more characters than allowed", &long);
}

/// The functions of a file: line number, whether it is a test, and name.
fn functions(text: &str) -> impl Iterator<Item = (usize, bool, &str)> {
    let mut is_test = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        }
        let name = function_name(line)?;
        Some((index + 1, std::mem::take(&mut is_test), name))
    })
}

/// The name of the function that starts in this line.
fn function_name(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let qualifiers = ["pub", "async", "const", "unsafe", "extern", "\"C\""];
    let is_qualifier = |word: &str| qualifiers.contains(&word) || word.starts_with("pub(") || word.ends_with(')');
    let name = rest.split(['(', '<']).next()?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (is_name && before.split_whitespace().all(is_qualifier)).then_some(name)
}

#[test]
fn files_are_documented_and_short() {
    for source in rust(&["host/src", "tests", "guest-sdk/rust/src", "guest-sdk/rust/macros/src", "examples/tasks"]) {
        let first = source.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        assert!(first.starts_with("//!"), "{} does not start with a documentation comment", source.path);
    }
    let is_long = |source: &Source| {
        let (code, tests) = source.parts();
        code.lines().count() > LINES_MAX || tests.lines().count() > TEST_LINES_MAX
    };
    let long = rust(&CODE).into_iter().filter(is_long).map(|source| source.path);
    assert_none("files with more lines than allowed", &long.collect());
}

#[test]
fn functions_are_short() {
    let mut long = BTreeSet::new();
    for source in rust(&CODE) {
        let code = source.parts().0;
        let lines: Vec<&str> = code.lines().collect();
        for (number, _, name) in functions(code) {
            // rustfmt closes a function with a brace at the indent of its start.
            let first = lines[number - 1];
            let indent = &first[..first.len() - first.trim_start().len()];
            let is_end = |line: &&str| {
                line.strip_prefix(indent)
                    .is_some_and(|rest| rest == "}" || (rest.starts_with(')') && rest.ends_with(';')))
                    || (*line == first && first.ends_with(['}', ';']))
            };
            let length = lines[number - 1..].iter().position(is_end).map_or(0, |at| at + 1);
            if length > FUNCTION_LINES_MAX {
                long.insert(format!("{} {name}", source.path));
            }
        }
    }
    assert_none("functions with more lines than allowed", &long);
}

#[test]
fn identifiers_use_the_words_of_the_field() {
    let mut used = BTreeMap::new();
    for source in rust(&CODE) {
        for (number, line) in source.code() {
            for identifier in identifiers(line) {
                let words = words_of(identifier).into_iter().filter(|word| words::OLD_WORDS.contains(&word.as_str()));
                let name = words::OLD_NAMES.contains(&identifier).then(|| identifier.to_owned());
                for word in words.chain(name) {
                    used.entry(word).or_insert_with(|| format!("{}:{number}: {identifier}", source.path));
                }
            }
        }
    }
    assert!(used.is_empty(), "old words, the vocabulary of CONTRIBUTING.md has better ones: {used:#?}");
}

#[test]
fn comments_and_documents_use_plain_words() {
    let mut wrong = BTreeSet::new();
    let top =
        ["AGENTS.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"].map(top_file);
    let documents = sources(&["docs", "examples", "guest-sdk", "host", "packaging"], &[".md"]);
    for source in rust(&CODE).iter().chain(&top).chain(&documents) {
        let is_code = source.has_ending("rs");
        for (index, line) in source.text.lines().enumerate() {
            let line = line.trim();
            let comment = if is_code { line.strip_prefix("//") } else { Some(line) };
            let Some(comment) = comment.map(str::to_lowercase) else { continue };
            let opens = |opening: &&str| comment.trim_start_matches(['/', '!', ' ']).starts_with(*opening);
            let is_old = words::OLD_PROSE.iter().any(|word| names(&comment, word));
            if is_old || (is_code && words::OLD_OPENINGS.iter().any(opens)) {
                wrong.insert(format!("{}:{}: {line}", source.path, index + 1));
            }
        }
    }
    assert_none("comments with old words", &wrong);
}

/// Fails if something was found.
#[track_caller]
fn assert_none(rule: &str, found: &BTreeSet<String>) {
    let found: Vec<_> = found.iter().map(String::as_str).collect();
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

/// A file of the root directory.
fn top_file(name: &str) -> Source {
    let text = fs::read_to_string(root().join(name)).unwrap_or_default();
    Source { path: name.to_owned(), text }
}

/// The identifiers in a line of code, without strings and the comment after it.
fn identifiers(line: &str) -> impl Iterator<Item = &str> {
    let line = line.split(" // ").next().unwrap_or_default();
    let outside = line.split('"').step_by(2);
    let words = outside.flat_map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
}

/// The words of a `snake_case` or `CamelCase` identifier, in lower case.
fn words_of(identifier: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for c in identifier.chars() {
        if c == '_' || (c.is_uppercase() && was_lower) {
            words.push(String::new());
        }
        was_lower = c.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| c != '_') {
            word.extend(c.to_lowercase());
        }
    }
    words
}

#[test]
fn documents_name_only_code_and_files_that_exist() {
    let everything = sources(&[""], &[""]);
    let is_code = |source: &&Source| !source.has_ending("md") && !source.is_below(&["tests/tests/tidy"]);
    // The words of each file and of its path.
    let file_words = |source: &Source| -> BTreeSet<String> {
        let lines = source.code().map(|(_, line)| line).chain([source.path.as_str()]);
        lines.flat_map(|line| line.split(|c: char| !is_identifier(c))).map(str::to_owned).collect()
    };
    let known: Vec<_> = everything.iter().filter(is_code).map(file_words).collect();
    let is_file = |path: &str| {
        let wanted = format!("/{}", path.trim_end_matches('/'));
        let within = format!("{wanted}/");
        let is_match = |path: String| path.ends_with(&wanted) || path.contains(&within);
        everything.iter().any(|source| is_match(format!("/{}", source.path))) || root().join(path).exists()
    };
    let documents = ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"];
    let is_document = |source: &&Source| documents.contains(&&*source.path) || source.is_below(&["docs/"]);
    let mut unknown = BTreeMap::new();
    for source in everything.iter().filter(is_document) {
        for (number, code) in inline_code(&source.text) {
            let exists = if is_path(code) {
                is_file(code)
            } else {
                known.iter().any(|words| names_in(code).all(|name| words.contains(name)))
            };
            if !exists {
                unknown.insert(code.to_owned(), format!("{}:{number}: `{code}`", source.path));
            }
        }
    }
    let new: Vec<_> = unknown.iter().filter(|(code, _)| !words::NOT_IN_SOURCES.contains(&code.as_str())).collect();
    assert!(new.is_empty(), "documents name what does not exist: {new:#?}");
    let unused: Vec<_> = words::NOT_IN_SOURCES.iter().filter(|code| !unknown.contains_key(**code)).collect();
    assert!(unused.is_empty(), "exceptions that are not needed: {unused:?}");
}

fn is_identifier(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The code in backticks, with line numbers, without blocks of code.
fn inline_code(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut is_block = false;
    for (number, line) in (1..).zip(text.lines()) {
        is_block ^= line.starts_with("```");
        if !is_block && !line.starts_with("    ") {
            found.extend(line.split('`').skip(1).step_by(2).map(|code| (number, code)));
        }
    }
    found
}

/// Whether inline code is the path of a file or folder of the repository.
fn is_path(code: &str) -> bool {
    let top =
        ["host/", "guest-sdk/", "tests/", "examples/", "scripts/", "docs/", "wit/", "packaging/", ".ci/", ".github/"];
    let endings = [".rs", ".py", ".toml", ".md", ".wit", ".yml", "/"];
    code.chars().all(|c| is_identifier(c) || "./-".contains(c))
        && !code.starts_with(['/', '-'])
        && !code.starts_with("target/")
        && (endings.iter().any(|ending| code.ends_with(ending)) || top.iter().any(|folder| code.starts_with(folder)))
}

/// The names of the sources in inline code: a constant, or the parts of a path with `::`. Variables of the environment
/// are compared with the command line elsewhere.
fn names_in(code: &str) -> impl Iterator<Item = &str> {
    let is_constant = code.len() > 3
        && code.starts_with(|c: char| c.is_ascii_uppercase())
        && !code.starts_with("FASTWORKER_")
        && code.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    let is_qualified = code.contains("::") && code.chars().all(|c| is_identifier(c) || c == ':');
    code.split("::").filter(move |_| is_constant || is_qualified)
}

#[test]
fn no_file_names_a_home_directory() {
    let directories = ["host", "tests", "guest-sdk", "examples", "scripts", "docs", "wit", ".ci", ".github"];
    let endings = [
        ".rs", ".toml", ".md", ".py", ".wit", ".sh", ".json", ".yml", ".yaml", ".js", ".css", ".html", "test", "demo",
        "setup", "dist", "run",
    ];
    let homes = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let mut everything = sources(&directories, &endings);
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
    everything.extend(top.map(top_file));
    for source in &everything {
        for (number, line) in source.text.lines().enumerate() {
            let home = homes.iter().find(|home| line.contains(**home));
            assert!(home.is_none(), "{}:{}: {line}", source.path, number + 1);
        }
    }
}

#[test]
fn every_crate_comes_from_the_public_registry() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("lock file expected");
    let usual = r#"source = "registry+https://github.com/rust-lang/crates.io-index""#;
    for line in lock.lines().filter(|line| line.starts_with("source = ")) {
        assert_eq!(line, usual);
    }
}

#[test]
fn the_root_directory_has_only_known_entries() {
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
    let entries =
        fs::read_dir(root()).expect("the repository").map(|entry| entry.expect("directory entry").file_name());
    let names = entries.map(|name| name.to_string_lossy().into_owned());
    // Hidden entries may belong to an editor.
    let unknown: Vec<_> = names.filter(|name| !name.starts_with('.') && !known.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "unknown entries of the root directory: {unknown:?}");
}
