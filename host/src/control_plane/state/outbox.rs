//! Effects: the replies and callbacks that a transition of the state leads to.

use std::sync::Arc;

use super::State;
use crate::{
    protocol::{Refusal, RefusalCode, Reply, WorkerReply},
    task::{CallbackInfo, TaskResult},
};

/// The recipient of the reply to an open request.
pub trait Responder {
    /// Whether the recipient still waits for the reply.
    fn is_open(&self) -> bool;
}

/// A reply of either protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyReply {
    /// To a client.
    Client(Reply),
    /// To a worker.
    Worker(WorkerReply),
}

/// Something that the caller carries out once the state is unlocked.
#[derive(Debug)]
pub enum Effect<R> {
    /// Send a reply.
    Reply {
        /// Its recipient.
        to: R,
        /// The reply.
        reply: AnyReply,
    },
    /// Send the callback of a finished task.
    Callback(Callback),
}

impl<R> Effect<R> {
    /// The reply and its recipient, if this effect is a reply.
    pub fn into_reply(self) -> Option<(R, AnyReply)> {
        match self {
            Self::Reply { to, reply } => Some((to, reply)),
            Self::Callback(_) => None,
        }
    }
}

/// The callback of a finished task. There is one for each end.
#[derive(Clone, Debug)]
pub struct Callback {
    /// The result of the task.
    pub result: Arc<TaskResult>,
    /// Its address and its data.
    pub info: Arc<CallbackInfo>,
}

/// The outcome of a callback.
#[derive(Clone, Debug)]
pub struct CallbackOutcome {
    /// The result that it delivered.
    pub result: Arc<TaskResult>,
    /// Whether it was delivered, or why not.
    pub outcome: Result<(), String>,
    /// Number of delivery attempts.
    pub attempts: u32,
}

impl<R: Responder> State<R> {
    pub(super) fn reply(&mut self, to: R, reply: Reply) {
        self.outbox.push(Effect::Reply { to, reply: AnyReply::Client(reply) });
    }

    pub(super) fn refuse_worker(&mut self, to: R, code: RefusalCode, message: impl Into<String>) {
        self.reply_to_worker(to, WorkerReply::Refused(Refusal::new(code, message)));
    }

    pub(super) fn reply_to_worker(&mut self, to: R, reply: WorkerReply) {
        self.outbox.push(Effect::Reply { to, reply: AnyReply::Worker(reply) });
    }
}
