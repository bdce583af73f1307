//! `fastworker compile`

use std::{
    path::PathBuf,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::{
    CliError, CommandResult, EXIT_FAILURE, complete, interruption_handler, module_options::CompileOptions, parse_bool,
    render,
};
use crate::{
    runtime::{CachedModule, LOADS_MAX, LoadError, ModuleStore, Runtime},
    shutdown::Signals,
    subworker::ModulesConfig,
};

#[derive(Args, Debug)]
#[command(
    after_help = "The cache belongs to this version of fastworker and this kind of processor: a server with another one compiles its modules again. Exit codes: 0 all modules are in the cache, 1 some cannot be loaded, 5 no such file."
)]
pub(super) struct CompileCommand {
    /// Task modules: .wasm files, folders or glob patterns
    #[arg(value_name = "PATH", required = true, num_args = 1.., add = ArgValueCompleter::new(complete::modules()))]
    paths: Vec<String>,
    #[command(flatten)]
    compile: CompileOptions,
    /// Print the modules as JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = parse_bool)]
    json: bool,
}

impl CompileCommand {
    pub(super) fn run(self) -> CommandResult {
        // Kept until the end: without a call of `serve`, a signal ends the process.
        let _signals = Signals::listen(interruption_handler("interrupted", self.json))
            .map_err(|error| CliError::new(EXIT_FAILURE, format!("cannot listen for signals: {error}")))?;
        let config =
            self.compile.apply(ModulesConfig { sources: self.paths, concurrency: 1, ..ModulesConfig::default() });
        let Some(folder) = config.cache_dir.clone() else {
            return Err(CliError::new(EXIT_FAILURE, "there is no folder for compiled modules").hint("set --cache-dir"));
        };
        let (runtime, paths) = config.runtime_for(&config.sources)?;
        let store = config.store();
        let (mut cached, mut failed) = (Vec::new(), Vec::new());
        let progress = render::ProgressIndicator::new();
        progress.show("compiling", 0, paths.len());
        fill_cache(&runtime, &store, &paths, |index, result| {
            match result {
                Ok(module) => cached.push((index, module)),
                Err(error) => failed.push((index, error)),
            }
            progress.show("compiling", cached.len() + failed.len(), paths.len());
        });
        progress.finish();
        if let Some((_, module)) = cached.iter().find(|(_, module)| !module.is_cached) {
            let message = format!("the code of {} was not written to {}", module.info.name, folder.display());
            return Err(CliError::new(EXIT_FAILURE, message).hint("check that the folder is writable and not full"));
        }
        render::print_cached(cached, failed, &folder, self.json)
    }
}

/// Loads modules, several at a time, and passes each result on.
fn fill_cache(
    runtime: &Runtime,
    store: &ModuleStore,
    paths: &[PathBuf],
    mut on_result: impl FnMut(usize, Result<CachedModule, LoadError>),
) {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    let work = |sender: mpsc::Sender<_>| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(index) else { return };
            let result = runtime.fill_cache(path).map(|module| {
                // A worker that takes it from its control plane finds it here.
                store.keep(&module.content, &module.bytes);
                CachedModule { bytes: Vec::new(), ..module }
            });
            if sender.send((index, result)).is_err() {
                return;
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(LOADS_MAX).min(paths.len());
    thread::scope(|scope| {
        for _ in 0..threads {
            let sender = sender.clone();
            scope.spawn(|| work(sender));
        }
        drop(sender);
        for (index, result) in &results {
            on_result(index, result);
        }
    });
}
