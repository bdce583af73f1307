//! Example: a task can submit follow-up tasks, which are queued when it succeeds.

use std::time::Duration;

use fastworker_guest::context::follow_up;
use fastworker_guest::{Priority, TaskError, info, task};

/// Submits `n` tasks named `leaf`, and returns their ids.
///
/// With `fail` it then fails, so that none of them is queued.
#[task]
fn spread(n: u32, fail: Option<bool>) -> Result<Vec<String>, TaskError> {
    let ids = (0..n).map(|i| follow_up("leaf", (i,)).submit()).collect::<Result<Vec<_>, _>>()?;
    if fail.unwrap_or(false) {
        return Err(TaskError::failed(format!("failed after {n} follow-ups")));
    }
    Ok(ids)
}

/// Returns the square of `i`.
#[task]
fn leaf(i: u32) -> u64 {
    info!("leaf {i}");
    u64::from(i) * u64::from(i)
}

/// Submits itself until `left` is zero, each time at low priority and a little later.
#[task]
fn chain(left: u32, pause_ms: Option<u64>) -> Result<u32, TaskError> {
    if left > 0 {
        follow_up("chain", (left - 1, pause_ms))
            .priority(Priority::Low)
            .countdown(Duration::from_millis(pause_ms.unwrap_or(10)))
            .submit()?;
    }
    Ok(left)
}

/// Submits a task of another module.
#[task]
fn elsewhere(name: &str, arguments: Vec<i64>) -> Result<String, TaskError> {
    follow_up(name, arguments).submit()
}

#[cfg(test)]
mod tests {
    use fastworker_guest::testing::Context;

    use super::*;

    #[test]
    fn every_leaf_is_submitted_under_its_own_id() {
        let (ids, seen) = Context::new().task_id("parent").run(|| spread(3, None));
        let submitted: Vec<_> = seen.follow_ups.iter().map(|it| it.id.clone()).collect();
        assert_eq!(ids, Ok(submitted));
        assert_eq!(seen.follow_ups[2].args, "[2]");
    }

    #[test]
    fn a_chain_continues_later_and_at_low_priority() {
        let (_, seen) = Context::new().run(|| chain(2, Some(1500)));
        assert_eq!(seen.follow_ups[0].args, "[1,1500]");
        assert_eq!(seen.follow_ups[0].options, r#"{"priority":"low","countdown":1.5}"#);
        let (_, seen) = Context::new().run(|| chain(0, None));
        assert!(seen.follow_ups.is_empty());
    }
}
