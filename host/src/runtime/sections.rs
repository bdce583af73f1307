//! Reads the sections of WebAssembly files, without parsing their content.

/// The id of a custom section.
const CUSTOM: u8 = 0;
/// The id of a core module's export section.
pub(super) const EXPORT: u8 = 7;
/// Bytes of the magic number and the version.
const HEADER: usize = 8;

/// A section of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'a> {
    pub(super) id: u8,
    pub(super) content: &'a [u8],
}

impl<'a> Section<'a> {
    /// The name of a custom section.
    pub(super) fn custom_name(self) -> Option<&'a str> {
        let (length, rest) = if self.id == CUSTOM { leb128(self.content)? } else { return None };
        str::from_utf8(rest.get(..length)?).ok()
    }
}

/// The sections of a file, up to the first that is incomplete.
pub(super) fn of(file: &[u8]) -> impl Iterator<Item = Section<'_>> {
    let mut rest = file.get(HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (section, next) = split_first(rest)?;
        rest = next;
        Some(section)
    })
}

/// Whether the last section ends where the file ends.
pub(super) fn are_complete(file: &[u8]) -> bool {
    let Some(mut rest) = file.get(HEADER..) else { return false };
    while !rest.is_empty() {
        let Some((_, next)) = split_first(rest) else { return false };
        rest = next;
    }
    true
}

/// Removes a number from the front.
pub(super) fn number(rest: &mut &[u8]) -> Option<usize> {
    let (number, after) = leb128(rest)?;
    *rest = after;
    Some(number)
}

/// Removes a text from the front: its length, then its bytes in UTF-8.
pub(super) fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = number(rest)?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    str::from_utf8(text).ok()
}

/// A section is one byte, its length, its content.
fn split_first(bytes: &[u8]) -> Option<(Section<'_>, &[u8])> {
    let (&id, rest) = bytes.split_first()?;
    let (length, rest) = leb128(rest)?;
    let (content, rest) = rest.split_at_checked(length)?;
    Some((Section { id, content }, rest))
}

fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}
