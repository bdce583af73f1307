//! A program as a task: an ordinary `main` that knows nothing of fastworker. Its arguments are those of the task, and what
//! it prints is the result: JSON, since it prints JSON.
//!
//! ```text
//! fastworker dev program-slug.wasm program-slug 'Hello, World!' 'Zwei Wörter'
//! ["hello-world","zwei-wörter"]
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let slugs: Vec<String> = env::args().skip(1).map(|title| slug(&title)).collect();
    if slugs.is_empty() {
        eprintln!("usage: program-slug TITLE…");
        return ExitCode::from(2);
    }
    println!("[{}]", slugs.iter().map(|slug| format!("\"{slug}\"")).collect::<Vec<_>>().join(","));
    ExitCode::SUCCESS
}

/// The words of a title in lower case, joined by hyphens, as in the address of a page.
fn slug(title: &str) -> String {
    let words = title.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn a_title_becomes_words_joined_by_hyphens() {
        assert_eq!(slug("Hello, World!"), "hello-world");
        assert_eq!(slug("  Zwei  Wörter "), "zwei-wörter");
        assert_eq!(slug("?!"), "");
    }
}
