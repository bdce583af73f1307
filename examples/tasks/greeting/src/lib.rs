//! The lesson: change a word, build, and replace the old file with the new one. The new version is live
//! a moment later, while the worker runs. `scripts/demo` shows it.

use fastworker_guest::task;

/// Welcomes a person.
#[task]
fn welcome(name: &str) -> String {
    format!("Hello, {name}!")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_has_the_name_in_it() {
        assert_eq!(welcome("Ada"), "Hello, Ada!");
    }
}
