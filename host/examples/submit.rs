//! Submits a task and prints its result.
//!
//! Needs a running control plane with a task named `add`, for example:
//! `fastworker control-plane --task-modules target/tasks/arithmetic.wasm`

use std::io::Write;

use fastworker::{client::Client, task::TaskPriority};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("FASTWORKER_CONTROL_PLANE_ADDRESS").unwrap_or("tcp://127.0.0.1:5555".into());
    let client = Client::builder().control_plane_address(address.parse()?).build();
    client.start().await?;

    // Waits for the result.
    let result = client.submit_task("add", (5, 3)).priority(TaskPriority::High).await?;
    writeln!(std::io::stdout(), "{}: {:?}", result.status, result.result)?;

    // Returns the id immediately, without waiting for the result.
    let id = client.delay("add", (20, 22)).await?;
    writeln!(std::io::stdout(), "submitted {id}")?;

    client.stop();
    Ok(())
}
