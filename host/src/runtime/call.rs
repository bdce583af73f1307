//! One attempt: a new store, a new instance, one call, and its end.
//!
//! Apart because this is the hot path. A [`Slot`] keeps what every attempt needs anew but never
//! changes (its watch, its output, its timer), so that an attempt allocates little and makes no
//! system call.
//!
//! Invariant: from before the first instruction of the guest to after its last one, the attempt
//! is watched, limited and alone in its store.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::{Either, select};
use uuid::Uuid;
use wasmtime::{
    Store, Trap, UpdateDeadline,
    component::{ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower},
};

use super::{
    AttemptId, Module, Reports, RuntimeConfig,
    contract_v1::{GuestInvocation, RunParams, RunResults},
    ending,
    host_calls::FollowUps,
    limits::Limits,
    output::Output,
    wasi::Wasi,
    watchdog::{Stopper, Watch, Watchdog, Why},
};
use crate::{
    clock::{Moment, Now},
    json::Json,
    lock::lock,
    system,
    task::{ErrorKind, Failure, Outcome, TaskId},
};

/// Bytes that a guest can always pass to the host in one call.
const HOSTCALL_MIN: usize = 1 << 20;
/// Handles that a guest may hold at once.
pub(super) const HANDLES_MAX: usize = 10_000;

/// One attempt to be made.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// The caller's number for it, which reports carry and [`Stopper::stop`] takes.
    pub id: AttemptId,
    /// The task.
    pub task_id: &'a TaskId,
    /// The task name.
    pub name: &'a str,
    /// Counts the attempts of this task, from 1.
    pub attempt: u32,
    /// How long it may run.
    pub timeout: Duration,
    /// A JSON array.
    pub args: &'a Json,
    /// A JSON object.
    pub kwargs: &'a Json,
}

/// How a module's functions are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Calling {
    /// It never waits in the host: called like a function.
    Plain,
    /// The same, with the timer entered: parts of wasmtime-wasi that never wait look for one too,
    /// and would start threads if there were none.
    Entered,
    /// It can wait: called on a stack of its own, so that a wait can be cut short.
    Waiting,
}

/// A module that can be instantiated again and again.
pub(super) struct Prepared {
    pub(super) pre: InstancePre<Attempt>,
    pub(super) calling: Calling,
}

/// What an attempt is about.
pub(super) struct Call {
    pub(super) task_id: TaskId,
    pub(super) name: String,
    /// Counts the attempts of the task, from 1; 0 while the module registers its tasks.
    pub(super) attempt: u32,
    /// When it is stopped, in milliseconds since the Unix epoch.
    pub(super) deadline_ms: u64,
}

impl Call {
    /// The call of `register`, which is about no task.
    pub(super) fn register() -> Self {
        Self { task_id: TaskId::from(Uuid::nil()), name: String::new(), attempt: 0, deadline_ms: 0 }
    }
}

/// Which attempt it is, and until when it may run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) id: AttemptId,
    pub(super) deadline: Moment,
}

/// What a store holds: one attempt, all that it has and all that it may do.
pub(super) struct Attempt {
    pub(super) call: Call,
    pub(super) follow_ups: FollowUps,
    pub(super) wasi: Wasi,
    pub(super) limits: Limits,
    shared: Arc<Shared>,
}

/// What a slot and the stores of its attempts share.
struct Shared {
    config: Arc<RuntimeConfig>,
    watch: Arc<Watch>,
    output: Arc<Mutex<Output>>,
}

impl Shared {
    fn speak<R>(&self, say: impl FnOnce(&mut Output) -> R) -> R {
        say(&mut lock(&self.output))
    }
}

impl Attempt {
    pub(super) fn speak<R>(&self, say: impl FnOnce(&mut Output) -> R) -> R {
        self.shared.speak(say)
    }

    pub(super) fn output(&self) -> Arc<Mutex<Output>> {
        Arc::clone(&self.shared.output)
    }

    pub(super) fn is_asked_to_end(&self) -> bool {
        self.shared.watch.is_asked()
    }

    pub(super) fn config(&self) -> &RuntimeConfig {
        &self.shared.config
    }

    /// Bytes that one call may pass to the host: enough to tell a result that is too large by its
    /// length and to register many tasks, and too little to keep the host busy.
    pub(super) fn hostcall_max(&self) -> usize {
        self.config().result_max.saturating_mul(2).max(HOSTCALL_MIN)
    }
}

/// Room for one running attempt. Run it on a thread of its own with a stack of at least 2 MiB,
/// not in async code: it blocks.
pub struct Slot {
    shared: Arc<Shared>,
    timer: Timer,
    /// What the last attempt left behind. Nobody waits for its removal.
    spent: Option<Store<Attempt>>,
}

/// Drives the waits of modules that wait, on the slot's own thread.
struct Timer(Option<tokio::runtime::Runtime>);

impl Timer {
    fn new() -> Self {
        let timer = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Self(Some(timer.expect("a timer without threads and files has nothing that could be refused")))
    }

