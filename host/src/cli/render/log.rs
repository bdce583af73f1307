//! The log of servers: levels, formats, and escaping of control characters.

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

use super::{log_queue::LogQueue, output::uses_colours};
use crate::escape;

/// Maximum time to wait at exit for the last log records to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The log of this process, if it is a server.
static LOG_QUEUE: OnceLock<Arc<LogQueue>> = OnceLock::new();

/// The minimum log level, for all targets or for individual ones.
#[derive(Clone, Debug)]
pub(in crate::cli) struct LogLevels(String);

/// The format of a log record: text, or one JSON object per line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum LogFormat {
    Text,
    Json,
}

/// Parses `debug`, or levels of individual targets: `info,task=debug,fastworker::runtime=trace`.
pub(in crate::cli) fn parse_log_levels(text: &str) -> Result<LogLevels, String> {
    const LEVELS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];
    let is_level = |text: &str| LEVELS.contains(&text);
    let directive = |part: &str| match part.split_once('=') {
        None if is_level(part) => Some(format!("fastworker={part},task={part}")),
        Some((target, level)) if !target.is_empty() && is_level(level) => Some(part.to_owned()),
        _ => None,
    };
    let lower = text.to_lowercase();
    let directives: Option<Vec<String>> = lower.split(',').map(|part| directive(part.trim())).collect();
    let directives = directives.map(|directives| LogLevels(directives.join(",")));
    directives.ok_or_else(|| {
        format!("choose one of {}; targets can have their own level, as in info,task=debug", LEVELS.join(", "))
    })
}

/// Starts logging to stderr through a [`LogQueue`], so that logging never blocks.
pub(in crate::cli) fn start_logging(levels: &LogLevels, format: LogFormat) {
    let colours = uses_colours(&io::stderr());
    match LogQueue::start(io::stderr(), |dropped| {
        tracing::error!(dropped, "log records were dropped: the log is not read fast enough, or could not be written");
    }) {
        Ok(queue) => {
            let queue = LOG_QUEUE.get_or_init(|| queue);
            subscribe(levels, format, colours, QueueWriter(Arc::clone(queue)));
            panic::set_hook(Box::new(log_panic));
        }
        Err(error) => {
            subscribe(levels, format, colours, io::stderr);
            tracing::warn!(%error, "cannot start the log thread: logging will block if the log is not read");
        }
    }
}

/// Crates that warn of what guests and their servers do, which is in the log of the task.
const OF_GUESTS: &str = "wasmtime_wasi_http=error,rustls=error";

fn subscribe(
    levels: &LogLevels,
    format: LogFormat,
    colours: bool,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into());
    let filter = filter.parse_lossy(format!("{OF_GUESTS},{}", levels.0));
    // Internal errors are not logged: they are reported by eprintln!, which panics on a closed pipe.
    let subscriber = fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    let subscriber = subscriber.map_writer(|writer| EscapingWriter { writer, colours });
    let _ = match format {
        LogFormat::Text => subscriber.with_target(false).with_ansi(colours).try_init(),
        LogFormat::Json => {
            subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
    };
}

/// Logs a panic with control characters escaped, since its message may contain text from a task.
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

/// Writes each log record as one line without control characters, which may come from file names and tasks. In
/// JSON, the escapes are equivalent to the characters.
struct EscapingWriter<W> {
    writer: W,
    /// Whether the formatter uses colours.
    colours: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for EscapingWriter<W> {
    type Writer = EscapingWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        EscapingWriter { writer: self.writer.make_writer(), colours: self.colours }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        EscapingWriter { writer: self.writer.make_writer_for(metadata), colours: self.colours }
    }
}

