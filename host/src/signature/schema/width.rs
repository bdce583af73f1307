//! The exact ranges of the number types of a guest.
//!
//! Separate from the bounds of a schema, which are rounded to `f64`: there, 2^64 equals `u64::MAX`. Here an integer is
//! parsed in full.

/// The type into which a number is read, by its `format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Signed(u8),
    Unsigned(u8),
    /// `f32`: no value that would be infinite.
    Float,
    Double,
}

/// Maximum length of numbers that always fit into 64 bits and, without an exponent, into every float.
const SHORT: usize = 18;

impl Width {
    /// Returns the type of a `format`.
    pub(super) fn of(format: &str) -> Option<Self> {
        Some(match format {
            "int8" => Self::Signed(8),
            "int16" => Self::Signed(16),
            // A guest has addresses of 32 bits.
            "int32" | "int" => Self::Signed(32),
            "int64" => Self::Signed(64),
            "int128" => Self::Signed(128),
            "uint8" => Self::Unsigned(8),
            "uint16" => Self::Unsigned(16),
            "uint32" | "uint" => Self::Unsigned(32),
            "uint64" => Self::Unsigned(64),
            "uint128" => Self::Unsigned(128),
            "float" => Self::Float,
            "double" => Self::Double,
            _ => return None,
        })
    }

    /// Whether it is an integer type.
    pub(super) fn is_integer(self) -> bool {
        matches!(self, Self::Signed(_) | Self::Unsigned(_))
    }

    /// Whether the number fits.
    pub(super) fn holds(self, number: &str) -> bool {
        let is_plain = !number.contains(['.', 'e', 'E']);
        let float = || number.parse::<f64>().unwrap_or(f64::INFINITY);
        match self {
            Self::Signed(64 | 128) | Self::Float | Self::Double if is_plain && number.len() <= SHORT => true,
            #[allow(clippy::cast_possible_truncation, reason = "what serde reads into an f32, infinity included")]
            Self::Float => (float() as f32).is_finite(),
            Self::Double => float().is_finite(),
            Self::Signed(bits) if is_plain => match bits {
                8 => number.parse::<i8>().is_ok(),
                16 => number.parse::<i16>().is_ok(),
                32 => number.parse::<i32>().is_ok(),
                64 => number.parse::<i64>().is_ok(),
                _ => number.parse::<i128>().is_ok(),
            },
            Self::Unsigned(bits) if is_plain => match bits {
                _ if number == "-0" => true,
                8 => number.parse::<u8>().is_ok(),
                16 => number.parse::<u16>().is_ok(),
                32 => number.parse::<u32>().is_ok(),
                64 => number.parse::<u64>().is_ok(),
                _ => number.parse::<u128>().is_ok(),
            },
            // Powers of two are exact.
            Self::Signed(bits) => {
                let end = 2_f64.powi(i32::from(bits) - 1);
                (-end..end).contains(&float())
            }
            Self::Unsigned(bits) => (0.0..2_f64.powi(bits.into())).contains(&float()),
        }
    }

    /// Describes the range, human-readable: ` from 0 to 255`.
    pub(super) fn describe(self) -> String {
        match self {
            Self::Float => " within the range of f32".into(),
            Self::Double => " within the range of f64".into(),
            Self::Signed(bits) => {
                let most = i128::MAX >> (128 - u32::from(bits));
                format!(" from {} to {most}", -most - 1)
            }
            Self::Unsigned(bits) => format!(" from 0 to {}", u128::MAX >> (128 - u32::from(bits))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_holds_its_range_and_no_more() {
        for (format, least, most, beyond) in [
            ("int8", "-128", "127", ["-129", "128"]),
            ("int64", "-9223372036854775808", "9223372036854775807", ["-9223372036854775809", "9223372036854775808"]),
            ("uint64", "0", "18446744073709551615", ["-1", "18446744073709551616"]),
            ("uint", "0", "4294967295", ["-1", "4294967296"]),
            (
                "uint128",
                "0",
                "340282366920938463463374607431768211455",
                ["-1", "340282366920938463463374607431768211456"],
            ),
            ("float", "-3.4028234e38", "3.4028234e38", ["-3.5e38", "3.5e38"]),
            ("double", "-1.7976931348623157e308", "1.7976931348623157e308", ["-1e309", "1e999"]),
        ] {
            let width = Width::of(format).expect("a format");
            for fits in [least, most, "0", "1", "1.0", "1e1", "-0"] {
                assert!(width.holds(fits), "{format} {fits}");
            }
            for beyond in beyond {
                assert!(!width.holds(beyond), "{format} {beyond}");
            }
        }
        let ranges =
            ["int8", "uint64", "int128"].map(|format| Width::of(format).map(Width::describe).unwrap_or_default());
        assert_eq!(ranges[..2], [" from -128 to 127", " from 0 to 18446744073709551615"]);
        assert!(ranges[2].starts_with(" from -170141183460469231731687303715884105728 to "));
        assert!(!Width::Unsigned(64).holds("1e20") && !Width::Float.holds(&"9".repeat(40)));
        assert_eq!(Width::of("date-time"), None);
    }
}
