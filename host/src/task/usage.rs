//! What an attempt used of its worker.

use serde::{Deserialize, Serialize};

/// What an attempt used of its worker. Sent as an array of its numbers, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 6]", into = "[u64; 6]")]
pub struct Usage {
    /// CPU time of the guest and of what it had the host do, in microseconds. Of an attempt that never waits and takes
    /// less than a millisecond, the time that it took.
    pub cpu_us: u64,
    /// Time to create its instance, in microseconds.
    pub instantiation_us: u64,
    /// Peak of its linear memory, in bytes.
    pub memory_bytes: u64,
    /// Number of calls of the contract's host functions.
    pub host_calls: u64,
    /// Bytes received from the network, with headers and encryption.
    pub received_bytes: u64,
    /// Bytes sent to the network, with headers and encryption.
    pub sent_bytes: u64,
}

impl From<[u64; 6]> for Usage {
    fn from([cpu_us, instantiation_us, memory_bytes, host_calls, received_bytes, sent_bytes]: [u64; 6]) -> Self {
        Self { cpu_us, instantiation_us, memory_bytes, host_calls, received_bytes, sent_bytes }
    }
}

impl From<Usage> for [u64; 6] {
    fn from(usage: Usage) -> Self {
        let Usage { cpu_us, instantiation_us, memory_bytes, host_calls, received_bytes, sent_bytes } = usage;
        [cpu_us, instantiation_us, memory_bytes, host_calls, received_bytes, sent_bytes]
    }
}

/// In JSON an object with names, for those who read events; else as always.
pub(crate) mod by_name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Usage;

    #[derive(Deserialize)]
    struct Named {
        cpu_us: u64,
        instantiation_us: u64,
        memory_bytes: u64,
        host_calls: u64,
        received_bytes: u64,
        sent_bytes: u64,
    }

    /// Writes a usage.
    #[allow(clippy::ref_option, reason = "serde calls it with a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(usage: &Option<Usage>, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            usage.map(Usage::named).serialize(serializer)
        } else {
            usage.serialize(serializer)
        }
    }

    /// Reads a usage.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Usage>, D::Error> {
        if !deserializer.is_human_readable() {
            return Option::deserialize(deserializer);
        }
        let named = Option::<Named>::deserialize(deserializer)?;
        Ok(named.map(|Named { cpu_us, instantiation_us, memory_bytes, host_calls, received_bytes, sent_bytes }| {
            Usage { cpu_us, instantiation_us, memory_bytes, host_calls, received_bytes, sent_bytes }
        }))
    }
}

impl Usage {
    /// Its fields by name, as the command line and HTTP show them.
    pub fn named(self) -> serde_json::Map<String, serde_json::Value> {
        let names = ["cpu_us", "instantiation_us", "memory_bytes", "host_calls", "received_bytes", "sent_bytes"];
        names.into_iter().map(str::to_owned).zip(<[u64; 6]>::from(self).map(Into::into)).collect()
    }
}
