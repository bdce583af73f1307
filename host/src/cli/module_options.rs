//! The options of a server's task modules.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use super::{
    CliError, complete,
    config_file::{ConfigFile, ConfigOptions},
    grant_options::GrantOptions,
    values::{parse_bool, parse_duration, parse_number, parse_positive_duration},
};
use crate::subworker::ModulesConfig;

/// The task modules of a worker, and how they are compiled and reloaded.
#[derive(Args, Debug)]
#[allow(clippy::struct_field_names, reason = "the fields are named like the options")]
pub(super) struct ModuleOptions {
    /// Load these task modules: .wasm files, folders or glob patterns. Takes several values, and can be repeated
    #[arg(long, env = "FASTWORKER_TASK_MODULES", value_name = "PATH", num_args = 1.., value_delimiter = ',',
          add = ArgValueCompleter::new(complete::modules()))]
    task_modules: Vec<String>,
    /// Run at most this many tasks concurrently [default: the number of cores]
    #[arg(long, env = "FASTWORKER_CONCURRENCY", value_name = "SLOTS", value_parser = parse_number::<u16, 1, 1024>)]
    concurrency: Option<u16>,
    /// Folder for compiled modules [default: fastworker/compiled in your cache folder]
    #[arg(long, env = "FASTWORKER_CACHE_DIR", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    cache_dir: Option<PathBuf>,
    /// Maximum memory for compiling one module, in MiB
    #[arg(long, env = "FASTWORKER_COMPILE_MEMORY", default_value = "2048", value_name = "MIB",
          value_parser = parse_number::<u64, 64, { 1 << 20 }>)]
    compile_memory: u64,
    /// Maximum CPU time for compiling one module
    #[arg(long, env = "FASTWORKER_COMPILE_TIMEOUT", default_value = "2m", value_name = "DURATION",
          value_parser = parse_positive_duration)]
    compile_timeout: Duration,
    /// Unload a module after its file has been missing for this long
    #[arg(long, env = "FASTWORKER_MODULE_GRACE", default_value = "5s", value_parser = parse_duration, value_name = "DURATION")]
    module_grace: Duration,
    /// Reload a module even if its new version does not accept the arguments of waiting tasks
    #[arg(long, env = "FASTWORKER_FORCE_RELOAD", value_parser = parse_bool)]
    force_reload: bool,
    /// Do not reload modules when their files change
    #[arg(long, env = "FASTWORKER_NO_RELOAD", value_parser = parse_bool)]
    no_reload: bool,
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    grants: GrantOptions,
}

impl ModuleOptions {
    /// The configuration of a worker with these options and this file.
    ///
    /// # Errors
    /// Grants that contradict each other, or that this host does not have.
    pub(super) fn config(&self, file: &ConfigFile) -> Result<ModulesConfig, CliError> {
        let defaults = ModulesConfig::default();
        Ok(ModulesConfig {
            sources: self.task_modules.clone(),
            concurrency: self.concurrency.map_or(defaults.concurrency, usize::from),
            cache_dir: self.cache_dir.clone().or_else(|| defaults.cache_dir.clone()),
            reload: !self.no_reload,
            module_grace: self.module_grace,
            force_reload: self.force_reload,
            compile_memory_max: self.compile_memory << 20,
            compile_timeout: self.compile_timeout,
            grants: Arc::new(self.grants.table(file)?),
            policies: Arc::new(file.policies.clone()),
            ..defaults
        })
    }
}
