//! Listener for callbacks.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;

use crate::{
    protocol::{CALLBACK_MESSAGE_MAX, CallbackMessage},
    transport::{Inbox, OpenError, Transport, nng::Nng},
};

/// Receives the callbacks of tasks that were submitted with its address.
///
/// A stream of messages in the order of their arrival. Messages that are not read yet wait at the control
/// plane and delay nothing else there. A listener serves one control plane at a time.
///
/// ```no_run
/// # async fn listen() -> Result<(), Box<dyn std::error::Error>> {
/// use fastworker::client::{Client, Listener};
///
/// let client = Client::builder().build();
/// client.start().await?;
/// let mut listener = Listener::bind("tcp://127.0.0.1:0")?;
/// client.delay_with_callback("add", listener.address(), (5, 3)).callback_data("mine").await?;
/// if let Some(message) = listener.next().await {
///     let message = message?;
///     println!("{} ended as {}: {:?}", message.task_id, message.status, message.result);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Listener {
    inbox: Box<dyn Inbox>,
}

/// A message that is not a callback.
#[derive(Debug, thiserror::Error)]
#[error("received a message that is not a callback: {cause}: {text}")]
pub struct Unreadable {
    /// The parse error.
    #[source]
    pub cause: serde_json::Error,
    /// Its first characters.
    pub text: String,
}

impl Listener {
    /// Listens at an address such as `tcp://127.0.0.1:6000`. Port 0 selects a free port:
    /// [`Listener::address`] returns it. Any host that reaches the address can send messages.
    ///
    /// # Errors
    /// [`OpenError`] if the address is not valid, or in use.
    pub fn bind(address: &str) -> Result<Self, OpenError> {
        Ok(Self { inbox: Nng.inbox(address, CALLBACK_MESSAGE_MAX)? })
    }

    /// Returns the address, with its real port: the callback address for submissions.
    pub fn address(&self) -> &str {
        self.inbox.address()
    }

    /// Returns the next message. None if the socket has failed.
    pub async fn next(&mut self) -> Option<Result<CallbackMessage, Unreadable>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<CallbackMessage, Unreadable>>> {
        self.inbox.poll_next(context).map(|body| body.map(|body| read(&body)))
    }
}

impl Stream for Listener {
    type Item = Result<CallbackMessage, Unreadable>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("address", &self.address()).finish_non_exhaustive()
    }
}

fn read(body: &[u8]) -> Result<CallbackMessage, Unreadable> {
    serde_json::from_slice(body).map_err(|cause| {
        let text = String::from_utf8_lossy(&body[..body.len().min(400)]).chars().take(100).collect();
        Unreadable { cause, text }
    })
}
