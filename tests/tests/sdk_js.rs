//! Tasks in TypeScript and JavaScript: built by `fastworker build`, on the small engine. On the complete one, which is
//! large, if `FASTWORKER_TEST_COMPLETE_ENGINE` is set.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::Command,
    thread,
};

use fastworker_tests::{Cluster, Ran, Transcript, binary, cli, sdk};
use serde_json::{Value, json};
use tempfile::TempDir;

const SMALL: &str = "componentize-qjs";
const COMPLETE: &str = "componentize-js";

fn directory() -> TempDir {
    TempDir::new().expect("directory created")
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("parent directory")).expect("directory created");
    fs::write(path, text).expect("file access");
}

/// Writes a file whose text follows the import of the SDK.
fn source(directory: &Path, name: &str, tasks: &str) {
    const IMPORT: &str = "import { task, GiveUp, Retry, submit, current, type integer } from 'fastworker';";
    write(&directory.join(name), &format!("{IMPORT}\n{tasks}"));
}

/// Builds such a file.
fn build(directory: &Path, name: &str, tasks: &str) -> Ran {
    source(directory, name, tasks);
    sdk::build(directory, name)
}

/// Builds such a file, and returns the names and signatures of its tasks.
fn built(directory: &Path, name: &str, tasks: &str) -> String {
    source(directory, name, tasks);
    sdk::built(directory, name)
}

/// Runs a task of a module with arguments in JSON.
fn dev(directory: &Path, module: &str, name: &str, args: &Value) -> Ran {
    sdk::run(directory, &["dev", "--json", module, name, "--args-json", &args.to_string()])
}

fn result(directory: &Path, module: &str, name: &str, args: &Value) -> Value {
    dev(directory, module, name, args).with_code(0).json()["result"].clone()
}

