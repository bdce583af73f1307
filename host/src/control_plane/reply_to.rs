//! Recipients of replies, and the encoding of a reply for each kind of recipient.

use std::sync::mpsc::SyncSender;

use tokio::sync::oneshot;

use super::state::{self, AnyReply};
use crate::{
    protocol::{Refusal, RefusalCode, Reply, Submitted, WorkerReply, codec, python_compat},
    task::{CallbackInfo, SerializationFormat, TaskId},
    transport,
};

/// The recipient of a reply.
#[derive(Debug)]
pub enum ReplyTo {
    /// A client or subworker, in the format of its request.
    Peer {
        /// The open request.
        reply: transport::ReplyHandle,
        /// The format.
        format: SerializationFormat,
    },
    /// A client of the Python original.
    Original {
        /// The open request.
        reply: transport::ReplyHandle,
        /// The request.
        request: OriginalRequest,
    },
    /// A blocked thread of this process.
    Local(SyncSender<WorkerReply>),
    /// An async task of this process.
    Oneshot(oneshot::Sender<Reply>),
    /// None: the reply is discarded.
    Discard,
}

/// A request of a client of the original.
#[derive(Debug)]
pub enum OriginalRequest {
    /// A submission.
    Submit {
        /// The task.
        id: TaskId,
        /// Returned with the result.
        callback: Option<CallbackInfo>,
    },
    /// A query for this id.
    Query(String),
    /// A cancel of this id.
    Cancel(String),
}

impl ReplyTo {
    /// Encodes and sends a reply.
    pub fn send(self, reply: AnyReply) {
        match (self, reply) {
            (ReplyTo::Peer { reply: open, format }, AnyReply::Client(reply)) => {
                open.send(&fit(codec::encode(format, &reply), |refusal| {
                    codec::encode(format, &Reply::Refused(refusal))
                }));
            }
            (ReplyTo::Peer { reply: open, format }, AnyReply::Worker(reply)) => {
                open.send(&fit(codec::encode(format, &reply), |refusal| {
                    codec::encode(format, &WorkerReply::Refused(refusal))
                }));
            }
            (ReplyTo::Original { reply: open, request }, AnyReply::Client(reply)) => open.send(&request.encode(&reply)),
            // If the channel is full or closed, the thread is ending.
            (ReplyTo::Local(sender), AnyReply::Worker(reply)) => drop(sender.try_send(reply)),
            // If the receiver was dropped, the task is ending.
            (ReplyTo::Oneshot(sender), AnyReply::Client(reply)) => drop(sender.send(reply)),
            (ReplyTo::Discard, _) => {}
            (reply_to, reply) => debug_assert!(false, "{reply:?} cannot be sent to {reply_to:?}"),
        }
    }
}

/// Returns the encoded reply, or a refusal if it is too large: the peer would close the connection, repeat the
/// request, and close it again.
fn fit(reply: Vec<u8>, refuse: impl FnOnce(Refusal) -> Vec<u8>) -> Vec<u8> {
    if reply.len() <= transport::BODY_MAX {
        return reply;
    }
    let message = format!("the reply of {} bytes is over the limit of {} bytes", reply.len(), transport::PAYLOAD_MAX);
    refuse(Refusal::new(RefusalCode::ReplyTooLarge, message))
}

impl state::Responder for ReplyTo {
    fn is_open(&self) -> bool {
        match self {
            ReplyTo::Peer { reply, .. } | ReplyTo::Original { reply, .. } => reply.is_open(),
            ReplyTo::Local(_) => true,
            ReplyTo::Oneshot(sender) => !sender.is_closed(),
            ReplyTo::Discard => false,
        }
    }
}

impl OriginalRequest {
    fn encode(&self, reply: &Reply) -> Vec<u8> {
        match (self, reply) {
            (Self::Submit { callback, .. }, Reply::Submitted(submitted)) => match &submitted[..] {
                [Submitted::Ended(ended)] => python_compat::ended(ended, callback.as_ref()),
                [Submitted::Refused(refusal)] => self.refused(&refusal.message),
                _ => self.refused("the task has ended, and its result is no longer known"),
            },
            (Self::Query(id), Reply::Found(found)) if found.len() == 1 => python_compat::query(id, &found[0]),
            (Self::Cancel(id), Reply::Cancelled(stopped)) => python_compat::cancel(id, stopped == &[true]),
            (_, Reply::Refused(refusal)) => self.refused(&refusal.message),
            (request, reply) => {
                debug_assert!(false, "{reply:?} is not a reply to {request:?}");
                self.refused("internal error")
            }
        }
    }

    fn refused(&self, message: &str) -> Vec<u8> {
        match self {
            Self::Submit { id, .. } => python_compat::failure(&id.to_string(), message),
            Self::Query(_) | Self::Cancel(_) => python_compat::error(message),
        }
    }
}
