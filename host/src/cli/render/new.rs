//! Output of `fastworker new`.

use std::path::Path;

use serde::Serialize;

use super::output::{print_escaped, print_json};
use crate::cli::CommandResult;

/// Prints the path of a new crate, and the next steps. `target` is cargo's target folder, relative to the crate.
pub(in crate::cli) fn print_created(name: &str, folder: &Path, target: &Path, json: bool) -> CommandResult {
    #[derive(Serialize)]
    struct Created<'a> {
        name: &'a str,
        path: &'a Path,
        module: &'a str,
    }
    let module = format!("{}/wasm32-wasip2/release/{}.wasm", target.display(), name.replace('-', "_"));
    if json {
        print_json(&Created { name, path: folder, module: &module })?;
        return Ok(0);
    }
    print_escaped(format_args!(
        "created the crate {name} in {}, with the tasks greet and mean. Next steps:\n",
        folder.display()
    ));
    print_escaped(format_args!("    cd {}", folder.display()));
    print_escaped("    cargo test");
    print_escaped("    cargo build --release --target wasm32-wasip2");
    print_escaped(format_args!("    fastworker dev {module} greet Ada"));
    Ok(0)
}
