//! Messages with which a subworker takes task modules from the control plane.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::FRAME_ITEMS_MAX;
use crate::bounded::at_most;

/// Maximum number of bytes of a module in one reply.
pub const CHUNK_MAX: usize = 256 * 1024;

/// Request for the list of the control plane's modules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModulesQuery {
    /// The worker.
    pub worker: Uuid,
    /// The version of the list that it has; 0 if it has none.
    pub known: u64,
    /// Maximum time to wait for another version, in milliseconds.
    pub wait_ms: u32,
}

/// The modules that run on the control plane, in the order of its sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleList {
    /// The version of the list: equal lists of two control planes have the same one.
    pub version: u64,
    /// Whether the control plane still loads the modules with which it was started, so that more will follow.
    pub is_loading: bool,
    /// The modules.
    #[serde(deserialize_with = "at_most::<FRAME_ITEMS_MAX, _, _>")]
    pub modules: Vec<OfferedModule>,
}

/// A module that subworkers can take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedModule {
    /// The path of its file on the control plane, which tells it from the others.
    pub path: String,
    /// BLAKE3 of its live version, in hexadecimal.
    pub hash: String,
    /// Size of that version in bytes.
    pub size: u64,
}

/// Request for a part of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkQuery {
    /// The worker.
    pub worker: Uuid,
    /// The hash of the module.
    pub hash: String,
    /// Number of bytes before the part.
    pub offset: u64,
}

/// A part of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Number of bytes before it.
    pub offset: u64,
    /// 1 to [`CHUNK_MAX`] bytes, or none at the end of the module.
    pub bytes: Blob,
}

/// Bytes that are not text: in base64 in JSON.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&STANDARD.encode(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(BlobVisitor)
        } else {
            deserializer.deserialize_bytes(BlobVisitor)
        }
    }
}

struct BlobVisitor;

impl de::Visitor<'_> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes, in base64 in JSON")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
        STANDARD.decode(text).map(Blob).map_err(E::custom)
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(bytes.to_owned()))
    }
}
