//! Replies to pickles. Pickles are never read, as reading one runs any code that it names.

use crate::task::TASK_ID_MAX;

/// Returns the reply to a pickle on a priority's address, a pickle: the original's client reads nothing else.
pub fn pickled_failure(pickle: &[u8], why: &str) -> Vec<u8> {
    let id = pickled_id(pickle).unwrap_or_default();
    let nothing = ["result", "started_at", "completed_at", "callback"].map(|key| (key, None));
    let fields = [("task_id", Some(id)), ("status", Some("failure")), ("error", Some(why))];
    pickled(fields.into_iter().chain(nothing))
}

/// Returns the reply to a pickle on the management address, a pickle.
pub fn pickled_error(why: &str) -> Vec<u8> {
    pickled([("error", Some(why))])
}

/// Returns a pickle of a dict, in protocol 2, which every Python reads.
fn pickled<'a>(items: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Vec<u8> {
    fn text(pickle: &mut Vec<u8>, text: &str) {
        pickle.push(b'X');
        pickle.extend(u32::try_from(text.len()).unwrap_or_default().to_le_bytes());
        pickle.extend(text.as_bytes());
    }
    let mut pickle = b"\x80\x02}(".to_vec();
    for (key, value) in items {
        text(&mut pickle, key);
        match value {
            Some(value) => text(&mut pickle, value),
            None => pickle.push(b'N'),
        }
    }
    pickle.extend(b"u.");
    pickle
}

/// The task id in a pickle of protocol 4 or later, found without unpickling: the string after the string `id`.
fn pickled_id(pickle: &[u8]) -> Option<&str> {
    const KEY: &[u8] = b"\x8c\x02id";
    let at = pickle.windows(KEY.len()).position(|bytes| bytes == KEY)?;
    let after = &pickle[at + KEY.len()..];
    let after = after.strip_prefix(b"\x94").unwrap_or(after);
    let (length, text) = after.strip_prefix(b"\x8c")?.split_first()?;
    let id = std::str::from_utf8(text.get(..usize::from(*length))?).ok()?;
    (id.len() <= TASK_ID_MAX).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_to_a_pickle_is_a_pickle() {
        // pickle.dumps({"id": "abc", "name": "add"}, 4)
        let request = b"\x80\x04\x95\x19\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x02id\x94\x8c\x03abc\x94\x8c\x04name\x94\x8c\x03add\x94u.";
        assert_eq!(pickled_id(request), Some("abc"));
        assert_eq!(pickled_error("no"), b"\x80\x02}(X\x05\0\0\0errorX\x02\0\0\0nou.");
        let failure = pickled_failure(request, "no");
        assert!(
            failure.starts_with(b"\x80\x02}(X\x07\0\0\0task_idX\x03\0\0\0abcX") && failure.ends_with(b"callbackNu.")
        );
        for odd in
            [&b""[..], b"\x80", b"\x8c\x02id", b"\x8c\x02id\x8c", b"\x8c\x02id\x8c\x09abc", b"\x8c\x02id\x8c\x01\xff"]
        {
            assert_eq!(pickled_id(odd), None);
        }
    }
}
