//! The bounded buffer between logging and stderr, and the thread that writes it.
//!
//! Tasks must not block on logging when a pipe is not read, a terminal is stopped or a disk fails.
//! Invariants: [`LogQueue::push`] never blocks on I/O; lines keep their order; each line is either
//! written or counted as dropped, and once there is space again, one log record states that count.

use std::{
    cell::Cell,
    io::{self, ErrorKind, Write},
    mem,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::lock::{self, lock};

/// Maximum size of the pending lines in bytes. The writer may hold as much again.
const PENDING_MAX: usize = 4 * 1024 * 1024;
/// Delay before retrying a nonblocking stream that is full.
const RETRY_DELAY: Duration = Duration::from_millis(10);

/// The lines that are waiting to be written.
#[derive(Debug, Default)]
pub(super) struct LogQueue {
    state: Mutex<State>,
    /// Signalled when there are lines to write.
    has_pending: Condvar,
    /// Signalled when all lines have been written.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Complete lines, concatenated.
    pending: Vec<u8>,
    /// Number of lines dropped since that was last logged.
    dropped: u64,
    /// Whether the writer holds lines that it has not written yet.
    is_writing: bool,
    /// Whether the writer is waiting for lines.
    is_idle: bool,
}

thread_local! {
    /// Whether this thread is the writer. Its own record, the count of dropped lines, is always accepted.
    static IS_WRITER: Cell<bool> = const { Cell::new(false) };
}

impl LogQueue {
    /// Starts the thread that writes lines to `stream`. `log_dropped` logs how many lines were dropped.
    pub(super) fn start(
        stream: impl Write + Send + 'static,
        log_dropped: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let writer = Arc::clone(&queue);
        thread::Builder::new().name("fw-log".into()).spawn(move || writer.write_all(stream, log_dropped))?;
        Ok(queue)
    }

    /// Adds a line, or counts it as dropped if there is no space.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = lock(&self.state);
        if state.pending.len() + line.len() > PENDING_MAX && !IS_WRITER.get() {
            state.dropped += 1;
            return;
        }
        state.pending.extend_from_slice(line);
        if state.is_idle {
            state.is_idle = false;
            drop(state);
            self.has_pending.notify_one();
        }
    }

    /// Waits until all lines are written, at most for `timeout`.
    pub(super) fn flush(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        let mut state = lock(&self.state);
        while state.is_writing || !state.pending.is_empty() {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return;
            }
            state = lock::wait_timeout(&self.written, state, remaining).0;
        }
    }

    fn write_all(&self, mut stream: impl Write, log_dropped: impl Fn(u64)) {
        IS_WRITER.set(true);
        let (mut batch, mut is_mid_line) = (Vec::new(), false);
        loop {
            self.take_batch(&mut batch);
            // Terminate a line that was written only in part, so that the next one starts on a new line.
            let is_writable = !is_mid_line || write(&mut stream, b"\n").1;
            let (count, is_complete) = if is_writable { write(&mut stream, &batch) } else { (0, false) };
            is_mid_line =
                if is_writable { batch[..count].last().is_some_and(|last| *last != b'\n') } else { is_mid_line };
            let dropped = self.count_dropped(&batch[count..], is_complete);
            if dropped > 0 {
                log_dropped(dropped);
            }
            batch.clear();
            batch.shrink_to(PENDING_MAX / 64);
        }
    }

    /// Waits for lines and moves them to `batch`.
    fn take_batch(&self, batch: &mut Vec<u8>) {
        let mut state = lock(&self.state);
        state.is_writing = false;
        if state.pending.is_empty() {
            self.written.notify_all();
        }
        while state.pending.is_empty() {
            state.is_idle = true;
            state = lock::wait(&self.has_pending, state);
        }
        state.is_idle = false;
        state.is_writing = true;
        mem::swap(&mut state.pending, batch);
    }

    /// Counts the lines that could not be written. Returns the number of dropped lines to log: 0 while nothing can
    /// be written, since that record would be lost as well.
    fn count_dropped(&self, unwritten: &[u8], is_complete: bool) -> u64 {
        let mut state = lock(&self.state);
        let lost = unwritten.split(|byte| *byte == b'\n').count() - 1;
        state.dropped += u64::try_from(lost).unwrap_or(u64::MAX);
        if is_complete { mem::take(&mut state.dropped) } else { 0 }
    }
}

