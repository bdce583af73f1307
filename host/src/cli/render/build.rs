//! Output of `fastworker build`: its steps while they run, and the module.

use std::{
    io::{self, IsTerminal as _},
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    diagnostics::print_note,
    json::ModuleJson,
    modules::{Verbosity, print_modules},
    output::{eprint_escaped, print_json},
};
use crate::{
    cli::{CommandResult, build::BuildOutput},
    escape,
    lock::lock,
    task::ModuleInfo,
};

/// Shows the steps of a build on stderr, each at once: on a terminal with a spinner and the time, else as lines.
pub(in crate::cli) struct BuildProgress {
    is_terminal: bool,
    step: Mutex<Option<Step>>,
}

struct Step {
    title: String,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl BuildProgress {
    pub(in crate::cli) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), step: Mutex::new(None) }
    }
}

impl BuildOutput for BuildProgress {
    fn begin(&self, step: &str) {
        let title = escape::line(step).into_owned();
        if !self.is_terminal {
            eprint_escaped(format_args!("{title} …"));
        }
        let bar = self.is_terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.set_message(title.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        *lock(&self.step) = Some(Step { title, since: Instant::now(), bar });
    }

    fn line(&self, line: &str) {
        let print = || eprint_escaped(format_args!("  {line}"));
        match lock(&self.step).as_ref().and_then(|step| step.bar.as_ref()) {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn end(&self) {
        let Some(Step { title, since, bar: Some(bar) }) = lock(&self.step).take() else { return };
        bar.finish_and_clear();
        eprint_escaped(format_args!("{title} ({:.1} s)", since.elapsed().as_secs_f64()));
    }

    fn note(&self, note: &str) {
        match lock(&self.step).as_ref().and_then(|step| step.bar.as_ref()) {
            Some(bar) => bar.suspend(|| print_note(note)),
            None => print_note(note),
        }
    }
}

/// Prints the module that was built: its path, size and tasks.
pub(in crate::cli) fn print_built(module: &ModuleInfo, json: bool) -> CommandResult {
    if json {
        print_json(&ModuleJson::of(module, None))?;
        return Ok(0);
    }
    print_modules(std::slice::from_ref(module), Verbosity::Short, false)
}
