//! Identifies compiled code: code of one engine runs only on others with the same fingerprint.

use std::hash::{Hash, Hasher};

use wasmtime::Engine;

/// A hash of all that compiled code depends on: the compiler's version and its settings.
pub(super) fn fingerprint(engine: &Engine) -> [u8; 32] {
    let mut hasher = Blake3Hasher(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    *hasher.0.finalize().as_bytes()
}

/// BLAKE3 for values that implement [`Hash`].
struct Blake3Hasher(blake3::Hasher);

impl Hasher for Blake3Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let mut first = [0; 8];
        self.0.finalize_xof().fill(&mut first);
        u64::from_le_bytes(first)
    }
}
