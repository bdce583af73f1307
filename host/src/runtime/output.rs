//! The output of a running attempt: log lines, printed lines, progress.
//!
//! Both the guest's streams and its log are searched for the reason of a trap.
//! Invariants: an attempt reports at most the bytes of its limits, counting the overhead of each line, and
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
use crate::task::{AttemptLimits, LimitKind, LogLevel, Progress, Report};

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

/// The attempt logged or printed more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} more than {}", if *kind == LimitKind::Log { "logged" } else { "printed" }, kind.show(*max))]
pub(super) struct OutputLimit {
    /// [`LimitKind::Log`] or [`LimitKind::Output`].
    pub(super) kind: LimitKind,
    pub(super) max: u64,
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    limit: OutputLimit,
    left: u64,
}

impl Allowance {
    fn new(kind: LimitKind) -> Self {
        Self { limit: OutputLimit { kind, max: 0 }, left: 0 }
    }

    fn reset(&mut self, limits: &AttemptLimits) {
        self.limit.max = limits.get(self.limit.kind);
        self.left = self.limit.max;
    }
}

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
    log: Allowance,
    printed: Allowance,
    /// The limit that the attempt has exceeded.
    exceeded: Option<OutputLimit>,
    /// Incomplete lines of stdout and stderr.
    incomplete: [Vec<u8>; 2],
    /// What is masked, and the ends of stdout and stderr that may be the start of it.
    mask: Option<Arc<Mask>>,
    masked: [MaskedStream; 2],
    last_error: LastError,
    /// What the attempt was refused, and the limit of the network that it exceeded.
    hints: Vec<String>,
    excess: Option<(LimitKind, String)>,
    /// Whether the attempt runs: what others report later is not its output.
    is_running: bool,
    progress: Option<Progress>,
    progress_at: Option<Instant>,
}

impl Output {
    /// Creates an output that sends to `reports`.
    pub(super) fn new(reports: Arc<dyn Reports>) -> Self {
        Self {
            reports,
            attempt: AttemptId(0),
            log: Allowance::new(LimitKind::Log),
            printed: Allowance::new(LimitKind::Output),
            exceeded: None,
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
    pub(super) fn begin(&mut self, attempt: AttemptId, limits: &AttemptLimits, mask: Option<&Arc<Mask>>) {
        self.attempt = attempt;
        self.log.reset(limits);
        self.printed.reset(limits);
        self.exceeded = None;
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
                let _ = self.line(LimitKind::Output, stream.level(), &String::from_utf8_lossy(&rest));
            }
        }
        self.report_progress();
    }

    fn report_progress(&mut self) {
        if let Some(progress) = self.progress.take() {
            self.reports.report(self.attempt, Report::Progress(progress));
        }
    }

    /// The limit that the attempt has exceeded.
    pub(super) fn exceeded(&self) -> Option<OutputLimit> {
        self.exceeded
    }

    /// Logs `message`.
    ///
    /// # Errors
    /// [`OutputLimit`] if the attempt exceeds its limit.
    pub(super) fn log(&mut self, level: LogLevel, message: &str) -> Result<(), OutputLimit> {
        match &self.mask {
            Some(mask) => self.line(LimitKind::Log, level, &Arc::clone(mask).text(message)),
            None => self.line(LimitKind::Log, level, message),
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
    pub(super) fn add_excess(&mut self, attempt: AttemptId, kind: LimitKind, excess: &str) {
        if self.excess.is_none() && self.is_running && self.attempt == attempt {
            self.excess = Some((kind, excess.to_owned()));
            let _ = self.log(LogLevel::Warn, excess);
        }
    }

    /// What the attempt was refused first.
    pub(super) fn hint(&self) -> Option<&str> {
        self.hints.first().map(String::as_str)
    }

    /// The limit of the network that the attempt exceeded.
    pub(super) fn excess(&self) -> Option<&(LimitKind, String)> {
        self.excess.as_ref()
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
                self.line(LimitKind::Output, stream.level(), &String::from_utf8_lossy(&line))?;
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

    /// Reports a line, which counts for the limit of this kind.
    fn line(&mut self, kind: LimitKind, level: LogLevel, text: &str) -> Result<(), OutputLimit> {
        let message = cut(text.trim_end_matches(['\n', '\r']), LINE_MAX);
        let size = (message.len() + LINE_OVERHEAD) as u64;
        let allowance = if kind == LimitKind::Log { &mut self.log } else { &mut self.printed };
        if self.exceeded.is_some() || size > allowance.left {
            return Err(*self.exceeded.get_or_insert(allowance.limit));
        }
        allowance.left -= size;
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

    fn limits(max: usize) -> AttemptLimits {
        AttemptLimits::default().with(LimitKind::Log, max as u64).with(LimitKind::Output, max as u64)
    }

    fn output(max: usize) -> (Output, Arc<RecordedReports>) {
        let recorded = Arc::new(RecordedReports::default());
        let mut output = Output::new(recorded.clone());
        output.begin(AttemptId(1), &limits(max), None);
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
    fn a_limit_counts_empty_lines_and_applies_to_each_attempt() {
        let max = 3 * LINE_OVERHEAD;
        let (mut output, recorded) = output(max);
        assert!(output.log(LogLevel::Info, "").is_ok(), "the log has a limit of its own");
        assert!(output.print(Stream::Stdout, b"\n\n\n\n").is_err());
        let printed = OutputLimit { kind: LimitKind::Output, max: max as u64 };
        assert_eq!((output.log(LogLevel::Info, ""), output.exceeded()), (Err(printed), Some(printed)));
        assert_eq!(printed.to_string(), "printed more than 96 bytes");
        assert_eq!(recorded.take().len(), 4);
        output.begin(AttemptId(2), &limits(max), None);
        assert!(output.log(LogLevel::Info, "").is_ok() && output.exceeded().is_none());
        let logged = output.log(LogLevel::Info, &"x".repeat(max)).expect_err("too much");
        assert_eq!(logged.to_string(), "logged more than 96 bytes");
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
