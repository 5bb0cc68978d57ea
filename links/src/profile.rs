//! The figures of a link, as a file states them.

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The profiles that come with the crate: name and TOML.
pub const BUILTIN: [(&str, &str); 10] = [
    ("lan", include_str!("../profiles/lan.toml")),
    ("wifi", include_str!("../profiles/wifi.toml")),
    ("wifi_busy", include_str!("../profiles/wifi_busy.toml")),
    ("wifi_power_save", include_str!("../profiles/wifi_power_save.toml")),
    ("roaming", include_str!("../profiles/roaming.toml")),
    ("dsl", include_str!("../profiles/dsl.toml")),
    ("thin_256", include_str!("../profiles/thin_256.toml")),
    ("thin_128", include_str!("../profiles/thin_128.toml")),
    ("thin_50", include_str!("../profiles/thin_50.toml")),
    ("far", include_str!("../profiles/far.toml")),
];

/// The access link of a machine. The default is perfect: no delay, no loss, no bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Profile {
    /// One line about it.
    pub description: String,
    /// Where its figures come from.
    pub source: String,
    /// From the machine.
    pub up: Lane,
    /// To the machine.
    pub down: Lane,
    /// What both directions share.
    pub radio: Radio,
}

/// One direction of a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lane {
    /// Milliseconds that a packet travels.
    pub latency_ms: f64,
    /// The most milliseconds that it travels longer or shorter, evenly distributed.
    pub jitter_ms: f64,
    /// Kilobits per second; 0: no bound.
    pub rate_kbit: u64,
    /// Bytes that may wait to be sent; a packet beyond them is dropped (drop-tail). Without a rate, nothing waits.
    pub queue_bytes: u64,
    /// The part of the packets that is lost, each independently of the others. From 0 to less than 1.
    pub loss: f64,
    /// Loss in bursts, in addition.
    pub burst: Option<Burst>,
    /// The part of the packets that comes out twice.
    pub duplicate: f64,
    /// Whether jitter lets a packet overtake another.
    pub reorder: bool,
}

/// Loss in bursts, after Gilbert and Elliott: the lane is in a good or a bad state, and packets in the bad one are lost.
/// How long it stays in each is exponentially distributed. Time passes, and not only packets, so that a burst also ends
/// for who sends little.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// The part of the time in which it is in the bad state. More than 0, less than 1.
    pub share: f64,
    /// How many milliseconds it stays there, on average.
    pub mean_ms: f64,
    /// The part that is lost in it.
    #[serde(default = "all")]
    pub loss: f64,
}

fn all() -> f64 {
    1.0
}

/// What a radio does to both directions at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Radio {
    /// Times in which every packet is lost.
    pub outage: Option<Outage>,
    /// Power save: packets to the machine wait for beacons.
    pub doze: Option<Doze>,
}

/// Times in which every packet is lost, in seconds. Both lengths are evenly distributed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// The shortest time between two.
    pub every_min_s: f64,
    /// The longest time between two.
    pub every_max_s: f64,
    /// The shortest one.
    pub min_s: f64,
    /// The longest one.
    pub max_s: f64,
}

/// Power save of IEEE 802.11: the access point keeps packets for a dozing radio until that hears a beacon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doze {
    /// Milliseconds between two beacons.
    pub beacon_ms: f64,
    /// The part of the beacons that the radio hears. More than 0, at most 1.
    pub heard: f64,
    /// Milliseconds for which it stays awake after a packet.
    pub awake_ms: f64,
}

/// Why there is no such profile.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("{file}: {error}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why it cannot be read.
        error: std::io::Error,
    },
    /// The file is not TOML, or a field is unknown or of the wrong type.
    #[error("{file}:{line}: {message}")]
    Syntax {
        /// The file.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What was expected.
        message: String,
    },
    /// A value is out of range.
    #[error("{file}:{line}: {field} = {value}: expected {expected}")]
    Range {
        /// The file.
        file: String,
        /// The line of the field's name, counted from 1; 1 if it is not found.
        line: usize,
        /// The field.
        field: String,
        /// Its value.
        value: f64,
        /// What was expected.
        expected: &'static str,
    },
}

impl Profile {
    /// The built-in profile with this name, or that in the file with this path.
    ///
    /// # Errors
    /// [`ProfileError`], with the file, and what was expected.
    pub fn load(name: &str) -> Result<Self, ProfileError> {
        if let Some((name, text)) = BUILTIN.iter().find(|(builtin, _)| *builtin == name) {
            return Self::parse(&format!("links/profiles/{name}.toml"), text);
        }
        let text = std::fs::read_to_string(name).map_err(|error| ProfileError::Unreadable {
            file: name.to_owned(),
            error: match error.kind() {
                std::io::ErrorKind::NotFound => {
                    let names: Vec<_> = BUILTIN.iter().map(|(name, _)| *name).collect();
                    std::io::Error::other(format!("no such file, and no profile of the built-in {}", names.join(", ")))
                }
                _ => error,
            },
        })?;
        Self::parse(name, &text)
    }

