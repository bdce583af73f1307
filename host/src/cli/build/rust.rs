//! Builds crates with cargo.
//!
//! The target wasm32-wasip2 gives components. Cargo's own variable `CARGO_BUILD_TARGET` selects another one: a compiler
//! for wasm32-wasip1 whose linker is wasm-component-ld gives components as well. `CARGO` and `RUSTC` are respected, too.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use super::{Artifact, Build, process, tools::on_path};
use crate::cli::{CliError, EXIT_FAILURE, EXIT_MISSING_TOOL, EXIT_USAGE};

/// The target of components.
const TARGET: &str = "wasm32-wasip2";

/// Builds the crate in the release profile.
pub(super) fn build(build: &Build<'_>) -> Result<Artifact, CliError> {
    let cargo = program("CARGO", "cargo")?;
    let target = env::var("CARGO_BUILD_TARGET").ok().filter(|target| target.starts_with("wasm32-wasi"));
    let target = target.as_deref().unwrap_or(TARGET);
    check_target(target, &build.source.folder)?;
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--target", target, "--message-format", "json-render-diagnostics"]);
    command.current_dir(&build.source.folder);
    let step = format!("building {} with cargo for {target}", build.source.path.display());
    let messages = build.run_captured(&step, &mut command).map_err(|(error, _)| error)?;
    let [module] = <[PathBuf; 1]>::try_from(modules(&messages)).map_err(|modules| not_one(build, &modules))?;
    let name = module.file_stem().and_then(|name| name.to_str()).unwrap_or(&build.source.name).to_owned();
    Ok(Artifact::read(&module)?.named(name))
}

/// The program that a variable names, else the one on PATH.
fn program(variable: &str, name: &str) -> Result<OsString, CliError> {
    let set = env::var_os(variable).filter(|value| !value.is_empty());
    set.or_else(|| on_path(name).map(PathBuf::into_os_string)).ok_or_else(|| {
        CliError::new(EXIT_MISSING_TOOL, format!("{name} is not on PATH"))
            .hint(format!("install Rust from https://rustup.rs, then run: rustup target add {TARGET}"))
    })
}

/// Checks that the compiler has a standard library for the target.
fn check_target(target: &str, folder: &Path) -> Result<(), CliError> {
    // Flags may name another folder than the compiler's own.
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", target.replace('-', "_").to_uppercase());
    if [flags.as_str(), "RUSTFLAGS"].iter().any(|name| env::var(name).is_ok_and(|flags| flags.contains("--sysroot"))) {
        return Ok(());
    }
    let rustc = program("RUSTC", "rustc")?;
    let mut command = Command::new(rustc);
    command.args(["--print", "target-libdir", "--target", target]).current_dir(folder);
    match process::first_line(&mut command) {
        Some(libraries) if Path::new(&libraries).is_dir() => Ok(()),
        _ => Err(CliError::new(EXIT_MISSING_TOOL, format!("the Rust compiler has no target {target}"))
            .hint(format!("install it with: rustup target add {target}"))),
    }
}

/// The modules among the files that cargo reports, without those of dependencies.
fn modules(messages: &[u8]) -> Vec<PathBuf> {
    #[derive(Deserialize)]
    struct CargoMessage {
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    let lines = messages.split(|byte| *byte == b'\n');
    let files = lines.filter_map(|line| serde_json::from_slice::<CargoMessage>(line).ok()).flat_map(|it| it.filenames);
    let is_dependency = |file: &PathBuf| file.parent().is_some_and(|folder| folder.ends_with("deps"));
    files.filter(|file| file.extension().is_some_and(|it| it == "wasm") && !is_dependency(file)).collect()
}

/// The error for a crate without a module, or a workspace with several.
fn not_one(build: &Build<'_>, modules: &[PathBuf]) -> CliError {
    let shown = build.source.path.display();
    if modules.is_empty() {
        return CliError::new(EXIT_FAILURE, format!("cargo built no module in {shown}: the crate is only a library"))
            .hint("add to its Cargo.toml: [lib] crate-type = [\"cdylib\", \"rlib\"]");
    }
    let names: Vec<_> =
        modules.iter().filter_map(|module| module.file_stem()).map(|name| name.to_string_lossy()).collect();
    let message = format!("{shown} has several modules: {}", names.join(", "));
    CliError::new(EXIT_USAGE, message).hint("give the folder of one of these crates")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_of_dependencies_are_not_those_of_the_crate() {
        let messages = br#"{"reason":"compiler-artifact","filenames":["/t/release/deps/libserde.rlib"]}
{"reason":"compiler-artifact","filenames":["/t/wasm32-wasip2/release/deps/other.wasm"]}
{"reason":"compiler-artifact","filenames":["/t/wasm32-wasip2/release/my_tasks.wasm","/t/wasm32-wasip2/release/libmy_tasks.rlib"]}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(modules(messages), [Path::new("/t/wasm32-wasip2/release/my_tasks.wasm")]);
    }
}
