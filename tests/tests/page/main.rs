//! The page of the web interface in a real browser.

mod browser;

use browser::{Page, Window, is_without_browser};
use fastworker_tests::Cluster;
use serde_json::json;

const WIDE: Window = Window(1440, 1000);
const NARROW: Window = Window(360, 760);
/// A task name that runs a script if it is inserted as HTML.
const EVIL: &str = "<img src=x onerror=\"document.title='owned'\">";

fn cluster(args: &[&str]) -> Cluster {
    let modules = ["arithmetic", "slow", "hostile"];
    Cluster::builder()
        .modules(&modules)
        .subworkers(1)
        .slots(2)
        .gui()
        .without_unknown_grace()
        .control_plane_args(args)
        .start()
}

fn submit(cluster: &Cluster, args: &[&str]) -> String {
    let ran = cluster.cli(["submit", "--non-blocking", "--task-name"].iter().chain(args)).with_code(0);
    ran.stdout.trim().to_owned()
}

/// Submits a task that no worker has, which ends immediately.
fn submit_unknown(cluster: &Cluster, name: &str) {
    let _ = cluster.cli(["submit", "--task-name", name]).with_code(5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_workers_tasks_and_events_live() {
    if is_without_browser() {
        return;
    }
    let mut cluster = cluster(&[]);
    let page = Page::open(&cluster, WIDE).await;
    page.wait_until_shows("#state", "live").await;
    page.wait_until_shows("#worker-table td", "sw1").await;
    page.wait_until_shows("#modules", "arithmetic").await;
    page.wait_until_shows("#task-table", "No task has run yet").await;

    // Nothing is reloaded from here on.
    page.run("window.stays = true").await;
    submit(&cluster, &["slow", "--args", "60", "600"]);
    page.wait_until_shows("#task-table .badge", "started").await;
    page.wait_until_shows("#task-table .why", "of 600").await;
    page.wait_until_shows("#log", "started").await;
    page.wait_until_shows("#busy", "1").await;
    submit(&cluster, &["panic_now", "--args", "the disk is on fire"]);
    page.wait_until_shows("#task-table .why", "the disk is on fire").await;
    page.wait_until_shows("#failure-total", "1 since the start").await;
    cluster.start_subworker("sw2");
    page.wait_until_shows("#worker-table td", "sw2").await;
    page.wait_until_shows("#log", "sw2").await;
    assert_eq!(page.evaluate("window.stays").await, true);

    cluster.subworkers[1].stop();
    page.wait_until("![...document.querySelectorAll('#worker-table td')].some(it => it.innerText.includes('sw2'))")
        .await;
    assert_eq!(page.close().await, Vec::<String>::new(), "the browser complains of nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_opens_with_its_error_and_can_run_again_and_be_cancelled() {
    if is_without_browser() {
        return;
    }
    let cluster = cluster(&[]);
    let page = Page::open(&cluster, WIDE).await;
    let failed = submit(&cluster, &["panic_now", "--args", "the disk is on fire"]);
    page.wait_until_shows("#task-table .why", "the disk is on fire").await;
    page.run("document.querySelector('#task-table tbody button').click()").await;
    page.wait_until_shows("#detail pre.bad", "panicked").await;
    page.wait_until_shows("#detail", "the disk is on fire").await;
    page.wait_until_shows("#detail p.id", &failed).await;
    page.run("document.getElementById('retry').click()").await;
    page.wait_until(&format!("document.querySelector('#detail p.id code').textContent !== '{failed}'")).await;
    page.wait_until_shows("#detail .badge", "failure").await;
    page.run("document.getElementById('detail').close()").await;
    page.wait_until_shows("#failure-total", "2 since the start").await;

    let endless = submit(&cluster, &["endless_loop"]);
    page.run(&format!("document.getElementById('filter-id').value = '{endless}'")).await;
    page.run("document.getElementById('task-filters').requestSubmit()").await;
    page.wait_until_shows("#detail .badge", "started").await;
    page.run("document.getElementById('cancel').click()").await;
    page.wait_until_shows("#detail .badge", "cancelled").await;
    page.run("document.getElementById('detail').close()").await;
    page.run("[...document.querySelectorAll('#task-tabs button')].find(it => it.innerText === 'Cancelled').click()")
        .await;
    page.wait_until_shows("#task-table .id", &endless).await;
    page.wait_until("document.querySelectorAll('#task-table tbody tr').length === 1").await;
    assert_eq!(page.close().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_escapes_names_and_has_light_and_dark_themes() {
    if is_without_browser() {
        return;
    }
    let cluster = cluster(&[]);
    let page = Page::open(&cluster, WIDE).await;
    submit_unknown(&cluster, EVIL);
    page.wait_until_shows("#task-table td.task button", EVIL).await;
    page.wait_until_shows("#log", EVIL).await;
    page.run("document.querySelector('#task-table tbody button').click()").await;
    page.wait_until_shows("#detail h2", EVIL).await;
    assert_eq!(page.evaluate("document.querySelectorAll('img').length").await, 1, "the logo alone");
    assert_ne!(page.evaluate("document.title").await, "owned");
    page.run("document.getElementById('detail').close()").await;

    let background = "getComputedStyle(document.body).backgroundColor";
    let before = page.evaluate(background).await;
    page.run("document.getElementById('theme').click()").await;
    let after = page.evaluate(background).await;
    assert_ne!(before, after);
    page.run("window.old = true; location.reload()").await;
    page.wait_until("window.old === undefined").await;
    page.wait_until_shows("#state", "live").await;
    assert_eq!(page.evaluate(background).await, after, "the choice is kept");
    page.run("document.getElementById('theme').click()").await;
    assert_eq!(page.evaluate(background).await, before);
    assert_eq!(page.close().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_fits_on_a_phone() {
    if is_without_browser() {
        return;
    }
    let cluster = cluster(&[]);
    let page = Page::open(&cluster, NARROW).await;
    submit(&cluster, &["slow", "--args", "60", "600"]);
    submit(&cluster, &["panic_now", "--args", &"a long error ".repeat(20)]);
    submit_unknown(&cluster, &"very_long_task_name_".repeat(6));
    page.wait_until_shows("#task-table .why", "a long error").await;
    page.wait_until_shows("#worker-table td", "sw1").await;
    page.wait_until("document.querySelectorAll('#task-table tbody tr').length === 3").await;
    let widths = "[document.documentElement.scrollWidth, innerWidth]";
    assert_eq!(page.evaluate(widths).await, json!([NARROW.0, NARROW.0]));
    page.run("document.querySelector('#task-table tbody button').click()").await;
    page.wait_until_shows("#detail h2", "slow").await;
    assert_eq!(page.evaluate("document.getElementById('detail').scrollWidth <= innerWidth").await, true);
    assert_eq!(page.close().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_prompts_for_the_key_and_reconnects() {
    if is_without_browser() {
        return;
    }
    let mut cluster = cluster(&["--gui-api-key", "s3cret"]);
    let page = Page::open(&cluster, WIDE).await;
    let enter = |key: &str| {
        format!("const input = document.getElementById('key-input'); input.value = '{key}'; input.form.requestSubmit()")
    };
    page.wait_until("document.getElementById('key-dialog').open").await;
    page.run(&enter("wrong")).await;
    page.wait_until_shows("#key-note", "not the key").await;
    page.run(&enter("s3cret")).await;
    page.wait_until_shows("#state", "live").await;
    page.wait_until_shows("#worker-table td", "sw1").await;
    assert_eq!(page.evaluate("Object.keys(localStorage).length").await, 0, "the key ends with the tab");

    cluster.control_plane.kill();
    page.wait_until_shows("#connection-banner", "is not responding").await;
    cluster.restart_control_plane();
    page.wait_until_shows("#state", "live").await;
    page.wait_until("document.getElementById('connection-banner').hidden").await;
    page.wait_until_shows("#worker-table td", "sw1").await;
    // The browser logs requests that failed or were refused.
    drop(page.close().await);
}
