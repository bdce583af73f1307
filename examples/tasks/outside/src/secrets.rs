//! Everything that a guest can write, with a secret in it.

use std::env;
use std::io::Write as _;

use fastworker_guest::context::{follow_up, progress};
use fastworker_guest::{TaskError, info, task};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the log has what a task prints")]
/// Writes the variable to the log, to stdout in two parts, to stderr, to the progress and to a follow-up task; then
/// returns it or fails with it.
#[task]
fn reveal(variable: &str, fails: bool) -> Result<Vec<String>, TaskError> {
    let secret = env::var(variable).map_err(|error| TaskError::failed(error.to_string()))?;
    info!("log {secret}");
    let middle = secret.len() / 2;
    print!("stdout {}", &secret[..middle]);
    let _ = std::io::stdout().flush();
    println!("{} end", &secret[middle..]);
    eprintln!("stderr {secret}");
    println!("{}", serde_json::json!({"json": secret}));
    progress(1, 2, &format!("progress {secret}"));
    follow_up("text_length", (&secret,)).submit()?;
    if fails {
        let error = TaskError::failed(format!("error {secret}")).with_kind(format!("Kind {secret}"));
        return Err(error.with_details(&serde_json::json!({"details": secret})));
    }
    Ok(vec![format!("result {secret}"), "kept".to_owned()])
}

/// Panics with the variable.
#[task]
fn reveal_in_panic(variable: &str) -> u32 {
    panic!("panic {}", env::var(variable).unwrap_or_default())
}

/// The number of bytes of a text.
#[task]
fn text_length(text: &str) -> usize {
    text.len()
}
