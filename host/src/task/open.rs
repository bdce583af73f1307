//! Open values: choices that a later version may extend.
//!
//! Both codecs write the name of such a value. A reader keeps a name that it does not know, displays it
//! and writes it back. Without allocation, so that these types stay `Copy`.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserializer,
    de::{Error, Visitor},
};

/// Maximum length of the name of an open value, in bytes.
pub const OPEN_NAME_MAX: usize = 32;

/// The name of an open value that this version does not know: 1 to [`OPEN_NAME_MAX`] visible ASCII
/// characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpenName {
    length: u8,
    bytes: [u8; OPEN_NAME_MAX],
}

impl OpenName {
    /// None if the text cannot be such a name. Private to this module tree, so that no known name
    /// becomes an unknown one.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let is_name = text.bytes().all(|byte| byte.is_ascii_graphic());
        let length = u8::try_from(text.len()).ok().filter(|length| is_name && *length > 0)?;
        let mut bytes = [0; OPEN_NAME_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { length, bytes })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

impl fmt::Debug for OpenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// An enum whose values are open.
pub(crate) trait Open: Sized {
    /// Name of the type in errors.
    const WHAT: &'static str;

    /// Returns the known value of this name, in any case.
    fn from_known_name(name: &str) -> Option<Self>;
    /// Returns a value that this version does not know.
    fn other(name: OpenName) -> Self;
}

/// Reads an open value.
pub(crate) fn read<'de, T: Open, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Name<T>(PhantomData<T>);

    impl<T: Open> Visitor<'_> for Name<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::WHAT)
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
            T::from_known_name(name).or_else(|| OpenName::new(name).map(T::other)).ok_or_else(|| {
                E::custom(format_args!(
                    "'{name:.64}' is not a valid {}: its name has 1 to {OPEN_NAME_MAX} visible ASCII characters",
                    T::WHAT
                ))
            })
        }
    }

    deserializer.deserialize_str(Name(PhantomData))
}

/// Defines an enum of open values: `ALL`, `as_str`, `index`, and its string forms. `FromStr` reads
/// known names only, in any case.
macro_rules! open_enum {
    (
        $(#[$meta:meta])*
        pub enum $type:ident: $what:literal {
            $($(#[$doc:meta])* $variant:ident = $name:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $($(#[$doc])* $variant,)*
            /// Returns a value that this version does not know.
            Other($crate::task::OpenName),
        }

        impl $type {
            /// All known ones.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// The name, in lower case if it is known.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other(name) => name.as_str(),
                }
            }

            /// Its index in [`Self::ALL`]; none if it is not known.
            pub const fn index(self) -> Option<usize> {
                enum Index {
                    $($variant,)*
                }
                match self {
                    $(Self::$variant => Some(Index::$variant as usize),)*
                    Self::Other(_) => None,
                }
            }
        }

        impl $crate::task::open::Open for $type {
            const WHAT: &'static str = $what;

            fn from_known_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name)),
                }
            }

            fn other(name: $crate::task::OpenName) -> Self {
                Self::Other(name)
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::task::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let known = <Self as $crate::task::open::Open>::from_known_name(text);
                known.ok_or_else(|| $crate::task::UnknownName::new($what, text, &[$($name),*]))
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::task::open::read(deserializer)
            }
        }
    };
}

pub(crate) use open_enum;

#[cfg(test)]
mod tests {
    use crate::task::{DeliveryState, ErrorKind, RefusalCode, TaskStatus};

    #[test]
    fn an_unknown_value_is_kept_in_both_codecs() {
        fn kept<T>(text: &str)
        where
            T: serde::Serialize + serde::de::DeserializeOwned + std::fmt::Display + PartialEq + std::fmt::Debug,
        {
            let json = format!("\"{text}\"");
            let value: T = serde_json::from_str(&json).expect("from JSON");
            assert_eq!(value.to_string(), text);
            assert_eq!(serde_json::to_string(&value).expect("to JSON"), json);
            let bytes = postcard::to_stdvec(&value).expect("to postcard");
            assert_eq!(postcard::from_bytes::<T>(&bytes), Ok(value));
        }
        for text in ["suspended", "a.new-Kind_2", &"x".repeat(super::OPEN_NAME_MAX)] {
            kept::<TaskStatus>(text);
            kept::<ErrorKind>(text);
            kept::<DeliveryState>(text);
            kept::<RefusalCode>(text);
        }
    }

    #[test]
    fn an_invalid_name_is_refused() {
        for text in ["", "two words", "größe", &"x".repeat(super::OPEN_NAME_MAX + 1)] {
            assert!(serde_json::from_str::<TaskStatus>(&format!("\"{text}\"")).is_err(), "{text}");
            let bytes = postcard::to_stdvec(text).expect("to postcard");
            assert!(postcard::from_bytes::<TaskStatus>(&bytes).is_err(), "{text}");
        }
    }

    #[test]
    fn a_known_value_is_read_in_any_case_and_indexed() {
        assert_eq!(serde_json::from_str::<TaskStatus>("\"STARTED\"").expect("from JSON"), TaskStatus::Started);
        assert!("suspended".parse::<TaskStatus>().is_err(), "only known names are parsed");
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!((kind.index(), kind.as_str().parse()), (Some(index), Ok(kind)));
        }
    }
}
