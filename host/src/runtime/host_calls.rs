//! The host functions of the contract.
//!
//! Invariant: every call costs the host a bounded amount of time and memory, for any arguments and any number of calls.

use wasmtime::component::{HasSelf, Linker};

use super::{
    attempt::Attempt,
    contract_v1::{self, Context, GuestFollowUp, Host, Level},
    descriptor::{self, Keys, ParsedPolicy},
    output::OutputLimit,
};
use crate::{
    json::Json,
    task::{FollowUp, LogLevel, TaskName},
};

/// Adds the contract's host interface.
pub(super) fn add_to_linker(linker: &mut Linker<Attempt>) -> wasmtime::Result<()> {
    contract_v1::add_to_linker::<_, HasSelf<Attempt>>(linker, |attempt| attempt)
}

impl Host for Attempt {
    fn log(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.host_calls += 1;
        self.with_output(|output| output.log(contract_v1::level(level), &message))?;
        Ok(())
    }

    fn progress(&mut self, done: u64, total: u64, message: String) -> wasmtime::Result<()> {
        self.host_calls += 1;
        self.with_output(|output| output.progress(done, total, &message));
        Ok(())
    }

    fn current(&mut self) -> wasmtime::Result<Context> {
        self.host_calls += 1;
        Ok(Context::clone(&self.info.context))
    }

    fn is_cancelled(&mut self) -> wasmtime::Result<bool> {
        self.host_calls += 1;
        Ok(self.timer().is_cancel_requested())
    }

    fn submit(&mut self, task: GuestFollowUp) -> wasmtime::Result<Result<String, String>> {
        self.host_calls += 1;
        let bytes = task.name.len() + task.args.len() + task.kwargs.len() + task.options.len();
        if let Err(limit) = self.follow_ups.check_limits(bytes) {
            return Ok(Err(limit));
        }
        let options = descriptor::parse_policy(&task.options, Keys::Options);
        self.log_unknown_keys(&options)?;
        Ok(follow_up(task, options).map(|task| {
            let index = self.follow_ups.push(task, bytes);
            self.info.task_id.follow_up(index).to_string()
        }))
    }
}

impl Attempt {
    fn log_unknown_keys(&self, options: &ParsedPolicy) -> Result<(), OutputLimit> {
        self.with_output(|output| {
            let mut lines =
                options.unknown.iter().map(|key| format!("options of a follow-up task: unknown key '{key}'"));
            lines.try_for_each(|line| output.log(LogLevel::Warn, &line))
        })
    }
}

fn follow_up(task: GuestFollowUp, options: ParsedPolicy) -> Result<FollowUp, String> {
    TaskName::check(&task.name).map_err(|invalid| invalid.to_string())?;
    if let Some(error) = options.errors.first() {
        return Err(format!("options: {error}"));
    }
    Ok(FollowUp {
        name: task.name,
        args: descriptor::parse_array(&task.args).map_err(|why| format!("args {why}"))?,
        kwargs: descriptor::parse_object(&task.kwargs).map_err(|why| format!("kwargs {why}"))?,
        policy: options.policy,
        countdown: options.countdown.filter(|countdown| !countdown.is_zero()),
        metadata: Json::empty_object(),
    })
}
