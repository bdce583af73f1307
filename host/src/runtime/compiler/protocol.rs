//! The messages between a worker and the process that compiles a module for it.
//!
//! Both ends are the same version of this program, which the first bytes of a message and the
//! fingerprint of the settings verify.

use std::io::{self, Read, Write};

/// Sent to a compiler before the module: numbers of 64 bits, and the fingerprint of its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The id of the requesting process.
    pub(super) parent: u64,
    /// Whether to use the settings for limited address space.
    pub(super) is_constrained: u64,
    pub(super) threads: u64,
    pub(super) memory_max: u64,
    pub(super) seconds_max: u64,
    /// Bytes of the module, which follows.
    pub(super) size: u64,
    /// The fingerprint of the engine.
    pub(super) settings: [u8; 32],
}

/// The first bytes of a request, with the version.
const REQUEST_MAGIC: &[u8; 8] = b"fwask-01";
/// The first bytes of a response.
const RESPONSE_MAGIC: &[u8; 8] = b"fwans-02";

impl Request {
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(REQUEST_MAGIC)?;
        let Self { parent, is_constrained, threads, memory_max, seconds_max, size, settings } = self;
        for number in [parent, is_constrained, threads, memory_max, seconds_max, size] {
            out.write_all(&number.to_le_bytes())?;
        }
        out.write_all(settings)
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        if read_array::<8>(from)? != *REQUEST_MAGIC {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut next = || Ok::<_, io::Error>(u64::from_le_bytes(read_array(from)?));
        let [parent, is_constrained, threads, memory_max, seconds_max, size] =
            [next()?, next()?, next()?, next()?, next()?, next()?];
        Ok(Self { parent, is_constrained, threads, memory_max, seconds_max, size, settings: read_array(from)? })
    }
}

fn read_array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The output of a compiler.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::runtime) struct CompiledCode {
    /// The code.
    pub(in crate::runtime) bytes: Vec<u8>,
    /// Peak memory of the compiler in bytes, 0 if it is not known.
    pub(in crate::runtime) memory: u64,
}

/// The response of a compiler.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// The compiled code.
    Code(CompiledCode),
    /// The reason why the module cannot be compiled.
    Invalid(String),
    /// Its settings are different.
    OtherSettings,
    /// The code is larger than allowed, in bytes.
    TooLarge(u64),
}

impl Response {
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let (kind, memory, content): (u64, u64, &[u8]) = match self {
            Self::Code(CompiledCode { bytes, memory }) => (0, *memory, bytes),
            Self::Invalid(why) => (1, 0, why.as_bytes()),
            Self::OtherSettings => (2, 0, &[]),
            Self::TooLarge(_) => (3, 0, &[]),
        };
        out.write_all(RESPONSE_MAGIC)?;
        for number in [kind, memory, content.len() as u64] {
            out.write_all(&number.to_le_bytes())?;
        }
        out.write_all(blake3::hash(content).as_bytes())?;
        out.write_all(content)
    }

    /// Reads a response whose code has at most `max` bytes. None if it is incomplete or damaged.
    pub(super) fn read(from: &mut impl Read, max: u64) -> Option<Self> {
        if read_array::<8>(from).ok()? != *RESPONSE_MAGIC {
            return None;
        }
        let mut next = || Some(u64::from_le_bytes(read_array(from).ok()?));
        let (kind, memory, size) = (next()?, next()?, next()?);
        let hash: [u8; 32] = read_array(from).ok()?;
        if size > max {
            return Some(Self::TooLarge(size));
        }
        let mut content = Vec::new();
        content.try_reserve_exact(usize::try_from(size).ok()?).ok()?;
        from.take(size).read_to_end(&mut content).ok()?;
        if content.len() as u64 != size || *blake3::hash(&content).as_bytes() != hash {
            return None;
        }
        match kind {
            0 => Some(Self::Code(CompiledCode { bytes: content, memory })),
            1 => Some(Self::Invalid(String::from_utf8_lossy(&content).into_owned())),
            2 => Some(Self::OtherSettings),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        let settings = [7; 32];
        Request { parent: 1, is_constrained: 0, threads: 2, memory_max: 3, seconds_max: 4, size: 5, settings }
    }

    #[test]
    fn requests_and_responses_are_read_as_they_were_written() {
        let mut pipe = Vec::new();
        request().write(&mut pipe).expect("writing to memory");
        assert_eq!(Request::read(&mut &pipe[..]).ok(), Some(request()));
        let code = Response::Code(CompiledCode { bytes: vec![1, 2, 3], memory: 7 });
        for response in [code, Response::Invalid("no".into()), Response::OtherSettings] {
            let mut pipe = Vec::new();
            response.write(&mut pipe).expect("writing to memory");
            assert_eq!(Response::read(&mut &pipe[..], 100), Some(response));
        }
    }

    #[test]
    fn a_truncated_changed_or_too_large_response_is_rejected() {
        let mut pipe = Vec::new();
        Response::Code(CompiledCode { bytes: vec![1; 50], memory: 7 }).write(&mut pipe).expect("writing to memory");
        assert_eq!(Response::read(&mut &pipe[..], 49), Some(Response::TooLarge(50)));
        assert_eq!(Response::read(&mut &pipe[..pipe.len() - 1], 100), None);
        *pipe.last_mut().expect("bytes") ^= 1;
        assert_eq!(Response::read(&mut &pipe[..], 100), None);
        assert_eq!(Response::read(&mut &b"Usage: something else entirely"[..], 100), None);
        // An impossible length is refused before memory is allocated for it.
        let huge = [&RESPONSE_MAGIC[..], &[0; 16], &u64::MAX.to_le_bytes(), &[0; 32]].concat();
        assert_eq!(Response::read(&mut &huge[..], 1 << 30), Some(Response::TooLarge(u64::MAX)));
    }
}
