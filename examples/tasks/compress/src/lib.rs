//! Example: a task can use crates from crates.io that need no access to the system.

use fastworker_guest::{TaskError, task};
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use serde::Serialize;

/// The result of [`compress`].
#[derive(Debug, PartialEq, Serialize)]
struct Savings {
    /// Bytes before.
    original: usize,
    /// Bytes after.
    compressed: usize,
    /// The original size divided by the compressed size.
    ratio: f64,
    /// Adler-32 of the text.
    checksum: String,
}

/// Compresses a text with deflate, checks that it can be restored, and returns the savings.
///
/// `level` is 0 (fast) to 10 (small), by default 6.
#[task]
fn compress(text: &str, level: Option<u8>) -> Result<Savings, TaskError> {
    let level = level.unwrap_or(6);
    if level > 10 {
        return Err(TaskError::bad_arguments(format!("argument 'level': {level} is above 10")));
    }
    let original = text.as_bytes();
    let compressed = compress_to_vec(original, level);
    let restored = decompress_to_vec_with_limit(&compressed, original.len())
        .map_err(|error| TaskError::failed(format!("cannot be restored: {error}")))?;
    if restored != original {
        return Err(TaskError::failed("the restored text is different"));
    }
    Ok(Savings {
        original: original.len(),
        compressed: compressed.len(),
        ratio: ratio(original.len(), compressed.len()),
        checksum: format!("{:08x}", adler32(original)),
    })
}

#[allow(clippy::cast_precision_loss, reason = "sizes of texts in memory are far below 2^52")]
fn ratio(before: usize, after: usize) -> f64 {
    before as f64 / after as f64
}

/// Adler-32 as zlib defines it (RFC 1950).
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65521;
    let (low, high) = bytes.iter().fold((1, 0), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % MODULUS;
        (low, (high + low) % MODULUS)
    });
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastworker_guest::Retry;

    #[test]
    fn a_repetitive_text_becomes_small() {
        let text = "all work and no play makes jack a dull boy\n".repeat(100);
        let result = compress(&text, None);
        assert!(matches!(&result, Ok(it) if it.original == 4300 && it.ratio > 30.0), "{result:?}");
    }

    #[test]
    fn an_empty_text_can_be_compressed() {
        let result = compress("", Some(0));
        assert!(matches!(&result, Ok(it) if it.original == 0), "{result:?}");
    }

    #[test]
    fn the_checksum_is_adler_32() {
        assert_eq!(adler32(b"Wikipedia"), 0x11E6_0398);
        assert_eq!(adler32(b""), 1);
    }

    #[test]
    fn an_invalid_level_is_refused() {
        assert!(matches!(&compress("x", Some(11)), Err(error) if error.retry() == Retry::BadArguments));
    }
}
