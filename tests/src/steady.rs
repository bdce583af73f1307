//! A well-behaved client alongside other load: each of its tasks must end
//! with the correct result within a time limit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fastworker::{client::Client, config::Address};

use crate::{Cluster, TIMEOUT, eventually, task_helpers::expect_success};

/// Maximum time of a task.
const IN_TIME: Duration = Duration::from_secs(15);
/// The pause between two tasks.
const PAUSE: Duration = Duration::from_millis(2);

/// A client that requests one sum after another, on its own thread.
#[derive(Debug)]
pub struct Steady {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: JoinHandle<Duration>,
}

impl Steady {
    /// Starts, and waits for the first sum.
    pub fn start(cluster: &Cluster) -> Self {
        let discovery: Address = cluster.discovery().parse().expect("valid address");
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.expect("runtime created").block_on(add_up(discovery, &stopped, &counted))
        });
        let steady = Self { stop, done, thread };
        steady.continues();
        steady
    }

    /// Waits for sums that are requested from now on.
    pub fn continues(&self) {
        let before = self.done.load(Ordering::SeqCst);
        // The next result may belong to an earlier request.
        let more = || (self.done.load(Ordering::SeqCst) >= before + 2 || self.thread.is_finished()).then_some(());
        eventually("the steady client makes progress", 2 * TIMEOUT, more);
        assert!(!self.thread.is_finished(), "the steady client has failed: see above");
    }

    /// Stops, and returns the longest time that a sum took.
    pub fn stop(self) -> Duration {
        self.continues();
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("every sum was right and in time")
    }
}

async fn add_up(discovery: Address, stop: &AtomicBool, done: &AtomicU64) -> Duration {
    let client = Client::builder().discovery_address(discovery).build();
    client.start().await.expect("control plane reachable");
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::SeqCst) {
        let number = done.load(Ordering::SeqCst);
        let submitted_at = Instant::now();
        let sum = client.submit_task("add", (number, 1)).await.expect("result expected");
        let took = submitted_at.elapsed();
        assert_eq!(expect_success(&sum), (number + 1).to_string());
        assert!(took < IN_TIME, "sum {number} took {took:?}");
        longest = longest.max(took);
        done.store(number + 1, Ordering::SeqCst);
        tokio::time::sleep(PAUSE).await;
    }
    longest
}
