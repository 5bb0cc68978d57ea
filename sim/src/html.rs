//! How is a report shown in a browser? One file: plots as inline SVG, a script for the mesh in time, nothing to load.

mod mesh;
mod plots;

use std::fmt::Write as _;

use avi_p2p::situation::Situation;
use thiserror::Error;

use self::plots::{DrawError, PALETTE};
use crate::report::{Percentiles, Report, Violation};

/// Why the page could not be rendered.
#[derive(Debug, Error)]
#[error("a plot cannot be drawn: {0}")]
pub struct RenderError(#[from] DrawError);

/// The page of a report, self-contained, readable in light and dark and at any width.
///
/// # Errors
/// [`RenderError`] if a plot cannot be drawn.
pub fn render(report: &Report) -> Result<String, RenderError> {
    let title = escape(&format!("{}: {} nodes, seed {}", report.scenario, report.nodes, report.seed));
    let mut page = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
    let _ =
        writeln!(page, "<title>{title}</title>\n<style>\n{}{}</style>", include_str!("html/style.css"), dark_plots());
    let _ = writeln!(page, "</head>\n<body>\n<h1>{title}</h1>\n<p class=\"faint\">{}</p>", escape(&report.description));
    page += &verdict(report);
    page += &mesh::section(report);
    page += "<div class=\"tables\">";
    page += &table(report);
    page += &situations(report);
    page += "</div>\n";
    page += "<div class=\"grid\">\n";
    figures(&mut page, report)?;
    let _ = writeln!(page, "</div>\n<section><h2>Run it again</h2>\n<pre>{}</pre></section>", escape(&report.repro));
    page += "</body>\n</html>\n";
    Ok(page)
}

/// The figures of a report as text: names and values.
pub fn summary(report: &Report) -> Vec<(&'static str, String)> {
    let Report { messages, audio, connections, joins, .. } = report;
    let speed = report.virtual_seconds / report.wall_seconds;
    let speed = if speed.is_finite() { format!(" ({speed:.1} a wall second)") } else { String::new() };
    let mut summary = vec![
        ("network", network(report)),
        ("virtual seconds", format!("{:.1}{speed}", report.virtual_seconds)),
        ("messages", format!("{} published, {} expired", messages.published, messages.expired)),
        ("delivered", share(messages.delivered, messages.possible)),
        ("out of order", messages.out_of_order.to_string()),
        ("message latency", percentiles(&messages.latency_ms, milliseconds)),
        ("calls", format!("{} accepted, {} failed", audio.calls, audio.failed)),
        ("audio frames", format!("{}; {} missing", share(audio.received, audio.sent), audio.missing)),
        ("audio latency", percentiles(&audio.latency_ms, milliseconds)),
        ("connections", format!("{} opened, {} refused", connections.opened, connections.refused)),
        ("dials", format!("{}, {} failed", connections.dials, connections.dials_failed)),
        ("peers of a node", percentiles(&connections.degree, |value| value.to_string())),
        ("connections of a node", per_node(&connections.of_a_node, connections.total)),
        ("bytes a node", percentiles(&report.bytes_sent, bytes)),
        ("memory", bytes(report.peak_memory_bytes as f64)),
    ];
    if connections.noticed_ms.count > 0 {
        summary.push(("a crash is noticed after", percentiles(&connections.noticed_ms, milliseconds)));
    }
    if joins.nodes > 0 {
        let part = |value| format!("{:.1} %", value * 100.0);
        summary.push(("half of max_peers after", percentiles(&joins.peered_ms, milliseconds)));
        summary.push(("peers found in a search", percentiles(&joins.found, |value| value.to_string())));
        summary.push(("part of the mesh heard of", percentiles(&joins.heard, part)));
    }
    summary
}

fn network(report: &Report) -> String {
    match report.homes {
        0 => report.network.clone(),
        homes => format!("{}, {homes} homes", report.network),
    }
}

fn verdict(report: &Report) -> String {
    let Some(Violation { invariant, at, detail, tail }) = &report.violation else {
        return "<div class=\"verdict\"><strong>All promises held.</strong></div>\n".to_owned();
    };
    let mut verdict = format!(
        "<div class=\"verdict broken\"><strong>Broken: {}</strong> at {at:.3} s\n<p class=\"detail\">{}</p>",
        escape(invariant),
        escape(detail)
    );
    if !tail.is_empty() {
        let _ = write!(verdict, "\n<pre>{}</pre>", escape(&tail.join("\n")));
    }
    verdict + "</div>\n"
}

fn table(report: &Report) -> String {
    let mut table = String::from("<section><h2>Summary</h2>\n<table>\n");
    for (name, value) in summary(report) {
        let _ = writeln!(table, "<tr><th scope=\"row\">{name}</th><td>{}</td></tr>", escape(&value));
    }
    let _ = writeln!(table, "<tr><th scope=\"row\">trace</th><td><code>{}</code></td></tr>", escape(&report.trace));
    table + "</table></section>\n"
}

/// Which situations were reached, and which were not.
fn situations(report: &Report) -> String {
    let mut section = String::from("<section><h2>Situations reached</h2>\n<table>\n");
    let (reached, never): (Vec<_>, Vec<_>) = report.situations.iter().partition(|(_, count)| **count > 0);
    for (name, count) in reached {
        let what = Situation::named(name).map(Situation::what).unwrap_or_default();
        let _ = writeln!(
            section,
            "<tr><th scope=\"row\" title=\"{}\">{}</th><td>{count}</td></tr>",
            escape(what.trim()),
            escape(name)
        );
    }
    let never: Vec<_> = never.into_iter().map(|(name, _)| escape(name)).collect();
    let never =
        if never.is_empty() { String::new() } else { format!("<p class=\"faint\">Never: {}</p>", never.join(", ")) };
    format!("{section}</table>{never}</section>\n")
}

fn figures(page: &mut String, report: &Report) -> Result<(), RenderError> {
    for (title, plot) in plots::ALL {
        let Some(plot) = plot(report)? else { continue };
        let _ = write!(page, "<figure><figcaption><h2>{title}</h2>");
        for (color, meaning) in plot.keys {
            let hex = plots::hex(color);
            let rect = format!("<rect width=\"18\" height=\"14\" rx=\"3\" fill=\"{hex}\"/>");
            let _ = write!(page, "<span class=\"key\"><svg viewBox=\"0 0 18 14\">{rect}</svg>{meaning}</span>");
        }
        let _ = writeln!(page, "</figcaption>\n{}</figure>", plot.svg);
    }
    Ok(())
}

/// A style sheet that overrides the colours in the plots' attributes.
fn dark_plots() -> String {
    let mut css = String::from("@media (prefers-color-scheme: dark) {\n");
    for (light, dark) in PALETTE {
        let (light, dark) = (plots::hex(light), plots::hex(dark));
        let _ = writeln!(css, "  [fill=\"{light}\"] {{ fill: {dark}; }} [stroke=\"{light}\"] {{ stroke: {dark}; }}");
    }
    css + "}\n"
}

fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => format!("{part} of 0"),
        _ => format!("{part} of {whole} ({:.3} %)", part as f64 / whole as f64 * 100.0),
    }
}

fn percentiles(values: &Percentiles, unit: impl Fn(f64) -> String) -> String {
    let Percentiles { count, p50, p95, p99, max, .. } = *values;
    match count {
        0 => "none".to_owned(),
        _ => format!("p50 {}, p95 {}, p99 {}, max {}", unit(p50), unit(p95), unit(p99), unit(max)),
    }
}

fn per_node(values: &Percentiles, total: u64) -> String {
    format!("{}, mean {:.2}, {total} in all", percentiles(values, |value| value.to_string()), values.mean)
}

fn milliseconds(value: f64) -> String {
    format!("{value:.1} ms")
}

fn bytes(value: f64) -> String {
    match value {
        _ if value < 1e3 => format!("{value:.0} B"),
        _ if value < 1e6 => format!("{:.1} kB", value / 1e3),
        _ if value < 1e9 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.2} GB", value / 1e9),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
