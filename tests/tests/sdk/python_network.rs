//! Python tasks that reach outside of their sandbox: HTTP through the standard library, and `PostgreSQL` over TCP.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use fastworker_tests::{
    ports::Ports,
    sdk::{self, Attempt},
    servers::{Server, respond},
};
use serde_json::json;

use super::{TOOL, build_copy, directory};

#[test]
fn python_sends_http_requests_to_granted_hosts_only() {
    if sdk::is_without(TOOL) {
        return;
    }
    let server = Server::http(|head, stream, _| {
        if head.starts_with("GET /old ") {
            return respond(stream, "302 Found", "location: /new\r\n", "");
        }
        respond(stream, "200 OK", "content-type: text/html\r\n", "<title>The\n page</title><a href=x>1</a><a>2</a>");
    });
    let directory = directory();
    let module = build_copy(directory.path(), "examples/tasks/python-http/pages.py", "pages.py");
    let url = format!("http://{}/old", server.address());
    let page = Attempt::run(&module, &["page_title", &url, "--allow-http", &server.address()]);
    let expected = json!({ "url": url.replace("old", "new"), "status": 200, "title": "The page", "links": 2 });
    assert_eq!(page.result(), &expected);
    let denied = Attempt::run(&module, &["page_title", &url]);
    let (_, kind, error) = denied.failure();
    assert_eq!(kind, "PermissionError");
    assert!(error.contains(&format!("--allow-http {}", server.address())), "{error}");
    assert_eq!(server.connections().get(), 2, "nothing was sent without the grant");
}

#[test]
fn the_standard_library_sends_http_requests() {
    if sdk::is_without(TOOL) {
        return;
    }
    let server = Server::http(|head, stream, _| {
        let line = head.lines().next().unwrap_or_default();
        let status = if line.contains("/missing") { "404 Not Found" } else { "200 OK" };
        respond(stream, status, "x-test: yes\r\n", &format!("\"{line}\""));
    });
    let source = "
import urllib.error, urllib.request
from fastworker import http, task

@task
def fetch(base: str) -> list:
    with urllib.request.urlopen(base + '/a?b=1', timeout=5) as answer:
        found = [answer.status, answer.headers['X-Test'], answer.read().decode()]
    try:
        urllib.request.urlopen(base + '/missing')
    except urllib.error.HTTPError as error:
        found.append(error.code)
    return found + [http.put(base + '/put', json={'a': 1}).json(), http.get(base, params={'q': 'x y'}).json()]
";
    let directory = directory();
    fs::write(directory.path().join("web.py"), source).expect("file written");
    let _ = sdk::build(directory.path(), "web.py").with_code(0);
    let base = format!("http://{}", server.address());
    let fetched =
        Attempt::run(&directory.path().join("web.wasm"), &["fetch", &base, "--allow-http", &server.address()]);
    let expected = json!([200, "yes", "\"GET /a?b=1 HTTP/1.1\"", 404, "PUT /put HTTP/1.1", "GET /?q=x+y HTTP/1.1",]);
    assert_eq!(fetched.result(), &expected);
}

/// A `PostgreSQL` server with the password `s3cret`, until dropped.
struct Postgres {
    programs: PathBuf,
    data: PathBuf,
    ports: Ports,
}

impl Postgres {
    /// Starts one. None if it is not installed.
    fn start(directory: &Path) -> Option<Self> {
        let programs = programs()?;
        let server = Self { programs, data: directory.join("data"), ports: Ports::claim() };
        fs::create_dir(&server.data).expect("directory created");
        let password = directory.join("password");
        fs::write(&password, "s3cret").expect("file written");
        if is_root() {
            // It refuses to run as root.
            run(Command::new("chown").args(["-R", "postgres"]).arg(directory));
        }
        let mut initdb = server.program("initdb");
        run(initdb.args(["-A", "scram-sha-256", "-U", "postgres", "--pwfile"]).arg(&password).arg(&server.data));
        let options = format!("-p {} -k {} -c listen_addresses=127.0.0.1", server.port(), server.data.display());
        let mut start = server.control(&["start"]);
        run(start.arg("-o").arg(options).arg("-l").arg(server.data.join("log")));
        Some(server)
    }

    fn port(&self) -> u16 {
        self.ports.base()
    }

    fn program(&self, name: &str) -> Command {
        let path = self.programs.join(name);
        if !is_root() {
            return Command::new(path);
        }
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(path);
        command
    }

    fn control(&self, args: &[&str]) -> Command {
        let mut command = self.program("pg_ctl");
        command.arg("-D").arg(&self.data).arg("-w").args(args);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.control(&["stop", "-m", "immediate"]).output();
    }
}

/// The folder of `PostgreSQL`'s programs: Debian's newest, else that of `initdb` on PATH.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|version| version.path().join("bin")).filter(|it| it.join("initdb").is_file()).max();
    let on_path = || env::split_paths(&env::var_os("PATH")?).find(|folder| folder.join("initdb").is_file());
    newest.or_else(on_path)
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id can be started");
    id.stdout.trim_ascii() == b"0"
}

fn run(command: &mut Command) {
    let ran = command.output().expect("it can be started");
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
#[allow(clippy::print_stderr, reason = "the test results must show skipped tests")]
fn python_uses_postgresql_over_a_granted_connection() {
    if sdk::is_without(TOOL) {
        return;
    }
    let (sources, data) = (directory(), directory());
    let Some(server) = Postgres::start(data.path()) else {
        assert!(env::var_os("CI").is_none(), "PostgreSQL is missing: scripts/setup --tests installs it");
        return eprintln!("SKIPPED: PostgreSQL is not installed");
    };
    let folder = Path::new("examples/tasks/python-postgres");
    fs::copy(
        fastworker_tests::binary::root().join(folder).join("requirements.txt"),
        sources.path().join("requirements.txt"),
    )
    .expect("file copied");
    let module = build_copy(sources.path(), "examples/tasks/python-postgres/visits.py", "visits.py");
    let password = data.path().join("password");
    let (tcp, port) = (format!("127.0.0.1:{}", server.port()), format!("PGPORT={}", server.port()));
    let secret = format!("PGPASSWORD=file:{}", password.display());
    let call = ["count_visit", "ada", "--allow-env", &port, "--allow-env", "PGHOST=127.0.0.1", "--secret", &secret];
    let visit = Attempt::run(&module, &[&call[..], &["--allow-tcp", &tcp]].concat());
    assert_eq!(visit.result()["visits"], 1);
    let visit = Attempt::run(&module, &[&call[..], &["--allow-tcp", &tcp]].concat());
    assert_eq!(visit.result()["visits"], 2);
    let denied = Attempt::run(&module, &call);
    let error = denied.failure().2;
    assert!(error.contains("--allow-tcp"), "{error}");
}
