//! Encodes and decodes messages.
//!
//! The first byte is the format: `{` is JSON, [`POSTCARD`] is postcard in version 1. A reply has the
//! format of its request. A JSON message is in an envelope, `{"v":1,"message":…}`, which distinguishes it
//! from messages of the Python original.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Refusal, RefusalCode, VERSION};
use crate::task::SerializationFormat;

/// The first byte of a postcard message of version 1.
pub const POSTCARD: u8 = 0x01;
/// The first byte of a Python pickle.
pub const PICKLE: u8 = 0x80;

/// Error of a message that cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// There are no bytes.
    #[error("the message is empty")]
    Empty,
    /// A Python pickle.
    #[error(
        "this is a Python pickle, and unpickling runs any code that it names: use SerializationFormat JSON, or postcard"
    )]
    Pickle,
    /// Neither JSON nor postcard.
    #[error("the message starts with byte {0:#04x}: send JSON, or postcard after a byte 0x01")]
    UnknownForm(u8),
    /// An unsupported version.
    #[error("the message is of protocol version {0}, and this is fastworker {ours} with version {VERSION}", ours = env!("CARGO_PKG_VERSION"))]
    UnknownVersion(u32),
    /// Invalid JSON, or JSON of another message.
    #[error("cannot read the message: {0}")]
    Json(#[from] serde_json::Error),
    /// Bytes after the end of a postcard message.
    #[error("cannot read the message: {0} bytes follow its end, in postcard of protocol version {VERSION}")]
    Trailing(usize),
    /// Invalid postcard, or postcard of another message.
    #[error("cannot read the message: {}", describe(.0))]
    Postcard(#[from] postcard::Error),
}

impl From<Unreadable> for Refusal {
    fn from(error: Unreadable) -> Self {
        let code = match error {
            Unreadable::Pickle | Unreadable::UnknownForm(_) => RefusalCode::UnsupportedFormat,
            Unreadable::UnknownVersion(_) => RefusalCode::UnsupportedVersion,
            Unreadable::Empty | Unreadable::Json(_) | Unreadable::Trailing(_) | Unreadable::Postcard(_) => {
                RefusalCode::Unreadable
            }
        };
        Self::new(code, error.to_string())
    }
}

/// Describes an error of postcard, which does not keep our messages.
fn describe(error: &postcard::Error) -> String {
    match error {
        postcard::Error::SerdeDeCustom => "a value in it is not allowed: an id, a name of a choice, a document that \
            is not JSON, a span of time, or a list that is too long"
            .into(),
        postcard::Error::DeserializeUnexpectedEnd => {
            format!("it ends too early for postcard of protocol version {VERSION}")
        }
        other => format!("{other}, in postcard of protocol version {VERSION}"),
    }
}

#[derive(Serialize)]
struct Outgoing<'a, T> {
    v: u32,
    message: &'a T,
}

#[derive(Deserialize)]
struct Incoming<T> {
    v: u32,
    message: T,
}

/// Returns the format of a message, by its first byte.
///
/// # Errors
/// [`Unreadable`] if it is not known.
pub fn form(bytes: &[u8]) -> Result<SerializationFormat, Unreadable> {
    match bytes.first() {
        None => Err(Unreadable::Empty),
        Some(b'{') => Ok(SerializationFormat::Json),
        Some(&POSTCARD) => Ok(SerializationFormat::Postcard),
        Some(&PICKLE) => Err(Unreadable::Pickle),
        Some(&other) => Err(Unreadable::UnknownForm(other)),
    }
}

/// Whether a JSON message has our envelope. Messages of the original have no `v`.
pub fn is_envelope(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        #[serde(default)]
        v: Option<serde::de::IgnoredAny>,
    }
    // Fast path for what our own clients write.
    bytes.starts_with(br#"{"v":"#) || serde_json::from_slice::<Probe>(bytes).is_ok_and(|probe| probe.v.is_some())
}

/// Encodes a message.
///
/// # Panics
/// Never for the types of this module: they have a form in both codecs.
pub fn encode<T: Serialize>(format: SerializationFormat, message: &T) -> Vec<u8> {
    let written = match format {
        SerializationFormat::Json => serde_json::to_vec(&Outgoing { v: VERSION, message }).map_err(Unreadable::Json),
        SerializationFormat::Postcard => postcard::to_extend(message, vec![POSTCARD]).map_err(Unreadable::Postcard),
    };
    written.expect("messages have no maps with odd keys and no unsized sequences")
}

/// Decodes a message.
///
/// # Errors
/// [`Unreadable`]: reply with it as a [`Refusal`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    match form(bytes)? {
        SerializationFormat::Postcard => match postcard::take_from_bytes(&bytes[1..])? {
            (message, []) => Ok(message),
            (_, rest) => Err(Unreadable::Trailing(rest.len())),
        },
        SerializationFormat::Json => match serde_json::from_slice::<Incoming<T>>(bytes) {
            Ok(incoming) if incoming.v == VERSION => Ok(incoming.message),
            Ok(incoming) => Err(Unreadable::UnknownVersion(incoming.v)),
            Err(error) => Err(version_of(bytes).map_or(Unreadable::Json(error), Unreadable::UnknownVersion)),
        },
    }
}

/// Returns the version of a JSON message, if it is not ours.
fn version_of(bytes: &[u8]) -> Option<u32> {
    let envelope = serde_json::from_slice::<Incoming<serde::de::IgnoredAny>>(bytes).ok()?;
    (envelope.v != VERSION).then_some(envelope.v)
}
