//! `GET /metrics`: the metrics as `OpenMetrics` text, which Prometheus reads.
//!
//! They are copied out of the state under one lock, and encoded afterwards.

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeLabelSet, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{App, HttpError};
use crate::{
    clock::Moment,
    control_plane::{
        metrics::{BOUNDS_US, Histogram, Metrics},
        results::CacheStats,
        state::{Counts, Stats},
    },
    escape,
    panics::{self, PanicSource},
    protocol::EventKind,
    task::TaskPriority,
};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The statuses of ended tasks, in the order of the counters.
const ENDED: [&str; 3] = ["success", "failure", "cancelled"];

/// `GET /metrics`
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut registry = Registry::with_prefix("fastworker");
    registry.register_collector(Box::new(Snapshot::of(&app)));
    let mut output = String::with_capacity(16 * 1024);
    match text::encode(&mut output, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], output).into_response(),
        Err(error) => HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// All metrics at one time.
#[derive(Debug)]
struct Snapshot {
    worker_id: String,
    uptime: Duration,
    draining: bool,
    depths: [usize; 4],
    ages: [Duration; 4],
    stats: Stats,
    counts: Counts,
    slots: usize,
    busy: usize,
    /// Active, draining, lost.
    workers: [usize; 3],
    cache: CacheStats,
    metrics: Metrics,
    events: [u64; EventKind::ALL.len()],
}

impl Snapshot {
    fn of(app: &App) -> Self {
        app.core.enter(|state, now| {
            let (queue, workers) = (state.queue(), state.registry());
            let age = |since: Option<Moment>| since.map_or(Duration::ZERO, |since| now.mono.since(since));
            let draining = workers.iter().filter(|(_, worker)| worker.draining).count();
            Self {
                worker_id: app.identity.worker_id.clone(),
                uptime: app.started.elapsed(),
                draining: state.is_draining(),
                depths: TaskPriority::ALL.map(|priority| queue.depth(priority)),
                ages: TaskPriority::ALL.map(|priority| age(queue.oldest(priority))),
                stats: state.stats(),
                counts: state.counts(),
                slots: workers.slots(),
                busy: workers.iter().map(|(_, worker)| worker.load()).sum(),
                workers: [workers.iter().count() - draining, draining, workers.lost(now.mono).count()],
                cache: state.results().stats(),
                metrics: state.metrics().clone(),
                events: EventKind::ALL.map(|kind| state.event_log().count(kind)),
            }
        })
    }

    fn event(&self, kind: EventKind) -> u64 {
        kind.index().map_or(0, |index| self.events[index])
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut encoder = FamilyEncoder(encoder);
        self.queue(&mut encoder)?;
        self.tasks(&mut encoder)?;
        self.workers(&mut encoder)?;
        self.cache(&mut encoder)?;
        self.process(&mut encoder)
    }
}

impl Snapshot {
    fn queue(&self, encoder: &mut FamilyEncoder<'_>) -> fmt::Result {
        let by_priority =
            |values: [f64; 4]| TaskPriority::ALL.map(|it| [("priority", it.as_str())]).into_iter().zip(values);
        encoder.gauges("queue_depth", "Tasks waiting in the queue", None, by_priority(self.depths.map(to_f64)))?;
        let ages = by_priority(self.ages.map(|age| age.as_secs_f64()));
        encoder.gauges(
            "queue_oldest_age",
            "Waiting time of the oldest task in the queue",
            Some(&Unit::Seconds),
            ages,
        )?;
        encoder.gauge("tasks_unfinished", "Tasks that have not ended", None, to_f64(self.stats.unfinished))?;
        encoder.gauge(
            "tasks_arguments",
            "Size of the arguments of unfinished tasks",
            Some(&Unit::Bytes),
            to_f64(self.stats.bytes),
        )?;
        let due = self.stats.unfinished.saturating_sub(self.stats.queued + self.stats.leases);
        encoder.gauge("tasks_due_later", "Scheduled tasks and retries that are not due yet", None, to_f64(due))
    }

