//! The backtrace of a trap, reduced to the functions of the task's author.
//!
//! wasmtime's own format includes offsets, hashes, and the internals of panics and of the SDK.

use std::fmt;

use wasmtime::{FrameInfo, WasmBacktrace};

/// Maximum frames to show.
const FRAMES_MAX: usize = 20;
/// Minimum frames of an infinite recursion.
const RUNAWAY_FRAMES: usize = 50;
/// Maximum distinct functions of an infinite recursion.
const RUNAWAY_FUNCTIONS: usize = 4;
/// Name prefixes of the functions that are called when a guest panics, exits or runs out of memory.
const INTERNAL_PREFIXES: [&str; 13] = [
    "__imported_wasi_",
    "__rust",
    "__wasi_",
    "_Exit",
    "alloc::alloc::",
    "alloc::raw_vec::",
    "core::panicking::",
    "panic_abort::",
    "rust_begin_unwind",
    "rust_panic",
    "std::alloc::",
    "std::panicking::",
    "std::sys::",
];
/// Further functions, by their full name.
const INTERNAL_NAMES: [&str; 5] = ["abort", "exit", "proc_exit", "std::process::abort", "std::process::exit"];

/// The functions on the stack of a guest, the innermost first.
#[derive(Debug, Default)]
pub(super) struct Backtrace(Vec<Function>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Function {
    Named(String),
    /// Its index: the module has no name of it.
    Unnamed(u32),
}

impl Function {
    fn of(frame: &FrameInfo) -> Self {
        let named = |name| Self::Named(format!("{:#}", rustc_demangle::demangle(name)));
        frame.func_name().map_or_else(|| Self::Unnamed(frame.func_index()), named)
    }

    fn name(&self) -> Option<&str> {
        if let Self::Named(name) = self { Some(name) } else { None }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Unnamed(index) => write!(f, "function {index}"),
        }
    }
}

impl Backtrace {
    /// The backtrace of an error. Empty if the guest was not running.
    pub(super) fn of(error: &wasmtime::Error) -> Self {
        let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames).unwrap_or_default();
        Self(frames.iter().map(Function::of).collect())
    }

    /// Whether the guest called itself infinitely. A guest keeps a part of its stack in its own memory; if that part is
    /// full first, the trap is an access out of bounds.
    pub(super) fn is_runaway_recursion(&self) -> bool {
        let mut distinct: Vec<&Function> = self.0.iter().take(RUNAWAY_FRAMES).collect();
        distinct.sort();
        distinct.dedup();
        self.0.len() >= RUNAWAY_FRAMES && distinct.len() <= RUNAWAY_FUNCTIONS
    }

    /// The author's own functions: without those of panics above them and of the SDK below them. If the task was
    /// inlined, the SDK's function that calls it.
    fn own_functions(&self) -> &[Function] {
        let first = self.0.iter().position(|function| !function.name().is_some_and(is_internal)).unwrap_or(0);
        let rest = &self.0[first..];
        let own = rest.iter().position(|function| function.name().is_some_and(is_sdk)).unwrap_or(rest.len());
        &rest[..own.max(1).min(rest.len())]
    }

    /// Whether there are functions and none of the author's has a name: their indices would tell nobody anything.
    pub(super) fn is_unnamed(&self) -> bool {
        let own = self.own_functions();
        !own.is_empty() && own.iter().all(|function| function.name().is_none())
    }
}

fn is_internal(name: &str) -> bool {
    let path = name.trim_start_matches('<');
    INTERNAL_NAMES.contains(&name) || INTERNAL_PREFIXES.iter().any(|prefix| path.starts_with(prefix))
}

fn is_sdk(name: &str) -> bool {
    let path = name.trim_start_matches('<');
    path.starts_with("fastworker_guest::") || path.starts_with("fastworker:task/") || name.ends_with("::_::__run")
}

/// One line for each function, with the number of repetitions; nothing if none has a name.
impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_unnamed() {
            return Ok(());
        }
        let own = self.own_functions();
        let shown = &own[..own.len().min(FRAMES_MAX)];
        for (index, same) in shown.chunk_by(|one, other| one == other).enumerate() {
            write!(f, "\n  {index}: {}", same[0])?;
            if same.len() > 1 {
                write!(f, " ({} times)", same.len())?;
            }
        }
        if own.len() > FRAMES_MAX { f.write_str("\n  …") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backtrace(functions: &[&str]) -> Backtrace {
        let function =
            |name: &&str| name.parse().map_or_else(|_| Function::Named((*name).to_owned()), Function::Unnamed);
        Backtrace(functions.iter().map(function).collect())
    }

    fn shown(functions: &[&str]) -> String {
        backtrace(functions).to_string()
    }

    #[test]
    fn functions_without_a_name_are_shown_beside_named_ones_only() {
        assert_eq!(shown(&["proc_exit", "5079", "5090", "5090", "fastworker:task/tasks@1.0.0#run"]), "");
        assert_eq!(shown(&["7", "7"]), "");
        assert_eq!(shown(&["7", "7", "mine"]), "\n  0: function 7 (2 times)\n  1: mine");
        assert!(
            backtrace(&["7"]).is_unnamed() && !backtrace(&["7", "mine"]).is_unnamed() && !backtrace(&[]).is_unnamed()
        );
    }

    #[test]
    fn only_the_authors_own_functions_are_shown() {
        let panic = ["std::panicking::begin", "core::panicking::panic_fmt", "mine::boom", "mine::boom", "mine::go"];
        let sdk = ["mine::_::__run", "<fastworker_guest::export::Module as x>::run", "fastworker:task/tasks@1.0.0#run"];
        assert_eq!(shown(&[&panic[..], &sdk].concat()), "\n  0: mine::boom (2 times)\n  1: mine::go");
        assert_eq!(shown(&sdk), "\n  0: mine::_::__run");
        assert_eq!(shown(&[]), "");
    }

    #[test]
    fn a_long_stack_of_few_functions_is_a_runaway_recursion() {
        let of = |names: &[&str], times: usize| backtrace(&names.repeat(times));
        assert!(of(&["a", "b"], 40).is_runaway_recursion() && of(&["7"], 50).is_runaway_recursion());
        assert!(!of(&["a", "b"], 20).is_runaway_recursion());
        assert!(!of(&["a", "b", "c", "d", "e"], 40).is_runaway_recursion());
    }
}
