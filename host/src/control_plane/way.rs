//! The ways back to whoever asked, and how an answer is written for each.

use std::sync::mpsc::SyncSender;

use tokio::sync::oneshot;

use super::state::{self, Answer};
use crate::{
    protocol::{Reply, Submitted, WorkerReply, codec, original},
    task::{CallbackInfo, SerializationFormat, TaskId},
    transport,
};

/// A way back to whoever asked.
#[derive(Debug)]
pub enum Way {
    /// To a client or subworker of ours, in the form it asked in.
    Peer {
        /// Its request's way back.
        reply: transport::Reply,
        /// The form.
        format: SerializationFormat,
    },
    /// To a client of the Python original.
    Original {
        /// Its request's way back.
        reply: transport::Reply,
        /// What it asked.
        question: Question,
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
pub enum Question {
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

impl Way {
    /// Sends an answer.
    pub fn send(self, answer: Answer) {
        match (self, answer) {
            (Way::Peer { reply, format }, Answer::Client(answer)) => {
                reply.send(&fit(codec::encode(format, &answer), |why| codec::encode(format, &Reply::Refused(why))));
            }
            (Way::Peer { reply, format }, Answer::Worker(answer)) => {
                reply.send(&fit(codec::encode(format, &answer), |why| {
                    codec::encode(format, &WorkerReply::Refused(why))
                }));
            }
            (Way::Original { reply, question }, Answer::Client(answer)) => reply.send(&question.answer(&answer)),
            // A thread that no longer listens is on its way out.
            (Way::Local(sender), Answer::Worker(answer)) => drop(sender.try_send(answer)),
            // Who no longer waits has gone.
            (Way::Awaited(sender), Answer::Client(answer)) => drop(sender.send(answer)),
            (Way::Nobody, _) => {}
            (way, answer) => debug_assert!(false, "{answer:?} cannot go to {way:?}"),
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

impl state::Way for Way {
    fn is_open(&self) -> bool {
        match self {
            Way::Peer { reply, .. } | Way::Original { reply, .. } => reply.is_open(),
            Way::Local(_) => true,
            Way::Awaited(sender) => !sender.is_closed(),
            Way::Nobody => false,
        }
    }
}

impl Question {
    fn answer(&self, answer: &Reply) -> Vec<u8> {
        match (self, answer) {
            (Self::Submit { callback, .. }, Reply::Submitted(taken)) => match &taken[..] {
                [Submitted::Ended(ended)] => original::ended(ended, callback.as_ref()),
                [Submitted::Refused(why)] => self.refused(why),
                _ => self.refused("the task has ended, and its result is no longer known"),
            },
            (Self::Query(id), Reply::Found(found)) if found.len() == 1 => original::query(id, &found[0]),
            (Self::Cancel(id), Reply::Cancelled(stopped)) => original::cancel(id, stopped == &[true]),
            (_, Reply::Refused(why)) => self.refused(why),
            (question, answer) => {
                debug_assert!(false, "{answer:?} is no answer to {question:?}");
                self.refused("internal error")
            }
        }
    }

    fn refused(&self, why: &str) -> Vec<u8> {
        match self {
            Self::Submit { id, .. } => original::failure(&id.to_string(), why),
            Self::Query(_) | Self::Cancel(_) => original::error(why),
        }
    }
}
