//! The reports of one task: its log lines and its progress.
//!
//! Bounded in number and bytes, the oldest are dropped first. Numbered, so that a follower knows which reports it has
//! seen and whether it missed some.

use std::collections::VecDeque;

use crate::task::{Progress, Report};

/// Maximum number of reports that are kept of one task.
pub const REPORTS_MAX: usize = 1_000;
/// Maximum size of the reports that are kept of one task, in bytes.
pub const REPORT_BYTES_MAX: usize = 256 * 1024;

/// The newest reports of one task. Allocates nothing while it is empty.
#[derive(Debug, Default)]
pub struct ReportLog {
    reports: VecDeque<Report>,
    bytes: usize,
    /// The number of the newest report; the first one is number 1.
    last: u64,
    progress: Option<Progress>,
}

impl ReportLog {
    /// Adds a report.
    pub fn push(&mut self, report: Report) {
        if let Report::Progress(progress) = &report {
            self.progress = Some(progress.clone());
        }
        self.bytes += size(&report);
        self.last += 1;
        self.reports.push_back(report);
        while self.reports.len() > REPORTS_MAX || self.bytes > REPORT_BYTES_MAX {
            let Some(oldest) = self.reports.pop_front() else { return };
            self.bytes -= size(&oldest);
        }
    }

    /// The number of the newest report, 0 if there is none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Its size, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Iterates over the reports after number `after` that are still kept.
    pub fn after(&self, after: u64) -> impl Iterator<Item = &Report> {
        let missing = usize::try_from(self.last.saturating_sub(after)).unwrap_or(usize::MAX);
        self.reports.iter().skip(self.reports.len().saturating_sub(missing))
    }

    /// The newest progress.
    pub fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }
}

fn size(report: &Report) -> usize {
    let text = match report {
        Report::Log { message, .. } => message,
        Report::Progress(progress) => &progress.message,
    };
    text.len() + size_of::<Report>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::LogLevel;

    #[test]
    fn a_follower_gets_each_report_once_and_the_newest_when_it_is_late() {
        let mut log = ReportLog::default();
        let line = |n: usize| Report::Log { level: LogLevel::Info, message: n.to_string() };
        for n in 1..=3 {
            log.push(line(n));
        }
        assert_eq!(log.after(0).count(), 3);
        assert_eq!(log.after(2).cloned().collect::<Vec<_>>(), [line(3)]);
        assert_eq!(log.after(3).count(), 0);
        for n in 4..=REPORTS_MAX + 100 {
            log.push(line(n));
        }
        assert_eq!(log.after(3).next(), Some(&line(101)), "the oldest were removed");
        assert_eq!(log.last(), REPORTS_MAX as u64 + 100);
    }
}
