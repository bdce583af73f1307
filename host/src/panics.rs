//! Counts caught panics, each of which ended a single request.
//!
//! Panics are caught in several modules, and exported by `metrics.rs`. A count above zero is a bug in fastworker.

use std::{
    any::Any,
    sync::atomic::{AtomicU64, Ordering},
};

/// The code in which a panic was caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PanicSource {
    /// A request of the web interface.
    #[cfg(feature = "runtime")]
    Http,
    /// A handler of messages.
    Transport,
}

impl PanicSource {
    /// All sources.
    #[cfg(feature = "runtime")]
    pub(crate) const ALL: [Self; 2] = [Self::Http, Self::Transport];

    /// The name in lower case.
    #[cfg(feature = "runtime")]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Transport => "transport",
        }
    }

    fn counter(self) -> &'static AtomicU64 {
        #[cfg(feature = "runtime")]
        static HTTP: AtomicU64 = AtomicU64::new(0);
        static TRANSPORT: AtomicU64 = AtomicU64::new(0);
        match self {
            #[cfg(feature = "runtime")]
            Self::Http => &HTTP,
            Self::Transport => &TRANSPORT,
        }
    }
}

/// Counts a caught panic, and logs it as an error in `what`.
pub(crate) fn caught(source: PanicSource, what: &str, panic: &(dyn Any + Send)) {
    source.counter().fetch_add(1, Ordering::Relaxed);
    let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let message = message.unwrap_or("a panic without a message");
    tracing::error!(
        what,
        panic = message,
        "fastworker panicked, which is a bug: only this request failed, everything else continues"
    );
}

/// Returns how many panics of a source were caught in this process.
#[cfg(feature = "runtime")]
pub(crate) fn count(source: PanicSource) -> u64 {
    source.counter().load(Ordering::Relaxed)
}
