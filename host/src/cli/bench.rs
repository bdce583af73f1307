//! `fastworker bench`

use std::{env, path::PathBuf, thread, time::Duration};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{
    Failure, NOT_FOUND, Outcome, TASK_FAILED, WRONG_USAGE, base_address, block_on, complete, duration_above_zero,
    named, number, render, report_interrupted, switch,
};
use crate::{
    bench::{self, BenchError, Plan},
    config::Address,
    task::SerializationFormat,
};

/// Maximum number of tasks in one bulk, which is the control plane's limit on unfinished tasks.
const BULK_MAX: u64 = 1_000_000;
/// Maximum number of rounds.
const ROUNDS_MAX: u64 = 10_000;

#[derive(Args, Debug)]
pub(super) struct Bench {
    /// Module with a task add(x, y) [default: arithmetic.wasm of the examples, if built]
    #[arg(long, env = "FASTWORKER_BENCH_TASK_MODULES", value_name = "PATH", conflicts_with = "control_plane_address")]
    task_modules: Option<PathBuf>,
    /// Measure the running cluster at this base address instead of starting one. It must have a task `add(x, y)`
    #[arg(long, env = "FASTWORKER_BENCH_CONTROL_PLANE_ADDRESS", value_name = "ADDRESS", value_parser = base_address)]
    control_plane_address: Option<Address>,
    /// Also measure the Python package fastworker, which is installed in this virtual environment
    #[arg(long, env = "FASTWORKER_BENCH_ORIGINAL", value_name = "FOLDER", conflicts_with = "control_plane_address")]
    original: Option<PathBuf>,
    /// Message format: json or postcard
    #[arg(long, env = "FASTWORKER_SERIALIZATION_FORMAT", default_value = "json", value_name = "FORMAT",
          value_parser = named::<SerializationFormat>, add = ArgValueCandidates::new(complete::formats))]
    serialization_format: SerializationFormat,
    /// Slots of each worker [default: the number of cores]
    #[arg(long, env = "FASTWORKER_BENCH_CONCURRENCY", value_name = "SLOTS", value_parser = number::<u16, 1, 1024>,
          conflicts_with = "control_plane_address")]
    concurrency: Option<u16>,
    /// Number of tasks in one bulk submission
    #[arg(long, env = "FASTWORKER_BULK", default_value = "100000", value_name = "COUNT",
          value_parser = number::<u32, 1, { BULK_MAX }>)]
    bulk: u32,
    /// Number of times that each case is measured
    #[arg(long, env = "FASTWORKER_ROUNDS", default_value = "10", value_name = "COUNT",
          value_parser = number::<u32, 1, { ROUNDS_MAX }>)]
    rounds: u32,
    /// Duration of each measurement
    #[arg(long, env = "FASTWORKER_TURN", default_value = "300ms", value_parser = duration_above_zero, value_name = "DURATION")]
    turn: Duration,
    /// Print JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = switch)]
    json: bool,
    /// Run as the echo server of another `bench` process
    #[arg(long, env = "FASTWORKER_ECHO", hide = true, value_parser = named::<Address>)]
    echo: Option<Address>,
}

impl Bench {
    pub(super) fn run(self) -> Outcome {
        if let Some(address) = &self.echo {
            return serve_echo(address);
        }
        let plan = self.plan()?;
        if let Some(address) = &plan.control_plane_address {
            render::note(&format!("measuring the cluster at {address}"));
        }
        let bar = render::ProgressIndicator::new();
        block_on(async {
            let rows = bench::run(&plan, |what, done, all| bar.show(what, done, all)).await;
            bar.finish();
            render::bench(&rows?, &plan, self.json)
        })
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Ok(Plan {
            module: match (&self.task_modules, &self.control_plane_address) {
                (Some(module), _) => module.clone(),
                // The running cluster has its own modules.
                (None, Some(_)) => PathBuf::new(),
                (None, None) => example()?,
            },
            control_plane_address: self.control_plane_address.clone(),
            format: self.serialization_format,
            original: self.original.clone(),
            slots: self.concurrency.map_or(cores, usize::from),
            bulk: self.bulk as usize,
            rounds: self.rounds as usize,
            turn: self.turn,
        })
    }
}

/// Finds the example module where `scripts/build-tasks` puts it.
fn example() -> Result<PathBuf, Failure> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let next_to_program = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.to_owned()));
    let modules =
        [Some(target), next_to_program].into_iter().flatten().map(|folder| folder.join("tasks/arithmetic.wasm"));
    modules.into_iter().find(|module| module.is_file()).ok_or_else(|| {
        Failure::new(NOT_FOUND, "there is no module to measure with").hint(
            "set --task-modules to a module with a task add(x, y); in a clone, scripts/build-tasks arithmetic builds one",
        )
    })
}

fn serve_echo(address: &Address) -> Outcome {
    let _server = bench::echo(&address.to_string()).map_err(|error| Failure::new(TASK_FAILED, error))?;
    render::ready("echo", address, None, None, None)?;
    let mut signals = crate::shutdown::Signals::listen(report_interrupted("interrupted", false))
        .map_err(|error| Failure::new(TASK_FAILED, error.to_string()))?;
    signals.mark_ready();
    signals.wait();
    Ok(0)
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Modules(error) => error.into(),
            BenchError::Client(error) => error.into(),
            BenchError::NoTask(_) => {
                Self::new(WRONG_USAGE, error).hint("set --task-modules to a module with a task add(x, y)")
            }
            _ => Self::new(TASK_FAILED, error),
        }
    }
}
