//! Example: replacing a module. Change the text, build, and replace the old file with the new one: the
//! running worker loads the new version. `scripts/demo` shows this.

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
    fn a_greeting_contains_the_name() {
        assert_eq!(welcome("Ada"), "Hello, Ada!");
    }
}
