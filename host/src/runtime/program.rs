//! Programs as tasks: core modules with `_start`, and components that export `wasi:cli/run`.
//!
//! A program is a module with one task, named after its file. It gets its arguments twice: as argv, and as
//! `{"args": […], "kwargs": {…}}` on stdin. What it writes to stdout is the result, stderr is its log, and an exit code
//! other than 0 is a failure.
//!
//! Core modules run on wasmtime's own preview 1, not on the adapter that wraps them into components: it is faster, and
//! the adapter's memory is overwritten by the heap of Go's programs.

use std::{marker::PhantomData, path::Path};

use serde::Serialize;
use wasmtime::{
    Engine, Module as CoreModule, Store,
    component::{Component, ComponentExportIndex, InstancePre},
};
use wasmtime_wasi::I32Exit;

use super::{
    Invocation,
    attempt::Attempt,
    call::{GuestCall, TypedCall},
    contract_v1::ReportedFailure,
    entry::Returned,
    error::ModuleError,
    module::module_name,
    output::Stream,
    plain::bad_arguments,
    program_io::ProgramIo,
    usage_clock::FunctionStart,
};
use crate::{
    json::{Json, is_portable},
    signature::{Violation, found, text},
    task::{ErrorKind, Failure, Policy, TaskInfo, TaskLimits, TaskName},
};

/// The interface that a `wasi:cli/command` component exports.
const RUN: &str = "wasi:cli/run@0.2.0";
/// The function of a core module that is a program.
pub(super) const START: &str = "_start";
/// The only namespace from which a core module may import.
pub(super) const PREVIEW1: &str = "wasi_snapshot_preview1";

/// The entry of a program.
pub(super) enum Program {
    /// `_start` of a core module.
    Core(wasmtime::InstancePre<Attempt>),
    /// `run` of a component.
    Command { pre: InstancePre<Attempt>, run: ComponentExportIndex },
}

/// The export `wasi:cli/run#run` of a component.
pub(super) fn command(component: &Component) -> Option<ComponentExportIndex> {
    let interface = component.get_export_index(None, RUN)?;
    component.get_export_index(Some(&interface), "run")
}

/// Whether a function with this full name is the `run` of a program.
pub(super) fn is_command(function: &str) -> bool {
    function.starts_with("wasi:cli/run@")
}

/// The task of a program: any arguments, and a result of any type.
///
/// # Errors
/// [`ModuleError::FileName`] if the file's name is not a task name.
pub(super) fn task(path: &Path) -> Result<TaskInfo, ModuleError> {
    let name = module_name(path);
    if TaskName::check(&name).is_err() {
        return Err(ModuleError::FileName(name));
    }
    Ok(TaskInfo {
        name,
        full_name: None,
        documentation: String::new(),
        schema: Json::empty_object(),
        policy: Policy::default(),
        limits: TaskLimits::default(),
        schedule: None,
        needs: Vec::new(),
        warnings: Vec::new(),
    })
}

/// Checks that a core module is a program that can run.
///
/// # Errors
/// [`ModuleError::CoreModule`] if it has no `_start`, [`ModuleError::CoreImport`] if it imports anything but WASI
/// preview 1.
pub(super) fn check_core(module: &CoreModule) -> Result<(), ModuleError> {
    if let Some(import) = module.imports().find(|import| import.module() != PREVIEW1) {
        return Err(ModuleError::CoreImport(format!("{}.{}", import.module(), import.name())));
    }
    match module.get_export(START) {
        Some(wasmtime::ExternType::Func(start)) if start.params().len() + start.results().len() == 0 => Ok(()),
        _ => Err(ModuleError::CoreModule),
    }
}

/// The namespaces that a core module imports from.
pub(super) fn imports(module: &CoreModule) -> Vec<String> {
    let mut names: Vec<String> = module.imports().map(|import| import.module().to_owned()).collect();
    names.dedup();
    names
}

/// Adds WASI preview 1 for core modules.
pub(super) fn core_linker(engine: &Engine) -> wasmtime::Result<wasmtime::Linker<Attempt>> {
    let mut linker = wasmtime::Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, Attempt::preview1)?;
    // wasmtime's own refuses codes from 126 on. As for any process, the code has eight bits.
    linker.allow_shadowing(true);
    linker.func_wrap(PREVIEW1, "proc_exit", |code: i32| -> wasmtime::Result<()> { Err(I32Exit(code & 0xff).into()) })?;
    linker.allow_shadowing(false);
    Ok(linker)
}

