//! Callbacks: messages sent when a task ends.

use serde::{Deserialize, Serialize};

use crate::{config::Address, json::Json};

/// Maximum length of a callback address in bytes.
pub const CALLBACK_ADDRESS_MAX: usize = 256;
/// Maximum bytes of the data of a callback.
pub const CALLBACK_DATA_MAX: usize = 1024 * 1024;

/// The callback of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackInfo {
    /// The NNG address of a listening PAIR socket.
    pub address: String,
    /// Sent with the callback.
    #[serde(default)]
    pub data: Option<Json>,
    /// The format of the message.
    #[serde(skip)]
    pub dialect: Dialect,
}

/// The format of a callback message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// The native format: times with their offset, and the error kind.
    #[default]
    Own,
    /// The format of the Python original: its seven fields, and naive local time.
    Original,
}

impl CallbackInfo {
    /// Creates a callback to this address, without data.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), data: None, dialect: Dialect::Own }
    }

    /// Sets the data.
    #[must_use]
    pub fn with_data(self, data: Json) -> Self {
        Self { data: Some(data), ..self }
    }

    /// Size of its address and data in bytes.
    pub(crate) fn size(&self) -> usize {
        self.address.len() + self.data.as_ref().map_or(0, |data| data.as_str().len())
    }

    /// Checks the address and the data. Returns the error, if there is one.
    pub(crate) fn problem(&self) -> Option<String> {
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
    fn an_invalid_callback_is_refused_with_a_reason() {
        assert_eq!(CallbackInfo::new("tcp://localhost:6000").problem(), None);
        for (address, why) in [
            ("ipc:///tmp/socket", "is not an address"),
            ("tcp://0.0.0.0:6000", "name a host"),
            ("tcp://*:6000", "name a host"),
            ("tcp://a\n:6000", "is not an address"),
            (&format!("tcp://{}:1", "x".repeat(300)), "at most 256 bytes"),
        ] {
            let problem = CallbackInfo::new(address).problem().expect("a problem");
            assert!(problem.contains(why), "{problem}");
        }
        let data = Json::of(&"x".repeat(CALLBACK_DATA_MAX)).expect("JSON");
        let problem = CallbackInfo::new("tcp://localhost:6000").with_data(data).problem().expect("a problem");
        assert!(problem.contains("over the limit"), "{problem}");
    }
}
