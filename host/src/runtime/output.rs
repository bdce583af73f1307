//! The output of a running attempt: log lines, printed lines, progress.
//!
//! The guest's streams and its log share one limit, and both are searched for the reason of a trap.
//! Invariants: an attempt reports at most `log_max` bytes, counting the overhead of each line, and
//! at most one progress per [`PROGRESS_INTERVAL`] and one before each line, so that the order is kept.
//! Secrets are masked before anything is cut, kept or reported.

use std::{
    borrow::Cow,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    AttemptId, Reports,
    last_error::LastError,
    reach::{Mask, MaskedStream},
};
use crate::task::{LogLevel, Progress, Report};

/// Maximum log line in bytes; longer ones are cut.
const LINE_MAX: usize = 16 << 10;
/// Maximum message of a progress report in bytes; longer ones are cut.
const PROGRESS_MESSAGE_MAX: usize = 1 << 10;
/// Bytes that a line counts in addition to its text, so that empty lines are limited too.
const LINE_OVERHEAD: usize = 32;
/// Maximum different hints of an attempt.
const HINTS_MAX: usize = 8;
/// Minimum interval between two progress reports. The last one is always reported.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

/// The attempt logged and printed more than `log_max` bytes.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too much output")]
pub(super) struct OutputLimit;

/// A standard stream of the guest.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stream {
    /// stdout, logged at level info.
    Stdout,
    /// stderr, logged at level error.
    Stderr,
}

impl Stream {
    const fn level(self) -> LogLevel {
        match self {
            Self::Stdout => LogLevel::Info,
            Self::Stderr => LogLevel::Error,
        }
    }
}

/// The output of the attempt that a slot runs now.
pub(super) struct Output {
    reports: Arc<dyn Reports>,
    attempt: AttemptId,
    log_max: usize,
    remaining: usize,
    is_over_limit: bool,
    /// Incomplete lines of stdout and stderr.
    incomplete: [Vec<u8>; 2],
    /// What is masked, and the ends of stdout and stderr that may be the start of it.
    mask: Option<Arc<Mask>>,
    masked: [MaskedStream; 2],
    last_error: LastError,
    /// What the attempt was refused, and the limit of the network that it exceeded.
    hints: Vec<String>,
    excess: Option<String>,
    /// Whether the attempt runs: what others report later is not its output.
    is_running: bool,
    progress: Option<Progress>,
    progress_at: Option<Instant>,
}

impl Output {
    /// Creates an output that sends to `reports`, at most `log_max` bytes for each attempt.
    pub(super) fn new(reports: Arc<dyn Reports>, log_max: usize) -> Self {
        Self {
            reports,
            attempt: AttemptId(0),
            log_max,
            remaining: 0,
            is_over_limit: false,
            incomplete: [Vec::new(), Vec::new()],
            mask: None,
            masked: [MaskedStream::default(), MaskedStream::default()],
            last_error: LastError::default(),
            hints: Vec::new(),
            excess: None,
            is_running: false,
            progress: None,
            progress_at: None,
        }
    }

    /// Resets the output for the next attempt, in whose output `mask` is masked.
    pub(super) fn begin(&mut self, attempt: AttemptId, mask: Option<&Arc<Mask>>) {
        self.attempt = attempt;
        self.remaining = self.log_max;
        self.is_over_limit = false;
        self.incomplete.iter_mut().for_each(Vec::clear);
        if self.mask.is_some() {
            self.masked = [MaskedStream::default(), MaskedStream::default()];
        }
        self.mask = mask.cloned();
        self.last_error.clear();
        self.hints.clear();
        self.excess = None;
        self.is_running = true;
        self.progress = None;
        self.progress_at = None;
    }

    /// Reports the buffered output. Call it once, when the attempt has ended.
    pub(super) fn end(&mut self) {
        self.is_running = false;
        for stream in [Stream::Stdout, Stream::Stderr] {
            if self.mask.is_some() {
                let held_back = self.masked[stream as usize].finish();
                let _ = self.add_lines(stream, &held_back);
            }
            let rest = mem::take(&mut self.incomplete[stream as usize]);
            if !rest.is_empty() {
                // The attempt has ended, so exceeding the limit has no effect.
                let _ = self.line(stream.level(), &String::from_utf8_lossy(&rest));
            }
        }
        self.report_progress();
    }

