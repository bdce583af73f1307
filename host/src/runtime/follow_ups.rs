//! The follow-up tasks that one attempt submits.
//!
//! They are sent with the outcome of the attempt, so their number and size are limited together with its result.

use std::mem;

use crate::task::FollowUp;

/// The follow-up tasks of one attempt.
#[derive(Debug)]
pub(super) struct FollowUps {
    tasks: Vec<FollowUp>,
    count_max: usize,
    bytes: usize,
    bytes_max: usize,
}

impl FollowUps {
    /// At most `count_max` tasks with a total of `bytes_max` bytes.
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { tasks: Vec::new(), count_max, bytes: 0, bytes_max }
    }

    /// Total bytes of the tasks so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the tasks out, in the order of their submission.
    pub(super) fn take_tasks(&mut self) -> Vec<FollowUp> {
        mem::take(&mut self.tasks)
    }

    /// Checks whether one more task of `bytes` bytes fits.
    ///
    /// # Errors
    /// The limit that it would exceed.
    pub(super) fn check_limits(&self, bytes: usize) -> Result<(), String> {
        if self.tasks.len() >= self.count_max {
            return Err(format!("too many follow-up tasks: the limit is {} per attempt", self.count_max));
        }
        if self.bytes.saturating_add(bytes) > self.bytes_max {
            return Err(format!(
                "the follow-up tasks are too large: the limit is {} bytes per attempt",
                self.bytes_max
            ));
        }
        Ok(())
    }

    /// Adds a task and returns its index.
    pub(super) fn push(&mut self, task: FollowUp, bytes: usize) -> usize {
        self.bytes += bytes;
        self.tasks.push(task);
        self.tasks.len() - 1
    }
}
