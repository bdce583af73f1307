//! The task names of the simulation, and random plans of their attempts.

use std::time::Duration;

use fastrand::Rng;
use fastworker::{
    json::Json,
    protocol::LeaseId,
    task::{ErrorKind, Failure, FollowUp, Outcome, Policy, Report},
};

use super::worker::{failed, log_line, succeeded};

/// One task name.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) text: &'static str,
    /// Maximum retries in its module.
    pub(crate) max_retries: Option<u32>,
    /// Duration of an attempt in microseconds, from and to.
    span: (u64, u64),
}

/// Kills the worker that runs it.
pub(crate) const POISON: &str = "poison";
/// Submits others.
pub(crate) const PARENT: &str = "parent";
/// Fails more often than not.
pub(crate) const FRAGILE: &str = "fragile";
/// Sends reports.
pub(crate) const CHATTY: &str = "chatty";
/// Usually short, sometimes long with other leases behind it.
pub(crate) const MIXED: &str = "mixed";
/// No worker has it.
pub(crate) const UNAVAILABLE: &str = "unavailable";

const fn name(text: &'static str, max_retries: Option<u32>, span: (u64, u64)) -> Name {
    Name { text, max_retries, span }
}

/// All names that a worker can have.
pub(crate) const NAMES: [Name; 8] = [
    name("quick", None, (20, 120)),
    name("brisk", None, (300, 900)),
    name("slow", None, (5_000, 3_000_000)),
    name(MIXED, None, (30, 60)),
    name(FRAGILE, Some(2), (100, 40_000)),
    name(PARENT, None, (50, 2_000)),
    name(CHATTY, None, (500, 60_000)),
    name(POISON, None, (1_000, 20_000)),
];

/// Random names for a worker. The control plane never has the one that kills its worker.
pub(crate) fn catalog(rng: &mut Rng, everything: bool, local: bool) -> Vec<&'static Name> {
    let offers = |name: &&Name, rng: &mut Rng| match (local, everything) {
        (true, _) => name.text != POISON && rng.bool(),
        (false, true) => true,
        (false, false) => rng.u8(0..10) < 6,
    };
    NAMES.iter().filter(|name| offers(name, rng)).collect()
}

/// Whether a worker can have a name.
pub(crate) fn is_offered(name: &str) -> bool {
    NAMES.iter().any(|known| known.text == name)
}

/// Maximum retries of a name.
pub(crate) fn max_retries(name: &str) -> u32 {
    NAMES.iter().find(|known| known.text == name).and_then(|known| known.max_retries).unwrap_or(0)
}

/// Duration, outcome and reports of an attempt.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) span: Duration,
    pub(crate) outcome: Outcome,
    pub(crate) reports: Vec<Report>,
}

/// Plans an attempt at random.
pub(crate) fn plan(rng: &mut Rng, name: &str, lease: LeaseId) -> Plan {
    let (shortest, longest) = NAMES.iter().find(|known| known.text == name).map_or((10, 100), |known| known.span);
    let long = name == MIXED && rng.u8(0..12) == 0;
    let span = if long { rng.u64(8_000..2_000_000) } else { rng.u64(shortest..longest) };
    let follow_ups = if name == PARENT { (0..rng.usize(0..3)).map(|_| follow_up(rng)).collect() } else { Vec::new() };
    let fails = rng.u8(0..20) < if name == FRAGILE { 13 } else { 2 };
    let outcome = if fails { failure(rng, lease) } else { succeeded(lease, follow_ups) };
    let reports =
        if name == CHATTY { (0..rng.usize(1..6)).map(|_| log_line("so far, so good")).collect() } else { Vec::new() };
    Plan { span: Duration::from_micros(span), outcome, reports }
}

fn failure(rng: &mut Rng, lease: LeaseId) -> Outcome {
    let kinds = [ErrorKind::Failed, ErrorKind::Trap, ErrorKind::OutOfMemory, ErrorKind::OutputLimit, ErrorKind::Failed];
    match rng.usize(0..7) {
        5 => failed(ErrorKind::BadArguments, lease),
        6 => Outcome::Failure(Failure {
            retry_after: Some(Duration::from_millis(rng.u64(1..20_000))),
            ..Failure::new(ErrorKind::Failed, format!("lease {}", lease.0))
        }),
        kind => failed(kinds[kind], lease),
    }
}

fn follow_up(rng: &mut Rng) -> FollowUp {
    let names = ["quick", "brisk", FRAGILE, PARENT, UNAVAILABLE];
    FollowUp {
        name: names[rng.usize(0..names.len())].into(),
        args: Json::empty_array(),
        kwargs: Json::empty_object(),
        policy: Policy::default(),
        countdown: (rng.u8(0..4) == 0).then(|| Duration::from_millis(rng.u64(1..3_000))),
        metadata: Json::empty_object(),
    }
}
