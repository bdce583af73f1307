//! The result of a benchmark: figures with their ratios to baselines and their bounds.

use serde::Serialize;

use super::{Plan, cluster::Memory};

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// The name of the case.
    pub case: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The name of the baseline, if there is one.
    #[serde(rename = "against")]
    pub baseline: Option<String>,
    /// The ratio of the figure to the baseline: the median over the rounds.
    pub ratio: Option<f64>,
    /// The bound on the ratio, or on the figure if there is no ratio.
    #[serde(rename = "must")]
    pub bound: Option<Bound>,
}

/// A bound.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
}

impl Measurement {
    /// Whether the bound is met; none without a bound.
    pub fn meets_bound(&self) -> Option<bool> {
        let value = self.ratio.unwrap_or(self.value);
        self.bound.map(|bound| match bound {
            Bound::AtMost(limit) => value <= limit,
            Bound::AtLeast(limit) => value >= limit,
        })
    }
}

/// Target for the rate with many tasks in flight, relative to round trips of the transport alone, if that is the limit:
/// queueing and the messages of the subworker may cost a fifth.
const TRANSPORT_SHARE_MIN: f64 = 0.8;
/// Target for the rate of tasks, relative to the runtime alone, if that is the limit. Lower, since the runtime alone
/// has all cores: in a cluster, the client, the control plane and the transport use the same cores.
const RUNTIME_SHARE_MIN: f64 = 0.6;

/// One figure for each round of each case, in the unit of its measurement.
#[derive(Default)]
pub(super) struct Rounds {
    pub(super) transport_only: Vec<f64>,
    pub(super) own_slot: Vec<f64>,
    pub(super) through_subworker: Vec<f64>,
    pub(super) transport_in_flight: Vec<f64>,
    pub(super) runtime_alone: Vec<f64>,
    pub(super) in_flight: Vec<f64>,
    pub(super) bulk: Vec<f64>,
}

impl Rounds {
    /// The measurements of clusters that the benchmark has started.
    pub(super) fn summarize_local(&self, plan: &Plan, memory: Option<Memory>) -> Vec<Measurement> {
        let Self { transport_only, own_slot, through_subworker, transport_in_flight, runtime_alone, in_flight, bulk } =
            self;
        let latency_baseline = ("transport only", &transport_only[..]);
        let runtime_baseline = ("runtime alone", &runtime_alone[..]);
        // The part that limits the rate more is the baseline.
        let transport_limit = TRANSPORT_SHARE_MIN * median(transport_in_flight);
        let (rate_baseline, rate_share_min) = if transport_limit <= RUNTIME_SHARE_MIN * median(runtime_alone) {
            (("transport only, 64 in flight", &transport_in_flight[..]), TRANSPORT_SHARE_MIN)
        } else {
            (runtime_baseline, RUNTIME_SHARE_MIN)
        };
        let mut measurements = vec![
            measured("transport only, p50", transport_only, "us"),
            measured("transport only, 64 in flight", transport_in_flight, "messages/s"),
            measured(format!("runtime alone, {} slots", plan.slots), runtime_alone, "tasks/s"),
            measured("sequential, control plane's own slot, p50", own_slot, "us").compared(
                own_slot,
                latency_baseline,
                Bound::AtMost(1.5),
            ),
            measured("sequential, one subworker, p50", through_subworker, "us").compared(
                through_subworker,
                latency_baseline,
                Bound::AtMost(2.5),
            ),
            measured("64 in flight, one subworker", in_flight, "tasks/s").compared(
                in_flight,
                rate_baseline,
                Bound::AtLeast(rate_share_min),
            ),
            measured(format!("bulk of {}, one subworker", plan.bulk), bulk, "tasks/s").compared(
                bulk,
                runtime_baseline,
                Bound::AtLeast(RUNTIME_SHARE_MIN),
            ),
        ];
        if let Some(memory) = memory {
            let bounded = |case, value, limit| Measurement {
                bound: Some(Bound::AtMost(limit)),
                ..Measurement::new(case, value, "MB")
            };
            measurements.push(bounded("idle memory, control plane", memory.control_plane, 25.0));
            measurements.push(bounded("idle memory, subworker", memory.subworker, 30.0));
        }
        measurements
    }

    /// The measurements of a running cluster, which have no baselines.
    pub(super) fn summarize_remote(&self, plan: &Plan) -> Vec<Measurement> {
        vec![
            measured("sequential, p50", &self.through_subworker, "us"),
            measured("64 in flight", &self.in_flight, "tasks/s"),
            measured(format!("bulk of {}", plan.bulk), &self.bulk, "tasks/s"),
        ]
    }
}

/// The same for a further module.
#[derive(Default)]
pub(super) struct ModuleRounds {
    pub(super) runtime_alone: Vec<f64>,
    pub(super) in_flight: Vec<f64>,
}

impl ModuleRounds {
    pub(super) fn summarize(&self, name: &str, slots: usize) -> [Measurement; 2] {
        let ratio = ratio(&self.in_flight, &self.runtime_alone);
        let in_flight = measured(format!("{name}, 64 in flight, one subworker"), &self.in_flight, "tasks/s");
        [
            measured(format!("{name}, runtime alone, {slots} slots"), &self.runtime_alone, "tasks/s"),
            Measurement { baseline: Some("runtime alone".to_owned()), ratio: Some(ratio), ..in_flight },
        ]
    }
}

/// The same for the Python original and this program, both through the original's protocol.
#[derive(Default)]
pub(super) struct OriginalRounds {
    pub(super) original_times: Vec<f64>,
    pub(super) our_times: Vec<f64>,
    pub(super) original_rates: Vec<f64>,
    pub(super) our_rates: Vec<f64>,
}

impl OriginalRounds {
    pub(super) fn summarize(&self) -> Vec<Measurement> {
        let Self { original_times, our_times, original_rates, our_rates } = self;
        let baseline = "the original";
        vec![
            measured("the original, sequential, p50", original_times, "us"),
            measured("this program, original's protocol, sequential, p50", our_times, "us").compared(
                our_times,
                (baseline, original_times),
                Bound::AtMost(0.125),
            ),
            measured("the original, 64 in flight, correct replies", original_rates, "tasks/s"),
            measured("this program, original's protocol, 64 in flight", our_rates, "tasks/s").compared(
                our_rates,
                (baseline, original_rates),
                Bound::AtLeast(50.0),
            ),
        ]
    }
}

impl Measurement {
    fn new(case: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { case: case.into(), value, unit, baseline: None, ratio: None, bound: None }
    }

    /// Adds the ratio of the figures of the rounds to those of a baseline, and its bound.
    fn compared(self, rounds: &[f64], (name, baseline): (&str, &[f64]), bound: Bound) -> Self {
        Self { baseline: Some(name.to_owned()), ratio: Some(ratio(rounds, baseline)), bound: Some(bound), ..self }
    }
}

/// The median of the ratios of figures to those of the same rounds of a baseline.
fn ratio(rounds: &[f64], baseline: &[f64]) -> f64 {
    let ratios: Vec<f64> = rounds.iter().zip(baseline).map(|(one, other)| one / other).collect();
    median(&ratios)
}

fn measured(case: impl Into<String>, rounds: &[f64], unit: &'static str) -> Measurement {
    Measurement::new(case, median(rounds), unit)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median of times in seconds, in microseconds.
pub(super) fn p50_micros(seconds: &[f64]) -> f64 {
    median(seconds) * 1e6
}
