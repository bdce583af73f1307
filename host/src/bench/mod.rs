//! `fastworker bench`: the speed of this machine, compared with that of the transport and the runtime alone.
//!
//! Results of different runs are not comparable, especially on shared machines. So each case is measured in short
//! samples alternating with those of its baseline, and the relevant number is the ratio: the median over the rounds,
//! so that a machine that is slow for some seconds affects both. *Transport only* is a round trip of 100 bytes
//! between two processes; *runtime alone* runs fresh instances of the same module on as many threads as slots,
//! without anything else. Every result is verified.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    client::{Client, ClientError},
    config::Address,
    runtime::{grants::GrantTable, module_name, policies::PolicyTable},
    subworker::ModulesError,
    task::SerializationFormat,
    transport::{CallError, OpenError, Transport as _, nng::Nng},
};

mod baselines;
mod cluster;
mod load;
mod measurement;
mod original;

pub use baselines::echo;
pub use measurement::{Bound, Measurement};
use measurement::{ModuleRounds, OriginalRounds, Rounds, p50_micros};

/// The task that is submitted: `add(x, 1)`.
const TASK: &str = "add";

/// The options of a benchmark.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A module with a task `add(x, y)`.
    pub module: PathBuf,
    /// Further modules with such a task, of which the rate of attempts is measured.
    pub other_modules: Vec<PathBuf>,
    /// What the module is granted.
    pub grants: Arc<GrantTable>,
    /// The policies of its tasks.
    pub policies: Arc<PolicyTable>,
    /// The options of the servers that are started, by which they grant the same and have the same policies.
    pub server_options: Vec<String>,
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
    /// Number of samples of each case.
    pub rounds: usize,
    /// The duration of each sample.
    pub window: Duration,
}

/// The error of a failed measurement.
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
    /// A request got no reply.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A socket could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A process could not be started, or did not become ready.
    #[error("cannot start {process}: {reason}")]
    Start {
        /// The process.
        process: &'static str,
        /// The reason.
        reason: String,
    },
    /// A result is wrong.
    #[error("wrong result: {TASK}({x}, 1) returned {actual}")]
    WrongResult {
        /// The argument.
        x: u64,
        /// The actual result.
        actual: String,
    },
    /// Some replies through the protocol of the original are wrong or missing.
    #[error("{count} of our replies were wrong or missing")]
    WrongReplies {
        /// Their number.
        count: u32,
    },
}

/// Runs the measurements. Before each sample, calls `on_progress` with its name, and the numbers of finished and of
/// all samples.
///
/// # Errors
/// [`BenchError`] when a measurement fails. A bound that is not met is not an error.
pub async fn run(plan: &Plan, on_progress: impl Fn(&str, usize, usize)) -> Result<Vec<Measurement>, BenchError> {
    let steps = match (&plan.control_plane_address, &plan.original) {
        (Some(_), _) => REMOTE_STEPS,
        (None, None) => LATENCY_STEPS + RATE_STEPS,
        (None, Some(_)) => LATENCY_STEPS + RATE_STEPS + ORIGINAL_STEPS,
    };
    let total = (steps + MODULE_STEPS * plan.other_modules.len()) * plan.rounds;
    let finished = Cell::new(0);
    let step = |name: &str| on_progress(name, finished.replace(finished.get() + 1), total);
    match &plan.control_plane_address {
        Some(address) => run_remote(plan, address, step).await,
        None => run_local(plan, step).await,
    }
}

/// Number of samples in each round of a running cluster.
const REMOTE_STEPS: usize = 3;
/// Number of latency samples in each round.
const LATENCY_STEPS: usize = 3;
/// Number of rate samples in each round.
const RATE_STEPS: usize = 4;
/// Number of samples in each round of a further module.
const MODULE_STEPS: usize = 2;
/// Number of samples in each round of the comparison with the original. Each is of the original and of this program.
const ORIGINAL_STEPS: usize = 2;

/// Measures a running cluster. The number of its slots is unknown, so there is no baseline. Calls `step` before each
/// sample.
async fn run_remote(plan: &Plan, address: &Address, step: impl Fn(&str)) -> Result<Vec<Measurement>, BenchError> {
    let client = Client::builder().control_plane_address(address.clone()).serialization_format(plan.format).build();
    client.start().await?;
    let mut rounds = Rounds::default();
    for _ in 0..plan.rounds {
        step("sequential");
        rounds.through_subworker.push(p50_micros(&load::sequential(&client, plan.window).await?));
        step("64 in flight");
        rounds.in_flight.push(load::in_flight(&client, plan.window).await?);
        step("bulk");
        rounds.bulk.push(load::bulk(&client, plan.bulk).await?);
    }
    client.stop();
    Ok(rounds.summarize_remote(plan))
}

