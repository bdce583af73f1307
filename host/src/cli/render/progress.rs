//! What is shown while something runs: reports of tasks, and the progress of long commands.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressStyle};

use super::{err, text};
use crate::{
    escape,
    task::{FollowUp, LogLevel, Report},
};

/// Prints a report of a task: a log line or its progress.
pub(in crate::cli) fn report(report: &Report) {
    match report {
        Report::Log { level, message } => log_line(*level, message),
        Report::Progress(progress) if progress.total > 0 => {
            err(format_args!("{}/{} {}", progress.done, progress.total, text::flat(&progress.message)));
        }
        Report::Progress(progress) => err(format_args!("{} {}", progress.done, text::flat(&progress.message))),
    }
}

fn log_line(level: LogLevel, message: &str) {
    err(format_args!("{level:<5} {}", escape::indented(message, "      ")));
}

/// Prints the follow-ups that a task would have submitted.
pub(in crate::cli) fn follow_ups(follow_ups: &[FollowUp]) {
    for task in follow_ups {
        err(format_args!("follow-up {}", text::call(&task.name, &task.args, &task.kwargs)));
    }
}

/// Shows the reports of a running task: a progress bar on a terminal, else lines.
pub(in crate::cli) struct ProgressView(Option<ProgressBar>);

impl ProgressView {
    /// Starts with nothing shown.
    pub(in crate::cli) fn new() -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        // Drawn once there is progress.
        let bar = ProgressBar::new_spinner();
        style(&bar, "{wide_msg}");
        Self(Some(bar))
    }

    /// Shows new reports.
    pub(in crate::cli) fn show(&mut self, reports: &[Report]) {
        let Some(bar) = &self.0 else { return reports.iter().for_each(report) };
        for report in reports {
            match report {
                Report::Log { level, message } => bar.suspend(|| log_line(*level, message)),
                Report::Progress(progress) => {
                    style(bar, if progress.total > 0 { "{bar:30} {pos}/{len} {wide_msg}" } else { "{pos} {wide_msg}" });
                    bar.set_length(progress.total);
                    bar.set_position(progress.done);
                    bar.set_message(text::flat(&progress.message));
                }
            }
        }
    }

    /// Removes the bar.
    pub(in crate::cli) fn finish(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// The progress of a long command: a bar on a terminal, else nothing.
pub(in crate::cli) struct ProgressIndicator(ProgressBar);

impl ProgressIndicator {
    /// Starts with nothing shown.
    pub(in crate::cli) fn new() -> Self {
        let bar = if io::stderr().is_terminal() { ProgressBar::new(1) } else { ProgressBar::hidden() };
        style(&bar, "{bar:30} {pos}/{len} {wide_msg}");
        Self(bar)
    }

    /// Shows the current step, and how many of all steps are done.
    pub(in crate::cli) fn show(&self, what: &str, done: usize, all: usize) {
        self.0.set_length(all as u64);
        self.0.set_position(done as u64);
        self.0.set_message(what.to_owned());
    }

    /// Removes the bar.
    pub(in crate::cli) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
