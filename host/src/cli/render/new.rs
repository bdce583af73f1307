//! Output of `fastworker new`.

use std::path::Path;

use serde::Serialize;

use super::output::{print_escaped, print_json};
use crate::cli::{CommandResult, build::Language};

/// Prints the path of a new project, and the next steps. `module` is the file that `fastworker build` writes there.
pub(in crate::cli) fn print_created(
    language: Language,
    name: &str,
    folder: &Path,
    module: &str,
    json: bool,
) -> CommandResult {
    #[derive(Serialize)]
    struct Created<'a> {
        name: &'a str,
        language: &'a str,
        path: &'a Path,
        module: &'a str,
    }
    if json {
        print_json(&Created { name, language: language.as_str(), path: folder, module })?;
        return Ok(0);
    }
    print_escaped(format_args!(
        "created the {language} project {name} in {}, with the tasks greet and mean. Next steps:\n",
        folder.display()
    ));
    print_escaped(format_args!("    cd {}", folder.display()));
    if let Some(command) = test_command(language) {
        print_escaped(format_args!("    {command}"));
    }
    print_escaped("    fastworker build");
    print_escaped(format_args!("    fastworker dev {module} greet Ada"));
    Ok(0)
}

/// The command that runs the tests of a new project.
fn test_command(language: Language) -> Option<&'static str> {
    match language {
        Language::Rust => Some("cargo test"),
        Language::Python => Some("python3 -m unittest"),
        Language::JavaScript | Language::TypeScript => Some("npm test"),
        Language::Go => Some("go test ./..."),
        Language::C | Language::Cpp => Some("make test"),
        // A long one, in its README.md.
        Language::Zig => None,
    }
}