/// Starts clusters and measures them. Calls `step` before each sample.
async fn run_local(plan: &Plan, step: impl Fn(&str)) -> Result<Vec<Measurement>, BenchError> {
    let runtime = baselines::RuntimeAlone::load(plan)?;
    let echo = cluster::Echo::start()?;
    let single_process = cluster::Cluster::start(plan, cluster::Shape::SingleProcess).await?;
    let with_subworker = cluster::Cluster::start(plan, cluster::Shape::WithSubworker).await?;
    // Measured while idle, before the first task.
    let memory = with_subworker.memory();
    let mut rounds = Rounds::default();
    // Latency first: after a load, processors wake up faster for a while.
    for _ in 0..plan.rounds {
        step("transport only");
        rounds.transport_only.push(p50_micros(&baselines::transport_sequential(echo.caller(), plan.window).await?));
        step("sequential, control plane's own slot");
        rounds.own_slot.push(p50_micros(&load::sequential(&single_process.client, plan.window).await?));
        step("sequential, through a subworker");
        rounds.through_subworker.push(p50_micros(&load::sequential(&with_subworker.client, plan.window).await?));
    }
    for _ in 0..plan.rounds {
        step("transport only, 64 in flight");
        rounds.transport_in_flight.push(baselines::transport_in_flight(echo.caller(), plan.window).await?);
        step("64 in flight, through a subworker");
        rounds.in_flight.push(load::in_flight(&with_subworker.client, plan.window).await?);
        step("runtime alone");
        rounds.runtime_alone.push(runtime.per_second(plan));
        step("bulk, through a subworker");
        rounds.bulk.push(load::bulk(&with_subworker.client, plan.bulk).await?);
    }
    let mut measurements = rounds.summarize_local(plan, memory);
    drop(with_subworker);
    for module in &plan.other_modules {
        measurements.extend(measure_module(&Plan { module: module.clone(), ..plan.clone() }, &step).await?);
    }
    if let Some(environment) = &plan.original {
        measurements.extend(compare_with_original(plan, environment, &single_process, step).await?);
    }
    Ok(measurements)
}

/// Measures the rate of attempts of a further module.
async fn measure_module(plan: &Plan, step: &impl Fn(&str)) -> Result<[Measurement; 2], BenchError> {
    let name = module_name(&plan.module);
    let runtime = baselines::RuntimeAlone::load(plan)?;
    let cluster = cluster::Cluster::start(plan, cluster::Shape::WithSubworker).await?;
    let mut rounds = ModuleRounds::default();
    for _ in 0..plan.rounds {
        step(&format!("{name}, runtime alone"));
        rounds.runtime_alone.push(runtime.per_second(plan));
        step(&format!("{name}, through a subworker"));
        rounds.in_flight.push(load::in_flight(&cluster.client, plan.window).await?);
    }
    Ok(rounds.summarize(&name, plan.slots))
}

/// Compares the original with this program, both through the original's protocol.
async fn compare_with_original(
    plan: &Plan,
    environment: &Path,
    single_process: &cluster::Cluster,
    step: impl Fn(&str),
) -> Result<Vec<Measurement>, BenchError> {
    let original = original::Original::start(environment, plan.slots).await?;
    let address = single_process.base.plus(original::NORMAL_OFFSET).map_err(ClientError::from)?;
    let ours = Nng.connect(&address.to_string())?;
    let (mut rounds, mut our_wrong) = (OriginalRounds::default(), 0);
    for _ in 0..plan.rounds {
        step("sequential, the original and this program");
        rounds.original_times.push(p50_micros(&original::sequential(&*original.caller, plan.window).await?));
        rounds.our_times.push(p50_micros(&original::sequential(&*ours, plan.window).await?));
        step("64 in flight, the original and this program");
        rounds.original_rates.push(original::in_flight(&*original.caller, plan.window).await?.0);
        let (rate, wrong) = original::in_flight(&*ours, plan.window).await?;
        rounds.our_rates.push(rate);
        our_wrong += wrong;
    }
    if our_wrong > 0 {
        return Err(BenchError::WrongReplies { count: our_wrong });
    }
    Ok(rounds.summarize())
}
