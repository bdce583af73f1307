//! Runs the tools of a build: their output is shown as it comes, bounded, and they end when this program is interrupted.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, BufReader, Read},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, mpsc},
    thread,
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    cli::{CliError, EXIT_FAILURE, error::os_message},
    lock::lock,
};

/// Maximum length of a line of output, in bytes. The rest is shown as further lines.
const LINE_MAX: u64 = 2_000;
/// Maximum number of lines that are shown of one tool.
const LINES_MAX: usize = 2_000;
/// Maximum size of the output that a tool returns, in bytes.
const CAPTURED_MAX: u64 = 64 << 20;

/// The process groups of the tools that run now.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Shows the progress of a build.
pub(in crate::cli) trait BuildOutput: Sync {
    /// A step begins, such as "building tasks.py with componentize-py 0.25.1".
    fn begin(&self, step: &str);
    /// A tool wrote a line.
    fn line(&self, line: &str);
    /// The step has ended.
    fn end(&self);
    /// Something that the author should know, such as a choice that the build made.
    fn note(&self, note: &str);
}

/// Kills the tools that run, with all of their children. None can be started afterwards: this process is about to end.
pub(in crate::cli) fn kill_all() {
    let running = lock(&RUNNING);
    for group in running.iter() {
        let _ = kill_process_group(*group, Signal::KILL);
    }
    std::mem::forget(running);
}

/// What becomes of a tool's standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stdout {
    /// It is shown, as its standard error.
    Shown,
    /// It is returned.
    Captured,
}

/// Runs a tool and shows its output.
///
/// # Errors
/// If it cannot be started or fails. The message has its command line.
pub(in crate::cli) fn run(command: &mut Command, output: &dyn BuildOutput) -> Result<(), CliError> {
    let (status, _) = execute(command, output, Stdout::Shown)?;
    check(command, status)
}

/// Runs a tool and returns its standard output. Its standard error is shown.
///
/// # Errors
/// As [`run`]; the output comes with a failure as well.
pub(in crate::cli) fn run_captured(
    command: &mut Command,
    output: &dyn BuildOutput,
) -> Result<Vec<u8>, (CliError, Vec<u8>)> {
    let (status, captured) = execute(command, output, Stdout::Captured).map_err(|error| (error, Vec::new()))?;
    match check(command, status) {
        Ok(()) => Ok(captured),
        Err(error) => Err((error, captured)),
    }
}

/// The first line that a program prints, such as its version. None if it cannot be started or fails.
pub(in crate::cli) fn first_line(command: &mut Command) -> Option<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = start(command).ok()?;
    let mut text = String::new();
    let read = child.stdout.take()?.take(LINE_MAX).read_to_string(&mut text);
    let status = wait(&mut child).ok()?;
    (read.is_ok() && status.success()).then(|| text.lines().next().unwrap_or_default().to_owned())
}

fn execute(command: &mut Command, output: &dyn BuildOutput, stdout: Stdout) -> Result<(ExitStatus, Vec<u8>), CliError> {
    // Their output goes through pipes: colours would be shown as escaped characters.
    command.env("NO_COLOR", "1").env("CARGO_TERM_COLOR", "never").env("CLICOLOR", "0").env("TERM", "dumb");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(command).map_err(|error| not_started(command, &error))?;
    let (pipe, errors) = (child.stdout.take(), child.stderr.take());
    let captured = thread::scope(|scope| {
        let (sender, lines) = mpsc::sync_channel(100);
        let captured = pipe.map(|pipe| {
            let sender = sender.clone();
            scope.spawn(move || match stdout {
                Stdout::Shown => {
                    send_lines(pipe, &sender);
                    Vec::new()
                }
                Stdout::Captured => capture(pipe),
            })
        });
        if let Some(errors) = errors {
            scope.spawn(move || send_lines(errors, &sender));
        } else {
            drop(sender);
        }
        show(&lines, output);
        captured.and_then(|thread| thread.join().ok()).unwrap_or_default()
    });
    let status = wait(&mut child).map_err(|error| not_started(command, &error))?;
    Ok((status, captured))
}

