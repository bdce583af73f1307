//! A slot: runs one attempt at a time.
//!
//! This is the hot path. A [`Slot`] reuses its timer, output and tokio runtime for every attempt, so that an attempt
//! allocates little and makes no system call.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use wasmtime::Store;

use super::{
    AttemptId, Module, Reports, RuntimeConfig,
    attempt::{Attempt, AttemptInfo, AttemptResult, SlotShared},
    call::{CallMode, GuestCall, Instantiate, PreparedModule, store, until_expired},
    contract_v1::Context,
    ending,
    entry::{Entry, Returned},
    output::Output,
    usage_clock::{FunctionStart, Times, UsageClock},
    watchdog::{EndReason, Stopper, Watchdog},
};
use crate::{
    clock::Now,
    json::Json,
    system,
    task::{ErrorKind, Failure, LimitKind, Outcome, TaskId, Usage},
};

/// One attempt to run.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// The caller's number for it, which reports carry and [`Stopper::stop`] takes.
    pub id: AttemptId,
    /// The task.
    pub task_id: &'a TaskId,
    /// The task name.
    pub name: &'a str,
    /// The number of this attempt, counted from 1.
    pub attempt: u32,
    /// Maximum duration of the attempt.
    pub timeout: Duration,
    /// A JSON array.
    pub args: &'a Json,
    /// A JSON object.
    pub kwargs: &'a Json,
    /// A JSON object for the guest; its keys are in `wit/v1/task.wit`.
    pub metadata: &'a str,
}

/// This host could not create or continue a sandbox. The task is not the cause.
#[derive(Debug)]
pub struct NoSandbox {
    /// The missing resource, and its limit.
    pub why: String,
    /// The outcome if the attempt is not repeated.
    pub failure: Failure,
    /// Whether the guest had started.
    pub has_started: bool,
}

/// Address space to leave free if it is limited: without it, the process itself could not continue after a new sandbox.
const ADDRESS_SPACE_RESERVE: usize = 32 << 20;
/// Address space that the slots and the rest of the process take after the engines are set up.
pub(super) const ADDRESS_SPACE_LATER: usize = 160 << 20;
/// Timeout for creating a trial sandbox.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs one attempt at a time. It blocks, so use it on its own thread with a stack of
/// [`Runtime::thread_stack`](super::Runtime::thread_stack), not in async code.
pub struct Slot {
    shared: Arc<SlotShared>,
    tokio: TokioRuntime,
    /// The store of the last attempt. It is dropped later, when no caller waits, as that takes time.
    previous_store: Option<Store<Attempt>>,
}

/// Runs the waits of async calls on the slot's own thread.
struct TokioRuntime(Option<tokio::runtime::Runtime>);

impl TokioRuntime {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Self(Some(runtime.expect("a runtime without threads and I/O has nothing to fail at")))
    }

    fn get(&self) -> &tokio::runtime::Runtime {
        self.0.as_ref().expect("it is set until the slot is dropped")
    }
}

impl Drop for TokioRuntime {
    /// tokio panics if a runtime is dropped in async code, except by `shutdown_background`.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// The end of a call.
pub(super) struct CallEnd<R> {
    pub(super) result: wasmtime::Result<R>,
    /// Whether the function was called.
    pub(super) has_started: bool,
    /// The reason why the host ended the call, if it did.
    pub(super) reason: Option<EndReason>,
    pub(super) times: Times,
    pub(super) store: Store<Attempt>,
}

impl Slot {
    pub(super) fn new(config: &Arc<RuntimeConfig>, watchdog: &Watchdog, reports: Arc<dyn Reports>) -> Self {
        let output = Arc::new(Mutex::new(Output::new(reports)));
        let shared = SlotShared { config: Arc::clone(config), timer: watchdog.timer(), output };
        Self { shared: Arc::new(shared), tokio: TokioRuntime::new(), previous_store: None }
    }

    /// Returns a handle to stop the running attempt from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper::of(&self.shared.timer)
    }

    /// Runs one attempt and returns its result, like [`Slot::try_run`]. If the sandbox cannot be created, the attempt
    /// fails.
    pub fn run(&mut self, module: &Module, call: &Invocation<'_>) -> AttemptResult {
        self.try_run(module, call).unwrap_or_else(|error| error.failure.into())
    }

    /// Runs one attempt and returns its result, at most about 20 ms after its timeout. Its resources are released by
    /// [`Self::clear`], or else before the next attempt.
    ///
    /// # Errors
    /// [`NoSandbox`] if this host lacks memory for it. Run it elsewhere, or try again later.
    pub fn try_run(&mut self, module: &Module, call: &Invocation<'_>) -> Result<AttemptResult, NoSandbox> {
        let Some(&limits) = module.limits(call.name) else {
            let message = format!("the module {} has no task '{}'", module.info().name, call.name);
            return Ok(Failure::new(ErrorKind::NotFound, message).into());
        };
        let timeout = limits.time(LimitKind::Timeout).map_or(call.timeout, |max| call.timeout.min(max));
        self.check_address_space().map_err(|why| no_sandbox(why, None))?;
        let now = Now::read();
        let context = Arc::new(Context {
            task_id: call.task_id.to_string(),
            name: call.name.to_owned(),
            attempt: call.attempt,
            deadline_ms: u64::try_from((now.wall + timeout).micros() / 1000).unwrap_or(0),
            metadata: call.metadata.to_owned(),
        });
        let info = AttemptInfo {
            id: call.id,
            task_id: call.task_id.clone(),
            deadline: now.mono + timeout,
            context: Arc::clone(&context),
            limits,
        };
        let CallEnd { result, has_started, reason, times, mut store } = self.call_entry(module, call, &context, info);
        let error = result.as_ref().err().filter(|_| reason.is_none());
        let missing = error.and_then(|error| ending::missing_resource(error, store.data(), has_started));
        let ended = ending::attempt_result(result, reason, store.data_mut(), timeout);
        match (missing, ended) {
            (Some(why), AttemptResult { outcome: Outcome::Failure(failure), .. }) => {
                // Dropped immediately, so that others can use its memory.
                drop(store);
                Err(no_sandbox(why, has_started.then_some(failure)))
            }
            (_, ended) => {
                let usage = usage(&times, store.data());
                self.previous_store = Some(store);
                Ok(AttemptResult { usage, ..ended })
            }
        }
    }

