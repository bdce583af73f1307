//! Finds the reason of a trap in the output and log of the guest before it.
//!
//! Every language runtime reports a crash differently: some print the reason before the stack, some after it, some end
//! with empty lines. The reason is only the beginning of an error message; all lines are in the log of the task.

use std::collections::VecDeque;

use super::output::cut;

/// Maximum last lines to keep.
const LINES_MAX: usize = 64;
/// Maximum bytes to keep of each.
const LINE_MAX: usize = 4 << 10;
/// Maximum lines of a reason.
const REASON_LINES_MAX: usize = 16;

/// The last error lines of an attempt.
#[derive(Debug, Default)]
pub(super) struct LastError {
    lines: VecDeque<String>,
    /// The first lines of the last crash report: its stack may be longer than `lines`.
    crash: Vec<String>,
    has_crashed: bool,
}

impl LastError {
    /// Removes all lines.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.crash.clear();
        self.has_crashed = false;
    }

    /// Adds an error, which may have several lines.
    pub(super) fn add_error(&mut self, message: &str) {
        message.split('\n').for_each(|line| self.add_line(line));
    }

    fn add_line(&mut self, line: &str) {
        let line = cut(line, LINE_MAX).trim_end().to_owned();
        if crash_start(&line).is_some() {
            self.has_crashed = true;
            self.crash.clear();
        }
        if self.has_crashed && self.crash.len() < LINES_MAX {
            self.crash.push(line.clone());
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Adds a line that is not an error: some runtimes print their crash report to stdout.
    pub(super) fn add_other(&mut self, line: &str) {
        if line.starts_with(PANIC) {
            self.add_error(line);
        }
    }

    /// The reason, if the attempt printed one.
    pub(super) fn reason(&self) -> Option<String> {
        self.crash_reason().or_else(|| self.last_error_lines())
    }

    /// The message of the last crash report, up to its stack.
    fn crash_reason(&self) -> Option<String> {
        let (first, rest) = self.crash.split_first()?;
        let head = crash_start(first)?;
        let is_rust = head.starts_with(PANICKED);
        // The message of a Rust panic may contain anything; other messages end where their stack begins.
        let is_end = |line: &&String| {
            if is_rust {
                line.as_str() == "stack backtrace:" || line.starts_with("note: run with ")
            } else {
                line.is_empty() || is_frame(line)
            }
        };
        let mut lines: Vec<&str> =
            rest.iter().take_while(|line| !is_end(line)).take(REASON_LINES_MAX).map(String::as_str).collect();
        while lines.last().is_some_and(|line| line.trim().is_empty()) {
            lines.pop();
        }
        // C++ prints the type of an exception in the first line and its message in another.
        if let Some(what) = lines.iter().find_map(|line| line.trim_start().strip_prefix("what():")) {
            return Some(what.trim().to_owned()).filter(|what| !what.is_empty());
        }
        // Rust ends its first line with a colon and has the message in the next one.
        let separator = if head.ends_with(':') { " " } else { "\n" };
        let rest = lines.join("\n");
        Some(if rest.is_empty() { head.to_owned() } else { format!("{head}{separator}{rest}") })
    }

    /// The last line that does not belong to a stack, from the start of its exception.
    fn last_error_lines(&self) -> Option<String> {
        if self.lines.iter().any(|line| line.starts_with(NOTHING_TO_WAIT_FOR)) {
            return Some(NEVER_SETTLED.to_owned());
        }
        let is_message = |line: &String| !line.trim().is_empty() && !is_frame(line);
        let last = self.lines.iter().rposition(is_message);
        let Some(last) = last else {
            return self.lines.iter().rfind(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned());
        };
        let block = (0..=last).rev().take(REASON_LINES_MAX).take_while(|index| is_message(&self.lines[*index]));
        let first = block.into_iter().find(|index| is_exception(&self.lines[*index])).unwrap_or(last);
        let lines: Vec<&str> = self.lines.range(first..=last).map(String::as_str).collect();
        Some(lines.join("\n").trim().to_owned())
    }
}

/// The start of a Rust panic's message.
const PANICKED: &str = "panicked at ";
/// The start of a panic's message in Go and other languages.
const PANIC: &str = "panic: ";

/// What `StarlingMonkey` prints when a task has not ended and nothing is left that could go on.
const NOTHING_TO_WAIT_FOR: &str = "Error while (call) event loop error, but no exception is pending.";
/// The same for the author.
const NEVER_SETTLED: &str = "the task waits for something that never happens: it awaits a promise that nothing settles";

/// The line without the name of a thread or program, if it is the start of a crash report.
fn crash_start(line: &str) -> Option<&str> {
    if let Some(at) = line.find(PANICKED) {
        return Some(&line[at..]);
    }
    if let Some(at) = line.find(" panic: ").filter(|_| line.starts_with("thread ")) {
        return Some(&line[at + 1..]);
    }
    let after = |word: &str| line.split_once(word).map(|(_, after)| after).filter(|after| !after.trim().is_empty());
    if line.starts_with("libc++abi: ") {
        return Some(after("exception of type ").unwrap_or(line));
    }
    if line.starts_with("Unhandled exception") {
        return Some(after(". ").or_else(|| after(": ")).unwrap_or(line));
    }
    const PREFIXES: [&str; 6] =
        [PANIC, "fatal error: ", "abort: ", "terminate called", "Assertion failed", "Fatal error: "];
    (PREFIXES.iter().any(|prefix| line.starts_with(prefix)) || line.contains(": Fatal error: ")).then_some(line)
}

/// Whether a line starts an exception: `ValueError: no`, `Error: no`, `java.lang.Exception`.
fn is_exception(line: &str) -> bool {
    let name = line.split_once(':').map_or(line, |(name, _)| name);
    let name = name.strip_prefix("Uncaught ").or_else(|| name.strip_prefix("uncaught exception: ")).unwrap_or(name);
    let is_name = name.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | '.' | '$'));
    is_name && ["Error", "Exception"].iter().any(|end| name.ends_with(end))
}

