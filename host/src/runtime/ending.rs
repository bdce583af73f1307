//! Classifies how an attempt ended and formats the error message.
//!
//! Invariant: classified by types and the host's own flags, never by the text of a message.

use std::{borrow::Cow, str::Utf8Error, time::Duration};

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::{
    attempt::{Attempt, AttemptResult},
    backtrace::Backtrace,
    contract_v1::ReportedFailure,
    entry::Returned,
    host_errors::{explain, is_host_error},
    limits::RefusedGrowth,
    output::{Output, OutputLimit},
    plain::ResultTooLarge,
    program_io::StdoutLimit,
    reach::{FolderUnavailable, Mask},
    watchdog::EndReason,
};
use crate::{
    clock::seconds,
    json::Json,
    system,
    task::{ErrorKind, Failure, FollowUp, LimitKind, LogLevel, Outcome},
};

const STACK_OVERFLOW: &str = "stack overflow: it calls itself too deeply";
/// What follows it if the module has no name of any function in its stack.
const UNNAMED_RECURSION: &str = "\nThe module has no names of functions that would show which one. \
                                 In JavaScript, a comment // @engine complete gives them: QuickJS has none.";
/// The message of a failure for which the guest gave no reason.
const NO_REASON: &str = "the task failed without an error message";

/// The result of an attempt with `timeout`, from what it returned and the reason why it was ended by the host, if it was.
pub(super) fn attempt_result(
    result: wasmtime::Result<Returned>,
    reason: Option<EndReason>,
    attempt: &mut Attempt,
    timeout: Duration,
) -> AttemptResult {
    if reason == Some(EndReason::Stopped) {
        return AttemptResult::of(Outcome::Stopped);
    }
    let mut ended = unmasked_result(result, reason, attempt, timeout);
    if let Outcome::Failure(failure) = &mut ended.outcome {
        attempt.with_output(|output| explain_failure(failure, output));
    }
    match attempt.reach.mask() {
        Some(mask) => masked_result(mask, ended),
        None => ended,
    }
}

/// Adds to a failure what the attempt was refused, and names the limit of the network that it exceeded.
fn explain_failure(failure: &mut Failure, output: &Output) {
    if let Some((kind, excess)) = output.excess()
        && matches!(failure.kind, ErrorKind::Failed | ErrorKind::Trap)
    {
        failure.kind = kind.error_kind();
        add_line(&mut failure.message, excess);
    }
    if let Some(hint) = output.hint() {
        add_line(&mut failure.message, hint);
    }
}

/// Adds a line, unless the message has it.
fn add_line(message: &mut String, line: &str) {
    if !message.contains(line) {
        message.push('\n');
        message.push_str(line);
    }
}

/// The result with all secrets masked.
fn masked_result(mask: &Mask, ended: AttemptResult) -> AttemptResult {
    let text = |text: String| match mask.text(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(masked) => masked,
    };
    let outcome = match ended.outcome {
        Outcome::Success { result, follow_ups } => {
            let masked = |task: FollowUp| FollowUp {
                name: text(task.name),
                args: mask.json(&task.args),
                kwargs: mask.json(&task.kwargs),
                metadata: mask.json(&task.metadata),
                ..task
            };
            Outcome::Success { result: mask.json(&result), follow_ups: follow_ups.into_iter().map(masked).collect() }
        }
        Outcome::Failure(failure) => Outcome::Failure(Failure { message: text(failure.message), ..failure }),
        Outcome::Stopped => Outcome::Stopped,
    };
    AttemptResult { outcome, usage: ended.usage, metadata: ended.metadata.map(|metadata| mask.json(&metadata)) }
}