    fn get(&self) -> &tokio::runtime::Runtime {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Timer {
    /// tokio panics where a runtime is dropped by async code, unless it is told not to wait.
    fn drop(&mut self) {
        if let Some(timer) = self.0.take() {
            timer.shutdown_background();
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

/// An attempt for which this host had no room: it says nothing about the task.
#[derive(Debug)]
pub struct NoSandbox {
    /// What is missing, and which limit is behind it.
    pub why: String,
    /// The outcome where there is nobody else to try it.
    pub otherwise: Failure,
    /// Whether the guest had begun.
    pub began: bool,
}

/// Address space that is left alone where it is limited: without it, the process itself could not go
/// on beside a new sandbox.
const LEFT_ALONE: usize = 32 << 20;
/// Address space that a slot and everything else take later than the engines are set up.
pub(super) const TAKEN_LATER: usize = 160 << 20;
/// How long a sandbox may take to be set up when that is only tried.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);

/// How a call ended.
pub(super) struct Ended<R> {
    pub(super) result: wasmtime::Result<R>,
    /// Whether the function was called.
    pub(super) began: bool,
    /// Why it was ended from outside, if it was.
    pub(super) why: Option<Why>,
    /// What is left of it.
    pub(super) store: Store<Attempt>,
}

impl Slot {
    pub(super) fn new(config: &Arc<RuntimeConfig>, watchdog: &Watchdog, reports: Arc<dyn Reports>) -> Self {
        let output = Arc::new(Mutex::new(Output::new(reports, config.log_max)));
        let shared = Shared { config: Arc::clone(config), watch: watchdog.watch(), output };
        Self { shared: Arc::new(shared), timer: Timer::new(), spent: None }
    }

    /// Stops what this slot runs, from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper::of(&self.shared.watch)
    }

    /// Makes one attempt and tells how it ended, as [`Slot::try_run`] does. Where this host has no
    /// room for it, it ends as a failure.
    pub fn run(&mut self, module: &Module, call: &Invocation<'_>) -> Outcome {
        self.try_run(module, call).unwrap_or_else(|none| Outcome::Failure(none.otherwise))
    }

    /// Makes one attempt and tells how it ended. Returns at the latest some 20 ms after its
    /// timeout, whatever the guest does. What it used is given back by [`Self::clear`], or else
    /// before the next attempt.
    ///
    /// # Errors
    /// [`NoSandbox`] if this host has no room for it. Let another one make it, or try again later.
    pub fn try_run(&mut self, module: &Module, call: &Invocation<'_>) -> Result<Outcome, NoSandbox> {
        if module.task(call.name).is_none() {
            let message = format!("the module {} has no task '{}'", module.info().name, call.name);
            return Ok(Outcome::Failure(Failure::new(ErrorKind::NotFound, message)));
        }
        if let Err(why) = self.check_room() {
            let otherwise = Failure::new(ErrorKind::OutOfMemory, format!("the worker has no room for it: {why}"));
            return Err(NoSandbox { why, otherwise, began: false });
        }
        let now = Now::read();
        let deadline_ms = u64::try_from((now.wall + call.timeout).micros() / 1000).unwrap_or(0);
        let task_id = call.task_id.to_string();
        let invocation = GuestInvocation {
            task_id: &task_id,
            name: call.name,
            attempt: call.attempt,
            deadline_ms,
            args: call.args.as_str(),
            kwargs: call.kwargs.as_str(),
        };
        let about =
            Call { task_id: call.task_id.clone(), name: call.name.to_owned(), attempt: call.attempt, deadline_ms };
        let span = Span { id: call.id, deadline: now.mono + call.timeout };
        let (prepared, export) = module.run();
        let Ended { result, began, why, mut store } =
            self.call::<RunParams<'_>, RunResults>(prepared, export, (invocation,), self.attempt(about), span);
        let failed = result.as_ref().err().filter(|_| why.is_none());
        let no_sandbox = failed.and_then(|error| ending::no_sandbox(error, store.data(), began));
        let outcome = ending::outcome(result, why, store.data_mut(), call.timeout);
        if let (Some(why), Outcome::Failure(failure)) = (no_sandbox, &outcome) {
            let otherwise = if began {
                failure.clone()
            } else {
                Failure::new(ErrorKind::OutOfMemory, format!("the worker has no room for it: {why}"))
            };
            // At once: whatever there is should be there for others.
            drop(store);
            return Err(NoSandbox { why, otherwise, began });
        }
        self.spent = Some(store);
        Ok(outcome)
    }

    /// Checks, where address space is limited, that something is left beside a new sandbox.
    fn check_room(&mut self) -> Result<(), String> {
        if !system::has_limited_address_space() {
            return Ok(());
        }
        // What the last attempt left is room, too.
        self.clear();
        system::reserve(LEFT_ALONE).map(drop).ok_or_else(|| {
            format!("less than {} of memory are left: {}", system::bytes(LEFT_ALONE as u64), system::memory())
        })
    }

    /// Tries whether there is room for a sandbox of this module, without running a task in it.
    ///
    /// # Errors
    /// What is missing.
    pub fn try_sandbox(&mut self, module: &Module) -> Result<(), String> {
        self.check_room()?;
        let (result, store) = self.set_up(module.run().0);
        match result {
            // Whatever the guest does with it.
            Err(error) => ending::no_sandbox(&error, store.data(), false).map_or(Ok(()), Err),
            Ok(()) => Ok(()),
        }
    }

    /// Sets up a sandbox, in which nothing is called.
    pub(super) fn set_up(&mut self, prepared: &Prepared) -> (wasmtime::Result<()>, Store<Attempt>) {
        self.clear();
        let id = AttemptId(0);
        let mut store = store(prepared, self.attempt(Call::register()));
        self.shared.speak(|output| output.begin(id));
        let watched = self.shared.watch.begin(id, Now::read().mono + TRIAL_LIMIT);
        let pre = &prepared.pre;
        let result = match prepared.calling {
            Calling::Plain => pre.instantiate(&mut store).map(drop),
            Calling::Entered => {
                let _entered = self.timer.get().enter();
                pre.instantiate(&mut store).map(drop)
            }
            Calling::Waiting => {
                let set_up = async { pre.instantiate_async(&mut store).await.map(drop) };
                self.timer.get().block_on(until_over(&self.shared.watch, set_up))
            }
        };
        watched.end();
        self.shared.speak(Output::end);
        (result, store)
    }

    /// Gives back the memory of the last attempt. It takes about as long as making it did, so tell
    /// the outcome first.
    pub fn clear(&mut self) {
        self.spent = None;
    }

    /// An attempt with nothing used yet.
    pub(super) fn attempt(&self, call: Call) -> Attempt {
        let RuntimeConfig { memory_max, result_max, follow_ups_max, .. } = *self.shared.config;
        Attempt {
            call,
            follow_ups: FollowUps::new(follow_ups_max, result_max),
            wasi: Wasi::new(),
            limits: Limits::new(memory_max),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Slot {
    /// Calls one exported function in a new instance.
    pub(super) fn call<P, R>(
        &mut self,
        prepared: &Prepared,
        export: &ComponentExportIndex,
        params: P,
        attempt: Attempt,
        span: Span,
    ) -> Ended<R>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        self.clear();
        let mut store = store(prepared, attempt);
        self.shared.speak(|output| output.begin(span.id));
        let watched = self.shared.watch.begin(span.id, span.deadline);
        let mut began = false;
        let result = match prepared.calling {
            Calling::Plain => at_once(prepared, export, params, &mut store, &mut began),
            Calling::Entered => {
                let _entered = self.timer.get().enter();
                at_once(prepared, export, params, &mut store, &mut began)
            }
            Calling::Waiting => {
                let call = waiting(prepared, export, params, &mut store, &mut began);
                self.timer.get().block_on(until_over(&self.shared.watch, call))
            }
        };
        let why = watched.end();
        self.shared.speak(Output::end);
        Ended { result, began, why, store }
    }
}

fn store(prepared: &Prepared, attempt: Attempt) -> Store<Attempt> {
    let hostcall_max = attempt.hostcall_max();
    let mut store = Store::new(prepared.pre.engine(), attempt);
    store.limiter(|attempt| &mut attempt.limits);
    store.set_hostcall_fuel(hostcall_max);
    store.set_max_component_handles(HANDLES_MAX);
    // The epoch moves when some attempt is over; each one looks whether it is its own.
    store.epoch_deadline_callback(|store| {
        let over = store.data().shared.watch.is_over();
        Ok(if over { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
    });
    // Before the watch begins: whatever it says from then on counts from here.
    store.set_epoch_deadline(1);
    store
}

fn at_once<P, R>(
    prepared: &Prepared,
    export: &ComponentExportIndex,
    params: P,
    store: &mut Store<Attempt>,
    began: &mut bool,
) -> wasmtime::Result<R>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let instance = prepared.pre.instantiate(&mut *store)?;
    let function = instance.get_typed_func::<P, R>(&mut *store, export)?;
    *began = true;
    function.call(store, params)
}

async fn waiting<P, R>(
    prepared: &Prepared,
    export: &ComponentExportIndex,
    params: P,
    store: &mut Store<Attempt>,
    began: &mut bool,
) -> wasmtime::Result<R>
where
    P: ComponentNamedList + Lower + Send + Sync,
    R: ComponentNamedList + Lift + Send + Sync + 'static,
{
    let instance = prepared.pre.instantiate_async(&mut *store).await?;
    let function = instance.get_typed_func::<P, R>(&mut *store, export)?;
    *began = true;
    function.call_async(store, params).await
}

/// Drops the call when the watch says that it is over, wherever it waits.
async fn until_over<R>(watch: &Watch, call: impl Future<Output = wasmtime::Result<R>>) -> wasmtime::Result<R> {
    match select(pin!(call), pin!(watch.over())).await {
        Either::Left((result, _)) => result,
        Either::Right(((), _)) => Err(Trap::Interrupt.into()),
    }
}
