//! How many modules are compiled at a time.
//!
//! Apart because it decides who waits for whom. Few at a time, as each may take the memory that its
//! limit allows. One that takes long steps aside for the others: it goes on, but the next may begin.

use std::{
    sync::{Condvar, Mutex},
    time::Duration,
};

use crate::lock::{self, lock};

/// Modules that are compiled at a time, beside those that stepped aside.
const PROMPT_MAX: usize = 2;
/// Modules that are compiled beside the others because they take long.
const ASIDE_MAX: usize = 2;
/// A module that takes longer than this steps aside.
const ASIDE_AFTER: Duration = Duration::from_secs(3);
/// How often one that waits for its turn looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Hands out turns.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Turns {
    taken: Mutex<Taken>,
    given_back: Condvar,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    prompt: usize,
    aside: usize,
}

/// The right to compile one module. Given back when it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    is_aside: bool,
}

impl Turns {
    /// Waits for a turn. None once it is not wanted any more.
    pub(super) fn take(&self, is_unwanted: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut taken = lock(&self.taken);
        while taken.prompt >= PROMPT_MAX {
            if is_unwanted() {
                return None;
            }
            taken = lock::wait_timeout(&self.given_back, taken, LOOK_EVERY).0;
        }
        taken.prompt += 1;
        Some(Turn { turns: self, is_aside: false })
    }
}

impl Turn<'_> {
    /// Lets another one begin, if this one has taken so long already.
    pub(super) fn step_aside_after(&mut self, elapsed: Duration) {
        if self.is_aside || elapsed < ASIDE_AFTER {
            return;
        }
        let mut taken = lock(&self.turns.taken);
        if taken.aside < ASIDE_MAX {
            (taken.prompt, taken.aside) = (taken.prompt - 1, taken.aside + 1);
            self.is_aside = true;
            self.turns.given_back.notify_one();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = lock(&self.turns.taken);
        let place = if self.is_aside { &mut taken.aside } else { &mut taken.prompt };
        *place -= 1;
        self.turns.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_take_long_let_as_many_others_begin_and_no_more() {
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
        assert_eq!(*lock(&turns.taken), Taken::default());
    }
}
