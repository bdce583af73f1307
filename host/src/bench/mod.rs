//! `fastworker bench`: the speed of this machine, compared with that of the transport and the runtime alone.
//!
//! Results of different runs are not comparable, especially on shared machines. So each case is measured in short
//! turns alternating with its baseline, and the relevant number is the ratio: the median over the rounds, so that a
//! machine that is slow for some seconds affects both. *Raw* is a round trip of 100 bytes between two processes
//! over the transport; *runtime alone* runs fresh instances of the same module on as many threads as slots, without
//! anything else. Every result is verified.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use crate::{
    client::{Client, ClientError},
    config::Address,
    subworker::ModulesError,
    task::SerializationFormat,
    transport::{CallError, OpenError, Transport as _, nng::Nng},
};

mod cluster;
mod load;
mod original;
mod parts;

pub use parts::echo;

/// The task that is submitted: `add(x, 1)`.
const TASK: &str = "add";

/// What to measure, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A module with a task `add(x, y)`.
    pub module: PathBuf,
    /// A running control plane to measure; none to start one.
    pub control_plane_address: Option<Address>,
    /// The message format.
    pub format: SerializationFormat,
    /// A virtual environment with the Python original, to measure it as well.
    pub original: Option<PathBuf>,
    /// Slots of each worker.
    pub slots: usize,
    /// Tasks in one bulk.
    pub bulk: usize,
    /// How many times each case is measured.
    pub rounds: usize,
    /// The duration of each turn.
    pub turn: Duration,
}

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub case: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The baseline, if there is one.
    pub against: Option<String>,
    /// The ratio of the figure to the baseline: the median over the rounds.
    pub ratio: Option<f64>,
    /// The bound on the ratio, or on the figure where there is no ratio.
    pub must: Option<Must>,
}

/// A bound.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Must {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
}

impl Row {
    /// Whether the bound is met; none without a bound.
    pub fn holds(&self) -> Option<bool> {
        let value = self.ratio.unwrap_or(self.value);
        self.must.map(|must| match must {
            Must::AtMost(bound) => value <= bound,
            Must::AtLeast(bound) => value >= bound,
        })
    }
}

/// Why the measurement failed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The module cannot be used.
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// The module has no such task.
    #[error("{0} has no task '{TASK}' to measure with")]
    NoTask(PathBuf),
    /// A task could not be run.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A raw request was not answered.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A socket could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A process could not be started, or did not become ready.
    #[error("cannot start {what}: {why}")]
    Start {
        /// Which process.
        what: &'static str,
        /// The reason.
        why: String,
    },
    /// A result is wrong.
    #[error("wrong result: {TASK}({x}, 1) gave {got}")]
    Wrong {
        /// The argument.
        x: u64,
        /// The actual result.
        got: String,
    },
}

/// Runs the measurements. Before each turn, calls `on_progress` with its name, and the numbers of finished and of
/// all turns.
///
/// # Errors
/// [`BenchError`] when a measurement fails. A bound that is not met is not an error.
pub async fn run(plan: &Plan, on_progress: impl Fn(&str, usize, usize)) -> Result<Vec<Row>, BenchError> {
    match &plan.control_plane_address {
        Some(address) => run_elsewhere(plan, address, on_progress).await,
        None => run_here(plan, on_progress).await,
    }
}

/// Measures a running cluster. Its slots are unknown, so there is no baseline.
async fn run_elsewhere(
    plan: &Plan,
    address: &Address,
    on_progress: impl Fn(&str, usize, usize),
) -> Result<Vec<Row>, BenchError> {
    let client = Client::builder().control_plane_address(address.clone()).serialization_format(plan.format).build();
    client.start().await?;
    let mut rounds = Rounds::default();
    for round in 0..plan.rounds {
        on_progress("one after another", 3 * round, 3 * plan.rounds);
        rounds.through_subworker.push(p50_micros(&load::sequential(&client, plan.turn).await?));
        on_progress("64 in flight", 3 * round + 1, 3 * plan.rounds);
        rounds.in_flight.push(load::in_flight(&client, plan.turn).await?);
        on_progress("bulk", 3 * round + 2, 3 * plan.rounds);
        rounds.bulk.push(load::bulk(&client, plan.bulk).await?);
    }
    client.stop();
    Ok(vec![
        measured("one after another, p50", &rounds.through_subworker, "us"),
        measured("64 in flight", &rounds.in_flight, "tasks/s"),
        measured(format!("bulk of {}", plan.bulk), &rounds.bulk, "tasks/s"),
    ])
}

/// One figure for each round, in the unit of its row.
#[derive(Default)]
struct Rounds {
    raw: Vec<f64>,
    own_slot: Vec<f64>,
    through_subworker: Vec<f64>,
    raw_in_flight: Vec<f64>,
    runtime_alone: Vec<f64>,
    in_flight: Vec<f64>,
    bulk: Vec<f64>,
}