impl Program {
    /// One run of the program.
    pub(super) fn run<'a>(&'a self, call: &Invocation<'a>, stdout_max: usize) -> ProgramCall<'a> {
        ProgramCall { program: self, io: program_io(call, stdout_max) }
    }
}

fn program_io(call: &Invocation<'_>, stdout_max: usize) -> Result<ProgramIo, ReportedFailure> {
    #[derive(Serialize)]
    struct Input<'a> {
        args: &'a Json,
        kwargs: &'a Json,
    }
    let stdin =
        serde_json::to_vec(&Input { args: call.args, kwargs: call.kwargs }).expect("JSON can be written as JSON");
    let mut args = vec![call.name.to_owned()];
    for (index, value) in text::items(call.args.as_str()).enumerate() {
        let arg = argument(value).map_err(|violation| bad_arguments(&violation.into_error(&format!("args[{index}]"))))?;
        args.push(arg);
    }
    Ok(ProgramIo::new(args, stdin, stdout_max))
}

/// A value as an argument: the text of a string, and of any other value its JSON, unchanged.
fn argument(value: &str) -> Result<String, Violation> {
    if text::has_lone_surrogate(value) && value.starts_with('"') {
        return Err(Violation::lone_surrogate(value));
    }
    match text::unquoted(value) {
        text if text.contains('\0') => Err(Violation::here("string without the character U+0000", found(value))),
        text => Ok(text.into_owned()),
    }
}

/// One run of a program.
pub(super) struct ProgramCall<'a> {
    program: &'a Program,
    /// What it gets, or why it cannot run.
    io: Result<ProgramIo, ReportedFailure>,
}

impl GuestCall for ProgramCall<'_> {
    type Output = Returned;

    fn call(self, store: &mut Store<Attempt>, start: &mut FunctionStart) -> wasmtime::Result<Returned> {
        let io = match self.io {
            Ok(io) => io,
            Err(failure) => return Ok(Err(failure)),
        };
        store.data_mut().set_program(io);
        let ended = match self.program {
            Program::Core(_) => unreachable!("core modules are called asynchronously"),
            Program::Command { pre, run } => typed(pre, run).call(store, start),
        };
        returned(ended, store)
    }

    async fn call_async(self, store: &mut Store<Attempt>, start: &mut FunctionStart) -> wasmtime::Result<Returned> {
        let io = match self.io {
            Ok(io) => io,
            Err(failure) => return Ok(Err(failure)),
        };
        store.data_mut().set_program(io);
        let ended = match self.program {
            Program::Core(pre) => {
                store.data_mut().open_folders()?;
                run_core(pre, store, start).await
            }
            Program::Command { pre, run } => typed(pre, run).call_async(store, start).await,
        };
        returned(ended, store)
    }
}

type RunResult = (Result<(), ()>,);

fn typed<'a>(pre: &'a InstancePre<Attempt>, export: &'a ComponentExportIndex) -> TypedCall<'a, (), RunResult> {
    TypedCall { pre, export, params: (), results: PhantomData }
}

async fn run_core(
    pre: &wasmtime::InstancePre<Attempt>,
    store: &mut Store<Attempt>,
    called: &mut FunctionStart,
) -> wasmtime::Result<RunResult> {
    let instance = pre.instantiate_async(&mut *store).await?;
    let start = instance.get_typed_func::<(), ()>(&mut *store, START)?;
    called.mark();
    start.call_async(store, ()).await?;
    Ok((Ok(()),))
}

/// What a program returned: its stdout, or its exit code as a failure.
fn returned(ended: wasmtime::Result<RunResult>, store: &mut Store<Attempt>) -> wasmtime::Result<Returned> {
    let code = match ended {
        Ok((Ok(()),)) => 0,
        Ok((Err(()),)) => 1,
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(exit) => exit.0,
            None => return Err(error),
        },
    };
    let attempt = store.data_mut();
    let stdout = attempt.take_stdout();
    if code == 0 {
        return Ok(result(&stdout));
    }
    // A program that fails has no result: what it wrote is its log.
    let stdout = masked_document(&stdout, attempt).map_or(stdout, |document| document.as_str().into());
    attempt.with_output(|output| output.print(Stream::Stdout, &stdout))?;
    let last_error =
        attempt.with_output(|output| output.last_error()).map(|error| format!(": {error}")).unwrap_or_default();
    Ok(Err(failure(ErrorKind::Failed, format!("the program exited with code {code}{last_error}"), Some(code))))
}