impl<W: io::Write> io::Write for EscapingWriter<W> {
    /// Writes one record: the subscriber passes each in one call.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(record);
        self.writer.write_all(escape_record(&line, self.colours).as_bytes())?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Escapes the control characters of a record, except for its final line break and the colours of the formatter.
/// Colours in text of others are not kept: the formatter has already escaped their first character.
fn escape_record(record: &str, colours: bool) -> String {
    let line = record.strip_suffix('\n').unwrap_or(record);
    let mut escaped = String::with_capacity(record.len());
    let mut rest = line;
    while let Some(at) = rest.find('\x1b') {
        let (before, from) = rest.split_at(at);
        let sequence = colour_sequence(from).filter(|_| colours).unwrap_or(&from[..0]);
        escaped.push_str(&escape::line(before));
        escaped.push_str(sequence);
        rest = &from[sequence.len()..];
        if sequence.is_empty() {
            escaped.push_str(&escape::line(&from[..1]));
            rest = &from[1..];
        }
    }
    escaped.push_str(&escape::line(rest));
    escaped.push('\n');
    escaped
}

/// The colour sequence at the start of `text`.
fn colour_sequence(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("\x1b[")?;
    let end = rest.find(|char: char| !char.is_ascii_digit() && char != ';')?;
    rest[end..].starts_with('m').then(|| &text[..=text.len() - rest.len() + end])
}

/// Appends a line to the log of a server, without a timestamp. Returns false if this process is not a server.
pub(super) fn append_line(line: &str) -> bool {
    let Some(queue) = LOG_QUEUE.get() else { return false };
    queue.push(format!("{line}\n").as_bytes());
    true
}

/// Waits a short time for the log of a server to be written. Call it before the process exits.
pub(in crate::cli) fn flush_log() {
    if let Some(queue) = LOG_QUEUE.get() {
        queue.flush(FLUSH_TIMEOUT);
    }
}

/// Prints a line to stdout of a server, waiting only a short time for its reader. Returns false if
/// this process is not a server.
pub(super) fn print_line(line: &str) -> bool {
    if LOG_QUEUE.get().is_none() {
        return false;
    }
    let line = format!("{line}\n");
    let (sender, receiver) = std::sync::mpsc::channel();
    let write = move || {
        let mut stdout = io::stdout().lock();
        let _ = sender.send(stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()));
    };
    match thread::Builder::new().name("fw-print".into()).spawn(write) {
        Ok(_) => match receiver.recv_timeout(FLUSH_TIMEOUT) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot write to stdout"),
            Err(_) => tracing::warn!("stdout is not read: writing to it is blocked"),
        },
        Err(error) => tracing::warn!(%error, "cannot start the thread that writes to stdout"),
    }
    true
}

/// Adds each log record to the queue.
struct QueueWriter(Arc<LogQueue>);

impl<'a> MakeWriter<'a> for QueueWriter {
    type Writer = LogRecord<'a>;

    fn make_writer(&'a self) -> LogRecord<'a> {
        LogRecord(&self.0)
    }
}

/// One log record, which is written in one call.
struct LogRecord<'a>(&'a LogQueue);

impl Write for LogRecord<'_> {
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
    fn a_record_is_one_line_and_keeps_only_our_own_colours() {
        let record = "\x1b[2mtime\x1b[0m WARN a\nfake\u{202e} \x1b]0;title\x07\n";
        assert_eq!(escape_record(record, true), "\x1b[2mtime\x1b[0m WARN a\\nfake\\u202e \\u001b]0;title\\u0007\n");
        assert_eq!(escape_record("plain\n", true), "plain\n");
        assert_eq!(escape_record("\x1b[31mred\n", false), "\\u001b[31mred\n", "without colours, none is kept");
        assert_eq!(escape_record("{\"a\":\"\u{9b}\"}\n", true), "{\"a\":\"\\u009b\"}\n");
    }

    #[test]
    fn levels_apply_to_all_targets_or_to_one() {
        let read = |text: &str| parse_log_levels(text).map(|levels| levels.0);
        assert_eq!(read("debug").as_deref(), Ok("fastworker=debug,task=debug"));
        assert_eq!(read("warn, Task=debug").as_deref(), Ok("fastworker=warn,task=warn,task=debug"));
        assert!(read("loud").is_err() && read("task=loud").is_err() && read("").is_err());
    }
}
