//! One peer, an unread log or a burst must not hold up others.

use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use fastworker::{
    json::Json,
    protocol::{Lookup, Notify, Reply, Request, Submit, codec},
    task::{NewTask, SerializationFormat, TaskId},
};
use fastworker_tests::{
    Cluster, Process, TIMEOUT, eventually, module,
    peer::{Peer, REQUEST},
    steady::Steady,
    wording,
};

const MEGABYTE: u64 = 1 << 20;

fn encoded(request: &Request) -> Vec<u8> {
    codec::encode(SerializationFormat::Postcard, request)
}

fn exchange(peer: &mut Peer, request: &Request) -> Reply {
    codec::decode(&peer.call(&encoded(request)).expect("reply expected")).expect("valid reply")
}

// --- Logs ---

/// The same command with stderr redirected to the file at `log`.
fn logging_to(log: &Path, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"log=$0; exec "$@" 2>"$log""#]).arg(log).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// A named pipe, and its unread end.
fn pipe(directory: &Path) -> (std::path::PathBuf, File) {
    let path = directory.join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().is_ok_and(|made| made.success()));
    // Opened for writing as well, so that opening does not wait for a writer.
    let end = OpenOptions::new().read(true).write(true).open(&path).expect("pipe created");
    (path, end)
}

/// A cluster whose control plane logs a lot to this file.
fn cluster_logging_to(log: impl FnOnce(&Path) -> std::path::PathBuf) -> Cluster {
    let mut cluster = Cluster::builder().modules(&["arithmetic"]).own_slots(2).start();
    cluster.control_plane.stop();
    let ports = cluster.ports();
    let mut command = cluster.command(["control-plane", "--json", "--log-level", "trace", "--concurrency", "2"]);
    command.args(["--base-address", &cluster.base(), "--subworker-port", &ports.subworkers().to_string()]);
    command.arg("--task-modules").arg(module("arithmetic"));
    let command = logging_to(&log(cluster.directory()), &command);
    cluster.control_plane = Process::start("logging", command, cluster.directory());
    cluster.control_plane.wait_until_ready();
    cluster
}