/// A JSON document in which the secrets are masked as in a result, however their characters are escaped. None if there
/// are no secrets, or it is no JSON document.
fn masked_document(stdout: &[u8], attempt: &Attempt) -> Option<Json> {
    let mask = attempt.reach.mask()?;
    Some(mask.json(&Json::parse(str::from_utf8(stdout).ok()?).ok()?))
}

/// The result for what a program wrote to stdout: JSON if it is JSON, else text without the newlines at its end.
fn result(stdout: &[u8]) -> Returned {
    let Ok(text) = str::from_utf8(stdout) else {
        let message = "the program wrote bytes to stdout that are not UTF-8: write text, for example base64";
        return Err(failure(ErrorKind::Failed, message.to_owned(), None));
    };
    let text = text.trim_end_matches(['\n', '\r']);
    Ok(match text {
        "" => "null".to_owned(),
        text if is_portable(text) => text.to_owned(),
        text => serde_json::to_string(text).expect("a string can be written as JSON"),
    })
}

fn failure(kind: ErrorKind, message: String, exit_code: Option<i32>) -> ReportedFailure {
    let details =
        exit_code.map(|code| serde_json::json!({"failure": {"kind": "exit", "details": {"exit_code": code}}}));
    let metadata = details.map(|details| Json::of(&details).expect("it is JSON"));
    ReportedFailure { failure: Failure::new(kind, message), metadata, warnings: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stdout_is_json_if_it_is_json_and_else_text() {
        let of = |stdout: &[u8]| result(stdout).ok();
        assert_eq!(of(b"{\"a\": 1}\n").as_deref(), Some("{\"a\": 1}"));
        assert_eq!(of(b" 12 \n\n").as_deref(), Some(" 12 "));
        assert_eq!(of(b"two\nlines\r\n").as_deref(), Some(r#""two\nlines""#));
        assert_eq!(of(b"1 2").as_deref(), Some(r#""1 2""#));
        assert_eq!(of(b"\n").as_deref(), Some("null"));
        assert_eq!(of(b"NaN").as_deref(), Some(r#""NaN""#));
        assert_eq!(of(b"\xff"), None);
        // JSON that common readers refuse is text.
        for unread in ["1e999", r#"["\ud800"]"#, &*format!("{}{}", "[".repeat(200), "]".repeat(200))] {
            assert_eq!(of(unread.as_bytes()), serde_json::to_string(unread).ok(), "{unread}");
        }
    }

    #[test]
    fn arguments_are_text_or_their_json() {
        let (args, kwargs) = (r#"["a b", 1.50, {"x": [true, null]}]"#, r#"{"n": 1}"#);
        let (args, kwargs) = (Json::parse(args).expect("JSON"), Json::parse(kwargs).expect("JSON"));
        let id = crate::task::TaskId::from(uuid::Uuid::nil());
        let call = Invocation {
            id: crate::runtime::AttemptId(1),
            task_id: &id,
            name: "convert",
            attempt: 1,
            timeout: std::time::Duration::from_secs(1),
            args: &args,
            kwargs: &kwargs,
            metadata: "{}",
        };
        let io = program_io(&call, 100).ok().expect("it can run");
        assert_eq!(io.args(), ["convert", "a b", "1.50", r#"{"x": [true, null]}"#]);
        let exact = ["12345678901234567890123", "1e2", "-0", "1E400", r#"{"a":1,"a":"\ud800"}"#, r#"["\n"]"#];
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        let all = Json::parse(&format!("[{},{deep}]", exact.join(" , "))).expect("JSON");
        let io = program_io(&Invocation { args: &all, ..call }, 100).ok().expect("it can run");
        assert_eq!(io.args()[1..7], exact);
        assert_eq!(io.args()[7], deep);
        for (wrong, message) in [
            (
                r#""\ud800""#,
                r#"args[1]: expected string of whole characters, found half of one (a lone surrogate) in string "\ud800""#,
            ),
            (
                r#""a\u0000""#,
                r#"args[1]: expected string without the character U+0000, found string "a\u0000""#,
            ),
        ] {
            let args = Json::parse(&format!("[0,{wrong}]")).expect("JSON");
            let refused = program_io(&Invocation { args: &args, ..call }, 100).err().expect("it is refused");
            assert_eq!(refused.failure, Failure::new(ErrorKind::BadArguments, message));
        }
    }
}
