//! How does a line look for people?

use std::fmt::Write as _;

use super::{Figures, Finding, Level, Line, Peer, Replayed};
use crate::output::shown;

/// Longer texts of a record are cut.
const MAX_CHARS: usize = 300;

impl Line {
    /// For people. What others have said cannot control the terminal.
    pub(crate) fn human(&self, has_colour: bool) -> String {
        match self {
            Self::Finding(finding) => finding.human(has_colour),
            _ => shown(&self.text()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Started { peer_id, addresses } => format!("{peer_id} listens on {}", addresses.join(", ")),
            Self::Peer(peer) => peer.human(),
            Self::PeerConnected { peer_id, address } => format!("+ {peer_id} at {address}"),
            Self::PeerNamed { peer_id, name } => format!("  {peer_id} is {name}"),
            Self::PeerDisconnected { peer_id } => format!("- {peer_id}"),
            Self::Subscribed { topics } => format!("subscribed to {}", topics.join(", ")),
            Self::Message { from, name, topic, text, hex } => {
                let body = text.as_ref().or(hex.as_ref()).map_or("", String::as_str);
                format!("{topic} {}: {body}", who(from, name.as_deref()))
            }
            Self::Lost { messages } => format!("{messages} messages were lost here: they are printed too slowly"),
            Self::Published { topic, bytes, subscribers } => {
                let names: Vec<_> = subscribers.iter().map(|peer| who(&peer.peer_id, peer.name.as_deref())).collect();
                format!("{bytes} bytes on {topic}, sent to {}", names.join(", "))
            }
            Self::Answering { peer_id, addresses } => format!("{peer_id} answers calls on {}", addresses.join(", ")),
            Self::CallBegan { peer_id, name, label } => {
                let label = label.as_ref().map_or(String::new(), |label| format!(" ({label})"));
                format!("call with {}{label}", who(peer_id, name.as_deref()))
            }
            Self::CallFigures(figures) => figures.human(),
            Self::CallEnded { reason, seconds, figures } => {
                format!("ended after {seconds:.1} s: {reason}\n{}", figures.human())
            }
            Self::Context { value, .. } => serde_json::to_string_pretty(value).unwrap_or_default(),
            Self::ContextWritten { path, peers } => format!("{path} is written, and with {peers} peers"),
            Self::ContextChanged { author, path, value } => match value {
                Some(value) => format!("{path} = {value} (by {author})"),
                None => format!("{path} is removed (by {author})"),
            },
            Self::Finding(finding) => finding.human(false),
            Self::Recorded { path, bytes } => format!("{path} has {bytes} bytes"),
            Self::Step { number, time_s, input, outputs, .. } => {
                let outputs = outputs.iter().map(|output| format!("\n      {}", brief(output)));
                format!("#{number} {time_s:.6} s  {}{}", brief(input), outputs.collect::<String>())
            }
            Self::Cause { number, time_s, text } => format!("at {time_s:.3} s (record {number}): {text}"),
            Self::Replayed(Replayed { steps, began, from_s, to_s, agrees, end }) => {
                let agrees = if *agrees { "the same came out" } else { "something else came out" };
                format!("{steps} records from {from_s:.3} s to {to_s:.3} s after {began}: {agrees}; {end}")
            }
        }
    }
}

/// Text for one line of a terminal; `--json` has all of it.
fn brief(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A name is anybody's choice: the end of the id stands beside it.
fn who(peer_id: &str, name: Option<&str>) -> String {
    let end = peer_id.char_indices().rev().nth(7).map_or(peer_id, |(at, _)| &peer_id[at..]);
    match name {
        Some(name) => format!("{name} (…{end})"),
        None => peer_id.to_owned(),
    }
}

impl Peer {
    fn human(&self) -> String {
        let name = self.name.as_deref().unwrap_or("(no name yet)");
        let rtt = self.rtt_ms.map_or("rtt ?".to_owned(), |rtt| format!("rtt {rtt:.1} ms"));
        let since = self.connected_s.map_or("not connected".to_owned(), |seconds| format!("for {seconds:.0} s"));
        let direction = self.direction.unwrap_or("-");
        let mut text = format!("{} {name}: {direction}, {since}, {rtt}, known by {}", self.peer_id, self.source);
        if !self.addresses.is_empty() {
            let _ = write!(text, "\n    at {}", self.addresses.join(" "));
        }
        if !self.topics.is_empty() {
            let _ = write!(text, "\n    topics {}", self.topics.join(" "));
        }
        text
    }
}

impl Finding {
    fn human(&self, has_colour: bool) -> String {
        let (word, colour) = match self.level {
            Level::Ok => ("ok", "32"),
            Level::Note => ("note", "33"),
            Level::Problem => ("problem", "31"),
        };
        let word = match has_colour {
            true => format!("\u{1b}[{colour}m{word:<8}\u{1b}[0m"),
            false => format!("{word:<8}"),
        };
        let mut text = format!("{word}{}: {}", self.check, shown(&self.what));
        if let Some(advice) = &self.advice {
            let _ = write!(text, "\n        {}", shown(advice));
        }
        text
    }
}

impl Figures {
    fn human(&self) -> String {
        let or_unknown = |value: Option<f64>| value.map_or("?".to_owned(), |value| format!("{value:.1} ms"));
        let mut text = format!("{}, rtt {}", self.path, or_unknown(self.rtt_ms));
        let _ = write!(text, "; sent {}, dropped {}", self.sent, self.dropped);
        if let (Some(lost), Some(late)) = (self.remote_lost, self.remote_late) {
            let _ = write!(text, ", lost {lost}, late {late}, jitter {} there", or_unknown(self.remote_jitter_ms));
        }
        let _ = write!(text, "; received {}, lost {}, late {}", self.received, self.lost, self.late);
        let _ = write!(text, ", jitter {:.1} ms", self.jitter_ms);
        if let Some(rate) = self.rate_bits_per_second {
            let _ = write!(text, "; the path takes {:.0} kbit/s", rate as f64 / 1e3);
        }
        if let Some(playout) = &self.playout {
            let _ = write!(
                text,
                "; playout delay {:.0} ms, played {}, concealed {}",
                playout.delay_ms, playout.played, playout.concealed
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object_with_its_kind() {
        let line = Line::Message {
            from: "12D3KooW1".into(),
            name: None,
            topic: "a\nb".into(),
            text: Some("\u{1b}[2J\n".into()),
            hex: None,
        };
        let json = serde_json::to_string(&line).unwrap();
        assert!(!json.contains('\n'), "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["line"], "message");
        assert_eq!(value["text"], "\u{1b}[2J\n");
        assert!(!line.human(true).contains('\u{1b}'));
    }

    #[test]
    fn only_a_terminal_gets_colours() {
        let finding = |advice: Option<&str>| {
            let (level, what) = (Level::Problem, "\u{1b}]0;x".to_owned());
            Line::Finding(Finding { level, check: "port", what, advice: advice.map(str::to_owned) })
        };
        assert_eq!(finding(None).human(false), "problem port: \\u{1b}]0;x");
        assert_eq!(finding(Some("do it")).human(true), "\u{1b}[31mproblem \u{1b}[0mport: \\u{1b}]0;x\n        do it");
    }
}
