//! The imported WIT functions, in this crate's types.

use crate::export::bindings::fastworker::task::host;
use crate::log::Level;

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => host::Level::Trace,
        Level::Debug => host::Level::Debug,
        Level::Info => host::Level::Info,
        Level::Warn => host::Level::Warn,
        Level::Error => host::Level::Error,
    };
    host::log(level, message);
}

pub(crate) fn progress(done: u64, total: u64, message: &str) {
    host::progress(done, total, message);
}

pub(crate) fn is_cancelled() -> bool {
    host::is_cancelled()
}

pub(crate) fn submit(name: &str, args: String, kwargs: String, options: String) -> Result<String, String> {
    host::submit(&host::FollowUp { name: name.to_owned(), args, kwargs, options })
}
