//! What a compiler does with each kind of file.

use wasmparser::{Validator, WasmFeatures};
use wasmtime::Engine;

use crate::runtime::{component, component::FileKind, wrap};

/// Features of WebAssembly that the engine lacks, as their users know them.
const LACKING: [(WasmFeatures, &str); 8] = [
    (
        WasmFeatures::GC,
        "garbage collection by the engine (the GC proposal, as Kotlin, Dart and Java compilers emit it)",
    ),
    (WasmFeatures::THREADS, "threads and shared memory"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "threads and shared memory"),
    (
        WasmFeatures::LEGACY_EXCEPTIONS,
        "the old form of exceptions (emit the new one, as with -wasm-use-legacy-eh=false)",
    ),
    (WasmFeatures::STACK_SWITCHING, "stack switching"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "memories with another page size"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide arithmetic"),
    (WasmFeatures::FUNCTION_REFERENCES, "typed function references"),
];

/// Compiles a component, a core module that can be wrapped into one, or a core module that is a program. `concurrent`
/// creates the engine for components with async types.
///
/// # Errors
/// The reason why the file is not valid.
pub(super) fn precompile(
    engine: &Engine,
    concurrent: impl FnOnce() -> wasmtime::Result<Engine>,
    file: &[u8],
) -> Result<Vec<u8>, String> {
    let kind = component::kind(file).map_err(|error| error.to_string())?;
    let compiled = match kind {
        FileKind::CoreModule if wrap::can_wrap(file) => engine.precompile_component(&wrap::wrap_core_module(file)?),
        FileKind::CoreModule => engine.precompile_module(file),
        FileKind::Component => engine
            .precompile_component(file)
            .or_else(|error| if has_async_types(file) { concurrent()?.precompile_component(file) } else { Err(error) }),
    };
    compiled.map_err(|error| match lacking_features(file) {
        Some(features) => format!("it needs {features}, which fastworker does not run"),
        None => format!("{error:#}"),
    })
}

fn is_valid(file: &[u8], features: WasmFeatures) -> bool {
    Validator::new_with_features(features).validate_all(file).is_ok()
}

/// Whether a component has streams, futures or async functions.
fn has_async_types(file: &[u8]) -> bool {
    is_valid(file, WasmFeatures::all()) && !is_valid(file, WasmFeatures::all() - WasmFeatures::CM_ASYNC)
}

/// The features that a valid file needs and the engine lacks.
fn lacking_features(file: &[u8]) -> Option<String> {
    if !is_valid(file, WasmFeatures::all()) {
        return None;
    }
    let mut names: Vec<&str> = LACKING
        .into_iter()
        .filter_map(|(feature, name)| (!is_valid(file, WasmFeatures::all() - feature)).then_some(name))
        .collect();
    names.dedup();
    (!names.is_empty()).then(|| names.join(", and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{
        STACK_DEFAULT,
        engine::{concurrent_config, standard_config},
    };

    #[test]
    fn features_that_the_engine_lacks_are_named_in_plain_words() {
        let settings = standard_config(STACK_DEFAULT);
        let engine = Engine::new(&settings).expect("an engine");
        let concurrent = || Engine::new(&concurrent_config(settings.clone()));
        let error = |text: &str| {
            precompile(&engine, concurrent, &wat::parse_str(text).expect("text")).err().unwrap_or_default()
        };
        let gc = error("(module (type $point (struct (field i32))) (func (drop (struct.new_default $point))))");
        assert!(gc.starts_with("it needs garbage collection by the engine"), "{gc}");
        let threads = error("(module (memory 1 2 shared))");
        assert_eq!(threads, "it needs threads and shared memory, which fastworker does not run");
        let legacy = error("(module (tag $t) (func try throw $t catch_all end))");
        assert!(legacy.contains("the old form of exceptions"), "{legacy}");
        assert_eq!(error("(module (tag $t) (func (block $b (try_table (catch_all $b) (throw $t)))))"), "");
        assert_eq!(error("(component (type (stream u8)))"), "");
        let invalid = error("(module (func (result i32)))");
        assert!(invalid.contains("type mismatch"), "{invalid}");
    }
}
