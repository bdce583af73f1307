//! Panics that were caught: code of ours that failed in one request, and took nothing else along.
//!
//! Apart because they are counted wherever they are caught, and shown in one place. A count above
//! zero is a bug in fastworker.

use std::{
    any::Any,
    sync::atomic::{AtomicU64, Ordering},
};

/// Where a panic was caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PanicSource {
    /// A request of the web interface.
    #[cfg(feature = "runtime")]
    Http,
    /// A handler of messages.
    Transport,
}

impl PanicSource {
    /// All of them.
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

/// Counts a panic that was caught, and logs it as an error that `what` caused.
pub(crate) fn caught(place: PanicSource, what: &str, panic: &(dyn Any + Send)) {
    place.counter().fetch_add(1, Ordering::Relaxed);
    let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let message = message.unwrap_or("a panic without a message");
    tracing::error!(
        what,
        panic = message,
        "fastworker panicked, which is a bug: this alone has failed, and everything else goes on"
    );
}

/// How many were caught there, in this process.
#[cfg(feature = "runtime")]
pub(crate) fn count(place: PanicSource) -> u64 {
    place.counter().load(Ordering::Relaxed)
}
