//! The ways in which the tasks of a module are called.

use std::marker::PhantomData;

use wasmtime::{
    Store,
    component::{ComponentExportIndex, InstancePre},
};

use super::{
    Invocation,
    attempt::Attempt,
    call::{GuestCall, TypedCall},
    contract_v1::{self, Context, GuestInvocation, ReportedFailure, RunParams, RunResults},
    plain::Functions,
    program::Program,
    usage_clock::FunctionStart,
};

/// What a task returned: a JSON document as text, or its failure.
pub(super) type Returned = Result<String, ReportedFailure>;

/// How the tasks of a module are called.
pub(super) enum Entry {
    /// By the contract.
    Contract(Contract),
    /// As the functions of a plain component.
    Functions(Functions),
    /// As a program.
    Program(Program),
}

/// The exports of a module that fulfils the contract.
pub(super) struct Contract {
    pub(super) pre: InstancePre<Attempt>,
    pub(super) run: ComponentExportIndex,
}

impl Contract {
    /// One call of `run`.
    pub(super) fn run<'a>(&'a self, call: &Invocation<'a>, context: &'a Context) -> RunCall<'a> {
        let invocation = GuestInvocation {
            task_id: &context.task_id,
            name: &context.name,
            attempt: context.attempt,
            deadline_ms: context.deadline_ms,
            args: call.args.as_str(),
            kwargs: call.kwargs.as_str(),
            metadata: &context.metadata,
        };
        RunCall(TypedCall { pre: &self.pre, export: &self.run, params: (invocation,), results: PhantomData })
    }
}

/// A call of the contract's `run`.
pub(super) struct RunCall<'a>(TypedCall<'a, RunParams<'a>, RunResults>);

impl GuestCall for RunCall<'_> {
    type Output = Returned;

    fn call(self, store: &mut Store<Attempt>, start: &mut FunctionStart) -> wasmtime::Result<Returned> {
        let (result,) = self.0.call(store, start)?;
        Ok(result.map_err(contract_v1::failure))
    }

    async fn call_async(self, store: &mut Store<Attempt>, start: &mut FunctionStart) -> wasmtime::Result<Returned> {
        let (result,) = self.0.call_async(store, start).await?;
        Ok(result.map_err(contract_v1::failure))
    }
}
