//! The log of servers: which lines, and how they are written.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write},
    panic,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use clap::ValueEnum;
use tracing::Metadata;
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt, fmt::MakeWriter};

use super::{colours, queue::Lines};
use crate::visible;

/// How long a process that ends waits for its last log lines to be written.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// The lines of this process, if it is a server.
static LINES: OnceLock<Arc<Lines>> = OnceLock::new();

/// The least important lines to print, of everything or of parts.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Levels(String);

/// How a line is written: for people, or as one JSON object for programs.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum LogFormat {
    Text,
    Json,
}

/// Reads `debug`, or levels of parts: `info,task=debug,fastworker::runtime=trace`.
pub(in crate::cli) fn levels(text: &str) -> Result<Levels, String> {
    const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];
    let is_level = |text: &str| LEVELS.contains(&text);
    let directive = |part: &str| match part.split_once('=') {
        None if is_level(part) => Some(format!("fastworker={part},task={part}")),
        Some((target, level)) if !target.is_empty() && is_level(level) => Some(part.to_owned()),
        _ => None,
    };
    let lower = text.to_lowercase();
    let directives: Option<Vec<String>> = lower.split(',').map(|part| directive(part.trim())).collect();
    let directives = directives.map(|directives| Levels(directives.join(",")));
    directives.ok_or_else(|| {
        format!("choose one of {}; parts can have levels of their own, as in info,task=debug", LEVELS.join(", "))
    })
}

/// Starts logging to the standard error, which nothing waits for from now on: see [`Lines`].
pub(in crate::cli) fn log(levels: &Levels, format: LogFormat) {
    let colours = colours(&io::stderr());
    match Lines::start(io::stderr(), |dropped| {
        tracing::error!(dropped, "log lines were dropped: the log is not read fast enough, or could not be written");
    }) {
        Ok(lines) => {
            let lines = LINES.get_or_init(|| lines);
            subscribe(levels, format, colours, Writer(Arc::clone(lines)));
            panic::set_hook(Box::new(log_panic));
        }
        Err(error) => {
            subscribe(levels, format, colours, io::stderr);
            tracing::warn!(%error, "no thread to write the log: a log that nobody reads will stop this process");
        }
    }
}

fn subscribe(
    levels: &Levels,
    format: LogFormat,
    colours: bool,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).parse_lossy(&levels.0);
    // It tells of a closed pipe by eprintln!, which panics for the same reason: hence no internal errors.
    let lines = fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    let lines = lines.map_writer(|writer| Visible { writer, colours });
    let _ = match format {
        LogFormat::Text => lines.with_target(false).with_ansi(colours).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
}

/// Logs a panic like everything else: what it says may come from a task.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let backtrace = Some(Backtrace::capture()).filter(|trace| trace.status() == BacktraceStatus::Captured);
    let current = thread::current();
    tracing::error!(
        thread = current.name(),
        at = panic.location().map(tracing::field::display),
        backtrace = backtrace.map(tracing::field::display),
        panic = panic.payload_as_str(),
        "a thread of fastworker panicked, which is a bug"
    );
}

/// Writes each event of the log in one line, of characters that can be seen: file names and tasks
/// have their words in it. In JSON the escapes mean the same as what they stand for.
struct Visible<W> {
    writer: W,
    /// Whether the formatter uses colours.
    colours: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Visible<W> {
    type Writer = Visible<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Visible { writer: self.writer.make_writer(), colours: self.colours }
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Self::Writer {
        Visible { writer: self.writer.make_writer_for(about), colours: self.colours }
    }
}

impl<W: io::Write> io::Write for Visible<W> {
    /// Each call is one event.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(event);
        self.writer.write_all(visible_event(&line, self.colours).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// The event with everything escaped but its last line break and our own colours: of those of
/// others, the formatter has escaped the start.
fn visible_event(event: &str, colours: bool) -> String {
    let line = event.strip_suffix('\n').unwrap_or(event);
    let mut shown = String::with_capacity(event.len());
    let mut rest = line;
    while let Some(at) = rest.find('\x1b') {
        let (before, from) = rest.split_at(at);
        let taken = colour(from).filter(|_| colours).unwrap_or(&from[..0]);
        shown.push_str(&visible::line(before));
        shown.push_str(taken);
        rest = &from[taken.len()..];
        if taken.is_empty() {
            shown.push_str(&visible::line(&from[..1]));
            rest = &from[1..];
        }
    }
    shown.push_str(&visible::line(rest));
    shown.push('\n');
    shown
}

/// The change of colour that a text begins with.
fn colour(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("\x1b[")?;
    let end = rest.find(|char: char| !char.is_ascii_digit() && char != ';')?;
    rest[end..].starts_with('m').then(|| &text[..=text.len() - rest.len() + end])
}

/// Adds a line to the log of a server as it is. False if this process is none.
pub(super) fn add(line: &str) -> bool {
    let Some(lines) = LINES.get() else { return false };
    lines.push(format!("{line}\n").as_bytes());
    true
}

/// Waits for the log lines of a server to be written, but not long. Call it before the process ends.
pub(in crate::cli) fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FLUSH_LIMIT);
    }
}

/// Prints a line to the standard output of a server, whose reader is not waited for either. False if
/// this process is none.
pub(super) fn print(line: &str) -> bool {
    if LINES.get().is_none() {
        return false;
    }
    let line = format!("{line}\n");
    let (printed, done) = std::sync::mpsc::channel();
    let print = move || {
        let mut out = io::stdout().lock();
        let _ = printed.send(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
    };
    match thread::Builder::new().name("fw-print".into()).spawn(print) {
        Ok(_) => match done.recv_timeout(FLUSH_LIMIT) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a line of the standard output could not be written"),
            Err(_) => tracing::warn!("nobody reads the standard output: a line for it waits"),
        },
        Err(error) => tracing::warn!(%error, "no thread to write to the standard output"),
    }
    true
}

/// Writes each line of the log into the queue.
struct Writer(Arc<Lines>);

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

/// One line of the log, which comes in one piece.
struct Line<'a>(&'a Lines);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_and_only_our_colours_are_colours() {
        let event = "\x1b[2mtime\x1b[0m WARN a\nfake\u{202e} \x1b]0;title\x07\n";
        assert_eq!(visible_event(event, true), "\x1b[2mtime\x1b[0m WARN a\\nfake\\u202e \\u001b]0;title\\u0007\n");
        assert_eq!(visible_event("plain\n", true), "plain\n");
        assert_eq!(visible_event("\x1b[31mred\n", false), "\\u001b[31mred\n", "where we use none, none is ours");
        assert_eq!(visible_event("{\"a\":\"\u{9b}\"}\n", true), "{\"a\":\"\\u009b\"}\n");
    }

    #[test]
    fn levels_are_those_of_all_or_of_parts() {
        let read = |text: &str| levels(text).map(|levels| levels.0);
        assert_eq!(read("debug").as_deref(), Ok("fastworker=debug,task=debug"));
        assert_eq!(read("warn, Task=debug").as_deref(), Ok("fastworker=warn,task=warn,task=debug"));
        assert!(read("loud").is_err() && read("task=loud").is_err() && read("").is_err());
    }
}
