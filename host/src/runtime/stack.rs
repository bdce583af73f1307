//! The stacks of the threads that call guests. A guest without waits uses the stack of its thread.

use std::{io, panic, thread};

use super::{Runtime, STACK_DEFAULT};

/// Stack for what the host does in a call of a guest, and for the rest of the thread, in bytes.
const HOST_STACK: usize = 3 << 20;

/// Calls `f` where a guest can use `stack_max` bytes: on this thread, as long as that is the default, which every thread
/// has.
///
/// # Errors
/// The system's if no thread can be started.
pub(super) fn with_stack<R: Send>(stack_max: usize, f: impl FnOnce() -> R + Send) -> io::Result<R> {
    if stack_max <= STACK_DEFAULT {
        return Ok(f());
    }
    thread::scope(|scope| {
        let stack = stack_max.saturating_add(HOST_STACK);
        let thread = thread::Builder::new().name("fw-stack".into()).stack_size(stack).spawn_scoped(scope, f)?;
        Ok(thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
    })
}

impl Runtime {
    /// The stack that a thread needs for a [`Slot`](super::Slot), in bytes.
    pub fn thread_stack(&self) -> usize {
        self.config().stack_max.saturating_add(HOST_STACK)
    }

    /// Calls `f`, which runs attempts, with a stack that is large enough for them.
    ///
    /// # Errors
    /// The system's if no thread can be started.
    pub fn with_stack<R: Send>(&self, f: impl FnOnce() -> R + Send) -> io::Result<R> {
        with_stack(self.config().stack_max, f)
    }
}
