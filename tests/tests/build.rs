//! `fastworker build` and `fastworker dev` with sources.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use fastworker_tests::{
    Process, TIMEOUT, Transcript, cli, eventually, fastworker, modules::compiler_variables, ports::Ports,
};
use tempfile::TempDir;

/// Time for cargo to compile a small program on a busy machine.
const COMPILED: Duration = Duration::from_mins(2);

fn directory() -> TempDir {
    TempDir::new().expect("directory created")
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("parent directory")).expect("directory created");
    fs::write(path, text).expect("file access");
}

/// A crate without dependencies, whose program is a module with one task.
fn program(folder: &Path, main: &str) {
    write(
        &folder.join("Cargo.toml"),
        "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
    );
    write(&folder.join("src/main.rs"), main);
}

fn printing(text: &str) -> String {
    format!("fn main() {{\n    println!(\"{text}\");\n}}\n")
}

/// A command with the compiler of task modules, in a directory, with an own target directory there.
fn with_compiler(directory: &Path, args: &[&str]) -> Command {
    let mut command = fastworker();
    command.current_dir(directory).args(args).envs(compiler_variables());
    command.env("CARGO_TARGET_DIR", directory.join("built"));
    command
}

/// A command in a directory, with no tool installed and none on PATH.
fn without_tools(directory: &Path, args: &[&str]) -> Command {
    // The harness starts programs through this one.
    let programs = directory.join("programs");
    if fs::create_dir(&programs).is_ok() {
        let paths = env::var_os("PATH").unwrap_or_default();
        let setpriv = env::split_paths(&paths).map(|folder| folder.join("setpriv")).find(|path| path.exists());
        if let Some(setpriv) = setpriv {
            std::os::unix::fs::symlink(setpriv, programs.join("setpriv")).expect("link created");
        }
    }
    let mut command = fastworker();
    command.current_dir(directory).args(args);
    command.env("FASTWORKER_TOOLS", "tools").env("PATH", programs).env("CARGO", "").env("RUSTC", "");
    command
}

#[test]
fn what_is_to_be_built_must_be_clear() {
    let directory = directory();
    let at = |path: &str| directory.path().join(path);
    for path in ["a.wasm", "a.rs", "notes.txt", "empty/README.md", "two/a.py", "two/b.go", "both/package.json"] {
        write(&at(path), "");
    }
    write(&at("both/pyproject.toml"), "");
    let mut errors = Transcript::new();
    for path in ["missing.py", "a.wasm", "a.rs", "notes.txt", "empty", "two", "both"] {
        let code = if path == "missing.py" { 5 } else { 2 };
        errors.add(&cli::run(without_tools(directory.path(), &["build", path])).with_code(code).with_error());
    }
    errors.add(&cli::run(without_tools(directory.path(), &["build", "two", "--lang", "rusty"])).with_code(2));
    errors.check();
}

#[test]
fn a_missing_tool_is_named_with_the_command_that_installs_it() {
    let directory = directory();
    program(&directory.path().join("hello"), &printing("hello"));
    for file in ["tasks.py", "tasks.js", "tasks.ts", "tasks.go", "tasks.c", "tasks.cpp", "my tasks.zig"] {
        write(&directory.path().join(file), "");
        let ran = cli::run(without_tools(directory.path(), &["build", file, "--json"])).with_code(6).with_error();
        let quoted = if file.contains(' ') { format!("'{file}'") } else { file.to_owned() };
        assert!(ran.stderr.contains(&format!("fastworker build --install {quoted}")), "{ran:?}");
        assert!(ran.stderr.contains("MB to download"), "{ran:?}");
        assert_eq!(ran.json()["code"], 6, "{ran:?}");
    }
    let mut errors = Transcript::new();
    errors.add(&cli::run(without_tools(directory.path(), &["build", "tasks.py"])).with_code(6));
    errors.add(&cli::run(without_tools(directory.path(), &["dev", "tasks.py", "add", "5", "3"])).with_code(6));
    errors.add(&cli::run(without_tools(directory.path(), &["build", "hello"])).with_code(6));
    let mut command = with_compiler(directory.path(), &["build", "hello"]);
    command.env("CARGO_BUILD_TARGET", "wasm32-wasi-unknown");
    errors.add(&cli::run(command).with_code(6));
    errors.check();
    assert!(!directory.path().join("tools").exists(), "nothing is installed without --install");
}

