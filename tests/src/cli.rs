//! Runs commands to their end.

use std::{
    ffi::OsStr,
    io::Read,
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{binary, eventually, process};

/// Timeout of a command.
const LIMIT: Duration = Duration::from_mins(2);

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The command line, with the variables that the test set.
    pub command: String,
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Ran {
    /// Its stdout, as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Checks the exit code.
    ///
    /// # Panics
    /// When it is another one.
    #[must_use]
    #[track_caller]
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Checks that it printed an error, and did not panic.
    ///
    /// # Panics
    /// When it printed none.
    #[must_use]
    #[track_caller]
    pub fn with_error(self) -> Self {
        assert!(self.error().starts_with("error: ") && !self.stderr.contains("panicked"), "{self:?}");
        self
    }

    /// Its error and hint, without the notes printed before.
    pub fn error(&self) -> &str {
        let notes = self.stderr.split_inclusive('\n').take_while(|line| line.starts_with("note: "));
        &self.stderr[notes.map(str::len).sum::<usize>()..]
    }
}

/// A `fastworker` command that does not reach any running cluster by default.
pub fn fastworker() -> Command {
    let mut command = process::command(binary::path());
    // The web interface would use its default port, and many tests run concurrently.
    command.env("XDG_CACHE_HOME", cache()).env("XDG_STATE_HOME", state()).env("FASTWORKER_GUI_ENABLED", "false");
    command.env("XDG_CONFIG_HOME", no_config());
    command
}

/// A folder without a configuration file.
fn no_config() -> PathBuf {
    binary::target_dir().join("tests-no-config")
}

/// The cache of compiled modules, shared by all tests so that each is compiled once.
pub fn cache() -> PathBuf {
    binary::target_dir().join("tests-cache")
}

/// The directory of cluster ids, shared by all tests.
fn state() -> PathBuf {
    binary::target_dir().join("tests-state")
}

/// Runs a command to its end.
///
/// # Panics
/// When it exceeds the timeout of commands.
pub fn run(command: Command) -> Ran {
    run_within(LIMIT, command)
}

/// Runs a command to its end, with another timeout.
///
/// # Panics
/// When it exceeds the timeout.
pub fn run_within(limit: Duration, mut command: Command) -> Ran {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let shown = command_line(&command);
    let mut child = process::spawn(command);
    let stdout = read_all(child.stdout.take().expect("stdout is a pipe"));
    let stderr = read_all(child.stderr.take().expect("stderr is a pipe"));
    let until = Instant::now() + limit;
    let ended = || child.try_wait().expect("child waited for").map(Some).or((Instant::now() > until).then_some(None));
    let status = eventually(&shown, 2 * limit, ended);
    if status.is_none() {
        // Python prints a stack trace when it is aborted.
        process::signal(child.id(), "ABRT");
        child.wait().expect("child waited for");
    }
    let text = |read: mpsc::Receiver<String>| read.recv().expect("a pipe ends with its process");
    let (stdout, stderr) = (text(stdout), text(stderr));
    let Some(status) = status else { panic!("{shown} takes longer than {limit:?}:\n{stdout}{stderr}") };
    Ran { command: shown, code: status.code(), stdout, stderr }
}

/// The command line as one types it, with the variables that the test set.
pub fn command_line(command: &Command) -> String {
    let binary = binary::path().as_os_str();
    let arguments: Vec<&OsStr> = command.get_args().collect();
    let after_wrapper = arguments.iter().position(|argument| *argument == binary).map_or(0, |at| at + 1);
    let variables = command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)));
    let is_of_test = |(name, value): &(&str, &str)| {
        let is_of_harness = ["FASTWORKER_DISCOVERY_ADDRESS", "FASTWORKER_GUI_ENABLED"].contains(name)
            && (value.starts_with("tcp://") || *value == "false");
        name.starts_with("FASTWORKER_") && !is_of_harness
    };
    let mut words: Vec<String> =
        variables.filter(is_of_test).map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    words.push("fastworker".to_owned());
    words.extend(arguments[after_wrapper..].iter().map(|argument| quoted(&argument.to_string_lossy())));
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,".contains(c);
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.chars().map(escaped).collect::<String>())
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
