//! Example: computations run at nearly native speed, with one sandbox on each core.

use fastworker_guest::{TaskError, task};
use serde::Serialize;

/// Size of a segment of the sieve: it fits into a core's cache.
const SEGMENT: u64 = 32 * 1024;
/// Maximum number: above it, the computation of the base primes would take minutes.
const LIMIT: u64 = 1_000_000_000_000;

/// The result of [`find_primes`].
#[derive(Debug, PartialEq, Serialize)]
struct Primes {
    count: u64,
    /// The largest one, if there is any.
    last: Option<u64>,
}

/// Counts the primes from `from` up to and including `to`, and finds the largest.
#[task(timeout = "10m")]
fn find_primes(from: u64, to: u64) -> Result<Primes, TaskError> {
    if to > LIMIT {
        return Err(TaskError::bad_arguments(format!("argument 'to': {to} is above {LIMIT}")));
    }
    let mut primes = Primes { count: 0, last: None };
    sieve(from, to, |prime| {
        primes.count += 1;
        primes.last = Some(prime);
        true
    });
    Ok(primes)
}

/// Finds the `n`-th prime; the first is 2.
#[task(timeout = "10m")]
fn nth_prime(n: u64) -> Result<u64, TaskError> {
    if n == 0 {
        return Err(TaskError::bad_arguments("argument 'n': primes are counted from 1"));
    }
    let mut left = n;
    let mut found = None;
    sieve(2, LIMIT, |prime| {
        left -= 1;
        if left == 0 {
            found = Some(prime);
        }
        left > 0
    });
    found.ok_or_else(|| TaskError::bad_arguments(format!("prime number {n} is above {LIMIT}")))
}

/// Calls `found` with each prime of `from..=to` in order, until it returns false.
///
/// A segmented sieve of Eratosthenes: the multiples of the primes up to the square root are
/// eliminated from one segment after the other, so the memory in use does not depend on the range.
fn sieve(from: u64, to: u64, mut found: impl FnMut(u64) -> bool) {
    let mut base = BasePrimes::new();
    let mut composite = Vec::new();
    let mut low = from.max(2);
    while low <= to {
        let high = to.min(low + SEGMENT - 1);
        composite.clear();
        composite.resize(offset(high, low) + 1, false);
        for &prime in base.up_to_root_of(high) {
            let first = low.next_multiple_of(prime).max(prime * prime);
            let mut multiple = first;
            while multiple <= high {
                composite[offset(multiple, low)] = true;
                multiple += prime;
            }
        }
        for number in low..=high {
            if !composite[offset(number, low)] && !found(number) {
                return;
            }
        }
        low = high + 1;
    }
}

fn offset(number: u64, low: u64) -> usize {
    usize::try_from(number - low).expect("a segment is much smaller than the memory")
}

/// The small primes whose multiples are eliminated, computed on demand.
struct BasePrimes {
    primes: Vec<u64>,
    searched_to: u64,
}

impl BasePrimes {
    fn new() -> Self {
        Self { primes: Vec::new(), searched_to: 1 }
    }

    /// The primes whose square is not above `high`, and possibly more.
    fn up_to_root_of(&mut self, high: u64) -> &[u64] {
        let root = high.isqrt();
        while self.searched_to < root {
            let candidate = self.searched_to + 1;
            let is_prime = self
                .primes
                .iter()
                .take_while(|prime| **prime * **prime <= candidate)
                .all(|prime| !candidate.is_multiple_of(*prime));
            if is_prime {
                self.primes.push(candidate);
            }
            self.searched_to = candidate;
        }
        &self.primes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastworker_guest::Retry;

    fn primes(from: u64, to: u64) -> Option<Primes> {
        find_primes(from, to).ok()
    }

    #[test]
    fn small_ranges_are_correct() {
        assert_eq!(primes(0, 1), Some(Primes { count: 0, last: None }));
        assert_eq!(primes(2, 2), Some(Primes { count: 1, last: Some(2) }));
        assert_eq!(primes(0, 10), Some(Primes { count: 4, last: Some(7) }));
        assert_eq!(primes(24, 28), Some(Primes { count: 0, last: None }));
        assert_eq!(primes(10, 2), Some(Primes { count: 0, last: None }));
    }

    #[test]
    fn ranges_of_many_segments_are_correct() {
        assert_eq!(primes(0, 1_000_000), Some(Primes { count: 78_498, last: Some(999_983) }));
        let far = primes(LIMIT - 1000, LIMIT);
        assert_eq!(far, Some(Primes { count: 38, last: Some(999_999_999_989) }));
    }

    #[test]
    fn the_nth_prime_is_counted_from_one() {
        assert_eq!(nth_prime(1), Ok(2));
        assert_eq!(nth_prime(10_000), Ok(104_729));
        assert!(matches!(&nth_prime(0), Err(error) if error.retry() == Retry::BadArguments));
    }

    #[test]
    fn a_range_that_would_take_too_long_is_refused() {
        assert!(matches!(&find_primes(0, u64::MAX), Err(error) if error.retry() == Retry::BadArguments));
    }
}
