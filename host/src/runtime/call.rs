//! One call of a guest's function in a new store and a new instance: [`GuestCall`].
//!
//! Invariant: from before the first instruction of the guest until after its last one, the call is
//! limited, and watched by the watchdog.

use std::{
    future::poll_fn,
    marker::PhantomData,
    pin::{Pin, pin},
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime::{
    Engine, Store, Trap, UpdateDeadline,
    component::{ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower},
};

use super::{
    attempt::Attempt,
    reach::Reach,
    usage_clock::{FunctionStart, TakesLong},
    watchdog::{AttemptTimer, EndReason},
};

/// The way in which the functions of a module are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CallMode {
    /// The module never waits in the host: a plain synchronous call.
    Sync,
    /// A synchronous call within the tokio runtime: parts of wasmtime-wasi that never wait expect
    /// one too, and would start threads without it.
    SyncInRuntime,
    /// The module can wait: an async call on a separate stack, which can be cancelled.
    Async,
}

/// A module that can be instantiated any number of times.
pub(super) struct PreparedModule {
    pub(super) pre: Prepared,
    pub(super) mode: CallMode,
    pub(super) takes_long: TakesLong,
    pub(super) reach: Arc<Reach>,
    /// Memory that an instance takes before a task runs, in bytes.
    pub(super) memory_at_start: AtomicUsize,
}

/// A component or a core module, with its imports.
pub(super) enum Prepared {
    Component(InstancePre<Attempt>),
    /// A program without a component around it.
    Core(wasmtime::InstancePre<Attempt>),
}

impl PreparedModule {
    pub(super) fn new(pre: Prepared, mode: CallMode, reach: Arc<Reach>) -> Self {
        Self { pre, mode, reach, takes_long: TakesLong::default(), memory_at_start: AtomicUsize::new(0) }
    }

    fn engine(&self) -> &Engine {
        match &self.pre {
            Prepared::Component(pre) => pre.engine(),
            Prepared::Core(pre) => pre.module().engine(),
        }
    }
}

/// One call of a guest in a new instance.
///
/// Both methods instantiate the module in `store`, and mark `start` before the function is called.
pub(super) trait GuestCall: Sized {
    /// What the function returns.
    type Output;

    /// Calls the function of a module that never waits.
    fn call(self, store: &mut Store<Attempt>, start: &mut FunctionStart) -> wasmtime::Result<Self::Output>;

    /// Calls the function on a separate stack.
    fn call_async(
        self,
        store: &mut Store<Attempt>,
        start: &mut FunctionStart,
    ) -> impl Future<Output = wasmtime::Result<Self::Output>>;
}

/// Creates an instance without calling a function in it.
pub(super) struct Instantiate<'a>(pub(super) &'a PreparedModule);

impl GuestCall for Instantiate<'_> {
    type Output = ();

    fn call(self, store: &mut Store<Attempt>, _start: &mut FunctionStart) -> wasmtime::Result<()> {
        match &self.0.pre {
            Prepared::Component(pre) => pre.instantiate(store).map(drop),
            Prepared::Core(pre) => pre.instantiate(store).map(drop),
        }
    }

    async fn call_async(self, store: &mut Store<Attempt>, _start: &mut FunctionStart) -> wasmtime::Result<()> {
        match &self.0.pre {
            Prepared::Component(pre) => pre.instantiate_async(store).await.map(drop),
            Prepared::Core(pre) => pre.instantiate_async(store).await.map(drop),
        }
    }
}

/// Calls an exported function whose types are known when this program is built.
pub(super) struct TypedCall<'a, P, R> {
    pub(super) pre: &'a InstancePre<Attempt>,
    pub(super) export: &'a ComponentExportIndex,
    pub(super) params: P,
    pub(super) results: PhantomData<R>,
}

impl<P, R> GuestCall for TypedCall<'_, P, R>
where
    P: ComponentNamedList + Lower + Send + Sync,
    R: ComponentNamedList + Lift + Send + Sync + 'static,
{
    type Output = R;

    fn call(self, store: &mut Store<Attempt>, start: &mut FunctionStart) -> wasmtime::Result<R> {
        let instance = self.pre.instantiate(&mut *store)?;
        let function = instance.get_typed_func::<P, R>(&mut *store, self.export)?;
        start.mark();
        function.call(store, self.params)
    }

    async fn call_async(self, store: &mut Store<Attempt>, start: &mut FunctionStart) -> wasmtime::Result<R> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        let function = instance.get_typed_func::<P, R>(&mut *store, self.export)?;
        start.mark();
        function.call_async(store, self.params).await
    }
}

/// Creates the store of an attempt, with all its limits.
pub(super) fn store(prepared: &PreparedModule, attempt: Attempt) -> Store<Attempt> {
    let hostcall_max = attempt.hostcall_max();
    let mut store = Store::new(prepared.engine(), attempt);
    store.limiter(|attempt| &mut attempt.limits);
    store.set_hostcall_fuel(hostcall_max);
    store.set_max_component_handles(prepared.reach.handles_max());
    // The epoch is incremented when any attempt has expired; each one checks whether it is its own.
    store.epoch_deadline_callback(|store| {
        let is_expired = store.data().timer().is_expired();
        Ok(if is_expired { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
    });
    // Set before the timer starts, so that every increment after that counts.
    store.set_epoch_deadline(1);
    store
}

/// The time that an attempt waits in calls of the host, if it is limited.
struct HostWait(Option<LimitedWait>);

struct LimitedWait {
    max: Duration,
    /// How long the waits took that have ended.
    waited: Duration,
    /// The start of the present wait.
    since: Option<Instant>,
    /// Wakes this thread when the present wait becomes too long.
    sleep: Pin<Box<Sleep>>,
}

impl HostWait {
    /// Waits of `max` together; none for any time.
    fn new(max: Option<Duration>) -> Self {
        Self(max.map(|max| LimitedWait {
            max,
            waited: Duration::ZERO,
            since: None,
            sleep: Box::pin(sleep_until(Instant::now())),
        }))
    }

    /// The guest may continue.
    fn end(&mut self) {
        if let Some(limited) = &mut self.0 {
            limited.waited += limited.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        }
    }

    /// The guest waits. Ready when it has waited for too long.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(limited) = &mut self.0 else { return Poll::Pending };
        let left = limited.max.saturating_sub(limited.waited);
        if left.is_zero() {
            return Poll::Ready(());
        }
        let since = *limited.since.insert(Instant::now());
        limited.sleep.as_mut().reset(since + left);
        limited.sleep.as_mut().poll(context)
    }
}

/// Runs `call`, and drops it wherever it waits when the attempt expires, or has waited for `host_time_max` in all.
pub(super) async fn until_expired<R>(
    timer: &AttemptTimer,
    host_time_max: Option<Duration>,
    call: impl Future<Output = wasmtime::Result<R>>,
) -> wasmtime::Result<R> {
    let (mut call, mut wait) = (pin!(call), HostWait::new(host_time_max));
    poll_fn(|context| {
        wait.end();
        if let Poll::Ready(result) = call.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        if wait.poll(context).is_ready() {
            timer.expire(EndReason::HostTime);
        }
        timer.poll_expired(context).map(|()| Err(Trap::Interrupt.into()))
    })
    .await
}
