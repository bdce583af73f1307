//! How an attempt ended, told apart and told to people.
//!
//! Apart because every way to end has its kind, its sentence and its consequence for retries.
//! Invariant: told apart by what happened (types and our own flags), never by a message's text.

use std::{fmt, str::Utf8Error, time::Duration};

use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::{
    backtrace::Backtrace,
    call::Attempt,
    contract_v1::{self, RunResults},
    limits::Refused,
    output::Flood,
    watchdog::Why,
};
use crate::{
    clock::seconds,
    json::Json,
    system,
    task::{ErrorKind, Failure, Outcome},
};

/// What is said of a guest whose stack is full.
const STACK_OVERFLOW: &str = "stack overflow: it calls itself too deeply";
/// What is said of a guest that failed and said nothing.
const WORDLESS: &str = "the task failed and did not say why";

/// The outcome of a `run` that had `timeout`: what it returned, and why it was ended from outside, if
/// it was.
pub(super) fn outcome(
    result: wasmtime::Result<RunResults>,
    why: Option<Why>,
    attempt: &mut Attempt,
    timeout: Duration,
) -> Outcome {
    if why == Some(Why::Stopped) {
        return Outcome::Stopped;
    }
    let failure = match result {
        Ok((Ok(text),)) => match success(&text, attempt) {
            Ok(result) => return Outcome::Success { result, follow_ups: attempt.follow_ups.take_tasks() },
            Err(failure) => failure,
        },
        // A guest that saw its deadline and gave up has timed out all the same.
        _ if why == Some(Why::TimedOut) => timed_out(timeout),
        Ok((Err(said),)) => in_words(contract_v1::failure(said), attempt),
        Err(error) => cut_short(&error, attempt),
    };
    Outcome::Failure(failure)
}

fn success(text: &str, attempt: &Attempt) -> Result<Json, Failure> {
    let result_max = attempt.config().result_max;
    let follow_ups = attempt.follow_ups.bytes();
    if text.len().saturating_add(follow_ups) > result_max {
        let and = if follow_ups > 0 { " and follow-up tasks" } else { "" };
        let has = Bytes(text.len() + follow_ups);
        let message = format!("returned a result{and} of {has}, {} is the most", Bytes(result_max));
        return Err(Failure::new(ErrorKind::OutputLimit, message));
    }
    let not_json = |why| Failure::new(ErrorKind::Failed, format!("the module returned no JSON document: {why}"));
    Json::parse(text).map_err(not_json)
}

fn timed_out(timeout: Duration) -> Failure {
    Failure::new(ErrorKind::Timeout, format!("Task timed out after {}s", seconds(timeout)))
}

/// Why a call that did not return ended.
pub(super) fn cut_short(error: &wasmtime::Error, attempt: &Attempt) -> Failure {
    let flooded = attempt.speak(|output| output.flooded());
    if flooded || error.is::<Flood>() {
        let message = format!("logged and printed more than {}", Bytes(attempt.config().log_max));
        return Failure::new(ErrorKind::OutputLimit, message);
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        let message = format!("{}the task called exit({}) instead of returning", reason(attempt), exit.0);
        return Failure::new(ErrorKind::Failed, message);
    }
    let backtrace = Backtrace::of(error);
    let (kind, summary) = match (error.downcast_ref::<Trap>(), attempt.limits.refused()) {
        (Some(Trap::StackOverflow), _) => (ErrorKind::StackOverflow, STACK_OVERFLOW.to_owned()),
        (_, Some(refused)) => (ErrorKind::OutOfMemory, out_of_memory(refused)),
        (Some(Trap::MemoryOutOfBounds), _) if backtrace.is_runaway() => {
            (ErrorKind::StackOverflow, STACK_OVERFLOW.to_owned())
        }
        (Some(Trap::UnreachableCodeReached), _) => (ErrorKind::Trap, "wasm trap: unreachable".to_owned()),
        (Some(trap), _) => (ErrorKind::Trap, trap.to_string()),
        // wasmtime has no type for a call that passes too much; only a guest that has so much
        // memory can have made one.
        (None, _) if attempt.limits.used() > attempt.hostcall_max() && !error.is::<Utf8Error>() => {
            (ErrorKind::OutputLimit, too_much(error, attempt))
        }
        (None, _) => (ErrorKind::Trap, error.root_cause().to_string()),
    };
    Failure::new(kind, format!("{}{summary}{backtrace}", reason(attempt)))
}

