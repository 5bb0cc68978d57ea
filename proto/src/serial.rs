//! How do the public types look in a file, or in a program's own messages? With the feature `serde` alone.

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::address::Address;
use crate::config::NetworkKey;
use crate::id::PeerId;

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

as_text!(Address, PeerId);

impl Serialize for NetworkKey {
    /// Always an error.
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("a network key is secret, and is not written: take `to_bytes`"))
    }
}

impl<'de> Deserialize<'de> for NetworkKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The secret of an identity: read from 64 hexadecimal digits, and never written.
pub(crate) mod secret {
    use super::*;
    use crate::config::from_hex;

    pub(crate) fn serialize<S: Serializer>(_: &[u8; 32], _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("the secret of an identity is not written"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text).ok_or_else(|| D::Error::custom("identity: expected 64 hexadecimal digits"))
    }
}

/// A time: written as a number of seconds, and read from that or from text with a unit, as `"200 ms"`.
pub(crate) mod seconds {
    use std::fmt;
    use std::time::Duration;

    use serde::de::Visitor;

    use super::*;

    pub(crate) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        match deserializer.is_human_readable() {
            true => deserializer.deserialize_any(Time),
            false => deserializer.deserialize_f64(Time),
        }
    }

    struct Time;

    impl Visitor<'_> for Time {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of seconds, or a text as \"200 ms\", \"10 s\", \"5 min\" or \"1 h\"")
        }

        fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Duration, E> {
            let unexpected = serde::de::Unexpected::Float(seconds);
            Duration::try_from_secs_f64(seconds).map_err(|_| E::invalid_value(unexpected, &self))
        }

        fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Duration, E> {
            Ok(Duration::from_secs(seconds))
        }

        fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Duration, E> {
            let unexpected = serde::de::Unexpected::Signed(seconds);
            u64::try_from(seconds).map(Duration::from_secs).map_err(|_| E::invalid_value(unexpected, &self))
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }
    }

    fn parse(text: &str) -> Option<Duration> {
        let text = text.trim();
        let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, unit) = text.split_at(unit);
        let unit = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        Duration::try_from_secs_f64(number.trim_end().parse::<f64>().ok()? * unit).ok()
    }

    /// The same for a time that may be missing.
    pub(crate) mod option {
        use super::{Deserialize, Deserializer, Duration, Serialize, Serializer};

        #[derive(Serialize, Deserialize)]
        struct Seconds(#[serde(with = "super")] Duration);

        pub(crate) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
            time.map(Seconds).serialize(serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
            Ok(Option::deserialize(deserializer)?.map(|Seconds(time)| time))
        }
    }
}