/// Writes as much as possible. Returns the number of bytes written, and whether those were all.
fn write(stream: &mut impl Write, bytes: &[u8]) -> (usize, bool) {
    let mut count = 0;
    while count < bytes.len() {
        match stream.write(&bytes[count..]) {
            Ok(0) => return (count, false),
            Ok(more) => count += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(RETRY_DELAY),
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

    /// A stream whose every write waits for a command of the test: how much to accept, or to fail.
    struct Stream {
        commands: Receiver<Option<usize>>,
        written: SyncSender<Vec<u8>>,
    }

    impl Write for Stream {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.commands.recv() {
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

    struct Fixture {
        queue: Arc<LogQueue>,
        commands: mpsc::Sender<Option<usize>>,
        written: Receiver<Vec<u8>>,
        dropped: Receiver<u64>,
    }

    fn fixture() -> Fixture {
        let (commands, commands_rx) = mpsc::channel();
        let (written_tx, written) = mpsc::sync_channel(64);
        let (dropped_tx, dropped) = mpsc::channel();
        let log_dropped = move |count| dropped_tx.send(count).expect("the test listens");
        let stream = Stream { commands: commands_rx, written: written_tx };
        let queue = LogQueue::start(stream, log_dropped).expect("a thread");
        Fixture { queue, commands, written, dropped }
    }

    impl Fixture {
        /// Lets the next write accept `count` bytes, or fail.
        fn accept(&self, count: Option<usize>) {
            self.commands.send(count).expect("the writer lives");
        }

        fn written(&self) -> String {
            String::from_utf8(self.written.recv_timeout(LIMIT).expect("a write")).expect("text")
        }

        /// Waits until the writer has dequeued the pending lines.
        fn wait_until_dequeued(&self) {
            let deadline = Instant::now() + LIMIT;
            while !lock(&self.queue.state).pending.is_empty() {
                assert!(Instant::now() < deadline, "the writer does not dequeue the lines");
                thread::yield_now();
            }
        }
    }

    #[test]
    fn a_log_that_is_not_read_does_not_block_and_drops_are_counted() {
        let test = fixture();
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        test.queue.push(b"first\n");
        test.wait_until_dequeued();
        let capacity = PENDING_MAX / line.len();
        for _ in 0..capacity + 7 {
            test.queue.push(&line);
        }
        assert_eq!(lock(&test.queue.state).dropped, 7);
        test.queue.flush(Duration::from_millis(1));
        test.accept(Some(usize::MAX));
        assert_eq!(test.written(), "first\n");
        assert_eq!(test.dropped.recv_timeout(LIMIT), Ok(7));
        test.accept(Some(usize::MAX));
        assert_eq!(test.written().len(), capacity * line.len());
        test.queue.flush(LIMIT);
        assert!(test.dropped.try_recv().is_err());
    }

    #[test]
    fn lines_lost_to_a_broken_stream_are_reported_later() {
        let test = fixture();
        test.queue.push(b"lost\n");
        test.accept(None);
        test.queue.flush(LIMIT);
        assert!(test.dropped.try_recv().is_err(), "nothing can be written");
        test.queue.push(b"cut off\n");
        test.accept(Some(3));
        test.accept(None);
        assert_eq!(test.written(), "cut");
        test.queue.flush(LIMIT);
        test.queue.push(b"back\n");
        test.accept(Some(1));
        test.accept(Some(usize::MAX));
        assert_eq!(test.written(), "\n");
        assert_eq!(test.written(), "back\n");
        assert_eq!(test.dropped.recv_timeout(LIMIT), Ok(2));
    }

    #[test]
    fn lines_are_written_in_order() {
        let test = fixture();
        for word in ["one\n", "two\n", "three\n"] {
            test.queue.push(word.as_bytes());
        }
        for _ in 0..3 {
            test.accept(Some(usize::MAX));
        }
        test.queue.flush(LIMIT);
        assert_eq!(test.written.try_iter().collect::<Vec<_>>().concat(), b"one\ntwo\nthree\n");
    }
}
