//! The `fastworker` command: parses, runs the command and turns an error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: this process may have been started to compile a module.
    fastworker::runtime::compile_if_asked();
    fastworker::cli::main()
}
