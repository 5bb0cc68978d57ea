//! How is a timeline shown in a browser? One file: inline SVG, no scripts, nothing to load.

use std::fmt::Write as _;

use super::Timeline;
use super::draw::{Axis, Rows, figure};
use super::rows::{PeerRow, StreamRow};
use super::series::Series;

pub(super) fn render(timeline: &Timeline) -> String {
    let from = timeline.from.unwrap_or_default();
    let axis = Axis::new(from, timeline.to);
    let title = escape(&timeline.title);
    let mut page = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
    let style = include_str!("style.css");
    let _ = writeln!(page, "<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<h1>{title}</h1>");
    let _ = writeln!(
        page,
        "<p class=\"faint\">{} records, from {from:.3} s to {:.3} s of the node's time{}</p>",
        timeline.steps,
        timeline.to,
        gaps(&timeline.gaps)
    );
    section(&mut page, "Peers", PEER_KEYS, &peers(timeline, axis), timeline.more_peers, "other peers");
    section(&mut page, "Streams", STREAM_KEYS, &streams(timeline, axis), timeline.more_streams, "other streams");
    section(&mut page, "Losses", &[("loss", "when")], &losses(timeline, axis), 0, "");
    for (name, series, shown) in figures(timeline) {
        let svg = match series.greatest() > 0.0 {
            true => figure(axis, series, name, shown),
            false => "<p>Always 0.</p>\n".to_owned(),
        };
        section(&mut page, name, &[], &svg, 0, "");
    }
    page += &happened(timeline);
    page + "</body>\n</html>\n"
}

type Keys = &'static [(&'static str, &'static str)];
const PEER_KEYS: Keys = &[("up", "connected"), ("dial", "dial"), ("failed", "failed dial")];
const STREAM_KEYS: Keys = &[("asked", "asked for"), ("up", "open"), ("loss", "frames missing"), ("end", "end")];

fn gaps(gaps: &[f64]) -> String {
    match gaps.len() {
        0 => String::new(),
        many => {
            format!("; {many} gaps, at {}", gaps.iter().take(5).map(|at| format!("{at:.1} s ")).collect::<String>())
        }
    }
}

fn section(page: &mut String, title: &str, keys: Keys, svg: &str, more: u64, of: &str) {
    let _ = write!(page, "<figure><figcaption><h2>{}</h2>", escape(title));
    for (class, meaning) in keys {
        let _ = write!(page, "<span class=\"key\"><span class=\"{class}\"></span>{meaning}</span>");
    }
    let _ = writeln!(page, "</figcaption>\n{svg}");
    if more > 0 {
        let _ = writeln!(page, "<p class=\"faint\">and {more} times something of {of}, which are not shown</p>");
    }
    page.push_str("</figure>\n");
}

fn peers(timeline: &Timeline, axis: Axis) -> String {
    if timeline.peers.is_empty() {
        return NOTHING.to_owned();
    }
    let mut rows = Rows::new(axis);
    let mut by_time: Vec<_> = timeline.peers.iter().collect();
    by_time.sort_by(|(_, one), (_, other)| one.begins().total_cmp(&other.begins()));
    for (key, PeerRow { name, connected, dials }) in by_time {
        let whole = name.as_ref().map_or_else(|| key.clone(), |name| format!("{name}, {key}"));
        // All ids begin alike.
        let end = key.char_indices().rev().nth(7).map_or(key.as_str(), |(at, _)| &key[at..]);
        let label = match name {
            Some(name) => format!("{name} …{end}"),
            None if key.starts_with('/') => key.clone(),
            None => format!("…{end}"),
        };
        rows.row(&label, &whole);
        for span in connected {
            let until = span.until.unwrap_or(timeline.to);
            let told = match span.until {
                Some(until) => format!("connected from {:.3} s to {until:.3} s", span.from),
                None => format!("connected from {:.3} s", span.from),
            };
            rows.bar("up", span.from, until, &told);
        }
        for dial in dials {
            match &dial.failed {
                Some(why) => rows.mark("failed", dial.at, &format!("dialled at {:.3} s: {why}", dial.at)),
                None if dial.answered => rows.mark("dial", dial.at, &format!("dialled at {:.3} s", dial.at)),
                None => rows.mark("dial", dial.at, &format!("dialled at {:.3} s, without an answer yet", dial.at)),
            }
        }
    }
    rows.svg("Peers over time: when each was connected, and dials to it")
}

fn streams(timeline: &Timeline, axis: Axis) -> String {
    if timeline.streams.is_empty() {
        return NOTHING.to_owned();
    }
    let mut rows = Rows::new(axis);
    for (stream, StreamRow { peer, requested, accepted, ended, dropped }) in &timeline.streams {
        let peer = peer.as_deref().unwrap_or("somebody");
        rows.row(&format!("stream {stream}"), &format!("stream {stream} with {peer}"));
        let end = ended.as_ref().map_or(timeline.to, |(at, _)| *at);
        let asked_until = accepted.unwrap_or(end);
        rows.bar("asked", *requested, asked_until, &format!("asked for at {requested:.3} s, with {peer}"));
        if let Some(accepted) = accepted {
            rows.bar("up", *accepted, end, &format!("open from {accepted:.3} s, with {peer}"));
        }
        for (at, missing) in dropped {
            rows.mark("loss", *at, &format!("{missing} frames missing at {at:.3} s"));
        }
        if let Some((at, reason)) = ended {
            rows.mark("end", *at, &format!("ended at {at:.3} s: {reason}"));
        }
    }
    rows.svg("Streams over time: when each was asked for, open, and ended")
}

fn losses(timeline: &Timeline, axis: Axis) -> String {
    if timeline.losses.is_empty() {
        return "<p>Nothing was lost.</p>\n".to_owned();
    }
    let mut rows = Rows::new(axis);
    for (name, (series, total)) in &timeline.losses {
        rows.row(&format!("{total} {name}"), &format!("{total} {name}"));
        for (from, until, lost) in series.bins() {
            rows.bar("loss", from, until, &format!("{lost:.0} from {from:.2} s to {until:.2} s: {name}"));
        }
    }
    rows.svg("Losses over time, by kind")
}

type Shown = fn(f64) -> String;

fn figures(timeline: &Timeline) -> [(&'static str, &Series, Shown); 4] {
    let count: Shown = |value| format!("{value:.0}");
    let bytes: Shown = |value| match value {
        _ if value < 1e4 => format!("{value:.0} B"),
        _ if value < 1e7 => format!("{:.0} kB", value / 1e3),
        _ => format!("{:.0} MB", value / 1e6),
    };
    [
        ("Connected peers", &timeline.connected, count),
        ("Streams, asked for or open", &timeline.calls, count),
        ("Messages held for a first subscriber", &timeline.held, count),
        ("Audio queued before the path", &timeline.queued, bytes),
    ]
}

fn happened(timeline: &Timeline) -> String {
    let mut table = String::from("<section><h2>What happened</h2>\n<table>\n");
    for (at, text) in &timeline.happened {
        let _ = writeln!(table, "<tr><th scope=\"row\">{at:.3} s</th><td>{}</td></tr>", escape(text));
    }
    table += "</table>\n";
    if timeline.more_happened > 0 {
        let _ = writeln!(table, "<p class=\"faint\">and {} more</p>", timeline.more_happened);
    }
    table + "</section>\n"
}

const NOTHING: &str = "<p>None.</p>\n";

/// Text of peers as text of a page, in elements and in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Those that reorder text, and those that XML does not have.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.push('\u{fffd}'),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}
