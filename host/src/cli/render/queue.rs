//! Log lines on their way out of a server.
//!
//! Separate module because nothing here may wait for the reader of the log: a task's path ends with a
//! log line, and a pipe that nobody reads, a stopped terminal or a dead disk must not stop it.
//! Lines go into a bounded buffer, and one thread writes them. Invariants: [`Lines::push`] never
//! blocks on I/O; lines keep their order; each line is either written or counted as dropped, and
//! once there is room again one line of the log gives that count.

use std::{
    cell::Cell,
    io::{self, ErrorKind, Write},
    mem,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::lock::{self, lock};

/// Maximum size of the lines that wait to be written, in bytes. As much again may be with the writer.
const PENDING_MAX: usize = 4 * 1024 * 1024;
/// Delay before a stream that is full for the moment and does not block is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// The lines that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Lines {
    state: Mutex<State>,
    /// There is something to write.
    wanted: Condvar,
    /// All has been written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines, one behind the other.
    pending: Vec<u8>,
    /// Lines that were lost since the log last said so.
    dropped: u64,
    /// The writer has taken lines that it has not written yet.
    writing: bool,
    /// The writer waits for lines.
    asleep: bool,
}

thread_local! {
    /// This thread is the writer. Its own line, the count of dropped ones, always has room.
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

impl Lines {
    /// Starts the thread that writes lines to `stream`. `tell` logs how many lines were dropped.
    pub(super) fn start(
        stream: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let lines = Arc::new(Self::default());
        let queue = Arc::clone(&lines);
        thread::Builder::new().name("fw-log".into()).spawn(move || queue.write_all(stream, tell))?;
        Ok(lines)
    }

    /// Adds a line, or counts it as dropped if there is no room.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = lock(&self.state);
        if state.pending.len() + line.len() > PENDING_MAX && !IS_WRITER.get() {
            state.dropped += 1;
            return;
        }
        state.pending.extend_from_slice(line);
        if state.asleep {
            state.asleep = false;
            drop(state);
            self.wanted.notify_one();
        }
    }

    /// Waits until all lines are written, at most `limit` long.
    pub(super) fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut state = lock(&self.state);
        while state.writing || !state.pending.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = lock::wait_timeout(&self.written, state, left).0;
        }
    }

    fn write_all(&self, mut stream: impl Write, tell: impl Fn(u64)) {
        IS_WRITER.set(true);
        let (mut batch, mut is_mid_line) = (Vec::new(), false);
        loop {
            self.take(&mut batch);
            // What is left of a line that was cut off must not run into the next one.
            let is_open = !is_mid_line || write(&mut stream, b"\n").1;
            let (count, is_whole) = if is_open { write(&mut stream, &batch) } else { (0, false) };
            is_mid_line = if is_open { batch[..count].last().is_some_and(|last| *last != b'\n') } else { is_mid_line };
            let dropped = self.note(&batch[count..], is_whole);
            if dropped > 0 {
                tell(dropped);
            }
            batch.clear();
            batch.shrink_to(PENDING_MAX / 64);
        }
    }

    /// Waits for lines and takes them.
    fn take(&self, batch: &mut Vec<u8>) {
        let mut state = lock(&self.state);
        state.writing = false;
        if state.pending.is_empty() {
            self.written.notify_all();
        }
        while state.pending.is_empty() {
            state.asleep = true;
            state = lock::wait(&self.wanted, state);
        }
        state.asleep = false;
        state.writing = true;
        mem::swap(&mut state.pending, batch);
    }

    /// Counts the lines that could not be written. Gives those that the log has to tell of: none
    /// while nothing can be written, as that line would be lost as well.
    fn note(&self, unwritten: &[u8], is_whole: bool) -> u64 {
        let mut state = lock(&self.state);
        let lost = unwritten.split(|byte| *byte == b'\n').count() - 1;
        state.dropped += u64::try_from(lost).unwrap_or(u64::MAX);
        if is_whole { mem::take(&mut state.dropped) } else { 0 }
    }
}