    /// Calls the task's function.
    fn call_entry(
        &mut self,
        module: &Module,
        call: &Invocation<'_>,
        context: &Context,
        info: AttemptInfo,
    ) -> CallEnd<Returned> {
        let prepared = module.prepared();
        match module.entry() {
            Entry::Contract(contract) => self.call(prepared, info, contract.run(call, context)),
            Entry::Functions(functions) => self.call(prepared, info, functions.call(call)),
            Entry::Program(program) => {
                let stdout_max = info.limits.size(LimitKind::Result);
                self.call(prepared, info, program.run(call, stdout_max))
            }
        }
    }

    /// Checks, if address space is limited, that some stays free after a new sandbox.
    fn check_address_space(&mut self) -> Result<(), String> {
        if !system::has_limited_address_space() {
            return Ok(());
        }
        // The memory of the last attempt counts as free.
        self.clear();
        system::reserve(ADDRESS_SPACE_RESERVE).map(drop).ok_or_else(|| {
            format!(
                "less than {} of memory are left: {}",
                system::bytes(ADDRESS_SPACE_RESERVE as u64),
                system::memory_limits()
            )
        })
    }

    /// Checks whether a sandbox of this module can be created, without running a task in it.
    ///
    /// # Errors
    /// The missing resource.
    pub fn try_sandbox(&mut self, module: &Module) -> Result<(), String> {
        self.check_address_space()?;
        let (result, store) = self.set_up(module.prepared());
        match result {
            // A failure of the guest itself does not count.
            Err(error) => ending::missing_resource(&error, store.data(), false).map_or(Ok(()), Err),
            Ok(()) => Ok(()),
        }
    }

    /// Creates a sandbox without calling a function in it.
    pub(super) fn set_up(&mut self, prepared: &PreparedModule) -> (wasmtime::Result<()>, Store<Attempt>) {
        let info = AttemptInfo::without_task(Now::read().mono + TRIAL_TIMEOUT, self.shared.config.limits);
        let end = self.call(prepared, info, Instantiate(prepared));
        (end.result, end.store)
    }

    /// Releases the resources of the last attempt. Takes about as long as creating a sandbox, so report the outcome
    /// first.
    pub fn clear(&mut self) {
        self.previous_store = None;
    }

    /// Makes one call of a module in a new instance.
    pub(super) fn call<C: GuestCall>(
        &mut self,
        prepared: &PreparedModule,
        info: AttemptInfo,
        call: C,
    ) -> CallEnd<C::Output> {
        self.clear();
        let AttemptInfo { id, deadline, limits, .. } = info;
        let cpu_time_max = limits.time(LimitKind::CpuTime);
        let mut store = store(prepared, Attempt::new(&self.shared, info, &prepared.reach));
        self.shared.with_output(|output| output.begin(id, &limits, prepared.reach.mask()));
        let guard = self.shared.timer.begin(id, deadline, cpu_time_max);
        let is_measured = prepared.mode == CallMode::Async || cpu_time_max.is_some();
        let clock = UsageClock::start(is_measured, &prepared.takes_long);
        let mut start = FunctionStart::default();
        let result = match prepared.mode {
            CallMode::Sync => call.call(&mut store, &mut start),
            CallMode::SyncInRuntime => {
                let _entered = self.tokio.get().enter();
                call.call(&mut store, &mut start)
            }
            CallMode::Async => {
                let host_time_max = limits.time(LimitKind::HostTime);
                let call = call.call_async(&mut store, &mut start);
                let call = until_expired(&self.shared.timer, host_time_max, call);
                match prepared.reach.io() {
                    Some(io) => io.block_on(call),
                    None => self.tokio.get().block_on(call),
                }
            }
        };
        let reason = guard.end();
        self.shared.with_output(Output::end);
        let times = clock.stop(start);
        CallEnd { result, has_started: start.is_marked(), reason, times, store }
    }
}

fn usage(times: &Times, attempt: &Attempt) -> Usage {
    let network = attempt.network_usage();
    Usage {
        cpu_us: times.cpu_us,
        instantiation_us: times.instantiation_us,
        memory_bytes: attempt.limits.memory_used() as u64,
        host_calls: attempt.host_calls,
        received_bytes: network.received,
        sent_bytes: network.sent,
    }
}

/// Creates the error. `failure` is the attempt's, if the guest had started.
fn no_sandbox(why: String, failure: Option<Failure>) -> NoSandbox {
    let has_started = failure.is_some();
    let failure = failure
        .unwrap_or_else(|| Failure::new(ErrorKind::OutOfMemory, format!("the worker cannot create a sandbox: {why}")));
    NoSandbox { why, failure, has_started }
}