    fn report_progress(&mut self) {
        if let Some(progress) = self.progress.take() {
            self.reports.report(self.attempt, Report::Progress(progress));
        }
    }

    /// Whether the attempt has exceeded its limit.
    pub(super) fn is_over_limit(&self) -> bool {
        self.is_over_limit
    }

    /// Logs `message`.
    ///
    /// # Errors
    /// [`OutputLimit`] if the attempt exceeds its limit.
    pub(super) fn log(&mut self, level: LogLevel, message: &str) -> Result<(), OutputLimit> {
        match &self.mask {
            Some(mask) => self.line(level, &Arc::clone(mask).text(message)),
            None => self.line(level, message),
        }
    }

    /// Logs what the attempt was refused, unless it has ended. It is also kept, as the likely reason of a failure.
    pub(super) fn add_hint(&mut self, attempt: AttemptId, hint: &str) {
        let is_new = self.hints.len() < HINTS_MAX && !self.hints.iter().any(|it| it == hint);
        if is_new && self.is_running && self.attempt == attempt {
            self.hints.push(hint.to_owned());
            // The guest learns of the limit with its own next line.
            let _ = self.log(LogLevel::Warn, hint);
        }
    }

    /// Logs that the attempt exceeded a limit of the network, unless it has ended.
    pub(super) fn add_excess(&mut self, attempt: AttemptId, excess: &str) {
        if self.excess.is_none() && self.is_running && self.attempt == attempt {
            self.excess = Some(excess.to_owned());
            let _ = self.log(LogLevel::Warn, excess);
        }
    }

    /// What the attempt was refused first.
    pub(super) fn hint(&self) -> Option<&str> {
        self.hints.first().map(String::as_str)
    }

    /// The limit of the network that the attempt exceeded.
    pub(super) fn excess(&self) -> Option<&str> {
        self.excess.as_deref()
    }

    /// Buffers printed `bytes`, and logs complete lines.
    ///
    /// # Errors
    /// [`OutputLimit`] if the attempt exceeds its limit.
    pub(super) fn print(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), OutputLimit> {
        match &self.mask {
            Some(mask) => {
                let masked = self.masked[stream as usize].push(mask, bytes);
                self.add_lines(stream, &masked)
            }
            None => self.add_lines(stream, bytes),
        }
    }

    fn add_lines(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), OutputLimit> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = &mut self.incomplete[stream as usize];
            line.extend_from_slice(&piece[..piece.len().min(LINE_MAX)]);
            if piece.ends_with(b"\n") || line.len() >= LINE_MAX {
                let line = mem::take(line);
                self.line(stream.level(), &String::from_utf8_lossy(&line))?;
            }
        }
        Ok(())
    }

    /// Reports progress, at most once per [`PROGRESS_INTERVAL`].
    pub(super) fn progress(&mut self, done: u64, total: u64, message: &str) {
        let message = self.mask.as_ref().map_or(Cow::Borrowed(message), |mask| mask.text(message));
        let progress = Progress { done, total, message: cut(&message, PROGRESS_MESSAGE_MAX).into_owned() };
        if self.progress_at.is_some_and(|last| last.elapsed() < PROGRESS_INTERVAL) {
            self.progress = Some(progress);
            return;
        }
        self.progress = None;
        self.progress_at = Some(Instant::now());
        self.reports.report(self.attempt, Report::Progress(progress));
    }

    fn line(&mut self, level: LogLevel, text: &str) -> Result<(), OutputLimit> {
        let message = cut(text.trim_end_matches(['\n', '\r']), LINE_MAX);
        let size = message.len() + LINE_OVERHEAD;
        if self.is_over_limit || size > self.remaining {
            self.is_over_limit = true;
            return Err(OutputLimit);
        }
        self.remaining -= size;
        if level == LogLevel::Error {
            self.last_error.add_error(&message);
        } else {
            self.last_error.add_other(&message);
        }
        self.report_progress();
        self.reports.report(self.attempt, Report::Log { level, message: message.into_owned() });
        Ok(())
    }

    /// The guest's last error, as the reason of a trap.
    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.reason()
    }
}

