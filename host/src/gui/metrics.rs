//! `GET /metrics`: what is measured, as `OpenMetrics` text, which Prometheus reads.
//!
//! Everything is copied out of the state in one look, and written after that.

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::{App, Refusal};
use crate::{
    clock::Moment,
    control_plane::{
        metrics::{BOUNDS_US, Histogram, Metrics},
        results::Fill,
        state::{Counts, Stats},
    },
    panics::{self, Place},
    protocol::EventKind,
    task::{TaskPriority, TaskStatus},
    visible,
};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Statuses of ended tasks, in the order in which they are counted.
const ENDED: [&str; 3] = [TaskStatus::Success.as_str(), TaskStatus::Failure.as_str(), TaskStatus::Cancelled.as_str()];

/// `GET /metrics`
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut registry = Registry::with_prefix("fastworker");
    registry.register_collector(Box::new(Snapshot::of(&app)));
    let mut written = String::with_capacity(16 * 1024);
    match text::encode(&mut written, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], written).into_response(),
        Err(error) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// What was measured, at one moment.
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
    fill: Fill,
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
                fill: state.results().fill(),
                metrics: state.metrics().clone(),
                events: EventKind::ALL.map(|kind| state.event_log().count(kind)),
            }
        })
    }

    fn event(&self, kind: EventKind) -> u64 {
        self.events[kind as usize]
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut page = Page(encoder);
        self.queue(&mut page)?;
        self.tasks(&mut page)?;
        self.workers(&mut page)?;
        self.cache(&mut page)?;
        self.process(&mut page)
    }
}

impl Snapshot {
    fn queue(&self, page: &mut Page<'_>) -> fmt::Result {
        let by_priority =
            |values: [f64; 4]| TaskPriority::ALL.map(|it| [("priority", it.as_str())]).into_iter().zip(values);
        page.gauges("queue_depth", "Tasks that wait in the queue", None, by_priority(self.depths.map(float)))?;
        let ages = by_priority(self.ages.map(|age| age.as_secs_f64()));
        page.gauges("queue_oldest_age", "How long the oldest waiting task waits", Some(&Unit::Seconds), ages)?;
        page.gauge("tasks_unfinished", "Tasks that have not ended", None, float(self.stats.unfinished))?;
        page.gauge(
            "tasks_arguments",
            "Bytes of arguments that unfinished tasks hold",
            Some(&Unit::Bytes),
            float(self.stats.bytes),
        )?;
        let due = self.stats.unfinished.saturating_sub(self.stats.queued + self.stats.leases);
        page.gauge("tasks_due_later", "Scheduled tasks and retries that wait for their moment", None, float(due))
    }

    fn tasks(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counter("tasks_accepted", "Tasks that were accepted", self.counts.accepted)?;
        let mut names: Vec<_> = self.metrics.names().map(|(name, meter)| (visible::label(name), meter)).collect();
        names.sort_by(|(one, _), (other, _)| one.cmp(other));
        let ended = names.iter().flat_map(|(name, meter)| {
            let counted = ENDED.into_iter().zip(meter.ended).filter(|(_, count)| *count > 0);
            counted.map(move |(status, count)| ([("name", &**name), ("status", status)], count))
        });
        page.counters("tasks_ended", "Tasks that ended, by task name and status", ended)?;
        let attempts = "Retries of tasks after a failed attempt";
        page.counter("task_retries", attempts, self.event(EventKind::TaskRetrying))?;
        let lanes =
            || TaskPriority::ALL.map(|it| [("priority", it.as_str())]).into_iter().zip(self.metrics.priorities());
        let help = "How long attempts waited before they began, from when they could have";
        page.histograms("task_wait", help, lanes().map(|(labels, meter)| (labels, &meter.wait)))?;
        let help = "How long tasks took in all, from when they were first due to their end";
        page.histograms("task_total", help, lanes().map(|(labels, meter)| (labels, &meter.total)))?;
        let ran = names.iter().filter(|(_, meter)| meter.run.count() > 0);
        let ran = ran.map(|(name, meter)| ([("name", &**name)], &meter.run));
        page.histograms("task_run", "How long attempts ran, by task name", ran)
    }

    fn workers(&self, page: &mut Page<'_>) -> fmt::Result {
        let statuses = ["active", "draining", "lost"].map(|status| [("status", status)]);
        let workers = statuses.into_iter().zip(self.workers.map(float));
        page.gauges("workers", "Workers, those among them that were lost lately", None, workers)?;
        page.gauge("slots", "Room for running attempts, at all workers", None, float(self.slots))?;
        page.gauge("slots_busy", "Slots that hold work", None, float(self.busy))?;
        page.gauge("leases", "Attempts that workers hold", None, float(self.stats.leases))?;
        page.counter("workers_lost", "Workers that were lost", self.event(EventKind::WorkerLost))?;
        page.counter("module_reloads", "Changes of a worker's catalog", self.event(EventKind::ModulesChanged))?;
        let help = "Modules that could not be loaded, or were refused";
        page.counter("module_refusals", help, self.event(EventKind::ModuleRefused))?;
        let callbacks = [("delivered", EventKind::CallbackDelivered), ("failed", EventKind::CallbackFailed)];
        let callbacks = callbacks.map(|(outcome, kind)| ([("outcome", outcome)], self.event(kind)));
        page.counters("callbacks", "Callbacks that were delivered or given up", callbacks)?;
        let fired = [("fired", EventKind::ScheduleFired), ("skipped", EventKind::ScheduleSkipped)];
        let fired = fired.map(|(outcome, kind)| ([("outcome", outcome)], self.event(kind)));
        page.counters("schedules", "Times that schedules were due", fired)
    }

    fn cache(&self, page: &mut Page<'_>) -> fmt::Result {
        let results = ENDED.map(|status| [("status", status)]).into_iter().zip(self.fill.by_status.map(float));
        page.gauges("result_cache_results", "Results that are kept", None, results)?;
        page.gauge("result_cache_max_results", "Results that may be kept", None, float(self.fill.size_max))?;
        page.gauge("result_cache", "Bytes that kept results hold", Some(&Unit::Bytes), float(self.fill.bytes))?;
        let gone = [("full", self.fill.evicted), ("expired", self.fill.expired)];
        let gone = gone.map(|(reason, count)| ([("reason", reason)], count));
        page.counters("result_cache_removed", "Results that are no longer kept", gone)
    }

    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("worker_id", &*visible::label(&self.worker_id))];
        page.gauges("build_info", "Always 1", None, [(labels, 1.0)])?;
        let caught = Place::ALL.map(|place| ([("place", place.as_str())], panics::count(place)));
        page.counters("panics", "Requests that failed because of a bug in fastworker", caught)?;
        page.gauge("uptime", "How long it serves", Some(&Unit::Seconds), self.uptime.as_secs_f64())?;
        page.gauge("draining", "Whether it takes no more tasks", None, f64::from(u8::from(self.draining)))
    }
}

/// Writes families of metrics.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
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

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.family(name, help, None, MetricType::Counter, |mut encoder| {
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

/// A count as the format writes it.
#[allow(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
fn float(count: usize) -> f64 {
    count as f64
}
