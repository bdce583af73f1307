//! `fastworker bench`

use clap::Args;

use super::Outcome;

#[derive(Args, Debug)]
pub(super) struct Bench {}

impl Bench {
    pub(super) fn run(self) -> Outcome {
        Ok(0)
    }
}
