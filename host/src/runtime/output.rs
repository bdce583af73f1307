//! What an attempt says while it runs: log lines, printed lines, progress.
//!
//! Apart because the guest's streams and its log share one bound, and because a trap's message
//! wants the last words of the guest. Invariant: what is passed on is never more than `log_max`
//! bytes an attempt, counting each line's own cost, nor more than one progress each
//! [`PROGRESS_EVERY`] and one before each line, so that everything stays in order.

use std::{
    borrow::Cow,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{AttemptId, Reports, last_words::LastWords};
use crate::task::{LogLevel, Progress, Report};

/// Longest log line in bytes; what is longer is cut.
const LINE_MAX: usize = 16 << 10;
/// Longest message of a progress in bytes; what is longer is cut.
const PROGRESS_MESSAGE_MAX: usize = 1 << 10;
/// What a line costs beside its text, so that empty lines are bounded too.
const LINE_COST: usize = 32;
/// The least time between two reports of progress. The last one is always passed on.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// The attempt logged and printed more than it may.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too much output")]
pub(super) struct Flood;

/// Where printed bytes come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stream {
    /// Standard output: lines of level info.
    Stdout,
    /// Standard error: lines of level error.
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

/// The output of the attempt that a slot runs.
pub(super) struct Output {
    reports: Arc<dyn Reports>,
    attempt: AttemptId,
    max: usize,
    left: usize,
    flooded: bool,
    /// Begun lines of stdout and stderr.
    begun: [Vec<u8>; 2],
    last_words: LastWords,
    progress: Option<Progress>,
    progress_at: Option<Instant>,
}

impl Output {
    /// Output that goes to `reports`, at most `max` bytes an attempt.
    pub(super) fn new(reports: Arc<dyn Reports>, max: usize) -> Self {
        Self {
            reports,
            attempt: AttemptId(0),
            max,
            left: 0,
            flooded: false,
            begun: [Vec::new(), Vec::new()],
            last_words: LastWords::default(),
            progress: None,
            progress_at: None,
        }
    }

    /// Starts over for the next attempt.
    pub(super) fn begin(&mut self, attempt: AttemptId) {
        self.attempt = attempt;
        self.left = self.max;
        self.flooded = false;
        self.begun.iter_mut().for_each(Vec::clear);
        self.last_words.clear();
        self.progress = None;
        self.progress_at = None;
    }

    /// Passes on what was held back. Call it once, when the attempt has ended.
    pub(super) fn end(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = mem::take(&mut self.begun[stream as usize]);
            if !rest.is_empty() {
                // A flood at the very end changes nothing: the attempt has ended.
                let _ = self.line(stream.level(), &String::from_utf8_lossy(&rest));
            }
        }
        self.pass_on_progress();
    }

    fn pass_on_progress(&mut self) {
        if let Some(progress) = self.progress.take() {
            self.reports.report(self.attempt, Report::Progress(progress));
        }
    }

    /// Whether the attempt said more than it may.
    pub(super) fn flooded(&self) -> bool {
        self.flooded
    }

    /// The attempt logs `message`.
    pub(super) fn log(&mut self, level: LogLevel, message: &str) -> Result<(), Flood> {
        self.line(level, message)
    }

    /// The attempt prints `bytes`; whole lines are passed on.
    pub(super) fn print(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Flood> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let begun = &mut self.begun[stream as usize];
            begun.extend_from_slice(&piece[..piece.len().min(LINE_MAX)]);
            if piece.ends_with(b"\n") || begun.len() >= LINE_MAX {
                let line = mem::take(begun);
                self.line(stream.level(), &String::from_utf8_lossy(&line))?;
            }
        }
        Ok(())
    }

    /// The attempt tells how far it is.
    pub(super) fn progress(&mut self, done: u64, total: u64, message: &str) {
        let progress = Progress { done, total, message: cut(message, PROGRESS_MESSAGE_MAX).into_owned() };
        if self.progress_at.is_some_and(|last| last.elapsed() < PROGRESS_EVERY) {
            self.progress = Some(progress);
            return;
        }
        self.progress = None;
        self.progress_at = Some(Instant::now());
        self.reports.report(self.attempt, Report::Progress(progress));
    }

    fn line(&mut self, level: LogLevel, text: &str) -> Result<(), Flood> {
        let message = cut(text.trim_end_matches(['\n', '\r']), LINE_MAX);
        let cost = message.len() + LINE_COST;
        if self.flooded || cost > self.left {
            self.flooded = true;
            return Err(Flood);
        }
        self.left -= cost;
        if level == LogLevel::Error {
            self.last_words.error(&message);
        } else {
            self.last_words.other(&message);
        }
        self.pass_on_progress();
        self.reports.report(self.attempt, Report::Log { level, message: message.into_owned() });
        Ok(())
    }

    /// Why the guest gave up, in its own last words.
    pub(super) fn last_words(&self) -> Option<String> {
        self.last_words.reason()
    }
}

