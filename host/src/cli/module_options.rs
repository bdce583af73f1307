//! The options of a server's task modules.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use super::{
    CliError, complete,
    config_file::{ConfigFile, ConfigOptions},
    grant_options::GrantOptions,
    limit_options::LimitOptions,
    values::{parse_bool, parse_duration, parse_number, parse_positive_duration},
};
use crate::{runtime::grants::GrantTable, subworker::ModulesConfig};

/// The task modules of a worker, and how they are compiled and reloaded.
#[derive(Args, Debug)]
#[command(next_help_heading = "Task modules")]
#[allow(clippy::struct_field_names, reason = "the fields are named like the options")]
pub(super) struct ModuleOptions {
    /// Load these task modules: .wasm files, folders or glob patterns. Takes several values, and can be repeated
    #[arg(long, env = "FASTWORKER_TASK_MODULES", value_name = "PATH", num_args = 1.., value_delimiter = ',',
          add = ArgValueCompleter::new(complete::modules()))]
    task_modules: Vec<String>,
    /// Run at most this many tasks concurrently. With 0, a control plane only passes its modules to subworkers
    /// [default: the number of cores]
    #[arg(long, env = "FASTWORKER_CONCURRENCY", value_name = "SLOTS", value_parser = parse_number::<u16, 0, 1024>)]
    concurrency: Option<u16>,
    #[command(flatten)]
    compile: CompileOptions,
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
    #[command(flatten)]
    limits: LimitOptions,
}

/// How modules are compiled, and where their code is cached.
#[derive(Args, Debug)]
pub(super) struct CompileOptions {
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
}

impl CompileOptions {
    /// A configuration with these options.
    pub(super) fn apply(&self, config: ModulesConfig) -> ModulesConfig {
        ModulesConfig {
            cache_dir: self.cache_dir.clone().or_else(|| config.cache_dir.clone()),
            compile_memory_max: self.compile_memory << 20,
            compile_timeout: self.compile_timeout,
            ..config
        }
    }
}

impl ModuleOptions {
    /// What the options and the file grant.
    ///
    /// # Errors
    /// Grants that contradict each other, or that this host does not have.
    pub(super) fn grants(&self, file: &ConfigFile) -> Result<GrantTable, CliError> {
        self.grants.table(file)
    }

    /// Whether files or folders of modules are given.
    pub(super) fn has_sources(&self) -> bool {
        !self.task_modules.is_empty()
    }

    /// The configuration of a worker with these options, the policies of this file, and these grants.
    pub(super) fn config(&self, file: &ConfigFile, grants: GrantTable) -> ModulesConfig {
        let defaults = ModulesConfig::default();
        self.compile.apply(ModulesConfig {
            sources: self.task_modules.clone(),
            concurrency: self.concurrency.map_or(defaults.concurrency, usize::from),
            reload: !self.no_reload,
            module_grace: self.module_grace,
            force_reload: self.force_reload,
            grants: Arc::new(grants),
            policies: Arc::new(file.policies.clone()),
            limits: self.limits.limits(),
            stack_max: self.limits.max_stack(),
            ..defaults
        })
    }
}
