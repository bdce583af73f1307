//! WASI 0.2 and `wasi:http`.
//!
//! A guest has clocks, randomness, and output to the task's log. The interfaces for files, network, environment and
//! arguments always exist; what they give is the [reach](super::reach) of the module.
//!
//! Expensive resources are created on first use. Environment, standard streams and randomness are implemented here; the
//! rest comes from wasmtime-wasi's context, which most attempts never need.

use std::sync::Arc;

use rand::Rng as _;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::{
    WasiCtxView, WasiView,
    filesystem::WasiFilesystemView as _,
    p2::{
        DynInputStream, DynOutputStream,
        bindings::{
            cli,
            filesystem::{preopens, types::Descriptor},
            random,
        },
        pipe::ClosedInputStream,
    },
};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use super::{
    attempt::Attempt,
    output::Stream,
    reach::{self, HttpState},
};
use crate::system;

/// Maximum random bytes of one call.
const RANDOM_MAX: u64 = 1 << 20;

impl WasiView for Attempt {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        if self.wasi.context.is_none() {
            let reach = Arc::clone(&self.reach);
            let context = reach.context(|| Arc::clone(self.network()));
            // Reported when the guest asks for its folders.
            let context = context.map_err(|unavailable| self.wasi.folder_unavailable = Some(unavailable));
            self.wasi.context = Some(Box::new(context.unwrap_or_default()));
        }
        let wasi = &mut self.wasi;
        WasiCtxView { ctx: wasi.context.get_or_insert_default(), table: &mut wasi.table }
    }
}

impl WasiHttpView for Attempt {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        if self.wasi.http.is_none() {
            self.wasi.http = Some(Box::new(HttpState::new(Arc::clone(self.network()))));
        }
        let wasi = &mut self.wasi;
        let http = wasi.http.as_mut().expect("it was set above");
        WasiHttpCtxView { hooks: &mut http.hooks, table: &mut wasi.table, ctx: &mut http.context }
    }
}

/// Adds WASI for synchronous calls.
pub(super) fn add_to_linker_sync(linker: &mut Linker<Attempt>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    // For the types only: a module that can send requests is called async.
    wasmtime_wasi_http::p2::add_only_http_to_linker_sync(linker)?;
    add_own_interfaces(linker)
}

/// Adds WASI for async calls.
pub(super) fn add_to_linker_async(linker: &mut Linker<Attempt>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    reach::add_to_linker(linker)?;
    add_own_interfaces(linker)
}

fn add_own_interfaces(linker: &mut Linker<Attempt>) -> wasmtime::Result<()> {
    type Data = HasSelf<Attempt>;
    linker.allow_shadowing(true);
    cli::environment::add_to_linker::<_, Data>(linker, |attempt| attempt)?;
    cli::stdin::add_to_linker::<_, Data>(linker, |attempt| attempt)?;
    cli::stdout::add_to_linker::<_, Data>(linker, |attempt| attempt)?;
    cli::stderr::add_to_linker::<_, Data>(linker, |attempt| attempt)?;
    preopens::add_to_linker::<_, Data>(linker, |attempt| attempt)?;
    random::random::add_to_linker::<_, Data>(linker, |attempt| attempt)?;
    random::insecure::add_to_linker::<_, Data>(linker, |attempt| attempt)?;
    random::insecure_seed::add_to_linker::<_, Data>(linker, |attempt| attempt)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl cli::environment::Host for Attempt {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.reach.environment())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.wasi.program.as_ref().map(|program| program.args().to_vec()).unwrap_or_default())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl preopens::Host for Attempt {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let directories = preopens::Host::get_directories(&mut self.filesystem())?;
        match self.wasi.folder_unavailable.take() {
            Some(unavailable) => Err(unavailable.into()),
            None => Ok(directories),
        }
    }
}

impl cli::stdin::Host for Attempt {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let stream: DynInputStream = match &self.wasi.program {
            Some(program) => Box::new(program.stdin()),
            None => Box::new(ClosedInputStream),
        };
        Ok(self.wasi.table.push(stream)?)
    }
}

impl cli::stdout::Host for Attempt {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.output_stream(Stream::Stdout)
    }
}

impl cli::stderr::Host for Attempt {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.output_stream(Stream::Stderr)
    }
}

impl Attempt {
    fn output_stream(&mut self, stream: Stream) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(self.sink(stream));
        Ok(self.wasi.table.push(stream)?)
    }
}

/// A guest requested too many random bytes in one call.
#[derive(Debug, thiserror::Error)]
#[error("requested {0} random bytes in one call: the limit is {max}", max = system::bytes(RANDOM_MAX))]
struct RandomLimit(u64);

fn random_bytes(count: u64) -> wasmtime::Result<Vec<u8>> {
    let length = usize::try_from(count).ok().filter(|_| count <= RANDOM_MAX).ok_or(RandomLimit(count))?;
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
