//! Waits for a reply: on a thread, or in async code.
//!
//! Both decode on the transport's thread while the reply is still in its buffer, so that it is copied once, into its
//! decoded form. A decoder must be fast.

use std::{sync::mpsc, time::Duration};

use tokio::sync::oneshot;

use super::{CallError, Caller};

/// Makes a call and blocks until the reply, at most `limit`. Do not use it on a transport thread.
///
/// # Errors
/// [`CallError`] when there was no reply. The server may have handled the request anyway. A panic of `decode` is
/// returned as [`CallError::Closed`].
pub fn call_blocking<T: Send + 'static>(
    caller: &dyn Caller,
    body: &[u8],
    limit: Duration,
    decode: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, CallError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    caller.call(body, limit, Box::new(move |reply| drop(sender.send(reply.map(decode)))));
    receiver.recv().unwrap_or_else(|_| Err(closed(caller)))
}

/// Makes a call immediately, and returns a future of its reply. Dropping the future does not cancel the call.
///
/// # Errors
/// As for [`call_blocking`].
pub fn call<T: Send + 'static, D: FnOnce(&[u8]) -> T + Send + 'static>(
    caller: &dyn Caller,
    body: &[u8],
    limit: Duration,
    decode: D,
) -> impl Future<Output = Result<T, CallError>> + Send + use<T, D> {
    let (sender, receiver) = oneshot::channel();
    let lost = closed(caller);
    caller.call(body, limit, Box::new(move |reply| drop(sender.send(reply.map(decode)))));
    async move { receiver.await.unwrap_or(Err(lost)) }
}

fn closed(caller: &dyn Caller) -> CallError {
    CallError::Closed { address: caller.address().to_owned() }
}
