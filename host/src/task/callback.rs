//! Who is called back when a task has ended.

use serde::{Deserialize, Serialize};

use crate::{config::Address, json::Json};

/// Longest callback address in bytes.
pub const CALLBACK_ADDRESS_MAX: usize = 256;
/// Most bytes of data that are sent along with a callback.
pub const CALLBACK_DATA_MAX: usize = 1024 * 1024;

/// Where to send word when a task has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackInfo {
    /// The NNG address to send the callback to, where a PAIR socket listens.
    pub address: String,
    /// Sent along with it.
    #[serde(default)]
    pub data: Option<Json>,
    /// In whose words it is written.
    #[serde(skip)]
    pub dialect: Dialect,
}

/// In whose words a callback is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// In ours: times with their offset, and why a task failed for programs.
    #[default]
    Own,
    /// In those of the Python original: its seven fields, and naive local time.
    Original,
}

impl CallbackInfo {
    /// A callback to this address, with nothing sent along.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), data: None, dialect: Dialect::Own }
    }

    /// Sends this along.
    #[must_use]
    pub fn with_data(self, data: Json) -> Self {
        Self { data: Some(data), ..self }
    }

    /// How many bytes it holds.
    pub(crate) fn size(&self) -> usize {
        self.address.len() + self.data.as_ref().map_or(0, |data| data.as_str().len())
    }

    /// Why nobody can be called back so, if nobody can.
    pub(crate) fn fault(&self) -> Option<String> {
        let address = self.address.parse::<Address>();
        let data = self.data.as_ref().map_or(0, |data| data.as_str().len());
        match address {
            _ if self.address.len() > CALLBACK_ADDRESS_MAX => {
                Some(format!("a callback address has at most {CALLBACK_ADDRESS_MAX} bytes"))
            }
            Err(error) => Some(format!("callback address: {error}")),
            Ok(address) if address.is_wildcard() => {
                Some(format!("callback address: {address} is where to listen, not where to call: name a host"))
            }
            Ok(_) if data > CALLBACK_DATA_MAX => {
                Some(format!("the callback data of {data} bytes are over the limit of {CALLBACK_DATA_MAX} bytes"))
            }
            Ok(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_called_is_told_why() {
        assert_eq!(CallbackInfo::new("tcp://localhost:6000").fault(), None);
        for (address, why) in [
            ("ipc:///tmp/socket", "is not an address"),
            ("tcp://0.0.0.0:6000", "name a host"),
            ("tcp://*:6000", "name a host"),
            ("tcp://a\n:6000", "is not an address"),
            (&format!("tcp://{}:1", "x".repeat(300)), "at most 256 bytes"),
        ] {
            let fault = CallbackInfo::new(address).fault().expect("a fault");
            assert!(fault.contains(why), "{fault}");
        }
        let data = Json::of(&"x".repeat(CALLBACK_DATA_MAX)).expect("JSON");
        let fault = CallbackInfo::new("tcp://localhost:6000").with_data(data).fault().expect("a fault");
        assert!(fault.contains("over the limit"), "{fault}");
    }
}
