//! `fastworker workers`

use clap::Args;

use super::{CommandResult, ConnectionOptions, render};

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct WorkersCommand {
    #[command(flatten)]
    connection: ConnectionOptions,
}

const AFTER_HELP: &str = "\
Exits with 0 if the control plane replies, even if there are no workers; usable as a health check. \
fastworker list shows what the workers have loaded.";

impl WorkersCommand {
    pub(super) fn run(self) -> CommandResult {
        let json = self.connection.json;
        self.connection.run(async |client| render::print_workers(&client.list_tasks().await?, json))
    }
}