/// Whether a line belongs to a stack, or to its heading.
fn is_frame(line: &str) -> bool {
    let text = line.trim();
    const WHOLE_LINES: [&str; 8] = [
        "Stack:",
        "stack:",
        "Stack trace:",
        "stack trace:",
        "Backtrace:",
        "stack backtrace:",
        "stack traceback:",
        "Aborted",
    ];
    const PREFIXES: [&str; 6] = [
        "note: ",
        "exit status ",
        "Traceback (most recent call last)",
        "Raised at ",
        "Called from ",
        "Unable to dump stack trace",
    ];
    let is_indented = line.starts_with([' ', '\t']) && text.starts_with("at ");
    let is_python = text.starts_with("File \"") && text.contains(", line ");
    let is_goroutine = text.starts_with("goroutine ") && text.ends_with("]:");
    let is_underline = !text.is_empty() && text.chars().all(|char| matches!(char, '^' | '~' | ' '));
    let is_numbered = text.split_once(": ").is_some_and(|(number, rest)| {
        !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && line.starts_with(' ')
            && !rest.is_empty()
    });
    let is_address = text.contains(": 0x") && text.contains(" in ");
    WHOLE_LINES.contains(&text)
        || PREFIXES.iter().any(|prefix| text.starts_with(prefix))
        || is_indented
        || is_python
        || is_goroutine
        || is_underline
        || is_numbered
        || is_address
        || is_script_location(text)
}

