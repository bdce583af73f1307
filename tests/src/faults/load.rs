//! A steady load of calls, each of which must end with its own result.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fastworker::{
    client::Client,
    json::Json,
    task::{TaskId, TaskStatus},
};
use tokio::task::JoinHandle;

/// Number of concurrent calls.
const WIDTH: u64 = 8;
/// Interval, in calls, at which one takes longer, so that faults hit running tasks.
const SLOW: u64 = 8;
/// Pause before a refused call is repeated.
const PAUSE: Duration = Duration::from_millis(20);
/// Number of results that are looked up again at the end.
const CHECKED: usize = 500;

/// Counts of correct calls, and descriptions of failures.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Calls that ended with their result.
    pub(super) right: u64,
    /// Calls that ended with an error, or not within the timeout.
    pub(super) lost: Vec<String>,
    /// Calls with a wrong result, or one that differs later.
    pub(super) wrong: Vec<String>,
}

/// Endless calls, one at a time on each lane.
#[derive(Debug)]
pub(super) struct Load {
    shared: Arc<Shared>,
    lanes: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    stop: AtomicBool,
    started: AtomicU64,
    right: AtomicU64,
    tally: Mutex<Tally>,
    ended: Mutex<Vec<(TaskId, String)>>,
}

impl Load {
    /// Starts the load with a connected client, whose timeout limits each call.
    pub(super) fn start(client: Client) -> Self {
        let shared = Arc::new(Shared {
            client,
            stop: AtomicBool::new(false),
            started: AtomicU64::new(0),
            right: AtomicU64::new(0),
            tally: Mutex::default(),
            ended: Mutex::default(),
        });
        let lane = |_| tokio::spawn(Arc::clone(&shared).run_lane());
        let lanes = (0..WIDTH).map(lane).collect();
        Self { shared, lanes }
    }

    /// Waits until as many calls end as there are lanes, and one more, so that one of them started after now. Returns the
    /// time that took, or the limit.
    pub(super) async fn continues_within(&self, limit: Duration) -> Duration {
        let (from, before) = (Instant::now(), self.shared.right.load(Ordering::SeqCst));
        while self.shared.right.load(Ordering::SeqCst) <= before + WIDTH && from.elapsed() < limit {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        from.elapsed()
    }

    /// Waits for the open calls, and returns the tally. `is_kept` means that the control plane was not restarted, so that
    /// it must still have each result.
    pub(super) async fn stop(self, is_kept: bool) -> Tally {
        self.shared.stop.store(true, Ordering::SeqCst);
        for lane in self.lanes {
            lane.await.expect("a lane ends");
        }
        let ended = std::mem::take(&mut *self.shared.ended.lock().expect("no panic while locked"));
        let mut tally = std::mem::take(&mut *self.shared.tally.lock().expect("no panic while locked"));
        for (id, result_text) in ended.iter().rev().take(CHECKED).filter(|_| is_kept) {
            let kept = self.shared.client.get_task_result(id).await;
            let kept = kept.ok().flatten().and_then(|kept| kept.result.as_ref().map(|it| it.as_str().to_owned()));
            if kept.as_ref() != Some(result_text) {
                tally.wrong.push(format!("{id} ended with {result_text}, and is kept with {kept:?}"));
            }
        }
        self.shared.client.stop();
        tally.right = self.shared.right.load(Ordering::SeqCst);
        tally
    }
}

impl Shared {
    async fn run_lane(self: Arc<Self>) {
        while !self.stop.load(Ordering::SeqCst) {
            let number = self.started.fetch_add(1, Ordering::SeqCst);
            let (id, from) = (TaskId::new(), Instant::now());
            let (reply, expected) = if number.is_multiple_of(SLOW) {
                (self.client.submit_task("slow", (0.2, 2)).task_id(id.clone()).await, "2".to_owned())
            } else {
                (self.client.submit_task("add", (number, 1)).task_id(id.clone()).await, (number + 1).to_string())
            };
            if matches!(&reply, Err(error) if error.is_stopping()) {
                // A draining control plane refuses, and the client retries.
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let mut tally = self.tally.lock().expect("no panic while locked");
            match reply {
                Ok(ended) if ended.status == TaskStatus::Success => {
                    let result_text = ended.result.as_ref().map(Json::as_str).unwrap_or_default();
                    if result_text == expected {
                        self.right.fetch_add(1, Ordering::SeqCst);
                        self.ended.lock().expect("no panic while locked").push((id, expected));
                    } else {
                        tally.wrong.push(format!("{id} ended with {result_text} and not {expected}"));
                    }
                }
                Ok(ended) => tally.lost.push(format!("{id} after {:?}: {:?}", from.elapsed(), ended.error)),
                Err(error) => tally.lost.push(format!("{id} after {:?}: {error}", from.elapsed())),
            }
        }
    }
}