    fn tasks(&self, encoder: &mut FamilyEncoder<'_>) -> fmt::Result {
        encoder.counter("tasks_accepted", "Accepted tasks", self.counts.accepted)?;
        let mut names: Vec<_> = self.metrics.names().map(|(name, meter)| (escape::label(name), meter)).collect();
        names.sort_by(|(one, _), (other, _)| one.cmp(other));
        let ended = names.iter().flat_map(|(name, meter)| {
            let counted = ENDED.into_iter().zip(meter.ended).filter(|(_, count)| *count > 0);
            counted.map(move |(status, count)| ([("name", &**name), ("status", status)], count))
        });
        encoder.counters("tasks_ended", "Ended tasks by task name and status", None, ended)?;
        let help = "Retries of tasks after a failed attempt";
        encoder.counter("task_retries", help, self.event(EventKind::TaskRetrying))?;
        let priorities =
            || TaskPriority::ALL.map(|it| [("priority", it.as_str())]).into_iter().zip(self.metrics.priorities());
        let help = "Time from when an attempt was due to its start";
        encoder.histograms("task_wait", help, priorities().map(|(labels, meter)| (labels, &meter.wait)))?;
        let help = "Time from when a task was first due to its end";
        encoder.histograms("task_total", help, priorities().map(|(labels, meter)| (labels, &meter.total)))?;
        let ran = names.iter().filter(|(_, meter)| meter.run.count() > 0);
        let ran = ran.map(|(name, meter)| ([("name", &**name)], &meter.run));
        encoder.histograms("task_run", "Running time of attempts by task name", ran)?;
        let used = || {
            names
                .iter()
                .filter(|(_, meter)| meter.run.count() > 0)
                .map(|(name, meter)| ([("name", &**name)], meter.used))
        };
        let seconds = used().map(|(name, used)| (name, Duration::from_micros(used.cpu_us).as_secs_f64()));
        encoder.counters("task_cpu", "CPU time of attempts by task name", Some(&Unit::Seconds), seconds)?;
        let memory = used().map(|(name, used)| (name, to_f64(usize::try_from(used.memory_bytes_max).unwrap_or(0))));
        let help = "Largest memory of an attempt by task name";
        encoder.gauges("task_memory_max", help, Some(&Unit::Bytes), memory)?;
        let help = "Bytes that attempts received from the network, by task name";
        let received = used().map(|(name, used)| (name, used.received_bytes));
        encoder.counters("task_received", help, Some(&Unit::Bytes), received)?;
        let help = "Bytes that attempts sent to the network, by task name";
        encoder.counters("task_sent", help, Some(&Unit::Bytes), used().map(|(name, used)| (name, used.sent_bytes)))
    }

    fn workers(&self, encoder: &mut FamilyEncoder<'_>) -> fmt::Result {
        let statuses = ["active", "draining", "lost"].map(|status| [("status", status)]);
        let workers = statuses.into_iter().zip(self.workers.map(to_f64));
        encoder.gauges("workers", "Workers by status, including recently lost ones", None, workers)?;
        encoder.gauge("slots", "Slots of all workers", None, to_f64(self.slots))?;
        encoder.gauge("slots_busy", "Slots that are running or holding work", None, to_f64(self.busy))?;
        encoder.gauge("leases", "Attempts that are leased to workers", None, to_f64(self.stats.leases))?;
        encoder.counter("workers_lost", "Workers that were lost", self.event(EventKind::WorkerLost))?;
        encoder.counter(
            "module_reloads",
            "Changes of the modules of a worker",
            self.event(EventKind::ModulesChanged),
        )?;
        let help = "Modules that could not be loaded, or were refused";
        encoder.counter("module_refusals", help, self.event(EventKind::ModuleRefused))?;
        let callbacks = [("delivered", EventKind::CallbackDelivered), ("failed", EventKind::CallbackFailed)];
        let callbacks = callbacks.map(|(outcome, kind)| ([("outcome", outcome)], self.event(kind)));
        encoder.counters("callbacks", "Callbacks that were delivered or failed", None, callbacks)?;
        let fired = [("fired", EventKind::ScheduleFired), ("skipped", EventKind::ScheduleSkipped)];
        let fired = fired.map(|(outcome, kind)| ([("outcome", outcome)], self.event(kind)));
        encoder.counters("schedules", "Times that schedules were due", None, fired)
    }