/// What the guest said last, before what is said of it.
fn reason(attempt: &Attempt) -> String {
    attempt.speak(|output| output.last_words()).map(|words| words + "\n").unwrap_or_default()
}

/// What the guest said itself: with words, which a message of nothing but empty lines has not.
fn in_words(mut failure: Failure, attempt: &Attempt) -> Failure {
    failure.message = match failure.message.trim() {
        "" => attempt.speak(|output| output.last_words()).unwrap_or_else(|| WORDLESS.to_owned()),
        words => words.to_owned(),
    };
    failure
}

/// What is said of a guest that passed more to the host than it takes in. While it runs, the error knows
/// where; what it returns is read when it no longer does.
fn too_much(error: &wasmtime::Error, attempt: &Attempt) -> String {
    let (passed, most) = (Bytes(attempt.hostcall_max()), Bytes(attempt.config().result_max));
    if error.is::<WasmBacktrace>() {
        format!("passed more than {passed} to the host in one call")
    } else {
        format!("returned a result of more than {passed}, {most} is the most")
    }
}

/// Whether an error is the host's own want of something: memory, address space, room in the pool.
pub(super) fn is_hosts(error: &wasmtime::Error) -> bool {
    error.is::<rustix::io::Errno>()
        || error.is::<std::io::Error>()
        || error.is::<wasmtime::OutOfMemory>()
        || error.is::<PoolConcurrencyLimitError>()
}

/// Why the host could not set up or go on with a sandbox, if that is how a call ended. `began` says
/// whether the guest's function had been called; before that, whatever is not the guest's doing is the
/// host's, as the same module has been instantiated when it was loaded.
pub(super) fn no_sandbox(error: &wasmtime::Error, attempt: &Attempt, began: bool) -> Option<String> {
    let by_host = attempt.limits.refused().is_some_and(|refused| refused.by_host);
    let refused = is_refusal(error, attempt) && (!began || is_hosts(error));
    if refused {
        return Some(explained(error));
    }
    by_host.then(|| format!("a memory could not grow: {}", system::memory()))
}

/// An error of the engine, with the limit that is behind it, if one is.
pub(super) fn explained(error: &wasmtime::Error) -> String {
    if !is_hosts(error) {
        return format!("{error:#}");
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return error.root_cause().to_string();
    }
    format!("{}: {}", error.root_cause(), system::memory())
}

/// Whether wasmtime refused a component, rather than the guest failed.
pub(super) fn is_refusal(error: &wasmtime::Error, attempt: &Attempt) -> bool {
    let is_guests = error.is::<Trap>() || error.is::<WasmBacktrace>() || error.is::<I32Exit>() || error.is::<Flood>();
    !is_guests && attempt.limits.refused().is_none()
}

fn out_of_memory(Refused { had, wanted, max, by_host }: Refused) -> String {
    if by_host {
        let limit = system::memory();
        return format!(
            "out of memory: it had {} and wanted {} more, which the worker could not get: {limit}",
            Bytes(had),
            Bytes(wanted)
        );
    }
    format!("out of memory: it had {} and wanted {} more, {} is the most", Bytes(had), Bytes(wanted), Bytes(max))
}

/// A number of bytes for people.
pub(super) struct Bytes(pub(super) usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KIB: usize = 1 << 10;
        const MIB: usize = 1 << 20;
        match self.0 {
            bytes if bytes >= MIB => write_part(f, bytes, MIB, "MiB"),
            bytes if bytes >= KIB => write_part(f, bytes, KIB, "KiB"),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

fn write_part(f: &mut fmt::Formatter<'_>, bytes: usize, unit: usize, name: &str) -> fmt::Result {
    let (whole, tenths) = (bytes / unit, bytes % unit * 10 / unit);
    if tenths == 0 { write!(f, "{whole} {name}") } else { write!(f, "{whole}.{tenths} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        let written = [(0, "0 bytes"), (1536, "1.5 KiB"), (512 << 20, "512 MiB"), ((1 << 20) + 1, "1 MiB")];
        for (bytes, text) in written {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
