//! A REQ socket of one thread, which waits in NNG itself.
//!
//! Apart from the caller, which has many questions open and is told of answers on NNG's threads: here
//! no callback stands between an answer and who waits for it, nor wakes a thread while a question is
//! being sent. NNG repeats the open question when the connection comes back, and nothing by timer.

use std::time::Duration;

use ::nng::{
    Error, Message, Protocol, Socket,
    options::{
        Options as _, ReconnectMaxTime, ReconnectMinTime, RecvTimeout, SendTimeout, protocol::reqrep::ResendTime,
    },
};

use super::{
    super::{CallError, Dialog, FRAME_MAX, OpenError},
    BODY_MAX, RECONNECT_MAX, RECONNECT_MIN, RESEND, prepare, refused,
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
        let socket = Socket::new(Protocol::Req0).map_err(fail)?;
        prepare(&socket, address, FRAME_MAX)?;
        let set = || {
            socket.set_opt::<ReconnectMinTime>(Some(RECONNECT_MIN))?;
            socket.set_opt::<ReconnectMaxTime>(Some(RECONNECT_MAX))?;
            socket.set_opt::<ResendTime>(Some(RESEND))?;
            socket.set_opt::<SendTimeout>(Some(limit))?;
            socket.set_opt::<RecvTimeout>(Some(limit))
        };
        set().map_err(fail)?;
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
