//! What the host offers to a running attempt: the contract's `host` interface.
//!
//! Apart because here the guest acts on the world. Invariant: every call costs the host a bounded
//! amount of time and memory, however often and with whatever it is called.

use std::{mem, time::Duration};

use wasmtime::component::{HasSelf, Linker};

use super::{
    call::Attempt,
    contract_v1::{self, Context, GuestFollowUp, Host, Level},
    descriptor::{self, Keys, Wishes},
    output::Flood,
};
use crate::{
    json::Json,
    task::{FollowUp, LogLevel, TASK_NAME_MAX, is_task_name},
};

/// Lets modules reach the contract's host interface.
pub(super) fn add_to_linker(linker: &mut Linker<Attempt>) -> wasmtime::Result<()> {
    contract_v1::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt)
}

impl Host for Attempt {
    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.speak(|output| output.log(contract_v1::level(level), &message))?;
        Ok(())
    }

    fn progress(&mut self, done: u64, total: u64, message: String) -> wasmtime::Result<()> {
        self.speak(|output| output.progress(done, total, &message));
        Ok(())
    }

    fn current(&mut self) -> wasmtime::Result<Context> {
        Ok(Context {
            task_id: self.call.task_id.to_string(),
            name: self.call.name.clone(),
            attempt: self.call.attempt,
            deadline_ms: self.call.deadline_ms,
        })
    }

    fn is_cancelled(&mut self) -> wasmtime::Result<bool> {
        Ok(self.is_asked_to_end())
    }

    fn submit(&mut self, task: GuestFollowUp) -> wasmtime::Result<Result<String, String>> {
        let bytes = task.name.len() + task.args.len() + task.kwargs.len() + task.options.len();
        if let Err(refusal) = self.follow_ups.admit(bytes) {
            return Ok(Err(refusal));
        }
        let wishes = descriptor::wishes(&task.options, Keys::Options);
        self.warn_of(&wishes)?;
        Ok(follow_up(task, wishes).map(|task| {
            let index = self.follow_ups.push(task, bytes);
            self.call.task_id.follow_up(index).to_string()
        }))
    }
}

impl Attempt {
    fn warn_of(&self, wishes: &Wishes) -> Result<(), Flood> {
        self.speak(|output| {
            let mut lines =
                wishes.unknown.iter().map(|key| format!("options of a follow-up task: unknown key '{key}'"));
            lines.try_for_each(|line| output.log(LogLevel::Warn, &line))
        })
    }
}

fn follow_up(task: GuestFollowUp, wishes: Wishes) -> Result<FollowUp, String> {
    if !is_task_name(&task.name) {
        return Err(format!("a task name is text of 1 to {TASK_NAME_MAX} bytes without control characters"));
    }
    if let Some(wrong) = wishes.unreadable.first() {
        return Err(format!("options: {wrong}"));
    }
    Ok(FollowUp {
        name: task.name,
        args: descriptor::array(&task.args).map_err(|why| format!("args {why}"))?,
        kwargs: descriptor::object(&task.kwargs).map_err(|why| format!("kwargs {why}"))?,
        policy: wishes.policy,
        countdown: wishes.countdown.filter(|span| *span > Duration::ZERO),
        metadata: Json::empty_object(),
    })
}

/// The follow-up tasks of one attempt.
#[derive(Debug)]
pub(super) struct FollowUps {
    tasks: Vec<FollowUp>,
    count_max: usize,
    bytes: usize,
    bytes_max: usize,
}

impl FollowUps {
    /// At most `count_max` tasks of `bytes_max` bytes together.
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { tasks: Vec::new(), count_max, bytes: 0, bytes_max }
    }

    /// Bytes of all tasks so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the tasks out, in the order of their submission.
    pub(super) fn take_tasks(&mut self) -> Vec<FollowUp> {
        mem::take(&mut self.tasks)
    }

    fn admit(&self, bytes: usize) -> Result<(), String> {
        if self.tasks.len() >= self.count_max {
            return Err(format!("an attempt may submit {} follow-up tasks, not more", self.count_max));
        }
        if self.bytes.saturating_add(bytes) > self.bytes_max {
            return Err(format!("the follow-up tasks of an attempt may have {} bytes together", self.bytes_max));
        }
        Ok(())
    }

    fn push(&mut self, task: FollowUp, bytes: usize) -> usize {
        self.bytes += bytes;
        self.tasks.push(task);
        self.tasks.len() - 1
    }
}
