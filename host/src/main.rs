//! The `fastworker` command: parses, runs the command and turns an error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Must come first: this process may be a compiler child.
    fastworker::runtime::compile_if_requested();
    fastworker::cli::main()
}