/// Writes as much as can be written. Gives how many bytes that was, and whether it was all.
fn write(stream: &mut impl Write, bytes: &[u8]) -> (usize, bool) {
    let mut count = 0;
    while count < bytes.len() {
        match stream.write(&bytes[count..]) {
            Ok(0) => return (count, false),
            Ok(more) => count += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(RETRY),
            Err(_) => return (count, false),
        }
    }
    (count, true)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, SyncSender};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A stream whose every write waits for a word of the test: what it takes, or that it fails.
    struct Stream {
        words: Receiver<Option<usize>>,
        written: SyncSender<Vec<u8>>,
    }

    impl Write for Stream {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.words.recv() {
                Ok(Some(count)) => {
                    let count = count.min(bytes.len());
                    let _ = self.written.send(bytes[..count].to_vec());
                    Ok(count)
                }
                Ok(None) => Err(ErrorKind::BrokenPipe.into()),
                Err(_) => Err(ErrorKind::StorageFull.into()),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Bench {
        lines: Arc<Lines>,
        words: mpsc::Sender<Option<usize>>,
        written: Receiver<Vec<u8>>,
        told: Receiver<u64>,
    }

    fn bench() -> Bench {
        let (words, hears) = mpsc::channel();
        let (writes, written) = mpsc::sync_channel(64);
        let (tells, told) = mpsc::channel();
        let tell = move |dropped| tells.send(dropped).expect("the test listens");
        let lines = Lines::start(Stream { words: hears, written: writes }, tell).expect("a thread");
        Bench { lines, words, written, told }
    }

    impl Bench {
        fn word(&self, word: Option<usize>) {
            self.words.send(word).expect("the writer lives");
        }

        fn written(&self) -> String {
            String::from_utf8(self.written.recv_timeout(LIMIT).expect("a write")).expect("text")
        }

        /// Until the writer has taken what waits.
        fn taken(&self) {
            let until = Instant::now() + LIMIT;
            while !lock(&self.lines.state).pending.is_empty() {
                assert!(Instant::now() < until, "the writer takes nothing");
                thread::yield_now();
            }
        }
    }

    #[test]
    fn a_log_that_nobody_reads_holds_nobody_up_and_drops_are_counted() {
        let bench = bench();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        bench.lines.push(b"first\n");
        bench.taken();
        let room = PENDING_MAX / line.len();
        for _ in 0..room + 7 {
            bench.lines.push(&line);
        }
        assert_eq!(lock(&bench.lines.state).dropped, 7);
        bench.lines.flush(Duration::from_millis(1));
        bench.word(Some(usize::MAX));
        assert_eq!(bench.written(), "first\n");
        assert_eq!(bench.told.recv_timeout(LIMIT), Ok(7));
        bench.word(Some(usize::MAX));
        assert_eq!(bench.written().len(), room * line.len());
        bench.lines.flush(LIMIT);
        assert!(bench.told.try_recv().is_err());
    }

    #[test]
    fn lines_that_a_broken_stream_does_not_take_are_told_of_later() {
        let bench = bench();
        bench.lines.push(b"lost\n");
        bench.word(None);
        bench.lines.flush(LIMIT);
        assert!(bench.told.try_recv().is_err(), "nothing can be written");
        bench.lines.push(b"cut off\n");
        bench.word(Some(3));
        bench.word(None);
        assert_eq!(bench.written(), "cut");
        bench.lines.flush(LIMIT);
        bench.lines.push(b"back\n");
        bench.word(Some(1));
        bench.word(Some(usize::MAX));
        assert_eq!(bench.written(), "\n");
        assert_eq!(bench.written(), "back\n");
        assert_eq!(bench.told.recv_timeout(LIMIT), Ok(2));
    }

    #[test]
    fn lines_are_written_in_their_order() {
        let bench = bench();
        for word in ["one\n", "two\n", "three\n"] {
            bench.lines.push(word.as_bytes());
        }
        for _ in 0..3 {
            bench.word(Some(usize::MAX));
        }
        bench.lines.flush(LIMIT);
        assert_eq!(bench.written.try_iter().collect::<Vec<_>>().concat(), b"one\ntwo\nthree\n");
    }
}
