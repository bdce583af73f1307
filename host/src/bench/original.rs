//! Measures the Python original, and this program through the original's protocol.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde::{Deserialize, Serialize};

use super::{
    BenchError, TASK,
    baselines::IN_FLIGHT,
    cluster::{Process, free_ports},
};
use crate::{
    config::Address,
    task::TaskId,
    transport::{self, Caller, Transport, nng::Nng},
};

/// Offset of the port of normal priority from the base port.
pub(super) const NORMAL_OFFSET: u16 = 2;
/// Timeout for a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// The same task in Python.
const MODULE: &str = "from fastworker import task\n\n\n@task\ndef add(x, y):\n    return x + y\n";

/// A control plane of the original.
pub(super) struct Original {
    pub(super) caller: Arc<dyn Caller>,
    folder: PathBuf,
    _process: Process,
}

impl Original {
    /// Starts `fastworker control-plane` of the Python environment in `folder`.
    pub(super) async fn start(environment: &Path, slots: usize) -> Result<Self, BenchError> {
        let failed =
            |error: std::io::Error| BenchError::Start { process: "the Python original", reason: error.to_string() };
        let first = free_ports(7)?;
        let base = Address::loopback(first + 1);
        let folder = std::env::temp_dir().join(format!("fastworker-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(failed)?;
        fs::write(folder.join("bench_tasks.py"), MODULE).map_err(failed)?;
        let program = environment.join("bin/fastworker");
        // Versions before 0.3 have no web interface, and run one task at a time: they lack these options.
        let help = Command::new(&program).args(["control-plane", "--help"]).stdin(Stdio::null()).output();
        let help = help.map_err(failed)?.stdout;
        let help = String::from_utf8_lossy(&help);
        let slots = slots.to_string();
        let options = [&["--no-gui"][..], &["--concurrency", &slots]];
        let supported = options.iter().filter(|option| help.contains(option[0]));
        let child = Command::new(program)
            .args(["control-plane", "--task-modules", "bench_tasks"])
            .args(["--base-address", &base.to_string()])
            .args(["--discovery-address", &Address::loopback(first).to_string()])
            .args(["--subworker-port", &(first + 6).to_string()])
            .args(supported.copied().flatten())
            .current_dir(&folder)
            .env("PYTHONPATH", &folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let process = Process::of(child);
        let normal = Address::loopback(base.port() + NORMAL_OFFSET);
        let original = Self { caller: Nng.connect(&normal.to_string())?, folder, _process: process };
        // Connects in the background, as soon as the original listens.
        submit(&*original.caller, 1).await?;
        Ok(original)
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        // A remaining temporary folder is not an error.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[derive(Serialize)]
struct Submission {
    id: TaskId,
    name: &'static str,
    args: (u64, u64),
    kwargs: BTreeMap<String, u64>,
    priority: &'static str,
}

#[derive(Deserialize)]
struct SubmissionReply {
    task_id: TaskId,
    #[serde(default)]
    result: Option<u64>,
}

/// Submits `add(x, 1)`. Returns whether the reply was correct.
async fn submit(caller: &dyn Caller, x: u64) -> Result<bool, BenchError> {
    let id = TaskId::new();
    let submission =
        Submission { id: id.clone(), name: TASK, args: (x, 1), kwargs: BTreeMap::new(), priority: "normal" };
    let body = serde_json::to_vec(&submission).unwrap_or_default();
    let read = |bytes: &[u8]| serde_json::from_slice::<SubmissionReply>(bytes);
    let reply = transport::call(caller, &body, REPLY_TIMEOUT, read).await?;
    Ok(reply.is_ok_and(|reply| reply.task_id == id && reply.result == Some(x + 1)))
}

/// Submits sequentially for a sample window. Returns the seconds of each submission.
pub(super) async fn sequential(caller: &dyn Caller, window: Duration) -> Result<Vec<f64>, BenchError> {
    let until = Instant::now() + window;
    let mut samples = Vec::new();
    for x in 0.. {
        let submitted = Instant::now();
        submit(caller, x).await?;
        samples.push(submitted.elapsed().as_secs_f64());
        if Instant::now() >= until {
            break;
        }
    }
    Ok(samples)
}

/// Submits concurrently for a sample window. Returns the correct replies per second, and the number of replies that
/// were wrong or missing.
pub(super) async fn in_flight(caller: &dyn Caller, window: Duration) -> Result<(f64, u32), BenchError> {
    let started = Instant::now();
    let submit_repeatedly = async |client: u64| -> Result<(u32, u32), BenchError> {
        let (mut correct, mut wrong) = (0, 0);
        while started.elapsed() < window {
            match submit(caller, client * 1_000_000 + u64::from(correct)).await {
                Ok(true) => correct += 1,
                // Under load, the original mixes up and loses replies.
                Ok(false) | Err(BenchError::Call(_)) => wrong += 1,
                Err(error) => return Err(error),
            }
        }
        Ok((correct, wrong))
    };
    let counts = join_all((0..IN_FLIGHT as u64).map(submit_repeatedly)).await;
    let mut total = (0, 0);
    for count in counts {
        let (correct, wrong) = count?;
        total = (total.0 + correct, total.1 + wrong);
    }
    Ok((f64::from(total.0) / started.elapsed().as_secs_f64(), total.1))
}
