//! One call of an exported function in a new store and a new instance.
//!
//! Invariant: from before the first instruction of the guest until after its last one, the call is
//! limited, and watched by the watchdog.

use std::pin::pin;

use futures::future::{Either, select};
use wasmtime::{
    Store, Trap, UpdateDeadline,
    component::{ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower},
};

use super::{
    attempt::{Attempt, HANDLES_MAX},
    watchdog::AttemptTimer,
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
    pub(super) pre: InstancePre<Attempt>,
    pub(super) mode: CallMode,
}

/// Creates the store of an attempt, with all its limits.
pub(super) fn store(prepared: &PreparedModule, attempt: Attempt) -> Store<Attempt> {
    let hostcall_max = attempt.hostcall_max();
    let mut store = Store::new(prepared.pre.engine(), attempt);
    store.limiter(|attempt| &mut attempt.limits);
    store.set_hostcall_fuel(hostcall_max);
    store.set_max_component_handles(HANDLES_MAX);
    // The epoch is incremented when any attempt has expired; each one checks whether it is its own.
    store.epoch_deadline_callback(|store| {
        let is_expired = store.data().timer().is_expired();
        Ok(if is_expired { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
    });
    // Set before the timer starts, so that every increment after that counts.
    store.set_epoch_deadline(1);
    store
}

/// Instantiates a module and calls an exported function. Sets `has_started` before the function is
/// called.
pub(super) fn call_sync<P, R>(
    prepared: &PreparedModule,
    export: &ComponentExportIndex,
    params: P,
    store: &mut Store<Attempt>,
    has_started: &mut bool,
) -> wasmtime::Result<R>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    let instance = prepared.pre.instantiate(&mut *store)?;
    let function = instance.get_typed_func::<P, R>(&mut *store, export)?;
    *has_started = true;
    function.call(store, params)
}

/// Like [`call_sync`], on a separate stack.
pub(super) async fn call_async<P, R>(
    prepared: &PreparedModule,
    export: &ComponentExportIndex,
    params: P,
    store: &mut Store<Attempt>,
    has_started: &mut bool,
) -> wasmtime::Result<R>
where
    P: ComponentNamedList + Lower + Send + Sync,
    R: ComponentNamedList + Lift + Send + Sync + 'static,
{
    let instance = prepared.pre.instantiate_async(&mut *store).await?;
    let function = instance.get_typed_func::<P, R>(&mut *store, export)?;
    *has_started = true;
    function.call_async(store, params).await
}

/// Runs `call`, and drops it wherever it waits when the attempt expires.
pub(super) async fn until_expired<R>(
    timer: &AttemptTimer,
    call: impl Future<Output = wasmtime::Result<R>>,
) -> wasmtime::Result<R> {
    match select(pin!(call), pin!(timer.expired())).await {
        Either::Left((result, _)) => result,
        Either::Right(((), _)) => Err(Trap::Interrupt.into()),
    }
}
