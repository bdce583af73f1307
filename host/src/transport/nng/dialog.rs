//! A REQ socket of one thread, which waits in NNG itself.
//!
//! Apart from the caller, which has many questions open and is told of answers on NNG's threads: here
//! no callback stands between an answer and who waits for it, nor wakes a thread while a question is
//! being sent. NNG repeats the open question when the connection comes back, and nothing by timer.

use std::time::Duration;

use ::nng::{
    Error, Message, Socket,
    options::{Options as _, RecvTimeout, SendTimeout},
};

use super::{
    super::{CallError, Dialog, OpenError},
    BODY_MAX, refused, request_socket,
};

/// A dialled REQ socket for one question at a time. Nothing is posted on it but by who owns it, so it
/// closes safely when that lets go of it.
pub(super) struct NngDialog {
    socket: Socket,
    address: String,
    limit: Duration,
}

impl NngDialog {
    /// Opens the socket; it connects in the background.
    pub(super) fn dial(address: &str, limit: Duration) -> Result<Self, OpenError> {
        let fail = |error| refused(address, error);
        let socket = request_socket(address)?;
        socket.set_opt::<SendTimeout>(Some(limit)).map_err(fail)?;
        socket.set_opt::<RecvTimeout>(Some(limit)).map_err(fail)?;
        socket.dial_async(address).map_err(fail)?;
        Ok(Self { socket, address: address.to_owned(), limit })
    }

    fn error(&self, error: Error) -> CallError {
        match error {
            Error::TimedOut => CallError::TimedOut { address: self.address.clone(), waited: self.limit },
            other => {
                tracing::error!(error = %other, address = self.address, "a question failed");
                CallError::Closed { address: self.address.clone() }
            }
        }
    }
}

impl Dialog for NngDialog {
    fn ask(&mut self, body: &[u8], meanwhile: &mut dyn FnMut(), read: &mut dyn FnMut(&[u8])) -> Result<(), CallError> {
        if body.len() > BODY_MAX {
            return Err(CallError::TooLarge { size: body.len() });
        }
        self.socket.send(Message::from(body)).map_err(|(_, error)| self.error(error))?;
        meanwhile();
        let answer = self.socket.recv().map_err(|error| self.error(error))?;
        read(&answer);
        Ok(())
    }

    fn address(&self) -> &str {
        &self.address
    }
}
