//! WASI 0.2 with nothing granted.
//!
//! Apart because it is what a guest can reach beside the contract: clocks, randomness, and
//! output that goes to the task's log. No files, no network, no environment, no arguments; these
//! interfaces exist, and have nothing to give.
//!
//! What costs is made when it is first asked for. Environment, standard streams and randomness
//! are our own and cost nothing before; everything else comes from wasmtime-wasi's context,
//! which most attempts never need.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rand::Rng as _;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::{
    WasiCtx, WasiCtxView, WasiView,
    p2::{
        DynInputStream, DynOutputStream, OutputStream, Pollable, StreamError, StreamResult,
        bindings::{cli, random},
        pipe::ClosedInputStream,
    },
};

use super::{
    call::{Attempt, HANDLES_MAX},
    output::{Flood, Output, Stream},
};
use crate::lock::lock;

/// Entries of the table of resources: a pollable has two, its own and what it waits for. So a guest reaches
/// its bound of handles first, whatever they are of.
const RESOURCES_MAX: usize = 2 * HANDLES_MAX + 100;
/// Random bytes that one call may ask for.
const RANDOM_MAX: u64 = 1 << 20;
/// Bytes that a printing stream takes at once.
const WRITE_MAX: usize = 64 << 10;

/// What an attempt has of WASI.
pub(super) struct Wasi {
    table: ResourceTable,
    /// Made when first needed.
    context: Option<Box<WasiCtx>>,
}

impl Wasi {
    pub(super) fn new() -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self { table, context: None }
    }
}

impl WasiView for Attempt {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = &mut self.wasi;
        WasiCtxView { ctx: wasi.context.get_or_insert_with(Box::default), table: &mut wasi.table }
    }
}

/// Lets modules that never wait reach WASI.
pub(super) fn add_to_linker_sync(linker: &mut Linker<Attempt>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    put_ours_over(linker)
}

/// Lets modules that wait reach WASI.
pub(super) fn add_to_linker_async(linker: &mut Linker<Attempt>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    put_ours_over(linker)
}

fn put_ours_over(linker: &mut Linker<Attempt>) -> wasmtime::Result<()> {
    type Own = HasSelf<Attempt>;
    linker.allow_shadowing(true);
    cli::environment::add_to_linker::<_, Own>(linker, |attempt| attempt)?;
    cli::stdin::add_to_linker::<_, Own>(linker, |attempt| attempt)?;
    cli::stdout::add_to_linker::<_, Own>(linker, |attempt| attempt)?;
    cli::stderr::add_to_linker::<_, Own>(linker, |attempt| attempt)?;
    random::random::add_to_linker::<_, Own>(linker, |attempt| attempt)?;
    random::insecure::add_to_linker::<_, Own>(linker, |attempt| attempt)?;
    random::insecure_seed::add_to_linker::<_, Own>(linker, |attempt| attempt)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl cli::environment::Host for Attempt {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl cli::stdin::Host for Attempt {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let stream: DynInputStream = Box::new(ClosedInputStream);
        Ok(self.wasi.table.push(stream)?)
    }
}

impl cli::stdout::Host for Attempt {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.printer(Stream::Stdout)
    }
}

impl cli::stderr::Host for Attempt {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.printer(Stream::Stderr)
    }
}

impl Attempt {
    fn printer(&mut self, stream: Stream) -> wasmtime::Result<Resource<DynOutputStream>> {
        let printer: DynOutputStream = Box::new(Printer { output: self.output(), stream });
        Ok(self.wasi.table.push(printer)?)
    }
}

/// A stream whose lines go to the log of the task. Never blocks.
struct Printer {
    output: Arc<Mutex<Output>>,
    stream: Stream,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Printer {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Printer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut output = lock(&self.output);
        output.print(self.stream, &bytes).map_err(|flood: Flood| StreamError::Trap(flood.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_MAX)
    }
}

/// A guest asked for too many random bytes at once.
#[derive(Debug, thiserror::Error)]
#[error("asked for {0} random bytes at once, {RANDOM_MAX} are the most")]
struct TooRandom(u64);

fn random_bytes(count: u64) -> wasmtime::Result<Vec<u8>> {
    let length = usize::try_from(count).ok().filter(|_| count <= RANDOM_MAX).ok_or(TooRandom(count))?;
    let mut bytes = vec![0; length];
    rand::rng().fill_bytes(&mut bytes);
    Ok(bytes)
}

impl random::random::Host for Attempt {
    fn get_random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        random_bytes(count)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::rng().next_u64())
    }
}

impl random::insecure::Host for Attempt {
    fn get_insecure_random_bytes(&mut self, count: u64) -> wasmtime::Result<Vec<u8>> {
        random_bytes(count)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(rand::rng().next_u64())
    }
}

impl random::insecure_seed::Host for Attempt {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        let mut rng = rand::rng();
        Ok((rng.next_u64(), rng.next_u64()))
    }
}