/// Whether a string is a location in a JavaScript stack, such as `run@task.js:3:9`.
fn is_script_location(text: &str) -> bool {
    let Some((_, place)) = text.split_once('@').filter(|(function, _)| !function.contains(' ')) else { return false };
    let mut parts = place.rsplit(':');
    let is_number = |part: Option<&str>| {
        part.is_some_and(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    is_number(parts.next()) && (is_number(parts.next()) || place.contains(".js:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(printed: &str) -> Option<String> {
        let mut last = LastError::default();
        printed.split('\n').for_each(|line| last.add_error(line));
        let mut logged = LastError::default();
        logged.add_error(printed);
        assert_eq!(last.reason(), logged.reason(), "in one message or in many");
        last.reason()
    }

    #[test]
    fn the_reason_is_found_in_the_crash_report_of_each_language() {
        let python = "Traceback (most recent call last):\n  File \"app.py\", line 3, in run\n    pay(1)\n    ~~~^^^\n  \
                      File \"app.py\", line 9, in pay\n    raise ValueError(\"no\\nmoney\")\nValueError: no\nmoney\n";
        let chained = "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\nKeyError: 'a'\n\nDuring handling \
                       of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \
                       \"a.py\", line 2, in f\ntill.Closed: the till is closed\n\n";
        let go = "panic: no till [recovered]\n\tpanic: no till\n\ngoroutine 1 [running]:\nmain.run(0x1)\n\t/src/main.go:10 +0x1d\n";
        let zig =
            "thread 1 panic: no till\n/src/main.zig:3:5: 0x2f1 in run (main.wasm)\n    @panic(\"no till\");\n    ^\n";
        let rust = "\nthread 'main' (1) panicked at src/lib.rs:3:5:\nno till\n\nat all\nstack backtrace:\n   0: std\n\
                    note: run with `RUST_BACKTRACE=1` environment variable";
        let cases = [
            ("Error: no till\n    at run (task.js:3:9)\n    at main (task.js:9:1)\n\n\n", "Error: no till"),
            ("Error: no till\nStack:\nrun@task.js:3:9\n@task.js:9:1\n\n", "Error: no till"),
            ("TypeError: one\ntwo\n    at run (task.js:3:9)\n", "TypeError: one\ntwo"),
            (python, "ValueError: no\nmoney"),
            (chained, "till.Closed: the till is closed"),
            (go, "panic: no till [recovered]\n\tpanic: no till"),
            (zig, "panic: no till"),
            (rust, "panicked at src/lib.rs:3:5: no till\n\nat all"),
            (
                "terminate called after throwing an instance of 'std::runtime_error'\n  what():  no till\nAborted",
                "no till",
            ),
            (
                "libc++abi: terminating due to uncaught exception of type std::runtime_error: no till\n",
                "std::runtime_error: no till",
            ),
            ("Assertion failed: till (main.c: run: 3)\n", "Assertion failed: till (main.c: run: 3)"),
            ("abort: no till in assembly/index.ts(3:5)\n", "abort: no till in assembly/index.ts(3:5)"),
            (
                "Unhandled exception. System.InvalidOperationException: no till\n   at Run() in Task.cs:line 3\n",
                "System.InvalidOperationException: no till",
            ),
            ("main.swift:3: Fatal error: no till\n\n", "main.swift:3: Fatal error: no till"),
            (
                "java.lang.IllegalStateException: no till\n\tat Task.run(Task.java:3)\n",
                "java.lang.IllegalStateException: no till",
            ),
            ("lua: task.lua:3: no till\nstack traceback:\n", "lua: task.lua:3: no till"),
            ("cannot reach the till\n\n  \n", "cannot reach the till"),
            ("first\nsecond\n", "second"),
            ("Error: an old one\n\nsomething else\n", "something else"),
            (
                "Error while (call) event loop error, but no exception is pending. Aborting, since that doesn't seem \
                 recoverable at all.\n",
                NEVER_SETTLED,
            ),
            ("    at run (task.js:3:9)\n\n", "at run (task.js:3:9)"),
        ];
        for (printed, expected) in cases {
            assert_eq!(reason(printed).as_deref(), Some(expected), "{printed}");
        }
        assert_eq!((reason(""), reason("\n \n")), (None, None));
    }

    #[test]
    fn a_long_stack_does_not_push_the_reason_out() {
        let stack = "main.run(...)\n\t/src/main.go:10 +0x1d\n".repeat(1000);
        assert_eq!(
            reason(&format!("panic: no till\n\ngoroutine 1 [running]:\n{stack}")).as_deref(),
            Some("panic: no till")
        );
    }

    #[test]
    fn the_kept_lines_are_bounded_and_can_be_cleared() {
        let mut last = LastError::default();
        last.add_error(&"x".repeat(1 << 20));
        assert!(last.reason().is_some_and(|reason| reason.len() < LINE_MAX + 8));
        last.add_other("panic: on stdout");
        last.add_other("not an error");
        assert_eq!(last.reason().as_deref(), Some("panic: on stdout"));
        last.clear();
        assert_eq!(last.reason(), None);
    }
}
