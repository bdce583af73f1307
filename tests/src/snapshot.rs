//! Snapshots of the output of commands: the only place where tests compare wording.
//!
//! A test adds the commands whose wording matters to its [`Transcript`], and [`Transcript::check`] compares that with
//! `tests/snapshots/<suite>/<test>.txt`. To accept new wording, run the suite with `UPDATE_EXPECT=1` and review the
//! diff. Everything else asserts exit codes, statuses and error kinds.

use std::{
    env, fs,
    panic::Location,
    path::{Path, PathBuf},
    thread,
};

use expect_test::expect_file;

use crate::{Ran, binary, ports};

/// The commands of one test and their output, without values that differ between runs.
#[derive(Debug)]
pub struct Transcript {
    file: PathBuf,
    text: String,
}

impl Transcript {
    /// An empty transcript, whose snapshot is named after the calling suite and test.
    ///
    /// # Panics
    /// When it is not called on the main thread of a test.
    #[track_caller]
    #[allow(clippy::new_without_default, reason = "the caller names the snapshot")]
    pub fn new() -> Self {
        let suite = Path::new(Location::caller().file()).file_stem().expect("a source file has a name");
        let thread = thread::current();
        let test = thread.name().filter(|name| *name != "main").expect("a test runs on a thread of its name");
        let name = test.replace("::", "-");
        let file = binary::root().join("tests/snapshots").join(suite).join(name).with_extension("txt");
        Self { file, text: String::new() }
    }

    /// Adds a command with its exit code and its output.
    #[track_caller]
    pub fn add(&mut self, ran: &Ran) {
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
        let code = ran.code.map_or("by a signal".to_owned(), |code| format!("with code {code}"));
        let outputs = [ran.stdout.trim_end(), ran.stderr.trim_end()];
        let outputs: Vec<&str> = outputs.into_iter().filter(|output| !output.is_empty()).collect();
        self.note(&format!("$ {}\nexits {code}\n{}", ran.command, outputs.join("\n")));
    }

    /// Adds a string, such as a log line or the error of a library call.
    pub fn note(&mut self, text: &str) {
        self.text.push_str(redact(text).trim_end());
        self.text.push_str("\n\n");
    }

    /// Compares the transcript with its snapshot.
    ///
    /// # Panics
    /// When they differ, unless `UPDATE_EXPECT=1` is set, which writes the snapshot.
    pub fn check(&self) {
        if let Some(directory) = self.file.parent() {
            fs::create_dir_all(directory).expect("snapshot directory created");
        }
        let shown = format!("{}\n", self.text.trim_end());
        expect_file![&self.file].assert_eq(&shown);
    }
}

/// Replaces ids, times, ports and paths of this run by placeholders.
fn redact(text: &str) -> String {
    let mut text = text.to_owned();
    let temporary = env::temp_dir().join(".tmp");
    for (path, name) in [(binary::target_dir(), "[TARGET]"), (binary::root(), "[ROOT]"), (temporary, ".tmp")] {
        text = text.replace(path.to_str().expect("valid UTF-8"), name);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let is_inside = first.is_alphanumeric() && shown.ends_with(char::is_alphanumeric);
        let found =
            PATTERNS.iter().filter(|_| !is_inside).find_map(|(pattern, name)| Some((matching(pattern, rest)?, name)));
        let (length, name) = match found {
            Some((part, name)) => (part.len(), *name),
            None => (first.len_utf8(), &rest[..first.len_utf8()]),
        };
        shown.push_str(name);
        rest = &rest[length..];
    }
    shown
}

/// `x` is a hexadecimal digit, `9` a digit, `a` a letter or digit; other characters match themselves.
const PATTERNS: [(&str, &str); 10] = [
    ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "[ID]"),
    ("9999-99-99T99:99:99.999999Z", "[TIME]"),
    ("9999-99-99T99:99:99.999999", "[TIME]"),
    ("9999-99-99T99:99:99.999", "[TIME]"),
    ("9999-99-99 99:99:99", "[TIME]"),
    ("99999", "[PORT]"),
    (".tmpaaaaaa", "[FOLDER]"),
    ("9 s ago", "[AGO]"),
    ("99 s ago", "[AGO]"),
    ("at most 9.9 s", "at most [TIME]"),
];

/// The start of `text` if it matches this pattern up to the end of a word. Of numbers, only ports of tests match.
fn matching<'a>(pattern: &str, text: &'a str) -> Option<&'a str> {
    let is_match = |(wanted, found): (char, char)| match wanted {
        'x' => found.is_ascii_hexdigit(),
        '9' => found.is_ascii_digit(),
        'a' => found.is_ascii_alphanumeric(),
        _ => wanted == found,
    };
    let (part, rest) = text.split_at_checked(pattern.len())?;
    let is_whole = !rest.starts_with(char::is_alphanumeric);
    let is_no_port = part.parse().is_ok_and(|number| !(ports::FIRST..=ports::LAST).contains(&number));
    (is_whole && !is_no_port && pattern.chars().zip(part.chars()).all(is_match)).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn values_of_one_run_are_replaced() {
        let text = "task 0193b0a0-0000-7000-8000-000000000000 at tcp://127.0.0.1:10421, 12345x, 5555 and 65531";
        assert_eq!(redact(text), "task [ID] at tcp://127.0.0.1:[PORT], 12345x, 5555 and 65531");
        assert_eq!(redact("2026-11-29T20:10:11.123+00:00 .tmpA1b2C3/x"), "[TIME]+00:00 [FOLDER]/x");
    }
}
