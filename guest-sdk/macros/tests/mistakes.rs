//! What an author reads who makes a mistake: every mistake at once, each on its own token.
//!
//! The texts in `mistakes/*.stderr` are those of one version of rustc, so other versions skip them.
//! After a change that is meant, `TRYBUILD=overwrite cargo test --package fastworker-guest-macros`
//! updates them.

use std::process::Command;

const RUSTC: &str = "rustc 1.95.";

#[test]
fn each_mistake_is_told_on_its_own_token() {
    let asked = Command::new("rustc").arg("--version").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&asked.stdout);
    if !version.starts_with(RUSTC) {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("skipped: the texts are those of {RUSTC}, and this is {version}").as_bytes(),
        );
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/mistakes/*.rs");
}
