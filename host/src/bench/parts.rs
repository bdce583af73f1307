//! What the parts alone can do: the transport, and the runtime.

use std::{
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

/// A question as large as a small task's.
const QUESTION: [u8; 100] = [b'x'; 100];
/// No answer comes so late unless something is broken.
const LATE: Duration = Duration::from_secs(10);
/// How many questions are open at a time in the cases that have many.
pub(super) const IN_FLIGHT: usize = 64;

/// Listens and answers each question with itself.
///
/// # Errors
/// [`OpenError`] when the address cannot be had.
pub fn echo(address: &str) -> Result<Box<dyn Server>, OpenError> {
    struct Echo;
    impl Service for Echo {
        fn request(&self, _from: Peer, body: &[u8], reply: ReplyHandle) {
            reply.send(body);
        }
        fn refuse(&self, _body: &[u8], _why: Rejection) -> Vec<u8> {
            Vec::new()
        }
        fn gone(&self, _peer: Peer) {}
    }
    Nng.serve(address, OPEN_REQUESTS_MAX, Arc::new(Echo))
}

/// Seconds of each round trip, one after another.
pub(super) async fn raw_sequential(caller: &dyn Caller, turn: Duration) -> Result<Vec<f64>, BenchError> {
    let until = Instant::now() + turn;
    let mut samples = Vec::new();
    while Instant::now() < until {
        let asked = Instant::now();
        transport::call(caller, &QUESTION, LATE, <[u8]>::len).await?;
        samples.push(asked.elapsed().as_secs_f64());
    }
    Ok(samples)
}

/// Round trips a second with many open at a time.
pub(super) async fn raw_in_flight(caller: &dyn Caller, turn: Duration) -> Result<f64, BenchError> {
    let started = Instant::now();
    let one = async || -> Result<u32, BenchError> {
        let mut count = 0;
        while started.elapsed() < turn {
            transport::call(caller, &QUESTION, LATE, <[u8]>::len).await?;
            count += 1;
        }
        Ok(count)
    };
    let counts = join_all((0..IN_FLIGHT).map(|_| one())).await;
    let count: u32 = counts.into_iter().sum::<Result<u32, BenchError>>()?;
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// The runtime with the module, and nothing else.
pub(super) struct Alone {
    runtime: Runtime,
    catalog: Catalog,
}

impl Alone {
    pub(super) fn load(plan: &Plan) -> Result<Self, BenchError> {
        let sources = vec![plan.module.display().to_string()];
        let config = ModulesConfig { sources, concurrency: plan.slots, ..ModulesConfig::default() };
        let (runtime, catalog) = config.load()?;
        if catalog.find(TASK).is_none() {
            return Err(BenchError::NoTask(plan.module.clone()));
        }
        Ok(Self { runtime, catalog })
    }

    /// Fresh instances a second, on as many threads as slots.
    pub(super) fn per_second(&self, plan: &Plan) -> f64 {
        let count = AtomicU64::new(0);
        let started = Instant::now();
        thread::scope(|scope| {
            let run = || {
                count.fetch_add(self.run_for(plan.turn), Ordering::Relaxed);
            };
            for _ in 1..plan.slots {
                // Fewer than there should be measure less, and do not end the program.
                if thread::Builder::new().spawn_scoped(scope, run).is_err() {
                    break;
                }
            }
            run();
        });
        #[allow(clippy::cast_precision_loss, reason = "counts of a second are small")]
        let count = count.into_inner() as f64;
        count / started.elapsed().as_secs_f64()
    }

    fn run_for(&self, turn: Duration) -> u64 {
        let Some(module) = self.catalog.find(TASK) else { return 0 };
        let mut slot = self.runtime.slot(Arc::new(Unheard));
        let (task_id, kwargs) = (TaskId::new(), Json::empty_object());
        let args = Json::of(&(5, 3)).unwrap_or_else(|_| Json::empty_array());
        let until = Instant::now() + turn;
        let mut count = 0;
        while Instant::now() < until {
            let outcome = slot.run(
                module,
                &Invocation {
                    id: AttemptId(count),
                    task_id: &task_id,
                    name: TASK,
                    attempt: 1,
                    timeout: TIMEOUT_DEFAULT,
                    args: &args,
                    kwargs: &kwargs,
                },
            );
            if !matches!(outcome, Outcome::Success { .. }) {
                return 0;
            }
            count += 1;
        }
        count
    }
}

struct Unheard;

impl Reports for Unheard {
    fn report(&self, _attempt: AttemptId, _report: Report) {}
}
