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
Exits with 0 whenever the control plane answers, also if there is no worker: good for a health check. \
fastworker list shows what the workers have loaded.";

impl Workers {
    pub(super) fn run(self) -> Outcome {
        let json = self.connection.json;
        self.connection.run(async |client| render::crew(&client.list_tasks().await?, json))
    }
}
