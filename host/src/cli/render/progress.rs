//! Output while something runs: reports of tasks, and the progress of long commands.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    output::eprint_escaped,
    text::{format_call, single_line},
};
use crate::{
    escape,
    task::{FollowUp, LogLevel, Report},
};

/// Prints a report of a task: a log line or its progress.
pub(in crate::cli) fn print_report(report: &Report) {
    match report {
        Report::Log { level, message } => print_log_line(*level, message),
        Report::Progress(progress) if progress.total > 0 => {
            eprint_escaped(format_args!("{}/{} {}", progress.done, progress.total, single_line(&progress.message)));
        }
        Report::Progress(progress) => {
            eprint_escaped(format_args!("{} {}", progress.done, single_line(&progress.message)));
        }
    }
}

fn print_log_line(level: LogLevel, message: &str) {
    eprint_escaped(format_args!("{level:<5} {}", escape::indented(message, "      ")));
}

/// Prints the follow-ups that a task would have submitted.
pub(in crate::cli) fn print_follow_ups(follow_ups: &[FollowUp]) {
    for task in follow_ups {
        eprint_escaped(format_args!("follow-up {}", format_call(&task.name, &task.args, &task.kwargs)));
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
        set_template(&bar, "{wide_msg}");
        Self(Some(bar))
    }

    /// Shows new reports.
    pub(in crate::cli) fn show(&mut self, reports: &[Report]) {
        let Some(bar) = &self.0 else { return reports.iter().for_each(print_report) };
        for report in reports {
            match report {
                Report::Log { level, message } => bar.suspend(|| print_log_line(*level, message)),
                Report::Progress(progress) => {
                    set_template(
                        bar,
                        if progress.total > 0 { "{bar:30} {pos}/{len} {wide_msg}" } else { "{pos} {wide_msg}" },
                    );
                    bar.set_length(progress.total);
                    bar.set_position(progress.done);
                    bar.set_message(single_line(&progress.message));
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

fn set_template(bar: &ProgressBar, template: &str) {
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
        set_template(&bar, "{bar:30} {pos}/{len} {wide_msg}");
        Self(bar)
    }

    /// Shows the current step, and the numbers of finished and of all steps.
    pub(in crate::cli) fn show(&self, step: &str, done: usize, total: usize) {
        self.0.set_length(total as u64);
        self.0.set_position(done as u64);
        self.0.set_message(step.to_owned());
    }

    /// Removes the bar.
    pub(in crate::cli) fn finish(&self) {
        self.0.finish_and_clear();
    }
}
