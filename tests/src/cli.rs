//! Commands that are run to their end.

use std::{
    io::Read,
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{binary, eventually, process};

/// No command of a test may take longer.
const LIMIT: Duration = Duration::from_mins(2);

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said about that.
    pub stderr: String,
}

impl Ran {
    /// What it printed, as JSON.
    ///
    /// # Panics
    /// When that is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The same, after a look at the exit code.
    ///
    /// # Panics
    /// When it is another one.
    #[must_use]
    #[track_caller]
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// The same, after a look at what it complained of: an `error:` with these words in it, and
    /// nothing of a panic.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "no '{words}' in {self:?}");
        assert!(self.complaint().starts_with("error: "), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }

    /// What it said, without the notes of what it waited for before.
    pub fn complaint(&self) -> &str {
        let is_said_first = |line: &str| line.starts_with("note: ");
        let notes = self.stderr.split_inclusive('\n').take_while(|line| is_said_first(line));
        &self.stderr[notes.map(str::len).sum::<usize>()..]
    }

    /// The same, after a look at its hint.
    ///
    /// # Panics
    /// When it gave none, or one without these words.
    #[must_use]
    #[track_caller]
    pub fn hints(self, words: &str) -> Self {
        let hint = self.stderr.split_once("\nhint: ").map(|(_, hint)| hint).unwrap_or_default();
        assert!(hint.contains(words), "no hint with '{words}' in {self:?}");
        self
    }
}

/// A `fastworker` command of its own, away from every running cluster.
pub fn fastworker() -> Command {
    let mut command = process::command(binary::path());
    // Many tests run at a time, and the web interface has one port where none is asked for.
    command.env("XDG_CACHE_HOME", cache()).env("XDG_STATE_HOME", state()).env("FASTWORKER_GUI_ENABLED", "false");
    command
}

/// Compiled modules are kept here for all tests, so that each is compiled once.
pub fn cache() -> PathBuf {
    binary::target_dir().join("tests-cache")
}

/// The ids of clusters are kept here for all tests.
fn state() -> PathBuf {
    binary::target_dir().join("tests-state")
}

/// Runs a command to its end.
///
/// # Panics
/// When it takes too long.
pub fn run(mut command: Command) -> Ran {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let shown = format!("{command:?}");
    let mut child = process::spawn(command);
    let stdout = read_all(child.stdout.take().expect("stdout is a pipe"));
    let stderr = read_all(child.stderr.take().expect("stderr is a pipe"));
    let until = Instant::now() + LIMIT;
    let ended =
        || child.try_wait().expect("a child can be waited for").map(Some).or((Instant::now() > until).then_some(None));
    let status = eventually(&shown, 2 * LIMIT, ended);
    if status.is_none() {
        // Python tells where it is when it is aborted.
        process::signal(child.id(), "ABRT");
        child.wait().expect("a child can be waited for");
    }
    let text = |read: mpsc::Receiver<String>| read.recv().expect("a pipe ends with its process");
    let (stdout, stderr) = (text(stdout), text(stderr));
    let Some(status) = status else { panic!("{shown} takes longer than {LIMIT:?}:\n{stdout}{stderr}") };
    Ran { code: status.code(), stdout, stderr }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, read) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    read
}
