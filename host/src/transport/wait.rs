//! Two ways to wait for an answer: on a thread, and in async code.
//!
//! Both decode on the transport's thread while the answer still lies in its buffer, so that it is
//! copied once, into what it means. A decoder must be quick, as all that runs there.

use std::{
    sync::{Arc, Mutex},
    thread::{self, Thread},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{CallError, Caller};
use crate::lock::lock;

/// Asks and parks this thread until the answer is there, at most `limit`. Not for transport threads.
///
/// # Errors
/// [`CallError`] when no answer came. The request may have been taken all the same. A panic of
/// `decode` shows as [`CallError::Closed`].
pub fn call_blocking<T: Send + 'static>(
    caller: &dyn Caller,
    body: &[u8],
    limit: Duration,
    decode: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, CallError> {
    let mailbox = Arc::new(Mailbox { state: Mutex::new(State::Waiting), reader: thread::current() });
    let slip = Slip(Some(Arc::clone(&mailbox)));
    caller.call(body, limit, Box::new(move |answer| slip.put(answer.map(decode))));
    mailbox.take().unwrap_or_else(|| Err(closed(caller)))
}

/// Asks at once, and gives the answer when it is there, at most `limit` later. Dropping the future
/// does not take the request back.
///
/// # Errors
/// As for [`call_blocking`].
pub fn call<T: Send + 'static, D: FnOnce(&[u8]) -> T + Send + 'static>(
    caller: &dyn Caller,
    body: &[u8],
    limit: Duration,
    decode: D,
) -> impl Future<Output = Result<T, CallError>> + Send + use<T, D> {
    let (slip, mailbox) = oneshot::channel();
    let lost = closed(caller);
    caller.call(body, limit, Box::new(move |answer| drop(slip.send(answer.map(decode)))));
    async move { mailbox.await.unwrap_or(Err(lost)) }
}

fn closed(caller: &dyn Caller) -> CallError {
    CallError::Closed { address: caller.address().to_owned() }
}

/// Where one answer is left for one thread.
struct Mailbox<T> {
    state: Mutex<State<T>>,
    reader: Thread,
}

enum State<T> {
    Waiting,
    Here(Result<T, CallError>),
    /// Nothing will come: whoever had to put it panicked.
    Lost,
}

impl<T> Mailbox<T> {
    fn set(&self, state: State<T>) {
        *lock(&self.state) = state;
        self.reader.unpark();
    }

    fn take(&self) -> Option<Result<T, CallError>> {
        loop {
            let mut state = lock(&self.state);
            match std::mem::replace(&mut *state, State::Waiting) {
                State::Here(answer) => return Some(answer),
                State::Lost => return None,
                State::Waiting => drop(state),
            }
            thread::park();
        }
    }
}

/// The right to put one answer. Dropped unused, it says that none will come.
struct Slip<T>(Option<Arc<Mailbox<T>>>);

impl<T> Slip<T> {
    fn put(mut self, answer: Result<T, CallError>) {
        if let Some(mailbox) = self.0.take() {
            mailbox.set(State::Here(answer));
        }
    }
}

impl<T> Drop for Slip<T> {
    fn drop(&mut self) {
        if let Some(mailbox) = self.0.take() {
            mailbox.set(State::Lost);
        }
    }
}