#[test]
fn the_sdk_passes_its_own_tests_under_node() {
    if sdk::is_without(SMALL) {
        return;
    }
    // In CI, this installs the tools.
    let directory = directory();
    built(directory.path(), "tasks.ts", "task('one', () => 1);\n");
    let mut node = Command::new("node");
    node.arg("--test").current_dir(binary::root().join("guest-sdk/js")).env("FASTWORKER_TOOLS", sdk::folder());
    let ran = node.output().expect("node can be started");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[test]
fn a_lone_typescript_file_becomes_a_module() {
    if sdk::is_without(SMALL) {
        return;
    }
    let directory = directory();
    let at = directory.path();
    let mut shown = Transcript::new();
    let tasks = "
interface Order { items: { name: string; price: number }[]; kind: 'post' | 'courier' | null; due?: Date }

/** Adds two numbers. */
task('add', (x: number, y: number): number => x + y);

/** Calculates a total. */
task('total', { timeout: '1m', maxRetries: 2 }, (order: Order, discount = 0): number => {
  console.log('due', order.due);
  return order.items.reduce((sum, { price }) => sum + price, -discount);
});

task('exact', (big: bigint, small: integer): bigint => big + BigInt(small));
task('random', (): number[] => [Math.random(), crypto.getRandomValues(new Uint8Array(1))[0]]);

task('fail', (how: string) => {
  if (how === 'retry') throw new Retry('busy', { after: '5s' });
  if (how === 'give up') throw new GiveUp('closed', { kind: 'Closed', details: { account: 17 } });
  throw new TypeError('no account');
});
";
    shown.note(&built(at, "tasks.ts", tasks));
    assert_eq!(result(at, "tasks.wasm", "add", &json!([5, 3])), json!(8));
    let order = json!({ "items": [{ "name": "tea", "price": 3.5 }], "kind": null, "due": "2026-12-24T00:00:00Z" });
    assert_eq!(result(at, "tasks.wasm", "total", &json!([order, 1])), json!(2.5));
    let exact = dev(at, "tasks.wasm", "exact", &json!([18_446_744_073_709_551_615_u64, 1])).with_code(0);
    assert!(exact.stdout.contains("18446744073709551616"), "{exact:?}");
    let random = || result(at, "tasks.wasm", "random", &json!([]));
    assert_ne!(random(), random(), "each attempt draws its own numbers");
    for (name, args) in [
        ("add", json!([1])),
        ("add", json!([1, "2"])),
        ("add", json!([1, 9_007_199_254_740_993_u64])),
        ("exact", json!([1, 1.5])),
        ("total", json!([{ "items": [{ "name": "tea" }], "kind": "post" }])),
        ("total", json!([{ "items": [], "kind": "car" }])),
        ("fail", json!(["retry"])),
        ("fail", json!(["give up"])),
        ("fail", json!(["otherwise"])),
    ] {
        let args = args.to_string();
        shown.add(&sdk::run(at, &["dev", "tasks.wasm", name, "--args-json", &args]).with_code(1));
    }
    shown.check();
}

#[test]
fn javascript_has_its_signature_from_doc_comments() {
    if sdk::is_without(SMALL) {
        return;
    }
    let directory = directory();
    let tasks = "
/**
 * Joins texts.
 * @param {string[]} texts
 * @param {string} [by]
 * @returns {string}
 */
function join(texts, by = ', ') { return texts.join(by); }
task(join);
task('untyped', { parameters: { 'x?': 'integer' }, result: 'number', every: '1h', priority: 'low' }, (x) => x);
";
    write(&directory.path().join("tasks.mjs"), &format!("import {{ task }} from 'fastworker';\n{tasks}"));
    let mut shown = Transcript::new();
    shown.note(&sdk::built(directory.path(), "tasks.mjs"));
    shown.check();
    assert_eq!(result(directory.path(), "tasks.wasm", "join", &json!([["a", "b"]])), json!("a, b"));
}

#[test]
fn mistakes_in_the_source_are_errors_with_their_place() {
    if sdk::is_without(SMALL) {
        return;
    }
    let directory = directory();
    let mut errors = Transcript::new();
    for (name, tasks) in [
        ("syntax.ts", "task('a', (x: number) => { return x +; });"),
        ("package.ts", "import dayjs from 'dayjs/plugin/utc';\ntask('a', () => dayjs);"),
        (
            "node.ts",
            "import { readFileSync } from 'fs';\nimport crypto from 'node:crypto';\ntask('a', () => readFileSync(crypto));",
        ),
        ("file.ts", "import other from './other';\ntask('a', () => other);"),
        ("none.ts", "export const x = 1;"),
        ("option.ts", "task('a', { maxRetry: 3 } as any, () => 1);"),
        ("twice.ts", "task('a', () => 1);\ntask('a', () => 2);"),
        ("schedule.ts", "task('a', { every: '10s' }, (x: number) => x);"),
        ("top.ts", "const config: any = undefined;\nexport const port = config.port;\ntask('a', () => 1);"),
        ("await.ts", "const x = await Promise.resolve(1);\ntask('a', () => x);"),
        ("regexp.ts", "task('a', (x: RegExp) => x.source);"),
        ("testing.ts", "import { load } from 'fastworker/testing';\ntask('a', () => void load('x'));"),
    ] {
        errors.add(&build(directory.path(), name, tasks).with_code(1));
        assert!(!directory.path().join(name).with_extension("wasm").exists(), "{name}");
    }
    let types = "task('a', (x: number): string => x);\ntask('b', () => process.pid);";
    errors.note(&build(directory.path(), "types.ts", types).with_code(0).stderr);
    errors.check();
}

#[test]
fn async_code_needs_the_complete_engine_which_is_named() {
    if sdk::is_without(SMALL) {
        return;
    }
    let directory = directory();
    let mut errors = Transcript::new();
    for (name, tasks) in [
        ("async.ts", "task('a', async () => 1);"),
        ("timer.ts", "task('a', () => { setTimeout(() => console.log('x'), 1); });"),
        ("url.ts", "task('a', (text: string) => new URL(text).host);"),
    ] {
        source(directory.path(), name, tasks);
        // Only the small engine is installed there.
        let small = directory.path().join("tools");
        fs::create_dir_all(&small).expect("directory created");
        for entry in fs::read_dir(sdk::folder()).expect("the directory of the tools").flatten() {
            let link = small.join(entry.file_name());
            if entry.file_name().to_string_lossy().starts_with(SMALL) && !link.exists() {
                std::os::unix::fs::symlink(entry.path(), link).expect("link created");
            }
        }
        let mut command = sdk::command(directory.path(), &["build", name]);
        command.env("FASTWORKER_TOOLS", small);
        errors.note(&cli::run(command).with_code(6).stderr);
    }
    errors.check();
    // Asked for the small engine, the task says what it lacks.
    let asked = "// @engine small\ntask('a', async () => 1);\ntask('b', () => new URL('a:b').host);";
    built(directory.path(), "asked.ts", asked);
    for name in ["a", "b"] {
        let ran = dev(directory.path(), "asked.wasm", name, &json!([])).with_code(1);
        assert!(ran.stdout.contains("@engine complete"), "{ran:?}");
    }
}

#[test]
fn new_projects_in_both_languages_build_pass_their_tests_and_run() {
    if sdk::is_without(SMALL) {
        return;
    }
    let directory = directory();
    for language in ["ts", "js"] {
        let project = directory.path().join(language);
        let new = sdk::run(directory.path(), &["new", "my-tasks", "--lang", language, "--path", language]);
        assert_eq!(new.code, Some(0), "{new:?}");
        sdk::built(&project, ".");
        let mut test = Command::new("npm");
        test.arg("test").current_dir(&project).env("FASTWORKER_TOOLS", sdk::folder());
        let ran = test.output().expect("npm can be started");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
        let greeted = result(&project, &format!("{language}.wasm"), "greet", &json!(["Ada", 2]));
        assert_eq!(greeted, json!(["Hello, Ada!", "Hello, Ada!"]));
    }
}

#[test]
fn templates_are_rendered_and_tasks_follow_each_other() {
    if sdk::is_without(SMALL) {
        return;
    }
    let directory = directory();
    let example = binary::root().join("examples/tasks/typescript-templates");
    let follow = "
task('again', (text: string) => {
  return submit('render', [text, { id: current().taskId }], { countdown: '10ms', priority: 'high' });
});
";
    built(directory.path(), "follow.ts", follow);
    // A copy, so that the module is not written into the repository.
    let project = directory.path().join("templates");
    for file in ["package.json", "src/tasks.ts", "src/template.ts", "src/invoice.html"] {
        write(&project.join(file), &fs::read_to_string(example.join(file)).expect("a file of the example"));
    }
    sdk::built(directory.path(), "templates");
    let modules = [project.join("templates.wasm"), directory.path().join("follow.wasm")];
    let cluster = Cluster::builder().sources(modules).subworkers(1).start();
    let submit = |name: &str, args: &Value| {
        let args = args.to_string();
        cluster.cli(["submit", "--json", "--task-name", name, "--args-json", &args])
    };
    let invoice = json!({
        "number": "7", "customer": { "name": "Ada & Co" }, "due": "2026-12-24T00:00:00Z",
        "items": [{ "title": "Tea", "price": 350, "count": 2 }, { "title": "Cup", "price": 1299 }],
    });
    let html = submit("invoice", &json!([invoice])).with_code(0).json()["result"].to_string();
    assert!(html.contains("Ada &amp; Co") && html.contains("19.99 EUR") && html.contains("2 × Tea"), "{html}");
    let error = submit("render", &json!(["{{#a}}", {}])).with_code(1).stdout;
    assert!(error.contains("{{#a}} is not closed"), "{error}");
    let id = submit("again", &json!(["from {{id}}"])).with_code(0).json();
    let followed = cluster.cli(["result", "--json", id["result"].as_str().expect("an id")]).with_code(0).json();
    assert_eq!(followed["result"], json!(format!("from {}", id["task_id"].as_str().expect("an id"))), "{followed}");
}

/// Whether the longer form of these tests was asked for, and the tools for it are there.
fn is_without_complete_engine() -> bool {
    env::var_os("FASTWORKER_TEST_COMPLETE_ENGINE").is_none_or(|value| value.is_empty())
        || sdk::is_without(SMALL)
        || sdk::is_without(COMPLETE)
}

#[test]
fn the_complete_engine_awaits_timers_and_promises() {
    if is_without_complete_engine() {
        return;
    }
    let directory = directory();
    let tasks = "
task('nap', async (ms: number): Promise<string> => {
  await new Promise((done) => setTimeout(done, ms));
  return 'slept';
});
task('fail', async (how: string) => {
  await null;
  throw how === 'retry' ? new Retry('busy', { after: 5 }) : new TypeError('no');
});
task('same', () => [new URL('https://a.b/c').host, structuredClone({ x: 1 }), Math.random() < 1]);
";
    let built = build(directory.path(), "tasks.ts", tasks).with_code(0);
    assert!(built.stderr.contains("StarlingMonkey"), "{built:?}");
    let at = directory.path();
    assert_eq!(result(at, "tasks.wasm", "nap", &json!([5])), json!("slept"));
    assert_eq!(result(at, "tasks.wasm", "same", &json!([])), json!(["a.b", { "x": 1 }, true]));
    let failed = dev(at, "tasks.wasm", "fail", &json!(["otherwise"])).with_code(1);
    assert!(failed.stdout.contains("TypeError: no"), "{failed:?}");
}

#[test]
fn fetch_reaches_granted_hosts_only() {
    if is_without_complete_engine() {
        return;
    }
    let directory = directory();
    let source = binary::root().join("examples/tasks/typescript-fetch/fetch.ts");
    fs::copy(source, directory.path().join("fetch.ts")).expect("file copied");
    sdk::built(directory.path(), "fetch.ts");
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = server.local_addr().expect("an address").to_string();
    let request = thread::spawn(move || {
        let (mut connection, _) = server.accept().expect("a connection");
        let mut request = [0; 4096];
        let length = connection.read(&mut request).expect("a request");
        let body = "<title> Hello </title>";
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close", body.len());
        write!(connection, "{head}\r\n\r\n{body}").expect("sent");
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let url = format!("http://{address}/page");
    let args = json!([url]).to_string();
    let refused = sdk::run(directory.path(), &["dev", "fetch.wasm", "page", "--args-json", &args]).with_code(1);
    assert!(refused.stderr.contains("--allow-http"), "{refused:?}");
    let command = ["dev", "--json", "--allow-http", &address, "fetch.wasm", "page", "--args-json", &args];
    let page = sdk::run(directory.path(), &command).with_code(0).json()["result"].clone();
    assert_eq!(page, json!({ "url": url, "status": 200, "title": "Hello", "characters": 22 }));
    assert!(request.join().expect("a request").starts_with("GET /page "));
}
