//! Inspects a module file: what it exports and imports, who made it, and what it takes to compile and instantiate it.
//!
//! A module that cannot be loaded is described as far as possible, with the reason.

use std::{
    path::Path,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use super::{
    Inner, LoadError, Module, ModuleError, Runtime,
    compiled::{self, Code, Instantiable},
    compiler::CompileJob,
    component::{self, FileKind},
    load, mismatch, program, threads_max,
};

mod interfaces;
mod producers;

pub use interfaces::Interface;
pub use producers::Producers;
#[cfg(feature = "cli")]
pub(crate) use producers::add_producers;

/// How often a module is instantiated, to measure the median.
const INSTANTIATIONS: usize = 9;

/// What is known of a module file.
#[derive(Debug)]
pub struct Inspection {
    /// Bytes of the file.
    pub size: u64,
    /// BLAKE3 of the file, in hexadecimal.
    pub hash: String,
    /// Whether it is a component; if not, it is a core module.
    pub is_component: bool,
    /// Its languages and tools, as it states them.
    pub producers: Producers,
    /// What it exports.
    pub exports: Vec<Interface>,
    /// What it imports.
    pub imports: Vec<Interface>,
    /// How it was compiled; none if its code was in the cache, or it cannot be compiled.
    pub compiled: Option<CompileCost>,
    /// Median time to instantiate it; none if it cannot be loaded.
    pub instantiation: Option<Duration>,
    /// The module, or why it cannot be loaded.
    pub module: Result<Module, ModuleError>,
}

/// What it took to compile a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileCost {
    /// The time by the clock.
    pub time: Duration,
    /// Peak memory of the compiler in bytes; none if it is not known.
    pub memory: Option<u64>,
}

/// Why nothing provides an import, and what to do; none if this host does.
pub fn import_problem(import: &str) -> Option<String> {
    let is_provided = mismatch::is_provided(import) || import == program::PREVIEW1;
    (!is_provided).then(|| mismatch::of_import(import))
}

impl Runtime {
    /// Inspects the module at `path`. It blocks, so do not call it in async code.
    ///
    /// # Errors
    /// [`LoadError`] if the file cannot be read, or is not WebAssembly.
    pub fn inspect(&self, path: &Path) -> Result<Inspection, LoadError> {
        inspect(&self.0, path).map_err(|why| LoadError { path: path.to_owned(), why })
    }
}

fn inspect(runtime: &Inner, path: &Path) -> Result<Inspection, ModuleError> {
    let bytes = load::read(path, runtime.config.module_max)?;
    let is_component = component::kind(&bytes)? == FileKind::Component;
    let hash = blake3::hash(&bytes);
    let mut inspection = Inspection {
        size: bytes.len() as u64,
        hash: hash.to_hex().to_string(),
        is_component,
        producers: Producers::of(&bytes),
        exports: Vec::new(),
        imports: Vec::new(),
        compiled: None,
        instantiation: None,
        module: Err(ModuleError::Empty),
    };
    let is_unwanted = AtomicBool::new(false);
    let job = CompileJob::new(threads_max(), &is_unwanted);
    let cached = runtime.cache.get(&runtime.engines[0].engine, &hash);
    let started = Instant::now();
    let code = match cached.map_or_else(|| runtime.cache.compile(runtime, &hash, &bytes, &job), Ok) {
        Ok(code) => code,
        Err(why) => return Ok(Inspection { module: Err(why), ..inspection }),
    };
    if !code.is_cached {
        inspection.compiled = Some(CompileCost { time: started.elapsed(), memory: code.compile_memory });
    }
    (inspection.exports, inspection.imports) = interfaces_of(runtime, &code);
    inspection.module = load::load_code(runtime, path, &bytes, &code, &job);
    inspection.instantiation = inspection.module.as_ref().ok().and_then(|module| instantiation_time(runtime, module));
    Ok(inspection)
}

/// The exports and imports of compiled code, if an engine accepts it.
fn interfaces_of(runtime: &Inner, code: &Code) -> (Vec<Interface>, Vec<Interface>) {
    for profile in &runtime.engines {
        match compiled::instantiable(&profile.engine, code) {
            Ok(Instantiable::Component(component)) => return interfaces::of_component(&profile.engine, &component),
            Ok(Instantiable::Core(module)) => return interfaces::of_core_module(&module),
            Err(error) => tracing::debug!(engine = profile.name, %error, "a module does not fit this engine"),
        }
    }
    (Vec::new(), Vec::new())
}

/// The median time to instantiate a module.
fn instantiation_time(runtime: &Inner, module: &Module) -> Option<Duration> {
    let times = runtime.with_load_slot(|slot| {
        let times = (0..INSTANTIATIONS).map(|_| {
            slot.clear();
            let started = Instant::now();
            slot.try_sandbox(module).ok().map(|()| started.elapsed())
        });
        times.collect::<Option<Vec<Duration>>>()
    });
    let mut times = times.ok()??;
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}
