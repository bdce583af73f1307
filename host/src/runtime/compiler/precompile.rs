//! What a compiler does with each kind of file.

use wasmtime::Engine;

use crate::runtime::{component, component::FileKind, wrap};

/// Compiles a component, a core module that can be wrapped into one, or a core module that is a program.
///
/// # Errors
/// The reason why the file is not valid.
pub(super) fn precompile(engine: &Engine, file: &[u8]) -> Result<Vec<u8>, String> {
    let kind = component::kind(file).map_err(|error| error.to_string())?;
    let compiled = match kind {
        FileKind::CoreModule if wrap::can_wrap(file) => engine.precompile_component(&wrap::wrap_core_module(file)?),
        FileKind::CoreModule => engine.precompile_module(file),
        FileKind::Component => engine.precompile_component(file),
    };
    compiled.map_err(|error| format!("{error:#}"))
}
