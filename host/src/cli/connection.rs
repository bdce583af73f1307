//! The options that all client commands share, and the client that they describe.

use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::{
    CliError, CommandResult, EXIT_FAILURE, complete,
    values::{parse_base_address, parse_bool, parse_from_str, parse_positive_duration},
    waiting,
};
use crate::{client::Client, config::Address, shutdown::StopSignals, system, task::SerializationFormat};

/// The variable of `--discovery-address`.
pub(super) const DISCOVERY_VARIABLE: &str = "FASTWORKER_DISCOVERY_ADDRESS";
/// The variable of `--control-plane-address`.
pub(super) const ADDRESS_VARIABLE: &str = "FASTWORKER_CONTROL_PLANE_ADDRESS";

/// The address of the control plane, and how to communicate with it.
#[derive(Args, Debug)]
pub(super) struct ConnectionOptions {
    /// Find the control plane through its announcements at this address
    #[arg(long, env = DISCOVERY_VARIABLE, default_value = crate::config::DISCOVERY_ADDRESS, value_parser = parse_from_str::<Address>,
          value_name = "ADDRESS")]
    pub(super) discovery_address: Address,
    /// Connect to the control plane at this base address only, without discovery
    #[arg(long, env = ADDRESS_VARIABLE, value_parser = parse_base_address, value_name = "ADDRESS")]
    pub(super) control_plane_address: Option<Address>,
    /// Maximum time to wait
    #[arg(long, env = "FASTWORKER_TIMEOUT", default_value = "30s", value_parser = parse_positive_duration,
          value_name = "DURATION")]
    pub(super) timeout: Duration,
    /// Message format: json or postcard
    #[arg(long, env = "FASTWORKER_SERIALIZATION_FORMAT", default_value = "json", value_name = "FORMAT",
          value_parser = parse_from_str::<SerializationFormat>, add = ArgValueCandidates::new(complete::formats))]
    pub(super) serialization_format: SerializationFormat,
    /// Print JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = parse_bool)]
    pub(super) json: bool,
}

impl ConnectionOptions {
    /// The client for these options, not started.
    pub(super) fn client(&self) -> Client {
        let builder = Client::builder()
            .discovery_address(self.discovery_address.clone())
            .serialization_format(self.serialization_format)
            .timeout(self.timeout);
        match &self.control_plane_address {
            Some(address) => builder.control_plane_address(address.clone()).build(),
            None => builder.build(),
        }
    }

    /// Runs `work` with a started client. A signal interrupts it.
    pub(super) fn run(&self, work: impl AsyncFnOnce(&Client) -> CommandResult) -> CommandResult {
        let client = self.client();
        block_on(async {
            let address = self.control_plane_address.as_ref();
            waiting::start_client_with_notes(&client, address, &self.discovery_address, self.timeout).await?;
            let result = work(&client).await;
            client.stop();
            result
        })
    }
}

/// Runs asynchronous work on this thread until it completes or a signal interrupts it.
pub(super) fn block_on(work: impl Future<Output = CommandResult>) -> CommandResult {
    let cannot_start = |error| CliError::new(EXIT_FAILURE, format!("cannot start: {}", system::explain(&error)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot_start)?;
    runtime.block_on(async {
        let mut stops = StopSignals::listen().map_err(cannot_start)?;
        tokio::select! {
            result = work => result,
            () = stops.next() => Err(CliError::interrupted()),
        }
    })
}