    /// Reads a profile from TOML; `file` is for errors.
    ///
    /// # Errors
    /// [`ProfileError`], with the file, and what was expected.
    pub fn parse(file: &str, text: &str) -> Result<Self, ProfileError> {
        let profile: Self = toml::from_str(text).map_err(|error| ProfileError::Syntax {
            file: file.to_owned(),
            line: error.span().map_or(1, |Range { start, .. }| text[..start].matches('\n').count() + 1),
            message: error.message().to_owned(),
        })?;
        profile.check().map_err(|(field, value, expected)| ProfileError::Range {
            file: file.to_owned(),
            line: line_of_field(text, &field),
            field,
            value,
            expected,
        })?;
        Ok(profile)
    }

    fn check(&self) -> Result<(), (String, f64, &'static str)> {
        self.up.check("up")?;
        self.down.check("down")?;
        let check = |field: &str, value: f64, ok: bool, expected| match ok {
            true => Ok(()),
            false => Err((format!("radio.{field}"), value, expected)),
        };
        if let Some(Outage { every_min_s, every_max_s, min_s, max_s }) = self.radio.outage {
            let is_time = |value: f64| (0.0..=86_400.0).contains(&value);
            let is_gap = is_time(every_min_s) && every_min_s >= 0.01;
            check("outage.every_min_s", every_min_s, is_gap, "0.01 to 86400")?;
            let is_gap = is_time(every_max_s) && every_max_s >= every_min_s;
            check("outage.every_max_s", every_max_s, is_gap, "every_min_s to 86400")?;
            check("outage.min_s", min_s, is_time(min_s), "0 to 86400")?;
            check("outage.max_s", max_s, is_time(max_s) && max_s >= min_s, "min_s to 86400")?;
        }
        if let Some(Doze { beacon_ms, heard, awake_ms }) = self.radio.doze {
            check("doze.beacon_ms", beacon_ms, (1.0..=10_000.0).contains(&beacon_ms), "1 to 10000")?;
            check("doze.heard", heard, (0.01..=1.0).contains(&heard), "0.01 to 1")?;
            check("doze.awake_ms", awake_ms, (0.0..=60_000.0).contains(&awake_ms), "0 to 60000")?;
        }
        Ok(())
    }
}

impl Lane {
    fn check(&self, side: &str) -> Result<(), (String, f64, &'static str)> {
        let check = |field: &str, value: f64, ok: bool, expected| match ok {
            true => Ok(()),
            false => Err((format!("{side}.{field}"), value, expected)),
        };
        let part = |field: &str, value: f64| check(field, value, (0.0..1.0).contains(&value), "0 to less than 1");
        let delay = |field: &str, value: f64| check(field, value, (0.0..=60_000.0).contains(&value), "0 to 60000");
        delay("latency_ms", self.latency_ms)?;
        delay("jitter_ms", self.jitter_ms)?;
        part("loss", self.loss)?;
        part("duplicate", self.duplicate)?;
        let queue = self.queue_bytes as f64;
        // Less than a packet would make a lane that drops most of what is sent at once.
        check("queue_bytes", queue, self.rate_kbit == 0 || self.queue_bytes >= 1500, "at least 1500, with a rate")?;
        let rate = self.rate_kbit as f64;
        check("rate_kbit", rate, rate <= 1e9, "at most 1000000000")?;
        if let Some(burst) = &self.burst {
            check("burst.share", burst.share, burst.share > 0.0 && burst.share < 1.0, "more than 0, less than 1")?;
            check("burst.mean_ms", burst.mean_ms, (1.0..=60_000.0).contains(&burst.mean_ms), "1 to 60000")?;
            check("burst.loss", burst.loss, (0.0..=1.0).contains(&burst.loss), "0 to 1")?;
        }
        Ok(())
    }
}

/// The line where a field is set: the first one with its name after the header of its part.
fn line_of_field(text: &str, field: &str) -> usize {
    let (part, name) = (field.split('.').next().unwrap_or(field), field.rsplit('.').next().unwrap_or(field));
    let header = format!("[{part}");
    let begin = text.lines().position(|line| line.trim_start().starts_with(&header)).unwrap_or_default();
    let sets = |line: &str| {
        let mut after = line.split(name).skip(1);
        after.any(|rest| rest.trim_start().starts_with('='))
    };
    text.lines().skip(begin).position(sets).map_or(1, |line| begin + line + 1)
}

pub(crate) fn millis(millis: f64) -> Duration {
    Duration::from_secs_f64(millis / 1000.0)
}
