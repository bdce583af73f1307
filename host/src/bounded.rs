//! Deserializes lists of bounded length.
//!
//! A few bytes can announce a list of any length, and an item in memory takes many times its size in a
//! frame. So deserializing stops at the limit, not after the whole list was built.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};

/// Maximum number of items of a list in a message; a message with a longer list is rejected.
pub const FRAME_ITEMS_MAX: usize = 1_000;

/// Deserializes a list of at most `MAX` items.
pub(crate) fn at_most<'de, const MAX: usize, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(AtMost::<MAX, T>(PhantomData))
}

struct AtMost<const MAX: usize, T>(PhantomData<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for AtMost<MAX, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        // The announced length may be false: do not allocate much for it.
        let mut items = Vec::with_capacity(list.size_hint().unwrap_or(0).min(MAX).min(64));
        while let Some(item) = list.next_element()? {
            if items.len() == MAX {
                return Err(A::Error::custom(format_args!("a list has more than {MAX} items")));
            }
            items.push(item);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, Deserialize)]
    struct Three(#[serde(deserialize_with = "at_most::<3, _, _>")] Vec<u8>);

    #[test]
    fn a_list_is_read_up_to_its_limit_in_both_codecs() {
        for length in 0..6 {
            let list = Three(vec![7; length]);
            let json = serde_json::to_string(&list).expect("to JSON");
            let bytes = postcard::to_stdvec(&list).expect("to postcard");
            assert_eq!(serde_json::from_str::<Three>(&json).is_ok(), length <= 3);
            assert_eq!(postcard::from_bytes::<Three>(&bytes).is_ok(), length <= 3);
        }
        let error = serde_json::from_str::<Three>("[1,2,3,4]").expect_err("four");
        assert!(error.to_string().starts_with("a list has more than 3 items"), "{error}");
    }
}
