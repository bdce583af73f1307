//! The streams of a TCP connection, whose bytes count.

use std::{mem, sync::Arc};

use bytes::Bytes;
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult,
    pipe::{ClosedInputStream, SinkOutputStream},
};

use super::{network::Network, refusal::Excess};

/// Counts the bytes of the streams of a connection from now on.
pub(super) fn count(
    table: &mut ResourceTable,
    network: &Arc<Network>,
    input: &Resource<DynInputStream>,
    output: &Resource<DynOutputStream>,
) -> wasmtime::Result<()> {
    let input = table.get_mut(input)?;
    let stream = mem::replace(input, Box::new(ClosedInputStream));
    *input = Box::new(CountedInput { stream, network: Arc::clone(network) });
    let output = table.get_mut(output)?;
    let stream = mem::replace(output, Box::new(SinkOutputStream));
    *output = Box::new(CountedOutput { stream, network: Arc::clone(network) });
    Ok(())
}

fn failed(excess: Excess) -> StreamError {
    StreamError::LastOperationFailed(excess.into())
}

struct CountedInput {
    stream: DynInputStream,
    network: Arc<Network>,
}

#[wasmtime_wasi::async_trait]
impl Pollable for CountedInput {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[wasmtime_wasi::async_trait]
impl InputStream for CountedInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let bytes = self.stream.read(size)?;
        self.network.add_received(bytes.len()).map_err(failed)?;
        Ok(bytes)
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

struct CountedOutput {
    stream: DynOutputStream,
    network: Arc<Network>,
}

#[wasmtime_wasi::async_trait]
impl Pollable for CountedOutput {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for CountedOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.network.add_sent(bytes.len()).map_err(failed)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream.check_write()
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}
