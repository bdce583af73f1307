//! `fastworker workers`

use clap::Args;

use super::{Connection, Outcome, render};

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Workers {
    #[command(flatten)]
    connection: Connection,
}

const AFTER_HELP: &str = "\
It exits with 0 if the control plane answers, even if there is no worker, and so can be a health check. \
fastworker list shows what the workers have loaded.";

impl Workers {
    pub(super) fn run(self) -> Outcome {
        let json = self.connection.json;
        self.connection.run(async |client| render::workers(&client.list_tasks().await?, json))
    }
}
