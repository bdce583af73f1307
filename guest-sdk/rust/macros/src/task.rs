//! A valid task: the result of `check` and the input of `expand`.

use syn::{Attribute, Ident, Type};

/// A task that passed all checks.
pub(crate) struct Task {
    /// The function to call.
    pub(crate) function: Ident,
    pub(crate) is_async: bool,
    pub(crate) name: String,
    pub(crate) documentation: String,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) result: Returns,
    pub(crate) settings: Settings,
    /// The `#[cfg(…)]` of the function, which apply to its registration too.
    pub(crate) conditions: Vec<Attribute>,
}

/// One parameter of the function.
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// The type as written, human-readable.
    pub(crate) type_text: String,
    /// The type that is parsed from JSON.
    pub(crate) owned: Type,
    /// Whether it is an `Option`, which is `None` if the argument is missing.
    pub(crate) optional: bool,
    pub(crate) pass: Pass,
    /// The type to describe by a schema; none if the host knows it by its name.
    pub(crate) described: Option<Type>,
}

/// The way in which the value parsed from JSON is passed to the function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// `T` from `T`.
    Owned,
    /// `&T` from `T`, `&str` from `String`, `&[T]` from `Vec<T>`.
    Borrowed,
    /// `Option<&T>` from `Option<T>`.
    OptionRef,
    /// `Option<&str>` from `Option<String>`, `Option<&[T]>` from `Option<Vec<T>>`.
    OptionDeref,
}

/// The result of the function.
pub(crate) struct Returns {
    /// The type of a success as written, human-readable.
    pub(crate) type_text: String,
    pub(crate) fallible: bool,
    /// The type to describe by a schema; none if the host knows it by its name.
    pub(crate) described: Option<Type>,
    /// The location of errors in the type.
    pub(crate) span: proc_macro2::Span,
}

/// The settings of the attribute, besides the name.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) policy: Policy,
    pub(crate) schedule: Schedule,
    pub(crate) limits: Limits,
    /// The names of the grants that the task requires.
    pub(crate) needs: Vec<String>,
}

/// The task's defaults. Durations are in seconds.
#[derive(Default)]
pub(crate) struct Policy {
    pub(crate) priority: Option<String>,
    pub(crate) timeout: Option<f64>,
    pub(crate) max_retries: Option<u32>,
    pub(crate) retry_delay: Option<f64>,
    pub(crate) retry_backoff: Option<f64>,
    pub(crate) retry_backoff_max: Option<f64>,
}

/// The schedule of the task.
#[derive(Default)]
pub(crate) struct Schedule {
    pub(crate) every: Option<f64>,
    pub(crate) cron: Option<String>,
    pub(crate) tz: Option<String>,
    pub(crate) overlap: Option<String>,
    pub(crate) count: Option<u32>,
    pub(crate) until: Option<String>,
}

/// The limits of one attempt. Sizes are in bytes, durations in seconds.
#[derive(Default)]
pub(crate) struct Limits {
    pub(crate) memory: Option<u64>,
    pub(crate) cpu_time: Option<f64>,
    pub(crate) host_time: Option<f64>,
    pub(crate) output: Option<u64>,
    pub(crate) log: Option<u64>,
    pub(crate) result: Option<u64>,
    pub(crate) connections: Option<u64>,
    pub(crate) received: Option<u64>,
    pub(crate) sent: Option<u64>,
}