fn unmasked_result(
    result: wasmtime::Result<Returned>,
    reason: Option<EndReason>,
    attempt: &mut Attempt,
    timeout: Duration,
) -> AttemptResult {
    match result {
        Ok(Ok(text)) => match success(&text, attempt) {
            Ok(result) => {
                let outcome = Outcome::Success { result, follow_ups: attempt.follow_ups.take_tasks() };
                AttemptResult::of(outcome)
            }
            Err(failure) => failure.into(),
        },
        // A guest that saw its end and ended with an error has exceeded its limit anyway.
        _ if let Some(failure) = reason.and_then(|reason| over_time(reason, timeout, attempt)) => failure.into(),
        Ok(Err(failure)) => reported(failure, attempt),
        Err(error) => aborted(&error, attempt).into(),
    }
}

fn success(text: &str, attempt: &Attempt) -> Result<Json, Failure> {
    let result_max = attempt.result_max();
    let follow_ups = attempt.follow_ups.bytes();
    if text.len().saturating_add(follow_ups) > result_max {
        let and = if follow_ups > 0 { " and follow-up tasks" } else { "" };
        let size = bytes(text.len() + follow_ups);
        let message = format!("returned a result{and} of {size}: the limit is {}", bytes(result_max));
        return Err(Failure::new(ErrorKind::ResultLimit, message));
    }
    let not_json = |why| Failure::new(ErrorKind::Failed, format!("the module returned no JSON document: {why}"));
    Json::parse(text).map_err(not_json)
}

/// The failure of an attempt that the host ended because it took too long.
fn over_time(reason: EndReason, timeout: Duration, attempt: &Attempt) -> Option<Failure> {
    let shown = |kind: LimitKind| kind.show(attempt.info.limits.get(kind));
    let (kind, message) = match reason {
        EndReason::TimedOut => (ErrorKind::Timeout, format!("Task timed out after {}s", seconds(timeout))),
        EndReason::CpuTime => {
            (ErrorKind::CpuTimeLimit, format!("used more than {} of CPU time", shown(LimitKind::CpuTime)))
        }
        EndReason::HostTime => {
            let waited = shown(LimitKind::HostTime);
            (ErrorKind::HostTimeLimit, format!("waited more than {waited} in calls of the host"))
        }
        EndReason::Stopped => return None,
    };
    Some(Failure::new(kind, message))
}

/// A failure that the guest reported itself. A blank message is replaced by the guest's last error.
fn reported(reported: ReportedFailure, attempt: &Attempt) -> AttemptResult {
    let ReportedFailure { mut failure, metadata, warnings } = reported;
    failure.message = match failure.message.trim() {
        "" => attempt.with_output(|output| output.last_error()).unwrap_or_else(|| NO_REASON.to_owned()),
        message => message.to_owned(),
    };
    if failure.kind == ErrorKind::OutOfMemory {
        match attempt.limits.refused_growth() {
            Some(refused) => add_line(&mut failure.message, &out_of_memory(refused)),
            // Whatever it is, the host refused nothing.
            None => failure.kind = ErrorKind::Failed,
        }
    }
    for warning in warnings {
        // The attempt has ended, so exceeding its output limit here has no effect.
        let _ = attempt.with_output(|output| output.log(LogLevel::Warn, &warning));
    }
    AttemptResult { metadata, ..failure.into() }
}

