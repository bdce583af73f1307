//! Example: tasks cannot harm their worker or other tasks. Each of these tries to crash its worker.

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use fastworker_guest::context::{follow_up, progress};
use fastworker_guest::{TaskError, info, task};

const MIB: usize = 1024 * 1024;
const ONE_DAY: Duration = Duration::from_hours(24);

/// Runs forever, without calling the host.
#[task]
fn endless_loop() {
    loop {
        black_box(());
    }
}

/// Allocates `mib` MiB of memory and uses every page; without `mib`, as much as possible.
///
/// Returns the allocated MiB.
#[task]
fn memory_hog(mib: Option<usize>) -> usize {
    let mut allocated: Vec<Vec<u8>> = Vec::new();
    while mib.is_none_or(|wanted| allocated.len() < wanted) {
        // Not zeros, which an allocator may provide without touching a page.
        allocated.push(black_box(vec![1; MIB]));
    }
    allocated.len()
}

/// Panics.
#[task]
fn panic_now(message: Option<String>) {
    let message = message.unwrap_or_else(|| "as asked".to_owned());
    panic!("{message}");
}

/// Calls itself `depth` times; without `depth`, until the stack overflows.
#[task]
fn deep_recursion(depth: Option<u64>) -> u64 {
    descend(depth.unwrap_or(u64::MAX))
}

// Uses its local data after the call, to prevent a tail call.
fn descend(left: u64) -> u64 {
    let held = black_box([left; 16]);
    if left == 0 {
        return 0;
    }
    let below = descend(left - 1);
    below + 1 + black_box(held)[0].saturating_sub(left)
}

/// Writes `lines` lines to stdout and stderr; without `lines`, forever.
///
/// Returns the number of lines that the host accepted.
#[task]
fn output_flood(lines: Option<u64>) -> u64 {
    let line = [b'x'; 100];
    let mut accepted = 0;
    flood(lines, |number| {
        let written = if number % 2 == 0 {
            writeln!(std::io::stdout(), "{}", line.escape_ascii())
        } else {
            writeln!(std::io::stderr(), "{}", line.escape_ascii())
        };
        accepted += u64::from(written.is_ok());
    });
    accepted
}

/// Writes `lines` lines to the log; without `lines`, forever.
#[task]
fn log_flood(lines: Option<u64>) {
    flood(lines, |number| info!("line {number}: {}", "x".repeat(100)));
}

/// Reports progress `reports` times; without `reports`, forever.
#[task]
fn progress_flood(reports: Option<u64>) {
    flood(reports, |number| progress(number, 0, &"x".repeat(100)));
}

/// Submits `count` follow-ups; without `count`, until the host refuses one.
#[task]
fn follow_up_flood(count: Option<u64>) -> Result<u64, TaskError> {
    let mut submitted = 0;
    while count.is_none_or(|wanted| submitted < wanted) {
        follow_up("panic_now", ("one of a flood",)).submit()?;
        submitted += 1;
    }
    Ok(submitted)
}

fn flood(times: Option<u64>, mut one: impl FnMut(u64)) {
    for number in 0..times.unwrap_or(u64::MAX) {
        one(number);
    }
}

/// Sleeps in the host for a day, in one call.
#[task]
fn endless_sleep() {
    std::thread::sleep(ONE_DAY);
}

/// Returns a string of `bytes` bytes.
#[task]
fn huge_result(bytes: usize) -> String {
    "x".repeat(bytes)
}

/// Fails with a message of `bytes` bytes.
#[task]
fn huge_error(bytes: usize) -> Result<(), TaskError> {
    Err(TaskError::failed("x".repeat(bytes)))
}

/// Exits.
#[task]
fn exit_now(code: Option<i32>) {
    std::process::exit(code.unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use fastworker_guest::testing::Context;

    use super::*;

    #[test]
    #[should_panic(expected = "out of patience")]
    fn a_panic_has_the_given_message() {
        panic_now(Some("out of patience".to_owned()));
    }

    #[test]
    fn tasks_with_a_limit_end() {
        let ((), seen) = Context::new().run(|| {
            assert_eq!(memory_hog(Some(2)), 2);
            assert_eq!(deep_recursion(Some(100)), 100);
            assert_eq!(follow_up_flood(Some(3)), Ok(3));
            assert_eq!(huge_result(1000).len(), 1000);
            assert!(huge_error(1000).is_err());
            log_flood(Some(4));
            progress_flood(Some(5));
        });
        assert_eq!(seen.follow_ups.len(), 3);
        assert_eq!(seen.logs.len(), 4);
        assert_eq!(seen.progress.len(), 5);
    }
}
