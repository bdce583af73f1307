//! The lesson: change a word, build, and put the new file in the place of the old one; it is live a
//! moment later, while the worker runs. `scripts/demo` does it.

use fastworker_guest::task;

/// Greets somebody.
#[task]
fn greet(name: &str) -> String {
    format!("Hello, {name}!")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_has_the_name_in_it() {
        assert_eq!(greet("Ada"), "Hello, Ada!");
    }
}
