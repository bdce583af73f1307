//! The history of a run: its last lines, and a hash of all of it.

use std::{collections::VecDeque, fmt};

use fastworker::{clock::Now, control_plane::state::Effect};

use super::{checks::Cause, network::Ticket};

/// Maximum lines that are shown.
const LINES_MAX: usize = 120;

/// The events of a run. Recording is optional, because it takes time.
#[derive(Debug)]
pub(crate) struct History {
    remembers: bool,
    lines: VecDeque<String>,
    hash: u64,
}

impl History {
    pub(crate) fn new(remembers: bool) -> Self {
        // The offset basis of FNV-1a.
        Self { remembers, lines: VecDeque::new(), hash: 0xcbf2_9ce4_8422_2325 }
    }

    pub(crate) fn note(&mut self, now: Now, cause: &Cause<'_>, effects: &[Effect<Ticket>]) {
        if !self.remembers {
            return;
        }
        self.add(format!("{:>12} {cause:?}", now.mono.micros()));
        for effect in effects {
            self.add(match effect {
                Effect::Reply { to, reply } => format!("{:>12} -> call {}: {reply:?}", "", to.call),
                Effect::Callback(callback) => format!("{:>12} -> callback: {:?}", "", callback.result),
            });
        }
    }

    fn add(&mut self, line: String) {
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.lines.push_back(line);
        if self.lines.len() > LINES_MAX {
            self.lines.pop_front();
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