/// Runs a number of tasks, each of which logs several lines.
async fn run_tasks(cluster: &Cluster, count: u32) {
    let client = cluster.client().await;
    for number in 0..count {
        let sum = client.submit_task("add", (number, 1)).await.expect("result expected");
        assert_eq!(sum.result.expect("result expected").as_str(), (number + 1).to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_log_blocks_neither_tasks_nor_shutdown() {
    let mut end = None;
    let mut cluster = cluster_logging_to(|directory| {
        let (path, file) = pipe(directory);
        end = Some(file);
        path
    });
    run_tasks(&cluster, 1_000).await;
    cluster.control_plane.stop();
    drop(end);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_read_late_has_every_line() {
    let mut end = None;
    let mut cluster = cluster_logging_to(|directory| {
        let (path, file) = pipe(directory);
        end = Some(file);
        path
    });
    run_tasks(&cluster, 1_000).await;
    let mut end = end.expect("pipe created");
    let reader = thread::spawn(move || {
        let (mut log, mut buffer) = (String::new(), [0; 4096]);
        while !log.contains(wording::STOPPED) {
            let count = end.read(&mut buffer).expect("the pipe is read");
            log.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        log
    });
    cluster.control_plane.stop();
    let log = reader.join().expect("the last line comes");
    for line in ["a task is queued", "an attempt started", "an attempt ended", "a task succeeded"] {
        assert_eq!(log.matches(line).count(), 1_000, "{line}");
    }
    assert!(!log.contains("were dropped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_reader_or_with_a_full_disk_stops_nothing() {
    let mut end = None;
    let mut cluster = cluster_logging_to(|directory| {
        let (path, file) = pipe(directory);
        end = Some(file);
        path
    });
    drop(end);
    run_tasks(&cluster, 100).await;
    cluster.control_plane.stop();
    if Path::new("/dev/full").exists() {
        let mut cluster = cluster_logging_to(|_| "/dev/full".into());
        run_tasks(&cluster, 100).await;
        cluster.control_plane.stop();
    }
}

// --- Peers ---

#[test]
fn a_peer_with_all_open_requests_blocks_no_other() {
    const OPEN_MAX: u32 = 65_536;
    let cluster = Cluster::builder().modules(&["arithmetic", "slow"]).own_slots(2).start();
    let port = cluster.ports().base() + 4;
    let mut greedy = Peer::handshake(port, REQUEST).expect("connection served");
    let mut task = NewTask::new("slow");
    task.args = Json::of(&(600, 1)).expect("valid JSON");
    let id = task.id.clone();
    exchange(&mut greedy, &Request::Submit(Submit { tasks: vec![task], notify: Notify::No }));
    let lookup = encoded(&Request::Lookup(Lookup { ids: vec![id], wait_ms: 20_000 }));
    let flood = thread::spawn(move || {
        // Floods until it is disconnected.
        while (0..OPEN_MAX / 8).try_for_each(|id| greedy.send_request(id + 2, &lookup)).is_ok() {}
    });
    let steady = Steady::start(&cluster);
    let disconnected = || cluster.control_plane.log().contains(wording::PEER_DISCONNECTED).then_some(());
    eventually("the greedy peer is disconnected", 4 * TIMEOUT, disconnected);
    steady.stop();
    flood.join().expect("it ends");
}

#[test]
fn partial_frames_are_dropped_and_their_memory_is_freed() {
    const HALF: usize = 8 << 20;
    let cluster = Cluster::builder().modules(&["arithmetic"]).own_slots(2).start();
    let port = cluster.ports().base() + 4;
    let before = cluster.control_plane.memory();
    let steady = Steady::start(&cluster);
    let half = [&(2 * HALF as u64).to_be_bytes()[..], &vec![0x80; HALF]].concat();
    let mut peers: Vec<Peer> = (0..60).map(|_| Peer::handshake(port, REQUEST).expect("connection served")).collect();
    for peer in &mut peers {
        // Later connections may displace earlier ones; they themselves are served.
        let _ = peer.write(&half);
    }
    let is_back = || (cluster.control_plane.memory() < before + 300 * MEGABYTE).then_some(());
    eventually("some memory is freed", TIMEOUT, is_back);
    // The remaining connections send nothing more.
    let is_back = || (cluster.control_plane.memory() < before + 80 * MEGABYTE).then_some(());
    eventually("the memory is freed", 4 * TIMEOUT, is_back);
    steady.stop();
}

// --- Memory ---

#[test]
fn memory_after_a_burst_is_returned_to_the_system() {
    const TASKS: u32 = 60_000;
    let few = ["--result-cache-size", "100"];
    let cluster = Cluster::builder().modules(&["slow", "text"]).own_slots(1).control_plane_args(&few).start();
    let mut peer = Peer::handshake(cluster.ports().base() + 4, REQUEST).expect("connection served");
    let mut submit = |name: &str, args: Json, count: u32| -> Vec<TaskId> {
        let task = |_| NewTask { args: args.clone(), ..NewTask::new(name) };
        let tasks: Vec<NewTask> = (0..count).map(task).collect();
        let ids = tasks.iter().map(|task| task.id.clone()).collect();
        exchange(&mut peer, &Request::Submit(Submit { tasks, notify: Notify::No }));
        ids
    };
    let slow = submit("slow", Json::of(&(600, 1)).expect("valid JSON"), 1);
    let before = cluster.control_plane.memory();
    let long = Json::of(&["x".repeat(2_000)]).expect("valid JSON");
    let waiting: Vec<Vec<TaskId>> = (0..TASKS / 1_000).map(|_| submit("reverse", long.clone(), 1_000)).collect();
    assert!(cluster.control_plane.memory() > before + 100 * MEGABYTE, "the burst is large enough");
    for ids in waiting.into_iter().chain([slow]) {
        exchange(&mut peer, &Request::Cancel(ids));
    }
    let is_back = || (cluster.control_plane.memory() < before + 30 * MEGABYTE).then_some(());
    eventually("the memory is freed", Duration::from_mins(1), is_back);
}