    fn cache(&self, encoder: &mut FamilyEncoder<'_>) -> fmt::Result {
        let results = ENDED.map(|status| [("status", status)]).into_iter().zip(self.cache.by_status.map(to_f64));
        encoder.gauges("result_cache_results", "Results in the cache", None, results)?;
        encoder.gauge(
            "result_cache_max_results",
            "Maximum number of results in the cache",
            None,
            to_f64(self.cache.size_max),
        )?;
        encoder.gauge(
            "result_cache",
            "Size of the results in the cache",
            Some(&Unit::Bytes),
            to_f64(self.cache.bytes),
        )?;
        let removed = [("full", self.cache.evicted), ("expired", self.cache.expired)];
        let removed = removed.map(|(reason, count)| ([("reason", reason)], count));
        encoder.counters("result_cache_removed", "Results removed from the cache", None, removed)
    }

    fn process(&self, encoder: &mut FamilyEncoder<'_>) -> fmt::Result {
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("worker_id", &*escape::label(&self.worker_id))];
        encoder.gauges("build_info", "Always 1", None, [(labels, 1.0)])?;
        let caught = PanicSource::ALL.map(|place| ([("place", place.as_str())], panics::count(place)));
        encoder.counters("panics", "Requests that failed because of a bug in fastworker", None, caught)?;
        encoder.gauge("uptime", "Time since the start", Some(&Unit::Seconds), self.uptime.as_secs_f64())?;
        encoder.gauge(
            "draining",
            "1 while the control plane is draining, else 0",
            None,
            f64::from(u8::from(self.draining)),
        )
    }
}

/// Encodes metric families.
struct FamilyEncoder<'a>(DescriptorEncoder<'a>);

impl FamilyEncoder<'_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        kind: MetricType,
        write: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write(self.0.encode_descriptor(name, help, unit, kind)?)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        self.family(name, help, unit, MetricType::Gauge, |mut encoder| encoder.encode_gauge(&value))
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        self.family(name, help, unit, MetricType::Gauge, |mut encoder| {
            values.into_iter().try_for_each(|(labels, value)| encoder.encode_family(&labels)?.encode_gauge(&value))
        })
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.family(name, help, None, MetricType::Counter, |mut encoder| {
            encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        self.family(name, help, unit, MetricType::Counter, |mut encoder| {
            values.into_iter().try_for_each(|(labels, value)| {
                encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
            })
        })
    }

    fn histograms<'h, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, &'h Histogram)>,
    ) -> fmt::Result {
        let bounds = BOUNDS_US.map(|us| Duration::from_micros(us).as_secs_f64()).into_iter().chain([f64::INFINITY]);
        self.family(name, help, Some(&Unit::Seconds), MetricType::Histogram, |mut encoder| {
            values.into_iter().try_for_each(|(labels, histogram)| {
                let buckets: Vec<(f64, u64)> = bounds.clone().zip(histogram.counts).collect();
                let sum = Duration::from_micros(histogram.sum_us).as_secs_f64();
                let mut encoder = encoder.encode_family(&labels)?;
                encoder.encode_histogram::<NoLabelSet>(sum, histogram.count(), &buckets, None)
            })
        })
    }
}

/// A count as a floating-point number.
#[allow(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
fn to_f64(count: usize) -> f64 {
    count as f64
}
