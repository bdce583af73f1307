//! Write `fastworker` tasks in Rust.
//!
//! A task module is a WebAssembly component: one `.wasm` file that a worker loads, and whose
//! tasks it runs in sandboxes of their own. With this crate it is a library of plain functions.
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
//! That is the whole module: there is no list to keep, the doc comment is what people read about
//! the task, and clients call it with `add(5, 3)`, `add(5, y=3)` or `add(x=5, y=3)`. Its
//! `Cargo.toml` makes it a component and keeps it testable. `fastworker new NAME` makes such a crate,
//! with a copy of this SDK in it, as no registry has it yet:
//!
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"]
//!
//! [dependencies]
//! fastworker-guest = { path = ".fastworker/guest-sdk" }
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` builds it, `fastworker dev` runs it.
//!
//! # Arguments and results
//!
//! Everything that serde can read may be a parameter, and everything that it can write a result.
//! An `Option` may be left out; `&str`, `&[T]` and `&T` borrow for the length of the call.
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
//! // What does not fit is refused before the task runs, and never tried again:
//! let error = testing::call("confirm", "[]", "{}").unwrap_err();
//! assert_eq!(error.message(), "confirm() missing 1 required argument: 'order'");
//! # }
//! ```
//!
//! With the feature `schema`, types that derive `JsonSchema` tell the host what they look like. A call
//! that does not fit is then refused before it is queued, with the place in its arguments, such as
//! `args[0].count: expected integer, found string "two"`; `fastworker list --schema` shows the schemas.
//! Other types go on working without one. Plain types such as `i64`, `&str` or `Vec<f64>` need none.
//!
//! ```toml
//! [dependencies]
//! fastworker-guest = { version = "0.1", features = ["schema"] }
//! ```
//!
//! ```ignore
//! use fastworker_guest::schemars::{self, JsonSchema};
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Order {
//!     item: String,
//!     count: u32,
//! }
//! ```
//!
//! # Failing, and being tried again
//!
//! A task fails by returning an `Err`, of any error type: [`TaskError`], a standard error, a
//! `String`, or a boxed error such as `anyhow`'s. `?` turns standard errors into [`TaskError`].
//! The policy in the attribute says what happens then.
//!
//! ```
//! use std::time::Duration;
//!
//! use fastworker_guest::{TaskError, task};
//!
//! #[task(max_retries = 3, retry_delay = "5s", retry_backoff = 2.0, timeout = "30s")]
//! fn charge(account: &str, cents: &str) -> Result<u64, TaskError> {
//!     if account.is_empty() {
//!         // Never tried again.
//!         return Err(TaskError::bad_arguments("the account has no name"));
//!     }
//!     if account == "busy" {
//!         // Tried again when the task says so.
//!         return Err(TaskError::retry_after("the bank is busy", Duration::from_secs(60)));
//!     }
//!     // Tried again as the policy says.
//!     Ok(cents.parse()?)
//! }
//! #
//! # fn main() {
//! # assert_eq!(charge("ada", "12"), Ok(12));
//! # assert_eq!(charge("ada", "x"), Err(TaskError::failed("invalid digit found in string")));
//! # }
//! ```
//!
//! A panic ends the attempt as a failure; its message and place are in the task's log. All keys of
//! the attribute are described at [`task`].
//!
//! # Again and again
//!
//! A task whose parameters may all be left out can say when it is submitted by itself: at
//! intervals, or when a clock shows what a cron pattern says. It is, as long as a worker has its
//! module.
//!
//! ```
//! use fastworker_guest::task;
//!
//! /// Forgets what is old.
//! #[task(every = "10m")]
//! fn clean_up() {}
//!
//! /// Reports on working days at nine.
//! #[task(cron = "0 9 * * MON-FRI", tz = "Europe/Paris", overlap = "queue")]
//! fn report() {}
//! # fn main() {}
//! ```
//!
//! # Talking to the host
//!
//! [`context`] knows the attempt: its id, number and deadline. It reports progress, tells when
//! the task is cancelled, and submits follow-up tasks. [`info!`], [`warn!`](crate::warn!) and the
//! others write to the task's log; so do `println!` and `eprintln!`.
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
//! A task may be an `async fn`. There is one thread and nothing to schedule: [`sleep`] is what it
//! can wait on, alone or joined with others.
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
//! Tasks compile for the host too, where `cargo test` calls them like any function.
//! [`testing::Context`] plays the host: it sets the attempt and shows what the task told it.
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

// `#[task]` writes `::fastworker_guest::…`, also in this crate's own tests.

mod task;

mod schema;

mod arguments;

mod error;

pub mod context;

mod log;

mod follow_up;

mod wait;

mod host;

#[cfg(target_family = "wasm")]
mod export;

#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use error::TaskError;
/// Makes a function a task.
///
/// The function stays what it was and can be called like any other. Its parameters need
/// [`serde::Deserialize`], its result [`serde::Serialize`] or a `Result` of it whose error becomes
/// a `Box<dyn Error>`, as every standard error, `String` and [`TaskError`] does. It may be async.
/// It cannot be generic, unsafe or a method.
///
/// What is left out is up to the host and whoever submits the task:
///
/// | key | value | meaning |
/// | --- | --- | --- |
/// | `name` | `"reports.weekly"` | the name clients submit under; that of the function if left out |
/// | `priority` | `"critical"`, `"high"`, `"normal"`, `"low"` | which of the waiting tasks goes first |
/// | `timeout` | `"30s"` | how long one attempt may run |
/// | `max_retries` | `3` | how many more attempts it gets when the first one fails |
/// | `retry_delay` | `"5s"` | the time to wait before the second attempt |
/// | `retry_backoff` | `2.0` | what the wait is multiplied by before each further attempt |
/// | `retry_backoff_max` | `"1h"` | the longest wait between two attempts |
/// | `every` | `"10s"` | submitted by itself each time so much has passed, at least `"100ms"` |
/// | `cron` | `"0 9 * * 1-5"` | submitted by itself when a clock shows this: minute, hour, day of month, month, day of week (0 and 7 are Sunday) |
/// | `tz` | `"Europe/Paris"` | the time zone of that clock; UTC if left out |
/// | `overlap` | `"skip"`, `"queue"` | while the last one has not ended, leave it out (the default), or let one wait |
/// | `count` | `3` | submitted by itself so often at most |
/// | `until` | `"2026-12-31T18:00:00Z"` | not submitted by itself after this |
///
/// Durations are numbers with units: `"500ms"`, `"1.5s"`, `"1h 30m"`, `"2d"`.
///
/// ```standalone_crate
/// use fastworker_guest::{task, testing};
///
/// /// Says hello.
/// #[task(name = "greet", priority = "high", timeout = "1m 30s")]
/// fn hello(name: &str) -> String {
///     format!("hello {name}")
/// }
///
/// # fn main() {
/// let tasks = testing::tasks();
/// assert_eq!(tasks[0].name, "greet");
/// assert_eq!(tasks[0].documentation, "Says hello.");
/// assert_eq!(tasks[0].policy, r#"{"priority":"high","timeout":90.0}"#);
/// # }
/// ```
///
/// Mistakes are compile errors, all of them at once:
///
/// ```compile_fail
/// #[fastworker_guest::task(max_retry = 3, timeout = "soon")]
/// fn hello<T>(name: T) {}
/// ```
pub use fastworker_guest_macros::task;
pub use follow_up::{FollowUp, Priority};
pub use log::Level;
/// Derive [`JsonSchema`](schemars::JsonSchema) on the types of a task, and its arguments are checked
/// before it is queued. See [the crate's text](crate#arguments-and-results).
#[cfg(feature = "schema")]
pub use schemars;
pub use wait::{Sleep, WaitsOnNothing, block_on, sleep};

/// What the code that `#[task]` writes uses. Not for people: it may change with any version.
#[doc(hidden)]
pub mod __private {
    pub use crate::arguments::{Argument, Arguments, optional, required};
    pub use crate::log::write as log;
    pub use crate::schema::{Describe, UNKNOWN, describe};
    #[cfg(feature = "schema")]
    pub use crate::schema::{Described, Probe, Undescribed};
    pub use crate::task::{Outcome, Parameter, Registered, Returned, Task, finish, finish_result};
    pub use crate::wait::block_on;
    pub use inventory;
}
