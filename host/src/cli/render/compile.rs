//! Output of `fastworker compile`.

use std::path::Path;

use serde::Serialize;

use super::{
    diagnostics::print_warning,
    output::{print_escaped, print_json},
};
use crate::{
    cli::{CommandResult, EXIT_FAILURE},
    clock::seconds,
    escape,
    runtime::{CachedModule, LoadError},
};

/// A module, or why it cannot be loaded.
#[derive(Serialize)]
struct CompiledJson<'a> {
    path: String,
    name: Option<&'a str>,
    hash: Option<&'a str>,
    /// `compiled`, `cached` if it was compiled before, or `failed`.
    status: &'static str,
    took_s: Option<f64>,
    error: Option<String>,
}

impl<'a> CompiledJson<'a> {
    fn of(module: &'a CachedModule) -> Self {
        Self {
            path: module.info.path.clone(),
            name: Some(&module.info.name),
            hash: Some(&module.info.hash),
            status: if module.was_cached { "cached" } else { "compiled" },
            took_s: Some(seconds(module.took)),
            error: None,
        }
    }

    fn failed(error: &LoadError) -> Self {
        let path = error.path.display().to_string();
        Self { path, name: None, hash: None, status: "failed", took_s: None, error: Some(error.why.to_string()) }
    }
}

/// Prints the modules of the cache, and those that cannot be loaded, each with its position.
pub(in crate::cli) fn print_cached(
    mut cached: Vec<(usize, CachedModule)>,
    mut failed: Vec<(usize, LoadError)>,
    folder: &Path,
    json: bool,
) -> CommandResult {
    cached.sort_by_key(|(index, _)| *index);
    failed.sort_by_key(|(index, _)| *index);
    let code = if failed.is_empty() { 0 } else { EXIT_FAILURE };
    if json {
        let cached = cached.iter().map(|(index, module)| (*index, CompiledJson::of(module)));
        let mut all: Vec<_> =
            cached.chain(failed.iter().map(|(index, error)| (*index, CompiledJson::failed(error)))).collect();
        all.sort_by_key(|(index, _)| *index);
        print_json(&all.into_iter().map(|(_, module)| module).collect::<Vec<_>>())?;
        return Ok(code);
    }
    for (_, module) in &cached {
        let (path, took) = (escape::line(&module.info.path), seconds(module.took));
        if module.was_cached {
            print_escaped(format_args!("{path}: cached already"));
        } else {
            print_escaped(format_args!("{path}: compiled in {took} s"));
        }
    }
    for (_, error) in &failed {
        print_warning(&error.to_string());
    }
    let modules = if cached.len() == 1 { "1 module is".to_owned() } else { format!("{} modules are", cached.len()) };
    let broken = if failed.is_empty() { String::new() } else { format!("; {} cannot be loaded", failed.len()) };
    print_escaped(format_args!("{modules} in {}{broken}", escape::path(folder)));
    Ok(code)
}