#[test]
fn an_installation_without_pip_or_npm_names_what_to_install() {
    let directory = directory();
    let mut errors = Transcript::new();
    for file in ["tasks.py", "tasks.ts"] {
        write(&directory.path().join(file), "");
        errors.add(&cli::run(without_tools(directory.path(), &["build", "--install", file])).with_code(6));
    }
    errors.check();
    let left = fs::read_dir(directory.path().join("tools")).expect("the directory of the tools");
    let left: Vec<_> = left.flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| name.to_string_lossy().ends_with(".lock")), "half an installation: {left:?}");
}

#[test]
fn sources_as_modules_are_refused_with_the_command_that_builds_them() {
    let directory = directory();
    write(&directory.path().join("tasks.py"), "from fastworker import task\n");
    write(&directory.path().join("short.c"), "\n");
    program(&directory.path().join("hello"), &printing("hello"));
    let mut errors = Transcript::new();
    let commands: [&[&str]; 5] = [
        &["list", "--task-modules", "tasks.py"],
        &["list", "--task-modules", "tasks.py", "short.c"],
        &["list", "--task-modules", "hello"],
        &["control-plane", "--task-modules", "tasks.py"],
        &[
            "subworker",
            "--worker-id",
            "sw1",
            "--control-plane-address",
            "tcp://127.0.0.1:1",
            "--task-modules",
            "short.c",
        ],
    ];
    for args in commands {
        let ran = cli::run(without_tools(directory.path(), args)).with_code(2);
        assert!(ran.stderr.contains("fastworker build "), "{ran:?}");
        if args[0] == "list" {
            errors.add(&ran);
        }
    }
    errors.check();
}

#[test]
fn a_crate_is_built_and_a_failed_build_leaves_its_module() {
    let directory = directory();
    let hello = directory.path().join("hello");
    program(&hello, &printing("hello"));
    let build = |args: &[&str]| cli::run(with_compiler(directory.path(), &[&["build", "hello"], args].concat()));
    let module = build(&["--json"]).with_code(0).json();
    assert_eq!((&module["path"], &module["tasks"][0]["name"]), (&"hello/hello.wasm".into(), &"hello".into()));
    let module = fs::read(hello.join("hello.wasm")).expect("the module");

    program(&hello, "fn main() { missing() }\n");
    let failed = build(&[]).with_code(1);
    assert!(failed.stderr.contains("cannot find function `missing`"), "the compiler's output is shown: {failed:?}");
    assert!(failed.stderr.contains("\nerror: cargo failed with exit code 101: "), "{failed:?}");
    assert_eq!(fs::read(hello.join("hello.wasm")).expect("the module"), module);

    program(&hello, &printing("good day"));
    let _ = build(&["--output", "out/other.wasm"]).with_code(0);
    let mut names: Vec<_> = fs::read_dir(directory.path().join("out")).expect("a directory").flatten().collect();
    assert_eq!(names.pop().map(|entry| entry.file_name()), Some("other.wasm".into()));
    assert!(names.is_empty(), "{names:?}");
    let ran = cli::run(with_compiler(directory.path(), &["dev", "hello", "hello"])).with_code(0);
    assert_eq!(ran.stdout, "\"good day\"\n");
}

#[test]
fn an_interrupted_build_ends_its_tools() {
    let directory = directory();
    let hello = directory.path().join("hello");
    program(&hello, &printing("hello"));
    let started = directory.path().join("started");
    // Never ends by itself.
    let script = format!(
        "fn main() {{\n    std::fs::write({started:?}, std::process::id().to_string()).unwrap();\n    \
         loop {{ std::thread::park(); }}\n}}\n"
    );
    write(&hello.join("build.rs"), &script);
    for interrupt in [Process::interrupt, Process::terminate] {
        let _ = fs::remove_file(&started);
        let mut build = Process::start("build", with_compiler(directory.path(), &["build", "hello"]), directory.path());
        let script = eventually("the build script", COMPILED, || {
            fs::read_to_string(&started).ok().and_then(|id| id.parse::<u32>().ok())
        });
        interrupt(&build);
        assert_eq!(build.wait_for_exit(TIMEOUT).code(), Some(130));
        eventually("the end of the build script", TIMEOUT, || {
            let state = fs::read_to_string(format!("/proc/{script}/stat")).unwrap_or_default();
            // A process that nobody waits for stays as a zombie.
            (state.is_empty() || state.contains(") Z ")).then_some(())
        });
    }
}

