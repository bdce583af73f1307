//! The compile errors of `#[task]`: all are reported together, each on its token.
//!
//! The messages in `compile_errors/*.stderr` are those of one version of rustc; other versions skip the
//! test. After an intended change, `TRYBUILD=overwrite cargo test --package fastworker-guest-macros`
//! updates them.

use std::process::Command;

const RUSTC: &str = "rustc 1.95.";

#[test]
fn each_compile_error_is_reported_on_its_token() {
    let output = Command::new("rustc").arg("--version").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&output.stdout);
    if !version.starts_with(RUSTC) {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("skipped: the messages are those of {RUSTC}, and this is {version}").as_bytes(),
        );
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/compile_errors/*.rs");
}
