//! Folders: paths that lead out of them, rights, and errors of the file system.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use fastworker::task::ErrorKind;
use fastworker_tests::Cluster;
use serde_json::json;
use tempfile::TempDir;

use super::{expect_error, expect_result, run};

/// A folder to grant, `data`, beside a file that guests must not reach, `outside`.
struct Folders {
    root: TempDir,
}

impl Folders {
    fn new() -> Self {
        let root = TempDir::new().expect("a temporary folder");
        fs::create_dir_all(root.path().join("data/sub")).expect("folder created");
        fs::write(root.path().join("data/inside"), "inside").expect("file written");
        fs::write(root.path().join("outside"), "outside").expect("file written");
        Self { root }
    }

    fn data(&self) -> std::path::PathBuf {
        self.root.path().join("data")
    }

    fn grant(&self, access: &str) -> [String; 2] {
        ["--allow-dir".to_owned(), format!("{}::/data{access}", self.data().display())]
    }

    fn is_untouched(&self) -> bool {
        let names = |path: &Path| {
            let entries = fs::read_dir(path).expect("folder read").map(|entry| entry.expect("entry read").file_name());
            let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        names(self.root.path()) == ["data", "outside"]
            && fs::read_to_string(self.root.path().join("outside")).is_ok_and(|text| text == "outside")
    }
}

fn refs(grant: &[String; 2]) -> [&str; 2] {
    grant.each_ref().map(String::as_str)
}

#[test]
fn no_path_leads_out_of_a_granted_folder() {
    let folders = Folders::new();
    let data = folders.data();
    let outside = folders.root.path().join("outside");
    symlink("../outside", data.join("relative-link")).expect("link created");
    symlink(&outside, data.join("absolute-link")).expect("link created");
    symlink("..", data.join("parent-link")).expect("link created");
    symlink("relative-link", data.join("link-to-link")).expect("link created");
    symlink("inside", data.join("inner-link")).expect("link created");
    let grant = folders.grant("");
    for path in ["/data/inside", "/data/./inside", "/data//sub/../inside", "/data/inner-link"] {
        assert_eq!(expect_result(&refs(&grant), "read_file", &json!([path])), "inside", "{path}");
    }
    let outside = outside.display().to_string();
    let escapes = [
        "/data/../outside",
        "/data/sub/../../outside",
        "/data/relative-link",
        "/data/absolute-link",
        "/data/link-to-link",
        "/data/parent-link/outside",
        "/outside",
        "../outside",
        "outside",
        "/data/..",
        "/",
        &outside,
        "/proc/self/environ",
        "/data/sub/../../data/../outside",
        "/etc/passwd",
    ];
    for path in escapes {
        assert!(run(&refs(&grant), "read_file", &json!([path])).result.is_null(), "read {path}");
        assert!(run(&refs(&grant), "list_folder", &json!([format!("{path}/..")])).result.is_null(), "listed {path}");
        expect_error(&refs(&grant), "write_file", &json!([path, "changed"]));
        // A link itself is in the folder, and may be moved within it.
        if path.ends_with("link") {
            continue;
        }
        for way in ["link", "rename"] {
            expect_error(&refs(&grant), "change", &json!([way, path, "/data/sub/new"]));
            expect_error(&refs(&grant), "change", &json!([way, "/data/inside", format!("{path}/new")]));
        }
    }
    for (way, path) in
        [("remove", "/data/../outside"), ("truncate", "/data/relative-link"), ("create-folder", "/data/../new")]
    {
        expect_error(&refs(&grant), "change", &json!([way, path, ""]));
    }
    assert!(folders.is_untouched());
}

#[test]
fn a_link_that_changes_meanwhile_leads_nowhere_else() {
    let folders = Folders::new();
    let (link, next) = (folders.data().join("link"), folders.data().join("next"));
    symlink("inside", &link).expect("link created");
    let is_over = AtomicBool::new(false);
    let grant = folders.grant(":ro");
    let seen = thread::scope(|scope| {
        scope.spawn(|| {
            for target in ["../outside", "inside"].iter().cycle().take_while(|_| !is_over.load(Relaxed)) {
                symlink(target, &next).and_then(|()| fs::rename(&next, &link)).expect("link replaced");
            }
        });
        let seen = run(&refs(&grant), "read_often", &json!(["/data/link", 3000]));
        is_over.store(true, Relaxed);
        seen
    });
    let seen = seen.result.as_object().expect("an object").clone();
    assert!(seen.contains_key("inside") && !seen.contains_key("outside"), "{seen:?}");
}

#[test]
fn a_folder_that_is_read_only_stays_as_it_is() {
    let folders = Folders::new();
    let grant = folders.grant(":ro");
    assert_eq!(expect_result(&refs(&grant), "list_folder", &json!(["/data"])), json!(["inside", "sub"]));
    expect_error(&refs(&grant), "write_file", &json!(["/data/new", "new"]));
    expect_error(&refs(&grant), "write_file", &json!(["/data/inside", "changed"]));
    for way in ["link", "rename", "remove", "truncate", "create-folder"] {
        expect_error(&refs(&grant), "change", &json!([way, "/data/inside", "/data/new"]));
    }
    assert_eq!(fs::read_to_string(folders.data().join("inside")).expect("file read"), "inside");
    assert_eq!(fs::read_dir(folders.data()).expect("folder read").count(), 2);
    let writable = folders.grant("");
    assert!(run(&refs(&writable), "write_file", &json!(["/data/new", "new"])).error.is_empty());
    assert_eq!(fs::read_to_string(folders.data().join("new")).expect("file read"), "new");
}

#[test]
fn errors_of_the_file_system_reach_the_guest() {
    let filled = expect_result(&["--allow-dir", "/dev::/dev"], "fill", &json!(["/dev/full", 1 << 20]));
    assert!(filled[1].as_str().is_some_and(|error| error.contains("No space left")), "{filled}");
}

#[test]
fn the_number_of_open_files_is_bounded() {
    let folders = Folders::new();
    let grant = folders.grant(":ro");
    assert_eq!(expect_result(&refs(&grant), "open_often", &json!(["/data/inside", 100])), json!([100, ""]));
    let ended = run(&refs(&grant), "open_often", &json!(["/data/inside", 5000]));
    assert!(ended.result[0].as_u64().is_none_or(|count| count <= 1000), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_disappears_fails_attempts_with_its_option() {
    let folders = Folders::new();
    let grant = folders.grant("");
    let builder = Cluster::builder().modules(&["outside"]).own_slots(1).control_plane_args(&refs(&grant));
    let cluster = builder.start();
    let client = cluster.client().await;
    let read = async || client.submit_task("read_file", ("/data/inside",)).await.expect("result expected");
    assert_eq!(read().await.error, None);
    fs::rename(folders.data(), folders.root.path().join("moved")).expect("folder moved");
    let failed = read().await;
    let error = failed.error.unwrap_or_default();
    assert_eq!(failed.error_kind, Some(ErrorKind::Failed), "{error}");
    assert!(
        error.contains(&format!("the folder of --allow-dir {}", grant[1])) && error.contains("No such file"),
        "{error}"
    );
    fs::rename(folders.root.path().join("moved"), folders.data()).expect("folder moved");
    assert_eq!(read().await.error, None);
}
