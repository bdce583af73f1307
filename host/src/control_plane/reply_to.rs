//! Where replies go, and how a reply is written for each kind of recipient.

use std::sync::mpsc::SyncSender;

use tokio::sync::oneshot;

use super::state::{self, Answer};
use crate::{
    protocol::{Reply, Submitted, WorkerReply, codec, python_compat},
    task::{CallbackInfo, SerializationFormat, TaskId},
    transport,
};

/// Where a reply goes.
#[derive(Debug)]
pub enum ReplyTo {
    /// To a client or subworker of ours, in the form it asked in.
    Peer {
        /// The open request.
        reply: transport::Reply,
        /// The form.
        format: SerializationFormat,
    },
    /// To a client of the Python original.
    Original {
        /// The open request.
        reply: transport::Reply,
        /// What it asked.
        request: OriginalRequest,
    },
    /// To a thread of this process.
    Local(SyncSender<WorkerReply>),
    /// To async work in this process.
    Awaited(oneshot::Sender<Reply>),
    /// Nobody asked.
    Nobody,
}

/// What a client of the original asked.
#[derive(Debug)]
pub enum OriginalRequest {
    /// A submission.
    Submit {
        /// The task.
        id: TaskId,
        /// Given back with the result.
        callback: Option<CallbackInfo>,
    },
    /// A query for this id.
    Query(String),
    /// A cancel of this id.
    Cancel(String),
}

impl ReplyTo {
    /// Sends an answer.
    pub fn send(self, answer: Answer) {
        match (self, answer) {
            (ReplyTo::Peer { reply, format }, Answer::Client(answer)) => {
                reply.send(&fit(codec::encode(format, &answer), |why| codec::encode(format, &Reply::Refused(why))));
            }
            (ReplyTo::Peer { reply, format }, Answer::Worker(answer)) => {
                reply.send(&fit(codec::encode(format, &answer), |why| {
                    codec::encode(format, &WorkerReply::Refused(why))
                }));
            }
            (ReplyTo::Original { reply, request }, Answer::Client(answer)) => reply.send(&request.answer(&answer)),
            // A thread that no longer listens is on its way out.
            (ReplyTo::Local(sender), Answer::Worker(answer)) => drop(sender.try_send(answer)),
            // Who no longer waits has gone.
            (ReplyTo::Awaited(sender), Answer::Client(answer)) => drop(sender.send(answer)),
            (ReplyTo::Nobody, _) => {}
            (reply_to, answer) => debug_assert!(false, "{answer:?} cannot go to {reply_to:?}"),
        }
    }
}

/// The answer, or a refusal where it is larger than the other side takes in: it would be cut off
/// for it, ask again, and be cut off again.
fn fit(answer: Vec<u8>, refuse: impl FnOnce(String) -> Vec<u8>) -> Vec<u8> {
    if answer.len() <= transport::BODY_MAX {
        return answer;
    }
    refuse(format!("the answer of {} bytes is over the limit of {} bytes", answer.len(), transport::PAYLOAD_MAX))
}

impl state::Responder for ReplyTo {
    fn is_open(&self) -> bool {
        match self {
            ReplyTo::Peer { reply, .. } | ReplyTo::Original { reply, .. } => reply.is_open(),
            ReplyTo::Local(_) => true,
            ReplyTo::Awaited(sender) => !sender.is_closed(),
            ReplyTo::Nobody => false,
        }
    }
}

impl OriginalRequest {
    fn answer(&self, answer: &Reply) -> Vec<u8> {
        match (self, answer) {
            (Self::Submit { callback, .. }, Reply::Submitted(taken)) => match &taken[..] {
                [Submitted::Ended(ended)] => python_compat::ended(ended, callback.as_ref()),
                [Submitted::Refused(why)] => self.refused(why),
                _ => self.refused("the task has ended, and its result is no longer known"),
            },
            (Self::Query(id), Reply::Found(found)) if found.len() == 1 => python_compat::query(id, &found[0]),
            (Self::Cancel(id), Reply::Cancelled(stopped)) => python_compat::cancel(id, stopped == &[true]),
            (_, Reply::Refused(why)) => self.refused(why),
            (request, answer) => {
                debug_assert!(false, "{answer:?} is no answer to {request:?}");
                self.refused("internal error")
            }
        }
    }

    fn refused(&self, why: &str) -> Vec<u8> {
        match self {
            Self::Submit { id, .. } => python_compat::failure(&id.to_string(), why),
            Self::Query(_) | Self::Cancel(_) => python_compat::error(why),
        }
    }
}
