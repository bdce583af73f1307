//! The `fastworker` command: parses, runs the command and turns an error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    fastworker::cli::main()
}
