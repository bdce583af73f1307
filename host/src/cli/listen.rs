//! `fastworker listen`

use std::num::NonZeroU64;

use clap::{Args, builder::BoolishValueParser};

use super::{Failure, Outcome, TASK_FAILED, WRONG_USAGE, block_on, render};
use crate::{client::Listener, transport::OpenError};

#[derive(Args, Debug)]
pub(super) struct Listen {
    /// Where to listen: what callbacks are sent to. With port 0 at any free port
    #[arg(env = "FASTWORKER_CALLBACK", value_name = "ADDRESS")]
    address: String,
    /// End after so many callbacks
    #[arg(long, env = "FASTWORKER_COUNT", value_name = "NUMBER")]
    count: Option<NonZeroU64>,
    /// Print each callback as a line of JSON
    #[arg(long, env = "FASTWORKER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

impl Listen {
    pub(super) fn run(self) -> Outcome {
        block_on(async {
            let mut listener = Listener::bind(&self.address)?;
            render::listening(listener.address());
            let mut left = self.count.map_or(u64::MAX, NonZeroU64::get);
            while left > 0 {
                match listener.next().await {
                    Some(Ok(message)) => render::callback(&message, self.json)?,
                    Some(Err(unreadable)) => {
                        render::warning(&unreadable);
                        continue;
                    }
                    None => return Err(Failure::new(TASK_FAILED, "the socket has failed")),
                }
                left -= 1;
            }
            Ok(0)
        })
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match &error {
            OpenError::BadAddress { .. } => Self::new(WRONG_USAGE, error),
            OpenError::InUse { .. } => {
                Self::new(TASK_FAILED, error).hint("take another port, or port 0 for any that is free")
            }
            OpenError::Refused { .. } => Self::new(TASK_FAILED, error),
        }
    }
}
