//! Whole clusters over the pure core, seed by seed.
//!
//! `FASTWORKER_SIM_SEEDS=100000` runs more seeds, `FASTWORKER_SIM_SEED=1234` repeats one.

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use fastworker_tests::sim::{self, Coverage, Sabotage};

/// Number of seeds if no variable is set.
const SEEDS: u64 = 1_000;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// Runs seeds on all cores. Panics with the first violation found.
fn run_all(seeds: std::ops::Range<u64>) -> Coverage {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut coverage = Coverage::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(coverage);
            }
            match sim::run(seed, None) {
                Ok(covered) => coverage = coverage.and(&covered),
                Err(violation) => {
                    next.store(seeds.end, Ordering::Relaxed);
                    return Err(violation);
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a violation is no panic")).collect()
    });
    let mut coverage = Coverage::default();
    for result in results {
        match result {
            Ok(covered) => coverage = coverage.and(&covered),
            Err(violation) => panic!("{violation}"),
        }
    }
    coverage
}

#[test]
fn no_task_is_lost_duplicated_or_left_over() {
    if let Some(seed) = number("FASTWORKER_SIM_SEED") {
        run_all(seed..seed + 1);
        return;
    }
    let coverage = run_all(0..number("FASTWORKER_SIM_SEEDS").unwrap_or(SEEDS));
    assert_eq!(coverage.missing(), [""; 0], "these never happened, so that the simulation proves nothing about them");
}

#[test]
fn a_seed_always_gives_the_same_history() {
    for seed in 0..10 {
        assert_eq!(sim::trace(seed), sim::trace(seed), "seed {seed} has two histories");
    }
    assert_ne!(sim::trace(0), sim::trace(1));
}

#[test]
fn the_simulation_finds_deliberate_faults() {
    let finds = |sabotage, what: &str| {
        let found: Vec<String> =
            (0..40).filter_map(|seed| sim::run(seed, Some(sabotage)).err()).map(|found| found.what).collect();
        assert!(!found.is_empty(), "{sabotage:?} goes unnoticed");
        // In some runs another check finds it first.
        assert!(
            found.iter().any(|found| found.contains(what)),
            "{sabotage:?} is mistaken for something else: {found:?}"
        );
    };
    finds(Sabotage::IgnoredFence, "by a lease that is not its newest");
    finds(Sabotage::DroppedReply, "dropped without a reply");
    finds(Sabotage::ForgedEnd, "was recorded");
    finds(Sabotage::RepeatedEnd, "not due");
    finds(Sabotage::ReversedGrant, "out of order");
    finds(Sabotage::RepeatedCall, "2 callbacks");
}