/// At most `max` bytes of `text`, with an ellipsis where it was cut.
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
    use crate::runtime::fixtures::Heard;

    fn output(max: usize) -> (Output, Arc<Heard>) {
        let heard = Arc::new(Heard::default());
        let mut output = Output::new(heard.clone(), max);
        output.begin(AttemptId(1));
        (output, heard)
    }

    fn log(level: LogLevel, message: &str) -> (AttemptId, Report) {
        (AttemptId(1), Report::Log { level, message: message.to_owned() })
    }

    #[test]
    fn printed_bytes_become_lines_and_the_last_one_is_not_lost() {
        let (mut output, heard) = output(10_000);
        output.print(Stream::Stdout, b"one\ntw").expect("room");
        output.print(Stream::Stderr, b"\xff\r\n").expect("room");
        output.print(Stream::Stdout, b"o\n\nrest").expect("room");
        output.end();
        let expected = [
            log(LogLevel::Info, "one"),
            log(LogLevel::Error, "\u{fffd}"),
            log(LogLevel::Info, "two"),
            log(LogLevel::Info, ""),
            log(LogLevel::Info, "rest"),
        ];
        assert_eq!(heard.take(), expected);
    }

    #[test]
    fn the_bound_counts_empty_lines_and_is_the_same_for_the_next_attempt() {
        let (mut output, heard) = output(3 * LINE_COST);
        assert!(output.print(Stream::Stdout, b"\n\n\n\n").is_err());
        assert!(output.log(LogLevel::Info, "").is_err() && output.flooded());
        assert_eq!(heard.take().len(), 3);
        output.begin(AttemptId(2));
        assert!(output.log(LogLevel::Info, "").is_ok() && !output.flooded());
    }

    #[test]
    fn long_lines_are_cut() {
        let (mut output, heard) = output(1 << 20);
        output.log(LogLevel::Info, &"ü".repeat(LINE_MAX)).expect("room");
        output.print(Stream::Stdout, &vec![b'x'; 5 * LINE_MAX]).expect("room");
        output.end();
        let lengths: Vec<usize> = heard.take().iter().map(|(_, report)| format!("{report:?}").len()).collect();
        assert!(lengths.iter().all(|length| *length < LINE_MAX + 100), "{lengths:?}");
    }

    #[test]
    fn the_last_words_are_the_panic_or_the_last_error() {
        let (mut output, _) = output(10_000);
        assert_eq!(output.last_words(), None);
        output.log(LogLevel::Error, "first").expect("room");
        output.log(LogLevel::Error, "second").expect("room");
        output.print(Stream::Stderr, b"note: run with `RUST_BACKTRACE=1` environment variable\n").expect("room");
        assert_eq!(output.last_words().as_deref(), Some("second"));
        let std = b"\nthread 'main' (1) panicked at src/lib.rs:3:5:\nboom\nnote: run with `RUST_BACKTRACE=1` environment variable\n";
        output.print(Stream::Stderr, std).expect("room");
        assert_eq!(output.last_words().as_deref(), Some("panicked at src/lib.rs:3:5: boom"));
        output.log(LogLevel::Error, "panicked at src/lib.rs:9:1: again").expect("room");
        assert_eq!(output.last_words().as_deref(), Some("panicked at src/lib.rs:9:1: again"));
    }

    #[test]
    fn a_line_does_not_overtake_the_progress_before_it() {
        let (mut output, heard) = output(10_000);
        for done in 1..=2 {
            output.progress(done, 2, "");
        }
        output.log(LogLevel::Info, "all done").expect("room");
        output.end();
        let progress = |done| (AttemptId(1), Report::Progress(Progress { done, total: 2, message: String::new() }));
        assert_eq!(heard.take(), [progress(1), progress(2), log(LogLevel::Info, "all done")]);
    }

    #[test]
    fn progress_in_a_hurry_is_thinned_out_and_its_last_state_is_told() {
        let (mut output, heard) = output(0);
        for done in 0..1000 {
            output.progress(done, 1000, "on it");
        }
        output.end();
        let heard = heard.take();
        assert!(heard.len() < 1000);
        let last = Progress { done: 999, total: 1000, message: "on it".to_owned() };
        assert_eq!(heard.last(), Some(&(AttemptId(1), Report::Progress(last))));
    }
}