/// The failure of a call that did not return.
pub(super) fn aborted(error: &wasmtime::Error, attempt: &Attempt) -> Failure {
    let exceeded = attempt.with_output(|output| output.exceeded());
    if let Some(limit) = exceeded.or_else(|| error.downcast_ref::<OutputLimit>().copied()) {
        return Failure::new(limit.kind.error_kind(), limit.to_string());
    }
    if let Some(unavailable) = error.downcast_ref::<FolderUnavailable>() {
        return Failure::new(ErrorKind::Failed, unavailable.to_string());
    }
    if let Some(limit) = error.downcast_ref::<StdoutLimit>() {
        return Failure::new(ErrorKind::ResultLimit, limit.to_string());
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        let message = format!("{}the task called exit({}) instead of returning", last_error(attempt), exit.0);
        return Failure::new(ErrorKind::Failed, message);
    }
    if error.is::<ResultTooLarge>() {
        let message = format!("returned a result of more than {}", bytes(attempt.result_max()));
        return Failure::new(ErrorKind::ResultLimit, message);
    }
    let backtrace = Backtrace::of(error);
    let (kind, summary) = match (error.downcast_ref::<Trap>(), attempt.limits.refused_growth()) {
        (Some(Trap::StackOverflow), _) => (ErrorKind::StackOverflow, STACK_OVERFLOW.to_owned()),
        (_, Some(refused)) => (ErrorKind::OutOfMemory, out_of_memory(refused)),
        (Some(Trap::MemoryOutOfBounds), _) if backtrace.is_runaway_recursion() => {
            (ErrorKind::StackOverflow, STACK_OVERFLOW.to_owned())
        }
        (Some(Trap::UnreachableCodeReached), _) => (ErrorKind::Trap, "wasm trap: unreachable".to_owned()),
        (Some(trap), _) => (ErrorKind::Trap, trap.to_string()),
        // wasmtime has no type for a call that passes too much; only a guest with that much memory can have made such a
        // call.
        (None, _) if attempt.limits.memory_used() > attempt.hostcall_max() && !error.is::<Utf8Error>() => {
            (ErrorKind::ResultLimit, hostcall_too_large(error, attempt))
        }
        (None, _) => (ErrorKind::Trap, error.root_cause().to_string()),
    };
    let mut reason = last_error(attempt);
    if kind == ErrorKind::OutOfMemory && reason.to_lowercase().contains("out of memory") {
        // It says less than the limit does.
        reason.clear();
    }
    let more = if kind == ErrorKind::StackOverflow && backtrace.is_unnamed() { UNNAMED_RECURSION } else { "" };
    Failure::new(kind, format!("{reason}{summary}{backtrace}{more}"))
}

/// The guest's last error as a separate line, or nothing.
fn last_error(attempt: &Attempt) -> String {
    attempt.with_output(|output| output.last_error()).map(|error| error + "\n").unwrap_or_default()
}

/// The message for a guest that passed too much to the host in one call. Its result is read after it
/// has returned; then the error has no backtrace.
fn hostcall_too_large(error: &wasmtime::Error, attempt: &Attempt) -> String {
    let (passed, result_max) = (bytes(attempt.hostcall_max()), bytes(attempt.result_max()));
    if error.is::<WasmBacktrace>() {
        format!("passed more than {passed} to the host in one call")
    } else {
        format!("returned a result of more than {passed}: the limit is {result_max}")
    }
}

/// The resource that the host lacked to create or continue a sandbox, if a call ended for that reason. `has_started` is
/// whether the guest's function had been called; an error before that which is not the guest's is the host's, as the
/// same module could be instantiated when it was loaded.
pub(super) fn missing_resource(error: &wasmtime::Error, attempt: &Attempt, has_started: bool) -> Option<String> {
    if is_refused_by_engine(error, attempt) && (!has_started || is_host_error(error)) {
        return Some(explain(error));
    }
    let is_hosts = attempt.limits.refused_growth().is_some_and(|refused| refused.by_host);
    is_hosts.then(|| format!("a memory could not grow: {}", system::memory_limits()))
}

/// Returns whether wasmtime refused a component, rather than the guest failed.
pub(super) fn is_refused_by_engine(error: &wasmtime::Error, attempt: &Attempt) -> bool {
    let is_guests = error.is::<Trap>()
        || error.is::<WasmBacktrace>()
        || error.is::<I32Exit>()
        || error.is::<FolderUnavailable>()
        || error.is::<OutputLimit>()
        || error.is::<StdoutLimit>();
    !is_guests && attempt.limits.refused_growth().is_none()
}

fn out_of_memory(RefusedGrowth { memory_used, requested, limit, by_host }: RefusedGrowth) -> String {
    let usage = format!("out of memory: using {}, requested {} more", bytes(memory_used), bytes(requested));
    if by_host {
        format!("{usage}, which the worker could not allocate: {}", system::memory_limits())
    } else {
        format!("{usage}, limit {}", bytes(limit))
    }
}

/// Formats a size.
fn bytes(count: usize) -> String {
    system::bytes(count as u64)
}
