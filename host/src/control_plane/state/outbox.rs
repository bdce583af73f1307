//! What is to be said and done once the state is left.
//!
//! Apart because it is all that leaves the state: in order, and sent by the core outside of its lock.

use std::{mem, sync::Arc};

use super::State;
use crate::{
    protocol::{Reply, WorkerReply},
    task::{CallbackInfo, TaskResult},
};

/// Where a reply goes: the recipient of an open request.
pub trait Responder {
    /// Whether anybody still waits at its end.
    fn is_open(&self) -> bool;
}

/// Something to be said.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a client.
    Client(Reply),
    /// To a subworker.
    Worker(WorkerReply),
}

/// Something to be done outside, once the state is left.
#[derive(Debug)]
pub enum Effect<R> {
    /// Something is to be said to somebody who asked.
    Say {
        /// To whom.
        to: R,
        /// What.
        answer: Answer,
    },
    /// Word is to be sent that a task has ended.
    Call(Callback),
}

impl<R> Effect<R> {
    /// What is to be said, and to whom, if this is something to be said.
    pub fn said(self) -> Option<(R, Answer)> {
        match self {
            Self::Say { to, answer } => Some((to, answer)),
            Self::Call(_) => None,
        }
    }
}

/// The word that a task has ended, for whoever wanted to be called back. There is one for each end.
#[derive(Clone, Debug)]
pub struct Callback {
    /// How it ended.
    pub result: Arc<TaskResult>,
    /// Where to send it, and what goes along.
    pub info: Arc<CallbackInfo>,
}

/// What became of a callback.
#[derive(Clone, Debug)]
pub struct CallbackEnd {
    /// The end that it told of.
    pub result: Arc<TaskResult>,
    /// Whether it was delivered, or why not.
    pub outcome: Result<(), String>,
    /// How often it was tried.
    pub attempts: u32,
}

impl<R: Responder> State<R> {
    /// Takes what is to be said, in order.
    pub fn take_outbox(&mut self) -> Vec<Effect<R>> {
        mem::take(&mut self.outbox)
    }

    pub(super) fn reply(&mut self, to: R, reply: Reply) {
        self.outbox.push(Effect::Say { to, answer: Answer::Client(reply) });
    }

    pub(super) fn reply_to_worker(&mut self, to: R, reply: WorkerReply) {
        self.outbox.push(Effect::Say { to, answer: Answer::Worker(reply) });
    }
}
