//! `fastworker bench`

use std::{env, path::PathBuf, sync::Arc, thread, time::Duration};

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{
    CliError, CommandResult, EXIT_FAILURE, EXIT_NOT_FOUND, EXIT_USAGE, block_on, complete,
    config_file::{ConfigFile, ConfigOptions},
    grant_options::GrantOptions,
    interruption_handler, parse_base_address, parse_bool, parse_from_str, parse_number, parse_positive_duration,
    render,
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
pub(super) struct BenchCommand {
    /// Modules with a task add(x, y), each of which has its own cluster. All cases are measured with the first one, and
    /// the rate of attempts with each other one [default: arithmetic.wasm of the examples, if built]
    #[arg(long, env = "FASTWORKER_BENCH_TASK_MODULES", value_name = "PATH", num_args = 1.., value_delimiter = ',',
          conflicts_with = "control_plane_address")]
    task_modules: Vec<PathBuf>,
    /// Measure the running cluster at this base address instead of starting one. It must have a task `add(x, y)`
    #[arg(long, env = "FASTWORKER_BENCH_CONTROL_PLANE_ADDRESS", value_name = "ADDRESS", value_parser = parse_base_address)]
    control_plane_address: Option<Address>,
    /// Also measure the Python package fastworker, which is installed in this virtual environment
    #[arg(long, env = "FASTWORKER_BENCH_ORIGINAL", value_name = "FOLDER", conflicts_with = "control_plane_address")]
    original: Option<PathBuf>,
    /// Message format: json or postcard
    #[arg(long, env = "FASTWORKER_SERIALIZATION_FORMAT", default_value = "json", value_name = "FORMAT",
          value_parser = parse_from_str::<SerializationFormat>, add = ArgValueCandidates::new(complete::formats))]
    serialization_format: SerializationFormat,
    /// Slots of each worker [default: the number of cores]
    #[arg(long, env = "FASTWORKER_BENCH_CONCURRENCY", value_name = "SLOTS", value_parser = parse_number::<u16, 1, 1024>,
          conflicts_with = "control_plane_address")]
    concurrency: Option<u16>,
    /// Number of tasks in one bulk submission
    #[arg(long, env = "FASTWORKER_BULK", default_value = "100000", value_name = "COUNT",
          value_parser = parse_number::<u32, 1, { BULK_MAX }>)]
    bulk: u32,
    /// Number of times that each case is measured
    #[arg(long, env = "FASTWORKER_ROUNDS", default_value = "10", value_name = "COUNT",
          value_parser = parse_number::<u32, 1, { ROUNDS_MAX }>)]
    rounds: u32,
    /// Duration of each measurement
    #[arg(long, env = "FASTWORKER_TURN", default_value = "300ms", value_parser = parse_positive_duration, value_name = "DURATION")]
    turn: Duration,
    #[command(flatten)]
    config: ConfigOptions,
    /// Print JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = parse_bool)]
    json: bool,
    /// Run as the echo server of another `bench` process
    #[arg(long, env = "FASTWORKER_ECHO", hide = true, value_parser = parse_from_str::<Address>)]
    echo: Option<Address>,
    #[command(flatten)]
    grants: GrantOptions,
}

impl BenchCommand {
    pub(super) fn run(self, file: &ConfigFile) -> CommandResult {
        if let Some(address) = &self.echo {
            return serve_echo(address);
        }
        let plan = self.plan(file)?;
        if let Some(address) = &plan.control_plane_address {
            render::print_note(&format!("measuring the cluster at {address}"));
        }
        let bar = render::ProgressIndicator::new();
        block_on(async {
            let measurements = bench::run(&plan, |step, done, total| bar.show(step, done, total)).await;
            bar.finish();
            render::print_measurements(&measurements?, &plan, self.json)
        })
    }

    fn plan(&self, file: &ConfigFile) -> Result<Plan, CliError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Ok(Plan {
            other_modules: self.task_modules.iter().skip(1).cloned().collect(),
            module: match (self.task_modules.first(), &self.control_plane_address) {
                (Some(module), _) => module.clone(),
                // The running cluster has its own modules.
                (None, Some(_)) => PathBuf::new(),
                (None, None) => example_module()?,
            },
            grants: Arc::new(self.grants.table(file)?),
            policies: Arc::new(file.policies.clone()),
            server_options: self.config.typed().into_iter().chain(self.grants.typed()).collect(),
            control_plane_address: self.control_plane_address.clone(),
            format: self.serialization_format,
            original: self.original.clone(),
            slots: self.concurrency.map_or(cores, usize::from),
            bulk: self.bulk as usize,
            rounds: self.rounds as usize,
            window: self.turn,
        })
    }
}

/// Finds the example module that `scripts/build-tasks` builds.
fn example_module() -> Result<PathBuf, CliError> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let next_to_program = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.to_owned()));
    let modules =
        [Some(target), next_to_program].into_iter().flatten().map(|folder| folder.join("tasks/arithmetic.wasm"));
    modules.into_iter().find(|module| module.is_file()).ok_or_else(|| {
        CliError::new(EXIT_NOT_FOUND, "there is no module to measure with").hint(
            "set --task-modules to a module with a task add(x, y); in a clone, scripts/build-tasks arithmetic builds one",
        )
    })
}

fn serve_echo(address: &Address) -> CommandResult {
    let _server = bench::echo(&address.to_string()).map_err(|error| CliError::new(EXIT_FAILURE, error))?;
    render::print_ready("echo", address, None, None, None)?;
    let mut signals = crate::shutdown::Signals::listen(interruption_handler("interrupted", false))
        .map_err(|error| CliError::new(EXIT_FAILURE, error.to_string()))?;
    signals.mark_ready();
    signals.wait();
    Ok(0)
}

impl From<BenchError> for CliError {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Modules(error) => error.into(),
            BenchError::Client(error) => error.into(),
            BenchError::NoTask(_) => {
                Self::new(EXIT_USAGE, error).hint("set --task-modules to a module with a task add(x, y)")
            }
            _ => Self::new(EXIT_FAILURE, error),
        }
    }
}
