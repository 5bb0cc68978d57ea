//! How do values look on the command line?

use std::net::IpAddr;
use std::time::Duration;

/// What is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Stream(u64),
    /// An id, a part of it, or a name.
    Peer(String),
    Message(u64),
}

pub(super) fn subject(text: &str) -> Result<Subject, String> {
    let expected = || "expected stream:N, peer:WHO or message:RECORD, as stream:1".to_owned();
    let (kind, which) = text.split_once(':').ok_or_else(expected)?;
    let number = || which.parse().map_err(|_| expected());
    match kind {
        "stream" => number().map(Subject::Stream),
        "message" => number().map(Subject::Message),
        "peer" if !which.is_empty() => Ok(Subject::Peer(which.to_owned())),
        _ => Err(expected()),
    }
}

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    pub(crate) ip: Option<IpAddr>,
    pub(crate) port: Option<u16>,
}

pub(super) fn listen(text: &str) -> Result<Listen, String> {
    if let Ok(port) = text.parse() {
        return Ok(Listen { ip: None, port: Some(port) });
    }
    if let Ok(ip) = text.parse() {
        return Ok(Listen { ip: Some(ip), port: None });
    }
    let both: std::net::SocketAddr = text
        .parse()
        .map_err(|_| "expected an IP address, a port, or both as 192.0.2.7:9000 or [2001:db8::1]:9000".to_owned())?;
    Ok(Listen { ip: Some(both.ip()), port: Some(both.port()) })
}

/// The longest time that an option may have.
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn time(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time as 5, 0.5s, 200ms, 2min or 1h, of at most a day".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "min" | "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(expected()),
    };
    let number: f64 = digits.trim_end().parse().map_err(|_| expected())?;
    Duration::try_from_secs_f64(number * unit).ok().filter(|time| *time <= DAY).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_a_bound() {
        for (text, seconds) in [("5", 5.0), ("0.5s", 0.5), ("200ms", 0.2), ("2min", 120.0), ("24 h", 86_400.0)] {
            assert_eq!(time(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for bad in ["", "s", "-1", "5 days", "25h", "NaN", "1e9", "inf"] {
            assert!(time(bad).unwrap_err().contains("expected a time"), "{bad}");
        }
    }

    #[test]
    fn one_may_listen_on_an_address_a_port_or_both() {
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        assert_eq!(listen("9000").unwrap(), Listen { ip: None, port: Some(9000) });
        assert_eq!(listen("::1").unwrap(), Listen { ip: ip("::1"), port: None });
        assert_eq!(listen("127.0.0.1:0").unwrap(), Listen { ip: ip("127.0.0.1"), port: Some(0) });
        for bad in ["", "65536", "localhost", "127.0.0.1:x"] {
            assert!(listen(bad).unwrap_err().contains("expected an IP address"), "{bad}");
        }
    }

    #[test]
    fn what_is_to_be_explained_has_a_kind() {
        assert_eq!(subject("stream:7").unwrap(), Subject::Stream(7));
        assert_eq!(subject("peer:a:b").unwrap(), Subject::Peer("a:b".to_owned()));
        assert_eq!(subject("message:0").unwrap(), Subject::Message(0));
        for bad in ["", "7", "stream:", "stream:x", "peer:", "call:1"] {
            assert!(subject(bad).unwrap_err().contains("stream:1"), "{bad}");
        }
    }
}
