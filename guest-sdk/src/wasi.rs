//! The ties of std to the system that every program has and no task needs, tied to the host's log.
//!
//! Any Rust program can panic, so std brings its message on stderr and the `RUST_BACKTRACE` that
//! it asks for. In a component these become imports of the environment, of the standard streams
//! and, through the adapter from WASI preview 1, of files; the adapter is a module of its own to
//! be instantiated with each attempt. `add(5, 3)` in a fresh instance, measured in turns on an
//! otherwise quiet machine: 7.9 us with them, 6.1 us without.
//!
//! wasi-libc leaves exactly these functions to be imported, so those defined here take their
//! place. What a task loses is what it does not have anyway: an environment is empty, and files
//! cannot be opened. Output is not lost, it becomes lines of the log. Should a later wasi-libc
//! name its imports differently, these are dead code and the imports are back.

use std::cell::RefCell;

use crate::host;
use crate::log::Level;

/// Preview 1's `errno`.
type Errno = i32;

const SUCCESS: Errno = 0;
const BAD_FILE: Errno = 8;
/// A line that is written bit by bit and longer than this is logged in pieces.
const LINE_BYTES_MAX: usize = 1024;

/// Preview 1's `ciovec`.
#[repr(C)]
struct Piece {
    start: *const u8,
    length: usize,
}

/// What was written to a stream without the end of its line.
///
/// Takes no memory from the allocator: the last thing that is printed may be that there is none.
struct Line {
    level: Level,
    bytes: [u8; LINE_BYTES_MAX],
    length: usize,
}

thread_local! {
    static STDOUT: RefCell<Line> = const { RefCell::new(Line::new(Level::Info)) };
    static STDERR: RefCell<Line> = const { RefCell::new(Line::new(Level::Warn)) };
}

/// Logs the lines that were begun and not ended.
pub(crate) fn flush() {
    STDOUT.with_borrow_mut(Line::flush);
    STDERR.with_borrow_mut(Line::flush);
}

impl Line {
    const fn new(level: Level) -> Self {
        Self {
            level,
            bytes: [0; LINE_BYTES_MAX],
            length: 0,
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            self.add(part);
            if parts.peek().is_some() {
                self.flush();
            }
        }
    }

    fn add(&mut self, part: &[u8]) {
        if self.length + part.len() > LINE_BYTES_MAX {
            self.flush();
        }
        match self.bytes.get_mut(self.length..self.length + part.len()) {
            Some(free) => {
                free.copy_from_slice(part);
                self.length += part.len();
            }
            None => host::log(self.level, &String::from_utf8_lossy(part)),
        }
    }

    fn flush(&mut self) {
        if self.length > 0 {
            let line = &self.bytes[..self.length];
            host::log(self.level, &String::from_utf8_lossy(line));
            self.length = 0;
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_fd_write(
    file: i32,
    pieces: *const Piece,
    count: usize,
    written: *mut usize,
) -> Errno {
    // SAFETY: the caller is wasi-libc, whose `writev` passes on what it was called with: `count`
    // pieces that can be read, and a place for the sum.
    let pieces = unsafe { std::slice::from_raw_parts(pieces, count) };
    let stream = match file {
        1 => &STDOUT,
        2 => &STDERR,
        _ => return BAD_FILE,
    };
    let mut sum = 0;
    for piece in pieces.iter().filter(|piece| piece.length > 0) {
        // SAFETY: as above.
        let bytes = unsafe { std::slice::from_raw_parts(piece.start, piece.length) };
        stream.with_borrow_mut(|line| line.write(bytes));
        sum += piece.length;
    }
    // SAFETY: as above.
    unsafe { written.write(sum) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_environ_sizes_get(
    count: *mut usize,
    bytes: *mut usize,
) -> Errno {
    // SAFETY: the caller is wasi-libc, which passes two locals.
    unsafe {
        count.write(0);
        bytes.write(0);
    }
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_environ_get(
    _variables: *mut *mut u8,
    _text: *mut u8,
) -> Errno {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn __imported_wasi_snapshot_preview1_proc_exit(code: i32) -> ! {
    flush();
    host::log(Level::Error, &format!("the task called exit({code})"));
    std::arch::wasm32::unreachable()
}
