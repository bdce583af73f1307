//! The CPU time of a thread, which other threads can read.
//!
//! Separate module because it calls the C library, which takes `unsafe`.

use std::{mem::MaybeUninit, time::Duration};

/// The clock of the CPU time that a thread uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CpuClock(libc::clockid_t);

impl CpuClock {
    /// The clock of this thread; none if the system has no such clocks.
    #[cfg(target_os = "linux")]
    pub(super) fn of_this_thread() -> Option<Self> {
        let mut clock = MaybeUninit::uninit();
        #[allow(unsafe_code, reason = "this thread exists, and the clock is read only if the call has written it")]
        // SAFETY: see the reason.
        unsafe {
            let result = libc::pthread_getcpuclockid(libc::pthread_self(), clock.as_mut_ptr());
            (result == 0).then(|| Self(clock.assume_init()))
        }
    }

    /// The clock of this thread; none, as the system has no such clocks.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn of_this_thread() -> Option<Self> {
        None
    }

    /// What the thread has used so far; none if it has ended.
    pub(super) fn read(self) -> Option<Duration> {
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        #[allow(
            unsafe_code,
            reason = "any number may be passed as a clock, and the time is read only if it was written"
        )]
        // SAFETY: see the reason.
        let time = unsafe {
            let result = libc::clock_gettime(self.0, time.as_mut_ptr());
            (result == 0).then(|| time.assume_init())?
        };
        Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::clock::pause;

    #[test]
    fn another_thread_reads_the_time_of_a_thread() {
        let clock = CpuClock::of_this_thread().expect("a clock");
        let read = move || thread::spawn(move || clock.read()).join().expect("no panic").expect("a time");
        let before = read();
        pause(Duration::from_millis(50));
        let rested = read();
        assert!(rested < before + Duration::from_millis(40), "waiting takes no CPU time");
        while clock.read().expect("a time") < rested + Duration::from_millis(20) {}
        assert!(read() >= rested + Duration::from_millis(20));
    }
}
