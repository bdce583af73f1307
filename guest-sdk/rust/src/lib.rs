//! Write `fastworker` tasks in Rust.
//!
//! A task module is a WebAssembly component: one `.wasm` file, which a worker loads. The worker runs
//! every attempt of a task in a new sandbox. With this crate a module is a library of plain functions.
//!
//! # A task is a function
//!
//! ```
//! use fastworker_guest::task;
//!
//! /// Adds two numbers.
//! #[task]
//! fn add(x: i64, y: i64) -> i64 {
//!     x + y
//! }
//!
//! # fn main() {
//! assert_eq!(add(5, 3), 8);
//! # }
//! ```
//!
//! This is a complete module. There is no list of tasks to maintain; the doc comment is shown as the
//! task's documentation; and clients call it with `add(5, 3)`, `add(5, y=3)` or `add(x=5, y=3)`.
//! With this `Cargo.toml` it is a component that is also testable. `fastworker new NAME` creates such a
//! crate, with a copy of this SDK, which is not in a registry yet:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"]
//!
//! [dependencies]
//! fastworker-guest = { path = ".fastworker/sdk/guest-sdk/rust" }
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` builds it, `fastworker dev` runs it.
//!
//! # Arguments and results
//!
//! Every type that serde can deserialize can be a parameter, and every type that it can serialize a
//! result. An `Option` may be omitted; `&str`, `&[T]` and `&T` borrow for the duration of the call.
//!
//! ```
//! use fastworker_guest::{task, testing};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Order {
//!     item: String,
//!     count: u32,
//! }
//!
//! #[derive(Serialize)]
//! struct Receipt {
//!     text: String,
//! }
//!
//! #[task]
//! fn confirm(order: &Order, greeting: Option<&str>) -> Receipt {
//!     let greeting = greeting.unwrap_or("Thank you");
//!     let Order { item, count } = order;
//!     Receipt { text: format!("{greeting} for {count} x {item}") }
//! }
//!
//! # fn main() {
//! // Through JSON, as clients call it:
//! let receipt = testing::call("confirm", r#"[{"item": "tea", "count": 2}]"#, "{}");
//! assert_eq!(receipt.as_deref(), Ok(r#"{"text":"Thank you for 2 x tea"}"#));
//!
//! // Arguments that do not match are refused before the task runs, and never retried:
//! let error = testing::call("confirm", "[]", "{}").unwrap_err();
//! assert_eq!(error.message(), "confirm() missing 1 required argument: 'order'");
//! # }
//! ```
//!
//! With the feature `schema`, the host checks calls against the schemas of types that derive
//! `JsonSchema`. A call that does not match is refused before it is queued, with the location of the
//! error, such as `args[0].count: expected integer, found string "two"`; `fastworker list --schema` shows
//! the schemas. Other types work without one. Plain types such as `i64`, `&str` or `Vec<f64>` need none.
//!
//! ```toml
//! [dependencies]
//! fastworker-guest = { path = ".fastworker/sdk/guest-sdk/rust", features = ["schema"] }
//! ```
//!
#![cfg_attr(feature = "schema", doc = "```")]
#![cfg_attr(not(feature = "schema"), doc = "```ignore")]
//! use fastworker_guest::{
//!     schemars::{self, JsonSchema},
//!     task,
//! };
//! use serde::Deserialize;
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Order {
//!     item: String,
//!     count: u32,
//! }
//!
//! #[task]
//! fn pack(order: &Order) -> String {
//!     format!("{} x {}", order.count, order.item)
//! }
//! # fn main() {}
//! ```
//!
//! # Errors and retries
//!
//! A task fails by returning an `Err`, of any error type: [`TaskError`], a standard error, a
//! `String`, or a boxed error such as `anyhow`'s. `?` converts standard errors to [`TaskError`].
//! The policy in the attribute and the kind of [`TaskError`] determine the retries.
//!
//! ```
//! use std::time::Duration;
//!
//! use fastworker_guest::{TaskError, task};
//!
//! #[task(max_retries = 3, retry_delay = "5s", retry_backoff = 2.0, timeout = "30s")]
//! fn charge(account: &str, cents: &str) -> Result<u64, TaskError> {
//!     if account.is_empty() {
//!         // Never retried.
//!         return Err(TaskError::bad_arguments("the account has no name"));
//!     }
//!     if account == "busy" {
//!         // Retried after this delay at the earliest.
//!         return Err(TaskError::retry_after("the bank is busy", Duration::from_secs(60)));
//!     }
//!     if account == "closed" {
//!         // Never retried either. The kind is machine-readable.
//!         return Err(TaskError::give_up("the account is closed").with_kind("AccountClosed"));
//!     }
//!     // Retried according to the policy.
//!     Ok(cents.parse()?)
//! }
//! #
//! # fn main() {
//! # assert_eq!(charge("ada", "12"), Ok(12));
//! # assert_eq!(charge("ada", "x"), Err(TaskError::failed("invalid digit found in string")));
//! # }
//! ```
//!
//! A panic ends the attempt as a failure; its message and location are in the task's log. [`task`]
//! describes all keys of the attribute.
//!
//! # Schedules
//!
//! A task without required parameters can declare its own schedule, as an interval or a cron
//! pattern. It is active while a worker has the module.
//!
//! ```
//! use fastworker_guest::task;
//!
//! /// Removes old entries.
//! #[task(every = "10m")]
//! fn clean_up() {}
//!
//! /// Reports on working days at nine.
//! #[task(cron = "0 9 * * MON-FRI", tz = "Europe/Paris", overlap = "queue")]
//! fn report() {}
//! # fn main() {}
//! ```
//!
//! # Calling the host
//!
//! [`context`] contains the task's id and metadata, the number of the attempt and its deadline. It reports
//! progress, checks whether the task was cancelled, and submits follow-up tasks. [`info!`],
//! [`warn!`](crate::warn!) and the others write to the task's log; so do `println!` and `eprintln!`.
//!
//! ```
//! use fastworker_guest::{TaskError, context, info, task};
//!
//! #[task(timeout = "10m")]
//! fn index(pages: Vec<String>) -> Result<usize, TaskError> {
//!     for (done, page) in pages.iter().enumerate() {
//!         if context::is_cancelled() {
//!             return Err(TaskError::failed(format!("cancelled after {done} pages")));
//!         }
//!         info!("indexing {page}");
//!         context::progress(done as u64 + 1, pages.len() as u64, page);
//!     }
//!     context::follow_up("publish_index", (pages.len(),)).submit()?;
//!     Ok(pages.len())
//! }
//! #
//! # fn main() {
//! # assert_eq!(index(vec!["a".to_owned()]), Ok(1));
//! # }
//! ```
//!
//! # Waiting
//!
//! A task may be an `async fn`. There is one thread and no async runtime: the only future that it can
//! await is [`sleep`], alone or joined with others.
//!
//! ```
//! use std::time::Duration;
//!
//! use fastworker_guest::{sleep, task};
//!
//! #[task]
//! async fn later(text: String) -> String {
//!     sleep(Duration::from_millis(1)).await;
//!     text
//! }
//! # fn main() {}
//! ```
//!
//! # Testing
//!
//! Tasks also compile for your machine, where `cargo test` calls them like any function.
//! [`testing::Context`] replaces the host: it sets the attempt and records the reports of the task.
//!
//! ```
//! use fastworker_guest::testing::Context;
//! use fastworker_guest::{TaskError, context, task};
//!
//! #[task(max_retries = 2)]
//! fn stubborn() -> Result<u32, TaskError> {
//!     match context::attempt() {
//!         1 => Err(TaskError::failed("not the first time")),
//!         attempt => Ok(attempt),
//!     }
//! }
//!
//! # fn main() {
//! assert!(stubborn().is_err());
//! let (second, _) = Context::new().attempt(2).run(stubborn);
//! assert_eq!(second, Ok(2));
//! # }
//! ```

// `#[task]` generates `::fastworker_guest::…`, also in this crate's own tests.

mod task;

mod schema;

mod arguments;

mod error;

pub mod context;

mod log;

mod follow_up;

mod wait;

#[cfg(feature = "tcp")]
pub mod tcp;

mod host;

#[cfg(target_family = "wasm")]
mod export;

#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use error::{Retry, TaskError};
/// Makes a function a task.
///
/// The function is not changed and can be called like any other. Its parameters need
/// [`serde::Deserialize`], its result [`serde::Serialize`] or a `Result` of it whose error converts
/// into a `Box<dyn Error>`, as every standard error, `String` and [`TaskError`] does. It may be
/// async. It cannot be generic, unsafe or a method.
///
/// Every key is optional. A client may set its own values when it submits the task, which take
/// precedence:
///
/// | key | value | meaning |
/// | --- | --- | --- |
/// | `name` | `"reports.weekly"` | the name that clients submit; by default the name of the function |
/// | `priority` | `"critical"`, `"high"`, `"normal"`, `"low"` | the priority among the waiting tasks |
/// | `timeout` | `"30s"` | timeout of one attempt |
/// | `max_retries` | `3` | maximum number of retries |
/// | `retry_delay` | `"5s"` | the delay before the second attempt |
/// | `retry_backoff` | `2.0` | the factor of the delay before each further attempt |
/// | `retry_backoff_max` | `"1h"` | maximum delay between two attempts |
/// | `every` | `"10s"` | schedule: the interval, at least `"100ms"` |
/// | `cron` | `"0 9 * * 1-5"` | schedule: minute, hour, day of month, month, day of week (0 and 7 are Sunday) |
/// | `tz` | `"Europe/Paris"` | the pattern's time zone; by default UTC |
/// | `overlap` | `"skip"`, `"queue"` | if the previous task has not ended: skip this run (the default), or queue one run |
/// | `count` | `3` | schedule: maximum number of tasks |
/// | `until` | `"2026-12-31T18:00:00Z"` | schedule: end time; without an offset it is in the time zone `tz` |
///
/// | `needs` | `["http:api.example.com", "secret:KEY"]` | the grants without which no worker runs the task |
/// | `max_memory` | `"64 MiB"` | linear memory of one attempt |
/// | `max_cpu_time`, `max_host_time` | `"500ms"` | CPU time of one attempt; time that it waits for the host |
/// | `max_output`, `max_log`, `max_result` | `"1 MiB"` | bytes that it prints, logs, and returns with its follow-ups |
/// | `max_connections` | `4` | its connections at a time |
/// | `max_received`, `max_sent` | `"1 GiB"` | bytes through the network |
///
/// Durations are numbers with units: `"500ms"`, `"1.5s"`, `"1h 30m"`, `"2d"`. Sizes have the units `B`, `KiB`, `MiB`,
/// `GiB` and `TiB`, or are numbers of bytes. The limits of the operator apply as well.
///
/// Needs are written like `"env:NAME"`, `"secret:NAME"`, `"dir:/data:ro"`, `"http:api.example.com/v1"` and
/// `"tcp:db:5432"`.
///
/// ```standalone_crate
/// use fastworker_guest::{task, testing};
///
/// /// Says hello.
/// #[task(name = "greet", priority = "high", timeout = "1m 30s", max_memory = "64 MiB", needs = ["env:NAME"])]
/// fn hello(name: &str) -> String {
///     format!("hello {name}")
/// }
///
/// # fn main() {
/// let tasks = testing::tasks();
/// assert_eq!(tasks[0].name, "greet");
/// assert_eq!(tasks[0].documentation, "Says hello.");
/// let policy = r#"{"priority":"high","timeout":90.0,"needs":["env:NAME"],"max_memory":67108864}"#;
/// assert_eq!(tasks[0].policy, policy);
/// # }
/// ```
///
/// Errors in the attribute or the function are compile errors, all reported together:
///
/// ```compile_fail
/// #[fastworker_guest::task(max_retry = 3, timeout = "soon")]
/// fn hello<T>(name: T) {}
/// ```
pub use fastworker_guest_macros::task;
pub use follow_up::{FollowUp, Priority};
pub use log::Level;
/// Derive [`JsonSchema`](schemars::JsonSchema) on a task's types to have its arguments checked before
/// it is queued. See [the crate's documentation](crate#arguments-and-results).
#[cfg(feature = "schema")]
pub use schemars;
pub use wait::{Sleep, WaitsOnNothing, block_on, sleep};

/// For the code that `#[task]` generates only: it may change with any version.
#[doc(hidden)]
pub mod __private {
    pub use crate::arguments::{Argument, optional, required};
    pub use crate::log::write as log;
    pub use crate::schema::{Describe, UNKNOWN, describe};
    #[cfg(feature = "schema")]
    pub use crate::schema::{Described, Probe, Undescribed};
    pub use crate::task::{Arguments, Outcome, Parameter, Registered, Returned, Task, finish, finish_result};
    pub use crate::wait::block_on;
    pub use inventory;
}
