//! What is measured? The command line.

use std::time::Duration;

use avi_links::{BUILTIN, Profile};

use crate::process::Outcome;
use crate::trial::LATE_AFTER;
use crate::{OURS, PLAIN, UDP};

const USAGE: &str = "--profile NAME|FILE (may be repeated), --seconds N, --sides ours,plain,udp, --frame BYTES, --seed N, \
                     --json FILE, --quick";
const QUICK: [&str; 2] = ["lan", "wifi"];
/// From the header of a frame to the most that a datagram carries without fragments.
const FRAMES: std::ops::RangeInclusive<usize> = 16..=1400;

pub struct Options {
    /// By name.
    pub profiles: Vec<(String, Profile)>,
    pub length: Duration,
    pub sides: Vec<&'static str>,
    pub frame_bytes: usize,
    pub seed: u64,
    pub json: Option<String>,
    /// A check that it runs, rather than a measurement.
    pub quick: bool,
}

impl Options {
    pub fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut options = Self {
            profiles: Vec::new(),
            length: Duration::from_secs(60),
            sides: vec![OURS, PLAIN, UDP],
            frame_bytes: 640,
            seed: 1,
            json: None,
            quick: false,
        };
        let (mut names, mut seconds) = (Vec::new(), None);
        let mut arguments = arguments.iter().map(String::as_str);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value: {USAGE}"));
            match argument {
                "--profile" => names.push(value()?.to_owned()),
                "--seconds" => seconds = Some(number(argument, value()?)?),
                "--sides" => options.sides = value()?.split(',').map(side).collect::<Outcome<_>>()?,
                "--frame" => options.frame_bytes = number(argument, value()?)? as usize,
                "--seed" => options.seed = number(argument, value()?)?,
                "--json" => options.json = Some(value()?.to_owned()),
                "--quick" => options.quick = true,
                // From cargo.
                "--bench" => {}
                other => return Err(format!("unknown argument {other}: {USAGE}").into()),
            }
        }
        if names.is_empty() {
            let built_in = BUILTIN.iter().map(|(name, _)| *name);
            names = built_in.filter(|name| !options.quick || QUICK.contains(name)).map(str::to_owned).collect();
        }
        let load = |name: String| Profile::load(&name).map(|profile| (name, profile));
        options.profiles = names.into_iter().map(load).collect::<Result<_, _>>()?;
        let usual = if options.quick { 2 } else { options.length.as_secs() };
        options.length = Duration::from_secs(seconds.unwrap_or(usual));
        match options.length.as_secs() {
            1..=3600 => {}
            other => return Err(format!("--seconds {other}: 1 to 3600").into()),
        }
        match FRAMES.contains(&options.frame_bytes) {
            true => Ok(options),
            false => Err(format!("--frame {}: {FRAMES:?} bytes", options.frame_bytes).into()),
        }
    }

    pub fn announce(&self) -> String {
        format!(
            "A call one way, {} bytes every 20 ms for {} s; beside it messages of 64 bytes every 500 ms. Both ends have \
             the link, seed {}.\nLate: more than {} ms older than the delay of the links and of sending the frame.",
            self.frame_bytes,
            self.length.as_secs(),
            self.seed,
            LATE_AFTER.as_millis(),
        )
    }
}

fn number(option: &str, value: &str) -> Outcome<u64> {
    Ok(value.parse().map_err(|error| format!("{option} {value}: {error}"))?)
}

fn side(name: &str) -> Outcome<&'static str> {
    let sides = [OURS, PLAIN, UDP];
    let found = sides.into_iter().find(|side| *side == name);
    Ok(found.ok_or_else(|| format!("no side {name:?} among {}", sides.join(", ")))?)
}
