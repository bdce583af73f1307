//! The options that limit attempts.

use clap::Args;

use crate::task::{AttemptLimits, LimitKind};

/// What one attempt may use. A task gets what it declares itself, and at most this.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits of one attempt (a task can declare lower ones, fastworker.toml can set others)")]
#[allow(clippy::struct_field_names, reason = "the fields are named like the options")]
pub(super) struct LimitOptions {
    /// Maximum duration, also if a task is submitted with a longer timeout [default: no limit]
    #[arg(long, env = "FASTWORKER_MAX_TIMEOUT", value_name = "DURATION", value_parser = |text: &str| parse(LimitKind::Timeout, text))]
    max_timeout: Option<u64>,
    /// Maximum CPU time [default: no limit]
    #[arg(long, env = "FASTWORKER_MAX_CPU_TIME", value_name = "DURATION", value_parser = |text: &str| parse(LimitKind::CpuTime, text))]
    max_cpu_time: Option<u64>,
    /// Maximum time of waiting for the network, files and clocks, together [default: no limit]
    #[arg(long, env = "FASTWORKER_MAX_HOST_TIME", value_name = "DURATION", value_parser = |text: &str| parse(LimitKind::HostTime, text))]
    max_host_time: Option<u64>,
    /// Maximum linear memory
    #[arg(long, env = "FASTWORKER_MAX_MEMORY", value_name = "SIZE", default_value = "512MiB",
          value_parser = |text: &str| parse(LimitKind::Memory, text))]
    max_memory: u64,
    /// Maximum stack, for all tasks alike
    #[arg(long, env = "FASTWORKER_MAX_STACK", value_name = "SIZE", default_value = "1MiB", value_parser = parse_stack)]
    max_stack: usize,
    /// Maximum bytes of the result and the follow-up tasks
    #[arg(long, env = "FASTWORKER_MAX_RESULT", value_name = "SIZE", default_value = "16320KiB",
          value_parser = |text: &str| parse(LimitKind::Result, text))]
    max_result: u64,
    /// Maximum bytes printed to stdout and stderr
    #[arg(long, env = "FASTWORKER_MAX_OUTPUT", value_name = "SIZE", default_value = "1MiB",
          value_parser = |text: &str| parse(LimitKind::Output, text))]
    max_output: u64,
    /// Maximum bytes of log lines
    #[arg(long, env = "FASTWORKER_MAX_LOG", value_name = "SIZE", default_value = "1MiB",
          value_parser = |text: &str| parse(LimitKind::Log, text))]
    max_log: u64,
    /// Maximum connections at a time
    #[arg(long, env = "FASTWORKER_MAX_CONNECTIONS", value_name = "COUNT", default_value = "64",
          value_parser = |text: &str| parse(LimitKind::Connections, text))]
    max_connections: u64,
    /// Maximum bytes received from the network
    #[arg(long, env = "FASTWORKER_MAX_RECEIVED", value_name = "SIZE", default_value = "256MiB",
          value_parser = |text: &str| parse(LimitKind::Received, text))]
    max_received: u64,
    /// Maximum bytes sent to the network
    #[arg(long, env = "FASTWORKER_MAX_SENT", value_name = "SIZE", default_value = "256MiB",
          value_parser = |text: &str| parse(LimitKind::Sent, text))]
    max_sent: u64,
}

/// The least stack with which modules work at all, and the greatest, as each slot reserves it.
const STACK_RANGE: std::ops::RangeInclusive<u64> = 64 << 10..=64 << 20;

fn parse(kind: LimitKind, text: &str) -> Result<u64, String> {
    kind.parse(text).map_err(|expected| format!("write {expected}"))
}

fn parse_stack(text: &str) -> Result<usize, String> {
    let size = LimitKind::Received.parse(text).ok().filter(|size| STACK_RANGE.contains(size));
    let size = size.and_then(|size| usize::try_from(size).ok());
    size.ok_or_else(|| "write bytes, or text like 2MiB, from 64 KiB to 64 MiB".to_owned())
}

impl LimitOptions {
    /// The limits of an attempt.
    pub(super) fn limits(&self) -> AttemptLimits {
        let given = [
            (LimitKind::Timeout, self.max_timeout),
            (LimitKind::CpuTime, self.max_cpu_time),
            (LimitKind::HostTime, self.max_host_time),
            (LimitKind::Memory, Some(self.max_memory)),
            (LimitKind::Result, Some(self.max_result)),
            (LimitKind::Output, Some(self.max_output)),
            (LimitKind::Log, Some(self.max_log)),
            (LimitKind::Connections, Some(self.max_connections)),
            (LimitKind::Received, Some(self.max_received)),
            (LimitKind::Sent, Some(self.max_sent)),
        ];
        let given = given.into_iter().filter_map(|(kind, limit)| Some((kind, limit?)));
        given.fold(AttemptLimits::default(), |limits, (kind, limit)| limits.with(kind, limit))
    }

    /// The maximum stack of an attempt in bytes.
    pub(super) fn max_stack(&self) -> usize {
        self.max_stack
    }
}