/// A running `fastworker dev --serve hello`.
struct Served {
    process: Process,
    ports: Ports,
}

impl Served {
    fn start(directory: &Path) -> Self {
        let ports = Ports::claim();
        let (base, discovery) = (address(ports.base()), address(ports.discovery()));
        let subworkers = ports.subworkers().to_string();
        let args = ["dev", "--serve", "hello", "--json", "--concurrency", "1", "--base-address", &base];
        let args = [&args[..], &["--discovery-address", &discovery, "--subworker-port", &subworkers]].concat();
        let mut process = Process::start("dev", with_compiler(directory, &args), directory);
        process.wait_until_ready();
        Self { process, ports }
    }

    /// The result of the task, or nothing while no worker has it.
    fn result(&self) -> Option<String> {
        let mut command = fastworker();
        command.args(["submit", "--task-name", "hello", "--timeout", "2s"]);
        command.args(["--control-plane-address", &address(self.ports.base())]);
        command.args(["--discovery-address", &address(self.ports.discovery())]);
        let ran = cli::run(command);
        (ran.code == Some(0)).then(|| ran.stdout.trim().to_owned())
    }

    fn wait_for_result(&self, wanted: &str) {
        let wanted = format!("\"{wanted}\"");
        eventually(&format!("the result {wanted}"), COMPILED, || (self.result()? == wanted).then_some(()));
    }
}

fn address(port: u16) -> String {
    format!("tcp://127.0.0.1:{port}")
}

#[test]
fn served_sources_are_built_again_when_they_change() {
    let directory = directory();
    let hello = directory.path().join("hello");
    program(&hello, &printing("one"));
    let mut served = Served::start(directory.path());
    served.wait_for_result("one");

    program(&hello, &printing("two"));
    served.wait_for_result("two");

    program(&hello, "fn main() { missing() }\n");
    eventually("the error of the build", COMPILED, || {
        let log = served.process.log();
        (log.contains("cannot find function `missing`") && log.contains("the last module stays")).then_some(())
    });
    assert_eq!(served.result().as_deref(), Some("\"two\""));

    write(&hello.join("src/text.rs"), "pub const TEXT: &str = \"three\";\n");
    program(&hello, "mod text;\nfn main() {\n    println!(\"{}\", text::TEXT);\n}\n");
    served.wait_for_result("three");
    // A file that the build did not know at first.
    write(&hello.join("src/text.rs"), "pub const TEXT: &str = \"four\";\n");
    served.wait_for_result("four");

    served.process.interrupt();
    assert!(served.process.wait_for_exit(TIMEOUT).success());
    assert!(!hello.join("hello.wasm").exists(), "the module is not in the project");
}

#[test]
fn the_options_of_one_task_and_of_serving_exclude_each_other() {
    let directory = directory();
    program(&directory.path().join("hello"), &printing("hello"));
    let mut errors = Transcript::new();
    let commands: [&[&str]; 4] = [
        &["dev", "hello"],
        &["dev", "hello", "hello", "--gui-port", "0"],
        &["dev", "--serve", "hello", "--attempt", "2"],
        &["dev", "--serve", "hello", "--no-reload"],
    ];
    for args in commands {
        errors.add(&cli::run(without_tools(directory.path(), args)).with_code(2).with_error());
    }
    errors.check();
}

/// The folders that builds use, in the directory of caches that all tests share.
#[test]
fn a_build_leaves_nothing_in_the_folder_for_its_files() {
    let directory = directory();
    program(&directory.path().join("hello"), &printing("hello"));
    let cache = directory.path().join("cache");
    let mut command = with_compiler(directory.path(), &["build", "hello"]);
    command.env("XDG_CACHE_HOME", &cache);
    let _ = cli::run(command).with_code(0);
    let left = fs::read_dir(cache.join("fastworker/build")).expect("a directory").flatten();
    let left: Vec<PathBuf> = left.map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}