async fn run_here(plan: &Plan, on_progress: impl Fn(&str, usize, usize)) -> Result<Vec<Row>, BenchError> {
    let runtime = parts::RuntimeAlone::load(plan)?;
    let echo = cluster::Echo::start()?;
    let own = cluster::Cluster::start(plan, cluster::Shape::OwnSlots).await?;
    let split = cluster::Cluster::start(plan, cluster::Shape::OneSubworker).await?;
    // Measured while idle, before the first task.
    let memory = split.memory();
    let mut rounds = Rounds::default();
    let all = 7 * plan.rounds;
    // Latency first: after a load, processors wake up faster for a while.
    for round in 0..plan.rounds {
        let step = |what: &str, number: usize| on_progress(what, 3 * round + number, all);
        step("raw", 0);
        rounds.raw.push(p50_micros(&parts::raw_sequential(echo.caller(), plan.turn).await?));
        step("one after another, control plane's own slot", 1);
        rounds.own_slot.push(p50_micros(&load::sequential(&own.client, plan.turn).await?));
        step("one after another, through a subworker", 2);
        rounds.through_subworker.push(p50_micros(&load::sequential(&split.client, plan.turn).await?));
    }
    for round in 0..plan.rounds {
        let step = |what: &str, number: usize| on_progress(what, 3 * plan.rounds + 4 * round + number, all);
        step("raw, 64 in flight", 0);
        rounds.raw_in_flight.push(parts::raw_in_flight(echo.caller(), plan.turn).await?);
        step("64 in flight, through a subworker", 1);
        rounds.in_flight.push(load::in_flight(&split.client, plan.turn).await?);
        step("runtime alone", 2);
        rounds.runtime_alone.push(runtime.per_second(plan));
        step("bulk, through a subworker", 3);
        rounds.bulk.push(load::bulk(&split.client, plan.bulk).await?);
    }
    let mut rows = rows(plan, &rounds, memory);
    if let Some(environment) = &plan.original {
        rows.extend(against_original(plan, environment, &own, on_progress).await?);
    }
    Ok(rows)
}

/// Compares the original with this program, both through the original's protocol.
async fn against_original(
    plan: &Plan,
    environment: &std::path::Path,
    own: &cluster::Cluster,
    on_progress: impl Fn(&str, usize, usize),
) -> Result<Vec<Row>, BenchError> {
    let original = original::Original::start(environment, plan.slots).await?;
    let ours = Nng.connect(&own.base.plus(original::NORMAL_OFFSET).map_err(ClientError::from)?.to_string())?;
    let (mut their_times, mut our_times) = (Vec::new(), Vec::new());
    let (mut their_rates, mut our_rates, mut our_wrong) = (Vec::new(), Vec::new(), 0);
    for round in 0..plan.rounds {
        on_progress("one after another, the original and this", 2 * round, 2 * plan.rounds);
        their_times.push(p50_micros(&original::sequential(&*original.caller, plan.turn).await?));
        our_times.push(p50_micros(&original::sequential(&*ours, plan.turn).await?));
        on_progress("64 in flight, the original and this", 2 * round + 1, 2 * plan.rounds);
        their_rates.push(original::in_flight(&*original.caller, plan.turn).await?.0);
        let (rate, wrong) = original::in_flight(&*ours, plan.turn).await?;
        our_rates.push(rate);
        our_wrong += wrong;
    }
    if our_wrong > 0 {
        return Err(BenchError::Wrong { x: our_wrong.into(), got: "a wrong reply, or none".into() });
    }
    let their_name = "the original";
    Ok(vec![
        measured("the original, one after another, p50", &their_times, "us"),
        compared("the same wire, this program, p50", &our_times, "us", (their_name, &their_times), Must::AtMost(0.125)),
        measured("the original, 64 in flight, right answers", &their_rates, "tasks/s"),
        compared("the same wire, this program", &our_rates, "tasks/s", (their_name, &their_rates), Must::AtLeast(50.0)),
    ])
}

fn rows(plan: &Plan, rounds: &Rounds, memory: Option<cluster::Memory>) -> Vec<Row> {
    let Rounds { raw, own_slot, through_subworker, raw_in_flight, runtime_alone: alone, in_flight, bulk } = rounds;
    let (floor, floor_name, floor_part) = if 0.8 * median(raw_in_flight) <= 0.6 * median(alone) {
        (raw_in_flight, "raw, 64 in flight", 0.8)
    } else {
        (alone, "runtime alone", 0.6)
    };
    let bulk_case = format!("bulk of {}, one subworker", plan.bulk);
    let mut rows = vec![
        measured("raw, p50", raw, "us"),
        measured("raw, 64 in flight", raw_in_flight, "messages/s"),
        measured(format!("runtime alone, {} slots", plan.slots), alone, "tasks/s"),
        compared("one after another, control plane's own slot, p50", own_slot, "us", ("raw", raw), Must::AtMost(1.5)),
        compared("one after another, one subworker, p50", through_subworker, "us", ("raw", raw), Must::AtMost(2.5)),
        compared("64 in flight, one subworker", in_flight, "tasks/s", (floor_name, floor), Must::AtLeast(floor_part)),
        compared(bulk_case, bulk, "tasks/s", ("runtime alone", alone), Must::AtLeast(0.6)),
    ];
    if let Some(memory) = memory {
        let bounded = |case: &str, value, bound| Row { must: Some(Must::AtMost(bound)), ..figure(case, value, "MB") };
        rows.push(bounded("idle memory, control plane", memory.control_plane, 25.0));
        rows.push(bounded("idle memory, subworker", memory.subworker, 30.0));
    }
    rows
}

fn figure(case: impl Into<String>, value: f64, unit: &'static str) -> Row {
    Row { case: case.into(), value, unit, against: None, ratio: None, must: None }
}

fn measured(case: impl Into<String>, rounds: &[f64], unit: &'static str) -> Row {
    figure(case, median(rounds), unit)
}

fn compared(case: impl Into<String>, rounds: &[f64], unit: &'static str, against: (&str, &[f64]), must: Must) -> Row {
    let (name, others) = against;
    let ratios: Vec<f64> = rounds.iter().zip(others).map(|(one, other)| one / other).collect();
    Row {
        against: Some(name.to_owned()),
        ratio: Some(median(&ratios)),
        must: Some(must),
        ..measured(case, rounds, unit)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median of some seconds, in microseconds.
fn p50_micros(seconds: &[f64]) -> f64 {
    median(seconds) * 1e6
}
