//! Where a guest was when it trapped, for its author.
//!
//! Apart because wasmtime shows everything (offsets, hashes, the machinery of panics and of our
//! SDK) and an author wants to see own functions.

use std::fmt;

use wasmtime::{FrameInfo, WasmBacktrace};

/// Frames that are shown.
const SHOWN: usize = 20;
/// So many frames of so few functions are a recursion that did not end.
const RUNAWAY: (usize, usize) = (50, 4);
/// How the functions begin that stand above a guest's own when it panics, exits or runs out of
/// memory.
const MACHINERY: [&str; 13] = [
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
/// Further ones, by their whole name.
const MACHINES: [&str; 4] = ["abort", "exit", "std::process::abort", "std::process::exit"];

/// The functions that a guest was in, the innermost first.
#[derive(Debug, Default)]
pub(super) struct Backtrace(Vec<String>);

impl Backtrace {
    /// The one that wasmtime attached to an error, if the guest was running.
    pub(super) fn of(error: &wasmtime::Error) -> Self {
        let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames).unwrap_or_default();
        Self(frames.iter().map(function).collect())
    }

    /// Whether the guest called itself without end. A guest keeps a part of its stack in its own
    /// memory; when that part is full first, the trap is an access out of bounds.
    pub(super) fn is_runaway(&self) -> bool {
        let (frames, functions) = RUNAWAY;
        let mut distinct: Vec<&String> = self.0.iter().take(frames).collect();
        distinct.sort();
        distinct.dedup();
        self.0.len() >= frames && distinct.len() <= functions
    }

    /// The author's own functions: without what panics and our SDK put above and below them. A
    /// task that was inlined leaves the SDK's function that calls it.
    fn own(&self) -> &[String] {
        let first = self.0.iter().position(|name| !is_machinery(name)).unwrap_or(0);
        let rest = &self.0[first..];
        let own = rest.iter().position(|name| is_sdk(name)).unwrap_or(rest.len());
        &rest[..own.max(1).min(rest.len())]
    }
}

fn is_machinery(name: &str) -> bool {
    let path = name.trim_start_matches('<');
    MACHINES.contains(&name) || MACHINERY.iter().any(|start| path.starts_with(start))
}

fn is_sdk(name: &str) -> bool {
    let path = name.trim_start_matches('<');
    path.starts_with("fastworker_guest::") || path.starts_with("fastworker:task/") || name.ends_with("::_::__run")
}

/// One line a function, repeated ones counted.
impl fmt::Display for Backtrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.own();
        let shown = &own[..own.len().min(SHOWN)];
        for (index, same) in shown.chunk_by(|one, other| one == other).enumerate() {
            write!(f, "\n  {index}: {}", same[0])?;
            if same.len() > 1 {
                write!(f, " ({} times)", same.len())?;
            }
        }
        if own.len() > SHOWN { f.write_str("\n  …") } else { Ok(()) }
    }
}

/// The name of a frame's function, or its number where the names were stripped.
fn function(frame: &FrameInfo) -> String {
    frame.func_name().map_or_else(
        || format!("function {}", frame.func_index()),
        |name| format!("{:#}", rustc_demangle::demangle(name)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(functions: &[&str]) -> String {
        Backtrace(functions.iter().map(ToString::to_string).collect()).to_string()
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
        let of =
            |names: &[&str], times: usize| Backtrace(names.repeat(times).iter().map(ToString::to_string).collect());
        assert!(of(&["a", "b"], 40).is_runaway());
        assert!(!of(&["a", "b"], 20).is_runaway());
        assert!(!of(&["a", "b", "c", "d", "e"], 40).is_runaway());
    }
}
