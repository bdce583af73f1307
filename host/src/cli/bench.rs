//! `fastworker bench`

use std::{env, path::PathBuf, thread, time::Duration};

use clap::{Args, builder::BoolishValueParser};

use super::{Failure, INTERRUPTED, NOT_FOUND, Outcome, TASK_FAILED, WRONG_USAGE, block_on, render, span};
use crate::{
    bench::{self, BenchError, Plan},
    config::Address,
    task::SerializationFormat,
};

#[derive(Args, Debug)]
pub(super) struct Bench {
    /// A module with a task add(x, y) [default: arithmetic.wasm of the examples, once they are built]
    #[arg(long, env = "FASTWORKER_TASK_MODULES", value_name = "PATH")]
    task_modules: Option<PathBuf>,
    /// Measure the cluster at this base address, instead of starting one
    #[arg(long, env = "FASTWORKER_CONTROL_PLANE_ADDRESS", value_name = "ADDRESS")]
    control_plane_address: Option<Address>,
    /// A Python environment with the original fastworker in it, to measure that, too
    #[arg(long, env = "FASTWORKER_ORIGINAL", value_name = "FOLDER", conflicts_with = "control_plane_address")]
    original: Option<PathBuf>,
    /// How messages are written: json or postcard
    #[arg(long, env = "FASTWORKER_SERIALIZATION_FORMAT", default_value = "json", value_name = "FORMAT")]
    serialization_format: SerializationFormat,
    /// Slots of each worker [default: the number of cores]
    #[arg(long, env = "FASTWORKER_CONCURRENCY", value_name = "SLOTS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: Option<u16>,
    /// Tasks in one bulk
    #[arg(long, env = "FASTWORKER_BULK", default_value_t = 100_000, value_name = "COUNT")]
    bulk: usize,
    /// How often each case is measured, in turns
    #[arg(long, env = "FASTWORKER_ROUNDS", default_value_t = 3, value_name = "COUNT")]
    rounds: usize,
    /// How long each turn takes
    #[arg(long, env = "FASTWORKER_TURN", default_value = "1s", value_parser = span, value_name = "SPAN")]
    turn: Duration,
    /// Print JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
    /// Be the raw server of another bench
    #[arg(long, env = "FASTWORKER_ECHO", hide = true)]
    echo: Option<Address>,
}

impl Bench {
    pub(super) fn run(self) -> Outcome {
        if let Some(address) = &self.echo {
            return serve_echo(address);
        }
        let plan = self.plan()?;
        let bar = render::Bar::new();
        block_on(async {
            let rows = bench::run(&plan, |what, done, all| bar.show(what, done, all)).await;
            bar.finish();
            render::bench(&rows?, &plan, self.json)
        })
    }

    fn plan(&self) -> Result<Plan, Failure> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Ok(Plan {
            module: self.task_modules.clone().map_or_else(example, Ok)?,
            control_plane_address: self.control_plane_address.clone(),
            format: self.serialization_format,
            original: self.original.clone(),
            slots: self.concurrency.map_or(cores, usize::from),
            bulk: self.bulk.max(1),
            rounds: self.rounds.max(1),
            turn: self.turn,
        })
    }
}

/// The example module, where `scripts/build-tasks` puts it.
fn example() -> Result<PathBuf, Failure> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let beside = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.to_owned()));
    let modules = [Some(target), beside].into_iter().flatten().map(|folder| folder.join("tasks/arithmetic.wasm"));
    modules.into_iter().find(|module| module.is_file()).ok_or_else(|| {
        Failure::new(NOT_FOUND, "no module to measure with: there is no target/tasks/arithmetic.wasm").hint(
            "build it with scripts/build-tasks arithmetic, or name a module with a task add(x, y) by --task-modules",
        )
    })
}

fn serve_echo(address: &Address) -> Outcome {
    let _server = bench::echo(&address.to_string()).map_err(|error| Failure::new(TASK_FAILED, error))?;
    render::ready("echo", address, None)?;
    let mut signals =
        crate::shutdown::Signals::listen(INTERRUPTED).map_err(|error| Failure::new(TASK_FAILED, error.to_string()))?;
    signals.serve();
    signals.first();
    Ok(0)
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Modules(error) => error.into(),
            BenchError::Client(error) => error.into(),
            BenchError::NoTask(_) => Self::new(WRONG_USAGE, error),
            _ => Self::new(TASK_FAILED, error),
        }
    }
}
