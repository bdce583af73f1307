//! Example: a long task reports its progress, and stops when it is cancelled.

use std::time::Duration;

use fastworker_guest::context::{is_cancelled, progress};
use fastworker_guest::{TaskError, info, sleep, task};

/// Sleeps for `seconds` in `steps` steps (default 10), and reports its progress after each.
///
/// Returns the number of steps. A cancelled attempt ends after the current step.
#[task(timeout = "10m")]
fn slow(seconds: f64, steps: Option<u32>) -> Result<u32, TaskError> {
    let (steps, pause) = plan(seconds, steps)?;
    for step in 0..steps {
        if is_cancelled() {
            return Err(stopped(step, steps));
        }
        std::thread::sleep(pause);
        report(step + 1, steps);
    }
    info!("slept {seconds} s");
    Ok(steps)
}

/// The same as an async function.
#[task(timeout = "10m")]
async fn slow_async(seconds: f64, steps: Option<u32>) -> Result<u32, TaskError> {
    let (steps, pause) = plan(seconds, steps)?;
    for step in 0..steps {
        if is_cancelled() {
            return Err(stopped(step, steps));
        }
        sleep(pause).await;
        report(step + 1, steps);
    }
    info!("slept {seconds} s");
    Ok(steps)
}

fn plan(seconds: f64, steps: Option<u32>) -> Result<(u32, Duration), TaskError> {
    let steps = steps.unwrap_or(10).max(1);
    let whole = Duration::try_from_secs_f64(seconds)
        .map_err(|error| TaskError::bad_arguments(format!("argument 'seconds': {error}")))?;
    Ok((steps, whole / steps))
}

fn report(done: u32, steps: u32) {
    progress(done.into(), steps.into(), &format!("step {done} of {steps}"));
}

fn stopped(done: u32, steps: u32) -> TaskError {
    TaskError::failed(format!("stopped after {done} of {steps} steps"))
}

#[cfg(test)]
mod tests {
    use fastworker_guest::Retry;
    use fastworker_guest::testing::{self, Context};

    use super::*;

    #[test]
    fn each_step_is_reported() {
        let (result, seen) = Context::new().run(|| slow(0.0, Some(2)));
        assert_eq!(result, Ok(2));
        let last = (2, 2, "step 2 of 2".to_owned());
        assert_eq!(seen.progress.last(), Some(&last));
    }

    #[test]
    fn the_async_function_has_the_same_result() {
        let slow = Context::new().run(|| testing::call("slow", "[0.001, 3]", "{}"));
        let slow_async = Context::new().run(|| testing::call("slow_async", "[0.001, 3]", "{}"));
        assert_eq!(slow, slow_async);
    }

    #[test]
    fn a_cancelled_attempt_stops_between_two_steps() {
        let (result, _) = Context::new().cancelled_after(1).run(|| slow(0.0, Some(5)));
        assert_eq!(result, Err(TaskError::failed("stopped after 1 of 5 steps")));
    }

    #[test]
    fn a_negative_time_is_refused() {
        let result = testing::call("slow", "[-1]", "{}");
        assert!(matches!(&result, Err(error) if error.retry() == Retry::BadArguments), "{result:?}");
    }
}
