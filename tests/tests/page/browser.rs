//! A real browser: Chromium without a window, driven through its `chromedriver`.

use std::{env, fs, path::PathBuf, process::Stdio, time::Duration};

use fantoccini::{Client, ClientBuilder};
use fastworker_tests::{
    Cluster, eventually,
    process::{self, Background},
    wait::eventually_async,
};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

/// Timeout for a browser on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// The variable that scripts/test sets if this machine cannot have a browser.
const WITHOUT: &str = "FASTWORKER_TEST_WITHOUT_BROWSER";

/// Width and height of a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window(pub(crate) u32, pub(crate) u32);

/// A browser that shows the page of a cluster.
pub(crate) struct Page {
    client: Client,
    log: PathBuf,
    _driver: Background,
}

/// Whether this machine has no browser, which is reported.
#[allow(clippy::print_stderr, reason = "the test results must show skipped tests")]
pub(crate) fn is_without_browser() -> bool {
    let without = env::var_os(WITHOUT).is_some_and(|value| !value.is_empty());
    if without {
        eprintln!("SKIPPED: {WITHOUT} is set, so the page is not tested in a browser");
    }
    without
}

impl Page {
    /// Opens the page of a cluster.
    pub(crate) async fn open(cluster: &Cluster, window: Window) -> Self {
        let port = cluster.ports().spare(0);
        let driver = start_driver(port);
        let log = cluster.directory().join("chromium.log");
        let options = json!({
            "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                "--enable-logging", format!("--log-file={}", log.display()),
                format!("--user-data-dir={}", cluster.directory().join("browser").display()),
            ],
            // Only device emulation makes a window as narrow as a phone.
            "mobileEmulation": { "deviceMetrics": { "width": window.0, "height": window.1, "pixelRatio": 1.0, "mobile": false } },
        });
        let wanted = json!({ "goog:chromeOptions": options }).as_object().expect("object expected").clone();
        let url = format!("http://127.0.0.1:{port}");
        let client = eventually_async("the browser starts", PATIENCE, || async {
            ClientBuilder::new(HttpConnector::new()).capabilities(wanted.clone()).connect(&url).await.ok()
        });
        let page = Self { client: client.await, log, _driver: driver };
        page.client.goto(&cluster.gui()).await.expect("the page opens");
        page
    }

    /// The result of a script.
    pub(crate) async fn evaluate(&self, script: &str) -> Value {
        let result = self.client.execute(&format!("return {script}"), Vec::new()).await;
        result.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Runs a script.
    pub(crate) async fn run(&self, script: &str) {
        self.client.execute(script, Vec::new()).await.unwrap_or_else(|error| panic!("{script}: {error}"));
    }

    /// Waits until a script returns true. A failing script means that the page is not loaded yet.
    pub(crate) async fn wait_until(&self, script: &str) {
        let evaluate = || async {
            let result = self.client.execute(&format!("return {script}"), Vec::new()).await;
            result.is_ok_and(|result| result == Value::Bool(true)).then_some(())
        };
        eventually_async(script, PATIENCE, evaluate).await;
    }

    /// Waits until an element contains this text.
    pub(crate) async fn wait_until_shows(&self, selector: &str, words: &str) {
        let shows =
            format!("[...document.querySelectorAll({selector:?})].some(it => it.innerText.includes({words:?}))");
        self.wait_until(&shows).await;
    }

    /// Ends the browser, and returns the errors it logged.
    pub(crate) async fn close(self) -> Vec<String> {
        const LAST: &str = "nothing comes after this";
        self.run(&format!("console.error('{LAST}')")).await;
        let read = || fs::read_to_string(&self.log).ok().filter(|log| log.contains(LAST));
        let log = eventually("the browser's log", PATIENCE, read);
        self.client.close().await.expect("a browser ends");
        let complaints = log.lines().filter(|line| line.contains("CONSOLE") && !line.contains(LAST));
        complaints.map(ToOwned::to_owned).collect()
    }
}

fn start_driver(port: u16) -> Background {
    let path = ["chromedriver", "chromium.chromedriver"].iter().find_map(|name| find(name));
    let path = path.unwrap_or_else(|| {
        panic!("there is no chromedriver: run scripts/setup --tests, or set {WITHOUT}=1 to do without")
    });
    let mut command = process::command(&path);
    command.arg(format!("--port={port}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut driver = Background::start(command);
    let listens = || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok().or_else(|| {
            assert!(driver.is_running(), "chromedriver has ended");
            None
        })
    };
    eventually("chromedriver listens", PATIENCE, listens);
    driver
}

fn find(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}
