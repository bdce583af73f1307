//! `fastworker listen`

use clap::Args;

use super::{CliError, CommandResult, EXIT_FAILURE, block_on, parse_bool, parse_number, render};
use crate::client::Listener;

#[derive(Args, Debug)]
pub(super) struct ListenCommand {
    /// Address to listen on: the one that tasks are submitted with as --callback. Port 0 selects any free port
    #[arg(env = "FASTWORKER_LISTEN_ADDRESS", value_name = "ADDRESS")]
    address: String,
    /// Exit after this many callbacks
    #[arg(long, env = "FASTWORKER_LISTEN_COUNT", value_name = "COUNT", value_parser = parse_number::<u64, 1, { u64::MAX }>)]
    count: Option<u64>,
    /// Print each callback as a line of JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = parse_bool)]
    json: bool,
}

impl ListenCommand {
    pub(super) fn run(self) -> CommandResult {
        block_on(async {
            let mut listener = Listener::bind(&self.address)?;
            render::print_listening(listener.address());
            let mut remaining = self.count.unwrap_or(u64::MAX);
            while remaining > 0 {
                match listener.next().await {
                    Some(Ok(message)) => render::print_callback(&message, self.json)?,
                    Some(Err(error)) => {
                        render::print_warning(&error);
                        continue;
                    }
                    None => return Err(CliError::new(EXIT_FAILURE, "the listening socket has failed")),
                }
                remaining -= 1;
            }
            Ok(0)
        })
    }
}
