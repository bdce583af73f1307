//! The baselines: the transport alone, and the runtime alone.

use std::{
    panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::future::join_all;

use super::{BenchError, Plan, TASK};
use crate::{
    json::Json,
    runtime::{AttemptId, Catalog, Invocation, Reports, Runtime},
    subworker::ModulesConfig,
    task::{Outcome, Report, TIMEOUT_DEFAULT, TaskId},
    transport::{
        self, Caller, OPEN_REQUESTS_MAX, OpenError, Peer, Rejection, ReplyHandle, Server, Service, Transport, nng::Nng,
    },
};

/// A request of the size of a small task.
const REQUEST: [u8; 100] = [b'x'; 100];
/// Timeout for a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of concurrent requests in the cases with many in flight.
pub(super) const IN_FLIGHT: usize = 64;

/// Listens, and replies to each request with the request itself.
///
/// # Errors
/// [`OpenError`] when the address cannot be listened on.
pub fn echo(address: &str) -> Result<Box<dyn Server>, OpenError> {
    struct Echo;
    impl Service for Echo {
        fn request(&self, _from: Peer, body: &[u8], reply: ReplyHandle) {
            reply.send(body);
        }
        fn refuse(&self, _body: &[u8], _why: Rejection) -> Vec<u8> {
            Vec::new()
        }
        fn disconnected(&self, _peer: Peer) {}
    }
    Nng.serve(address, OPEN_REQUESTS_MAX, Arc::new(Echo))
}

/// Makes sequential round trips for a sample window. Returns the seconds of each.
pub(super) async fn transport_sequential(caller: &dyn Caller, window: Duration) -> Result<Vec<f64>, BenchError> {
    let until = Instant::now() + window;
    let mut samples = Vec::new();
    while Instant::now() < until {
        let sent = Instant::now();
        transport::call(caller, &REQUEST, REPLY_TIMEOUT, <[u8]>::len).await?;
        samples.push(sent.elapsed().as_secs_f64());
    }
    Ok(samples)
}

/// Makes concurrent round trips for a sample window. Returns round trips per second.
pub(super) async fn transport_in_flight(caller: &dyn Caller, window: Duration) -> Result<f64, BenchError> {
    let started = Instant::now();
    let call_repeatedly = async || -> Result<u32, BenchError> {
        let mut count = 0;
        while started.elapsed() < window {
            transport::call(caller, &REQUEST, REPLY_TIMEOUT, <[u8]>::len).await?;
            count += 1;
        }
        Ok(count)
    };
    let counts = join_all((0..IN_FLIGHT).map(|_| call_repeatedly())).await;
    let count: u32 = counts.into_iter().sum::<Result<u32, BenchError>>()?;
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// The runtime with the module, without a cluster.
pub(super) struct RuntimeAlone {
    runtime: Runtime,
    catalog: Catalog,
}

impl RuntimeAlone {
    pub(super) fn load(plan: &Plan) -> Result<Self, BenchError> {
        let sources = vec![plan.module.display().to_string()];
        let (grants, policies) = (plan.grants.clone(), plan.policies.clone());
        let config = ModulesConfig { sources, concurrency: plan.slots, grants, policies, ..ModulesConfig::default() };
        // On a thread without async code, in which attempts may wait.
        let loaded = thread::scope(|scope| scope.spawn(|| config.load()).join());
        let (runtime, catalog) = loaded.unwrap_or_else(|panic| panic::resume_unwind(panic))?;
        if catalog.find(TASK).is_none() {
            return Err(BenchError::NoTask(plan.module.clone()));
        }
        Ok(Self { runtime, catalog })
    }

    /// Attempts per second, each in a fresh instance, on as many threads as slots.
    pub(super) fn per_second(&self, plan: &Plan) -> f64 {
        let count = AtomicU64::new(0);
        let started = Instant::now();
        thread::scope(|scope| {
            let run = || {
                count.fetch_add(self.run_repeatedly(plan.window), Ordering::Relaxed);
            };
            for _ in 0..plan.slots {
                // With fewer threads the figure is lower, which is better than a panic.
                if thread::Builder::new().spawn_scoped(scope, run).is_err() {
                    break;
                }
            }
        });
        #[allow(clippy::cast_precision_loss, reason = "counts of a second are small")]
        let count = count.into_inner() as f64;
        count / started.elapsed().as_secs_f64()
    }

    fn run_repeatedly(&self, window: Duration) -> u64 {
        let Some(module) = self.catalog.find(TASK) else { return 0 };
        let mut slot = self.runtime.slot(Arc::new(DiscardReports));
        let (task_id, kwargs) = (TaskId::new(), Json::empty_object());
        let args = Json::of(&(5, 3)).unwrap_or_else(|_| Json::empty_array());
        let until = Instant::now() + window;
        let mut count = 0;
        while Instant::now() < until {
            let ended = slot.run(
                module,
                &Invocation {
                    id: AttemptId(count),
                    task_id: &task_id,
                    name: TASK,
                    attempt: 1,
                    timeout: TIMEOUT_DEFAULT,
                    args: &args,
                    kwargs: &kwargs,
                    metadata: "{}",
                },
            );
            if !matches!(ended.outcome, Outcome::Success { .. }) {
                return 0;
            }
            count += 1;
        }
        count
    }
}

struct DiscardReports;

impl Reports for DiscardReports {
    fn report(&self, _attempt: AttemptId, _report: Report) {}
}
