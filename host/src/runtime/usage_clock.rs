//! Measures the time that an attempt takes, without a system call for short ones.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use crate::clock::micros;

/// Attempts that take longer have their CPU time measured.
const MEASURED_FROM: Duration = Duration::from_millis(1);

/// Whether the last attempts of a module took long enough to measure their CPU time. Reading the clock of a thread is a
/// system call, which takes too long for an attempt of microseconds.
#[derive(Debug, Default)]
pub(super) struct TakesLong(AtomicBool);

/// When the guest's function was called; not yet, if creating the instance failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FunctionStart(Option<Instant>);

impl FunctionStart {
    /// The function is called now.
    pub(super) fn mark(&mut self) {
        self.0 = Some(Instant::now());
    }

    /// Whether the function was called.
    pub(super) fn is_marked(self) -> bool {
        self.0.is_some()
    }
}

/// The clocks of a running attempt.
pub(super) struct UsageClock<'a> {
    started: Instant,
    /// CPU time of this thread at the start, if it is measured.
    cpu: Option<Duration>,
    takes_long: &'a TakesLong,
}

/// The times of an attempt, in microseconds.
pub(super) struct Times {
    pub(super) cpu_us: u64,
    pub(super) instantiation_us: u64,
}

impl<'a> UsageClock<'a> {
    /// Starts the clocks. The CPU time of an attempt that may be long without using it must be measured.
    pub(super) fn start(must_measure: bool, takes_long: &'a TakesLong) -> Self {
        let is_measured = must_measure || takes_long.0.load(Relaxed);
        Self { cpu: is_measured.then(thread_cpu_time), started: Instant::now(), takes_long }
    }

    /// Stops the clocks.
    pub(super) fn stop(self, function: FunctionStart) -> Times {
        let elapsed = self.started.elapsed();
        let is_long = elapsed >= MEASURED_FROM;
        if is_long != self.takes_long.0.load(Relaxed) {
            self.takes_long.0.store(is_long, Relaxed);
        }
        let cpu = self.cpu.map_or(elapsed, |start| thread_cpu_time().saturating_sub(start));
        let instantiation = function.0.map_or(elapsed, |called| called.duration_since(self.started));
        Times { cpu_us: micros(cpu), instantiation_us: micros(instantiation) }
    }
}

/// The CPU time that this thread has used.
fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_takes_no_cpu_time_and_short_attempts_count_whole() {
        let takes_long = TakesLong::default();
        let clock = UsageClock::start(true, &takes_long);
        crate::clock::pause(Duration::from_millis(20));
        let times = clock.stop(FunctionStart::default());
        assert!(times.cpu_us < 10_000 && times.instantiation_us >= 20_000);
        assert!(takes_long.0.load(Relaxed));
        let clock = UsageClock::start(false, &takes_long);
        let mut function = FunctionStart::default();
        function.mark();
        assert!(clock.stop(function).instantiation_us < 1_000);
        assert!(!takes_long.0.load(Relaxed));
    }
}
