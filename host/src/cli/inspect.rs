//! `fastworker inspect`

use std::{path::PathBuf, sync::Arc};

use clap::{Args, ValueHint};

use super::{
    CommandResult, EXIT_USAGE,
    config_file::{ConfigFile, ConfigOptions},
    grant_options::GrantOptions,
    parse_bool, render,
};
use crate::subworker::ModulesConfig;

#[derive(Args, Debug)]
#[command(after_help = "Exit codes: 0 the module can be loaded, 2 it cannot, 5 there is no such file.")]
pub(super) struct InspectCommand {
    /// Module file
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Compile the module even if its code is in the cache, to measure that
    #[arg(long, env = "FASTWORKER_RECOMPILE", value_parser = parse_bool)]
    recompile: bool,
    #[command(flatten)]
    config: ConfigOptions,
    /// Print JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = parse_bool)]
    json: bool,
    #[command(flatten)]
    grants: GrantOptions,
}

impl InspectCommand {
    pub(super) fn run(self, file: &ConfigFile) -> CommandResult {
        let grants = Arc::new(self.grants.table(file)?);
        let defaults = ModulesConfig::default();
        let config = ModulesConfig {
            concurrency: 1,
            cache_dir: defaults.cache_dir.clone().filter(|_| !self.recompile),
            grants: Arc::clone(&grants),
            policies: Arc::new(file.policies.clone()),
            ..defaults
        };
        let inspection = config.inspect(&self.file)?;
        let code = if inspection.module.is_ok() { 0 } else { EXIT_USAGE };
        let grants = grants.of(&crate::runtime::module_name(&self.file));
        render::print_inspection(&self.file, &inspection, &grants, self.json)?;
        Ok(code)
    }
}
