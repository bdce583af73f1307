//! Limits how many modules are compiled at a time.
//!
//! Few at a time, as each may take as much memory as its limit allows. A module that takes long steps
//! aside: it continues, but the next one may begin.

use std::{
    sync::{Condvar, Mutex},
    time::Duration,
};

use crate::lock::{self, lock};

/// Maximum modules to compile at a time, beside those that stepped aside.
const PROMPT_MAX: usize = 2;
/// Maximum modules that have stepped aside.
const ASIDE_MAX: usize = 2;
/// Time after which a module steps aside.
const ASIDE_AFTER: Duration = Duration::from_secs(3);
/// Interval at which a waiting module checks whether it is still wanted.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Grants turns to compile.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Turns {
    counts: Mutex<Counts>,
    returned: Condvar,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    prompt: usize,
    aside: usize,
}

/// The right to compile one module. Returned when it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    is_aside: bool,
}

impl Turns {
    /// Waits for a turn. None once it is unwanted.
    pub(super) fn take(&self, is_unwanted: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut counts = lock(&self.counts);
        while counts.prompt >= PROMPT_MAX {
            if is_unwanted() {
                return None;
            }
            counts = lock::wait_timeout(&self.returned, counts, CHECK_INTERVAL).0;
        }
        counts.prompt += 1;
        Some(Turn { turns: self, is_aside: false })
    }
}

impl Turn<'_> {
    /// Steps aside, so that another module can begin, if this one has taken long enough.
    pub(super) fn step_aside_after(&mut self, elapsed: Duration) {
        if self.is_aside || elapsed < ASIDE_AFTER {
            return;
        }
        let mut counts = lock(&self.turns.counts);
        if counts.aside < ASIDE_MAX {
            (counts.prompt, counts.aside) = (counts.prompt - 1, counts.aside + 1);
            self.is_aside = true;
            self.turns.returned.notify_one();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut counts = lock(&self.turns.counts);
        let count = if self.is_aside { &mut counts.aside } else { &mut counts.prompt };
        *count -= 1;
        self.turns.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_modules_let_as_many_others_begin_and_no_more() {
        let turns = Turns::default();
        let take = || turns.take(|| true);
        let (mut first, mut second) = (take().expect("a turn"), take().expect("a turn"));
        assert!(take().is_none());
        first.step_aside_after(ASIDE_AFTER.mul_f32(0.9));
        assert!(take().is_none(), "it has not taken long yet");
        for slow in [&mut first, &mut second] {
            slow.step_aside_after(ASIDE_AFTER);
        }
        let (mut third, fourth) = (take().expect("a turn"), take().expect("a turn"));
        third.step_aside_after(ASIDE_AFTER);
        assert!(take().is_none(), "there is no more room aside");
        drop(first);
        assert!(take().is_none(), "its room was aside");
        third.step_aside_after(ASIDE_AFTER);
        let fifth = take().expect("a turn");
        drop((second, third, fourth, fifth));
        assert_eq!(*lock(&turns.counts), Counts::default());
    }
}