/// At most `max` bytes of `text`, with an ellipsis if it was cut.
pub(super) fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(max);
    Cow::Owned(format!("{}…", &text[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fixtures::RecordedReports;

    fn output(max: usize) -> (Output, Arc<RecordedReports>) {
        let recorded = Arc::new(RecordedReports::default());
        let mut output = Output::new(recorded.clone(), max);
        output.begin(AttemptId(1), None);
        (output, recorded)
    }

    fn log(level: LogLevel, message: &str) -> (AttemptId, Report) {
        (AttemptId(1), Report::Log { level, message: message.to_owned() })
    }

    #[test]
    fn printed_bytes_become_lines_and_the_last_one_is_kept() {
        let (mut output, recorded) = output(10_000);
        output.print(Stream::Stdout, b"one\ntw").expect("within the limit");
        output.print(Stream::Stderr, b"\xff\r\n").expect("within the limit");
        output.print(Stream::Stdout, b"o\n\nrest").expect("within the limit");
        output.end();
        let expected = [
            log(LogLevel::Info, "one"),
            log(LogLevel::Error, "\u{fffd}"),
            log(LogLevel::Info, "two"),
            log(LogLevel::Info, ""),
            log(LogLevel::Info, "rest"),
        ];
        assert_eq!(recorded.take(), expected);
    }

    #[test]
    fn the_limit_counts_empty_lines_and_applies_to_each_attempt() {
        let (mut output, recorded) = output(3 * LINE_OVERHEAD);
        assert!(output.print(Stream::Stdout, b"\n\n\n\n").is_err());
        assert!(output.log(LogLevel::Info, "").is_err() && output.is_over_limit());
        assert_eq!(recorded.take().len(), 3);
        output.begin(AttemptId(2), None);
        assert!(output.log(LogLevel::Info, "").is_ok() && !output.is_over_limit());
    }

    #[test]
    fn long_lines_are_cut() {
        let (mut output, recorded) = output(1 << 20);
        output.log(LogLevel::Info, &"ü".repeat(LINE_MAX)).expect("within the limit");
        output.print(Stream::Stdout, &vec![b'x'; 5 * LINE_MAX]).expect("within the limit");
        output.end();
        let lengths: Vec<usize> = recorded.take().iter().map(|(_, report)| format!("{report:?}").len()).collect();
        assert!(lengths.iter().all(|length| *length < LINE_MAX + 100), "{lengths:?}");
    }

    #[test]
    fn the_last_error_is_the_panic_or_the_last_error_line() {
        let (mut output, _) = output(10_000);
        assert_eq!(output.last_error(), None);
        output.log(LogLevel::Error, "first").expect("within the limit");
        output.log(LogLevel::Error, "second").expect("within the limit");
        output
            .print(Stream::Stderr, b"note: run with `RUST_BACKTRACE=1` environment variable\n")
            .expect("within the limit");
        assert_eq!(output.last_error().as_deref(), Some("second"));
        let std = b"\nthread 'main' (1) panicked at src/lib.rs:3:5:\nboom\nnote: run with `RUST_BACKTRACE=1` environment variable\n";
        output.print(Stream::Stderr, std).expect("within the limit");
        assert_eq!(output.last_error().as_deref(), Some("panicked at src/lib.rs:3:5: boom"));
        output.log(LogLevel::Error, "panicked at src/lib.rs:9:1: again").expect("within the limit");
        assert_eq!(output.last_error().as_deref(), Some("panicked at src/lib.rs:9:1: again"));
    }

    #[test]
    fn a_line_does_not_overtake_the_progress_before_it() {
        let (mut output, recorded) = output(10_000);
        for done in 1..=2 {
            output.progress(done, 2, "");
        }
        output.log(LogLevel::Info, "all done").expect("within the limit");
        output.end();
        let progress = |done| (AttemptId(1), Report::Progress(Progress { done, total: 2, message: String::new() }));
        assert_eq!(recorded.take(), [progress(1), progress(2), log(LogLevel::Info, "all done")]);
    }

    #[test]
    fn frequent_progress_is_throttled_and_its_last_state_reported() {
        let (mut output, recorded) = output(0);
        for done in 0..1000 {
            output.progress(done, 1000, "on it");
        }
        output.end();
        let recorded = recorded.take();
        assert!(recorded.len() < 1000);
        let last = Progress { done: 999, total: 1000, message: "on it".to_owned() };
        assert_eq!(recorded.last(), Some(&(AttemptId(1), Report::Progress(last))));
    }
}