/// Starts a tool in its own process group, so that its children end with it.
fn start(command: &mut Command) -> io::Result<Child> {
    let mut running = lock(&RUNNING);
    let child = command.process_group(0).spawn()?;
    running.extend(group_of(&child));
    Ok(child)
}

fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let group = group_of(child);
    let status = child.wait();
    lock(&RUNNING).retain(|other| Some(*other) != group);
    status
}

fn group_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Sends each line of a pipe until its end. Long lines are split.
fn send_lines(pipe: impl Read, lines: &mpsc::SyncSender<String>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while pipe.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if !text.is_empty() && lines.send(text.to_owned()).is_err() {
            return;
        }
        line.clear();
    }
}

/// Reads a pipe until its end, and keeps no more than may be returned.
fn capture(mut pipe: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    // The rest is read as well, or the tool would wait for its reader.
    let _ = pipe.by_ref().take(CAPTURED_MAX).read_to_end(&mut kept);
    let _ = io::copy(&mut pipe, &mut io::sink());
    kept
}

fn show(lines: &mpsc::Receiver<String>, output: &dyn BuildOutput) {
    for (number, line) in lines.iter().enumerate() {
        match number {
            LINES_MAX => output.line(&format!("… more than {LINES_MAX} lines: the rest is not shown")),
            number if number < LINES_MAX => output.line(&line),
            _ => {}
        }
    }
}

fn check(command: &Command, status: ExitStatus) -> Result<(), CliError> {
    if status.success() {
        return Ok(());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    };
    Err(CliError::new(EXIT_FAILURE, format!("{} failed with {how}: {}", program(command), command_line(command))))
}

fn not_started(command: &Command, error: &io::Error) -> CliError {
    let message = format!("cannot run {}: {}", program(command), os_message(error));
    CliError::new(EXIT_FAILURE, format!("{message}: {}", command_line(command)))
}

/// The name of a command's program, without its folder.
fn program(command: &Command) -> String {
    let program = command.get_program();
    Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned()
}

/// A command as a line for a shell.
fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quote).collect::<Vec<_>>().join(" ")
}

/// A word of a command line, quoted if a shell would split or change it.
pub(in crate::cli) fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps the lines that it is to show.
    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl BuildOutput for Lines {
        fn begin(&self, _step: &str) {}
        fn line(&self, line: &str) {
            lock(&self.0).push(line.to_owned());
        }
        fn end(&self) {}
        fn note(&self, _note: &str) {}
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_output_of_a_tool_is_shown_and_bounded() {
        let shown = Lines::default();
        run(&mut shell("echo one; echo two >&2"), &shown).expect("it succeeds");
        let mut lines = lock(&shown.0).clone();
        lines.sort();
        assert_eq!(lines, ["one", "two"]);
        let shown = Lines::default();
        run(&mut shell("head -c 10000 /dev/zero | tr '\\0' x; yes | head -n 9000"), &shown).expect("it succeeds");
        let lines = lock(&shown.0).clone();
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert!(lines.iter().all(|line| line.len() <= 2_000));
    }

    #[test]
    fn the_error_of_a_tool_has_its_command_line() {
        let error = run(&mut shell("exit 3"), &Lines::default()).expect_err("it fails");
        assert_eq!(error.message, "sh failed with exit code 3: sh -c 'exit 3'");
        let error = run(&mut Command::new("no-such-tool"), &Lines::default()).expect_err("it is missing");
        assert_eq!(error.message, "cannot run no-such-tool: No such file or directory: no-such-tool");
    }

    #[test]
    fn captured_output_comes_with_a_failure_too() {
        let captured = run_captured(&mut shell("echo '{}'"), &Lines::default()).map_err(|(error, _)| error);
        assert_eq!(captured.expect("it succeeds"), b"{}\n");
        let (_, captured) = run_captured(&mut shell("echo why; exit 1"), &Lines::default()).expect_err("it fails");
        assert_eq!(captured, b"why\n");
        assert_eq!(first_line(&mut shell("echo 1.2; echo more")).as_deref(), Some("1.2"));
    }
}
