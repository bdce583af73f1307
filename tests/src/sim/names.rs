//! The task names of the simulation, and how their attempts go.

use std::time::Duration;

use fastrand::Rng;
use fastworker::{
    json::Json,
    protocol::LeaseId,
    task::{ErrorKind, Failure, FollowUp, Outcome, Policy, Report},
};

use super::worker::{failed, line, succeeded};

/// One task name.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) text: &'static str,
    /// What its module says.
    pub(crate) max_retries: Option<u32>,
    /// How long an attempt takes, in microseconds.
    span: (u64, u64),
}

/// Kills the worker that runs it.
pub(crate) const POISON: &str = "poison";
/// Submits others.
pub(crate) const PARENT: &str = "parent";
/// Fails more often than not.
pub(crate) const FRAGILE: &str = "fragile";
/// Says something about itself.
pub(crate) const CHATTY: &str = "chatty";
/// Short most of the time, so that others are granted behind a long one.
pub(crate) const MIXED: &str = "mixed";
/// No worker has it.
pub(crate) const NOBODY: &str = "nobody";

const fn name(text: &'static str, max_retries: Option<u32>, span: (u64, u64)) -> Name {
    Name { text, max_retries, span }
}

/// Every name that a worker can offer.
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

/// What a worker offers: everything, or some of it. Nothing that kills runs in the control plane.
pub(crate) fn catalog(dice: &mut Rng, everything: bool, local: bool) -> Vec<&'static Name> {
    let offers = |name: &&Name, dice: &mut Rng| match (local, everything) {
        (true, _) => name.text != POISON && dice.bool(),
        (false, true) => true,
        (false, false) => dice.u8(0..10) < 6,
    };
    NAMES.iter().filter(|name| offers(name, dice)).collect()
}

/// Whether a worker can have a name.
pub(crate) fn is_offered(name: &str) -> bool {
    NAMES.iter().any(|known| known.text == name)
}

/// What the module of a name says about retries.
pub(crate) fn max_retries(name: &str) -> u32 {
    NAMES.iter().find(|known| known.text == name).and_then(|known| known.max_retries).unwrap_or(0)
}

/// How an attempt will go.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) span: Duration,
    pub(crate) outcome: Outcome,
    pub(crate) says: Vec<Report>,
}

/// Dices how an attempt will go.
pub(crate) fn plan(dice: &mut Rng, name: &str, lease: LeaseId) -> Plan {
    let (shortest, longest) = NAMES.iter().find(|known| known.text == name).map_or((10, 100), |known| known.span);
    let long = name == MIXED && dice.u8(0..12) == 0;
    let span = if long { dice.u64(8_000..2_000_000) } else { dice.u64(shortest..longest) };
    let follow_ups = if name == PARENT { (0..dice.usize(0..3)).map(|_| follow_up(dice)).collect() } else { Vec::new() };
    let fails = dice.u8(0..20) < if name == FRAGILE { 13 } else { 2 };
    let outcome = if fails { failure(dice, lease) } else { succeeded(lease, follow_ups) };
    let says =
        if name == CHATTY { (0..dice.usize(1..6)).map(|_| line("so far, so good")).collect() } else { Vec::new() };
    Plan { span: Duration::from_micros(span), outcome, says }
}

fn failure(dice: &mut Rng, lease: LeaseId) -> Outcome {
    let kinds = [ErrorKind::Failed, ErrorKind::Trap, ErrorKind::OutOfMemory, ErrorKind::OutputLimit, ErrorKind::Failed];
    match dice.usize(0..7) {
        5 => failed(ErrorKind::BadArguments, lease),
        6 => Outcome::Failure(Failure {
            retry_after: Some(Duration::from_millis(dice.u64(1..20_000))),
            ..Failure::new(ErrorKind::Failed, format!("lease {}", lease.0))
        }),
        kind => failed(kinds[kind], lease),
    }
}

fn follow_up(dice: &mut Rng) -> FollowUp {
    let names = ["quick", "brisk", FRAGILE, PARENT, NOBODY];
    FollowUp {
        name: names[dice.usize(0..names.len())].into(),
        args: Json::empty_array(),
        kwargs: Json::empty_object(),
        policy: Policy::default(),
        countdown: (dice.u8(0..4) == 0).then(|| Duration::from_millis(dice.u64(1..3_000))),
        metadata: Json::empty_object(),
    }
}
