//! Generates what the SDKs for Go, C, C++ and Zig contain of the contract `wit/v1`: `cargo run` in this folder
//! writes it, and a test compares it with the files that are checked in.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use wit_bindgen_core::wit_parser::{Resolve, WorldId};
use wit_bindgen_core::{Files, WorldGenerator};
use wit_component::StringEncoding;

/// The world of a task module.
const WORLD: &str = "task-module";
/// The Go package below which the bindings are, and the runtime package of the generator.
const GO_INTERNAL: &str = "github.com/fastworker/fastworker/guest-sdk/go/internal";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Files by their path below `guest-sdk`.
type Generated = BTreeMap<PathBuf, Vec<u8>>;

fn main() -> Result<()> {
    for (path, contents) in generate()? {
        let path = sdks().join(path);
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        fs::write(&path, contents).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// The directory of the SDKs.
fn sdks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn generate() -> Result<Generated> {
    let mut files = c()?;
    files.extend(go()?);
    files.insert("c/bindings/component-type.section".into(), component_type()?);
    Ok(files)
}

/// The contract, and its world.
fn contract() -> Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(sdks().join("../wit/v1"))?;
    let world = resolve.select_world(&[package], Some(WORLD))?;
    Ok((resolve, world))
}

fn generated(mut generator: Box<dyn WorldGenerator>) -> Result<Vec<(String, Vec<u8>)>> {
    let (mut resolve, world) = contract()?;
    let mut files = Files::default();
    generator.generate(&mut resolve, world, &mut files)?;
    Ok(files.iter().map(|(name, contents)| (name.to_owned(), contents.to_vec())).collect())
}

/// The C bindings, for C, C++ and Zig. `fastworker build` adds the component type, so they need no object file.
fn c() -> Result<Generated> {
    let options = wit_bindgen_c::Opts { no_object_file: true, ..Default::default() };
    let files = generated(options.build())?;
    Ok(files.into_iter().map(|(name, contents)| (Path::new("c/bindings").join(name), contents)).collect())
}

/// The Go bindings. The generator makes a program of them; here they become packages of the SDK, which are only
/// compiled for WebAssembly.
fn go() -> Result<Generated> {
    let options = wit_bindgen_go::Opts { format: wit_bindgen_go::Format::False, quiet: true, ..Default::default() };
    let sources =
        generated(options.build())?.into_iter().filter(|(name, _)| !name.ends_with("go.mod") && !name.ends_with(".s"));
    sources.map(|(name, contents)| Ok((go_path(&name), go_package(&name, &String::from_utf8(contents)?)))).collect()
}

fn go_path(name: &str) -> PathBuf {
    let name = if name == "wit_exports.go" { "exports/wit_bindings.go" } else { name };
    Path::new("go/internal/bindings").join(name)
}

fn go_package(name: &str, source: &str) -> Vec<u8> {
    let mut source = source
        .replace("\"go.bytecodealliance.org/pkg/wit/", &format!("\"{GO_INTERNAL}/wit/"))
        .replace("\"wit_component/", &format!("\"{GO_INTERNAL}/bindings/"));
    if name == "wit_exports.go" {
        source = source.replace("package main", "package exports");
        source = source.replace("// Unused, but present to make the compiler happy\nfunc main() {}\n", "");
    }
    format!("//go:build wasip1\n\n{source}").into_bytes()
}

/// The custom section that makes a core module a task module, as bytes to append to it.
fn component_type() -> Result<Vec<u8>> {
    let (resolve, world) = contract()?;
    let contents = wit_component::metadata::encode(&resolve, world, StringEncoding::UTF8, None, false)?;
    let name = format!("component-type:{WORLD}");
    let mut body = leb128(name.len());
    body.extend(name.as_bytes());
    body.extend(contents);
    let mut section = vec![0];
    section.extend(leb128(body.len()));
    section.extend(body);
    Ok(section)
}

/// An unsigned number as WebAssembly encodes it.
fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let digit = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        if number == 0 {
            bytes.push(digit);
            return bytes;
        }
        bytes.push(digit | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bindings_that_are_checked_in_are_those_of_the_contract() {
        let generated = generate().expect("the contract is valid");
        let is_other =
            |(path, contents): &(&PathBuf, &Vec<u8>)| fs::read(sdks().join(path)).ok().as_ref() != Some(contents);
        let outdated: Vec<_> = generated.iter().filter(is_other).map(|(path, _)| path).collect();
        assert!(outdated.is_empty(), "out of date, `cargo run` in guest-sdk/bindgen writes them: {outdated:#?}");
    }
}
