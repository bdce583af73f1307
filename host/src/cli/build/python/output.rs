//! The output of componentize-py: what the user's code printed while it was imported, without the tool's own traces.

use std::{path::Path, sync::Mutex};

use super::packages::Packages;
use crate::{
    cli::{
        CliError, EXIT_FAILURE,
        build::{Build, BuildOutput},
    },
    lock::lock,
};

/// The tool's exception, whose text is what the guest wrote to its standard error.
const GUEST_OUTPUT: &str = "AssertionError: ";
/// Lines after which the tool's own traces follow.
const TOOL_TRACES: [&str; 2] = ["Caused by:", "Stack backtrace:"];
/// The prefix of a line with advice.
const HINT: &str = "hint: ";

/// Shows what the guest wrote, with files named as the user knows them.
pub(super) struct GuestOutput<'a> {
    output: &'a dyn BuildOutput,
    /// How the guest names the user's folder in a traceback, and how the user does.
    folder: (String, String),
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    has_begun: bool,
    has_ended: bool,
    /// What the tool wrote before the guest's output.
    before: Vec<String>,
    shown: Vec<String>,
    hint: Option<String>,
}

impl<'a> GuestOutput<'a> {
    /// `root` is the user's folder, the second one of the guest, as the user gave it.
    pub(super) fn new(output: &'a dyn BuildOutput, root: &Path) -> Self {
        let own = root.join("x").display().to_string();
        let own = own.strip_suffix('x').unwrap_or_default().to_owned();
        Self { output, folder: ("File \"/1/".into(), format!("File \"{own}")), state: Mutex::default() }
    }

    /// The error of a build that failed: the last line of the guest's output says why.
    pub(super) fn into_error(self, build: &Build<'_>, error: CliError, packages: &Packages) -> CliError {
        let state = self.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(last) = state.shown.last() else {
            // It failed by itself.
            state.before.iter().for_each(|line| build.output.line(line));
            return error;
        };
        let shown = build.source.path.display();
        let error = CliError::new(EXIT_FAILURE, format!("{shown} cannot be built: {last}"));
        match compiled(&state.shown, packages).or(state.hint) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// Whether a package without its compiled code is why: it is in the traceback, or in the message.
fn compiled(shown: &[String], packages: &Packages) -> Option<String> {
    let name_of = |title: &String| title.split(' ').next().unwrap_or_default().to_lowercase().replace('-', "_");
    let is_why = |title: &&String| {
        let name = name_of(title);
        shown.iter().any(|line| line.contains(&format!("/{name}/")) || line.contains(&format!("'{name}")))
    };
    let package = packages.without_compiled.iter().find(is_why)?;
    Some(format!(
        "{package} has compiled code, which does not run in a module: only packages in pure Python do, and those that have \
         the same in Python"
    ))
}

impl BuildOutput for GuestOutput<'_> {
    fn begin(&self, step: &str) {
        self.output.begin(step);
    }

    fn line(&self, line: &str) {
        let mut state = lock(&self.state);
        let line = match line.strip_prefix(GUEST_OUTPUT) {
            Some(first) if !state.has_begun => {
                state.has_begun = true;
                first
            }
            _ => line,
        };
        if !state.has_begun {
            state.before.push(line.to_owned());
            return;
        }
        state.has_ended |= TOOL_TRACES.contains(&line);
        if state.has_ended {
            return;
        }
        if let Some(hint) = line.strip_prefix(HINT) {
            state.hint = Some(hint.to_owned());
            return;
        }
        let line = line.replace(&self.folder.0, &self.folder.1);
        self.output.line(&line);
        state.shown.push(line);
    }

    fn end(&self) {
        self.output.end();
    }

    fn note(&self, note: &str) {
        self.output.note(note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    impl BuildOutput for Nowhere {
        fn begin(&self, _step: &str) {}
        fn line(&self, _line: &str) {}
        fn end(&self) {}
        fn note(&self, _note: &str) {}
    }

    #[test]
    fn only_what_the_guest_wrote_is_shown() {
        let output = GuestOutput::new(&Nowhere, Path::new("shop"));
        for line in [
            "Traceback (most recent call last):",
            "  File \"/tools/bin/componentize-py\", line 8, in <module>",
            "AssertionError: Traceback (most recent call last):",
            "  File \"/1/orders.py\", line 3, in <module>",
            "    import numpy",
            "ModuleNotFoundError: No module named 'numpy'",
            "hint: add it",
            "Caused by:",
            "    0: error while executing at wasm backtrace:",
        ] {
            output.line(line);
        }
        let state = output.state.into_inner().expect("no panic");
        assert_eq!(
            state.shown,
            [
                "Traceback (most recent call last):",
                "  File \"shop/orders.py\", line 3, in <module>",
                "    import numpy",
                "ModuleNotFoundError: No module named 'numpy'",
            ]
        );
        assert_eq!(state.hint.as_deref(), Some("add it"));
    }

    #[test]
    fn a_package_without_its_compiled_code_is_named() {
        let packages = Packages { without_compiled: vec!["Fast-Parser 1.2".into()], ..Packages::default() };
        let line = |line: &str| compiled(&[line.to_owned()], &packages);
        assert!(
            line("  File \"/2/fast_parser/__init__.py\", line 1").is_some_and(|it| it.starts_with("Fast-Parser 1.2"))
        );
        assert!(line("ModuleNotFoundError: No module named 'fast_parser._core'").is_some());
        assert!(line("ModuleNotFoundError: No module named 'numpy'").is_none());
    }
}
