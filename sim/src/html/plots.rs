//! What does each plot show, and in which colours?

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::Drawable;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::{Bin, Report, Sample, Span};

/// Why a plot cannot be drawn.
pub(super) type DrawError = DrawingAreaErrorKind<std::io::Error>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), DrawError>;

/// A plot, and the legend of its colours.
pub(super) struct Plot {
    pub(super) svg: String,
    pub(super) keys: Vec<(RGBColor, &'static str)>,
}

type Draw = fn(&Report) -> Result<Option<Plot>, DrawError>;

/// Every plot, with its title. A plot without data is left out.
pub(super) const ALL: [(&str, Draw); 7] = [
    ("Message latency", latency),
    ("Delivery over time", delivery),
    ("Peers of a node over time", degree),
    ("Peers of a node at the end", degrees),
    ("Part of the mesh that a node which came late has heard of", heard),
    ("Bytes that a node sends in a second, on average", traffic),
    ("What went wrong on purpose", faults),
];

const TEXT: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const AXIS: RGBColor = RGBColor(0x81, 0x8b, 0x98);
const GRID: RGBColor = RGBColor(0xdf, 0xe3, 0xe8);
const BLUE: RGBColor = RGBColor(0x09, 0x69, 0xda);
const ORANGE: RGBColor = RGBColor(0xbc, 0x4c, 0x00);
const FAULT: RGBColor = RGBColor(0xbf, 0x87, 0x00);
const BROKEN: RGBColor = RGBColor(0xcf, 0x22, 0x2e);

/// Each colour of the plots in light mode, and its replacement in dark mode.
pub(super) const PALETTE: [(RGBColor, RGBColor); 7] = [
    (TEXT, RGBColor(0xe6, 0xed, 0xf3)),
    (AXIS, RGBColor(0x7d, 0x85, 0x90)),
    (GRID, RGBColor(0x2f, 0x36, 0x3f)),
    (BLUE, RGBColor(0x58, 0xa6, 0xff)),
    (ORANGE, RGBColor(0xf0, 0x88, 0x3e)),
    (FAULT, RGBColor(0xd2, 0x99, 0x22)),
    (BROKEN, RGBColor(0xff, 0x7b, 0x72)),
];

const WIDTH: u32 = 680;
const HEIGHT: u32 = 280;
const FONT: (&str, u32) = ("sans-serif", 16);
/// The most samples in a line; more could not be distinguished.
const POINTS: usize = 600;
/// The most faults in the timeline.
const BARS: usize = 40;

/// The colour as plotters writes it into attributes.
pub(super) fn hex(color: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2)
}

fn latency(report: &Report) -> Result<Option<Plot>, DrawError> {
    let values = &report.messages.latency_ms;
    let marks = [("p50", values.p50), ("p95", values.p95), ("p99", values.p99)];
    histogram(&report.messages.latency_histogram, "milliseconds", "deliveries", &marks)
}

fn degrees(report: &Report) -> Result<Option<Plot>, DrawError> {
    let bins = &report.connections.degree_histogram;
    // Bins of whole numbers: a bar for one number is centred on it.
    let whole = bins.windows(2).all(|pair| (pair[1].upto - pair[0].upto - 1.0).abs() < 1e-9);
    let moved = |bin: &Bin| Bin { upto: bin.upto + 0.5, ..*bin };
    let bins: Vec<_> = bins.iter().map(|bin| if whole { moved(bin) } else { *bin }).collect();
    histogram(&bins, "peers", "nodes", &[])
}

fn delivery(report: &Report) -> Result<Option<Plot>, DrawError> {
    let samples = thinned(&report.timeline);
    let possible = samples.iter().map(|sample| (sample.at, sample.possible as f64)).collect();
    let delivered = samples.iter().map(|sample| (sample.at, sample.delivered as f64)).collect();
    lines(report, "deliveries", &[(ORANGE, "possible", possible), (BLUE, "delivered", delivered)])
}

fn degree(report: &Report) -> Result<Option<Plot>, DrawError> {
    let samples = thinned(&report.timeline);
    let most = samples.iter().map(|sample| (sample.at, sample.degree_max as f64)).collect();
    let mean = samples.iter().map(|sample| (sample.at, sample.degree_mean)).collect();
    lines(report, "peers", &[(ORANGE, "most", most), (BLUE, "mean", mean)])
}

fn heard(report: &Report) -> Result<Option<Plot>, DrawError> {
    if report.joins.nodes == 0 {
        return Ok(None);
    }
    let samples = thinned(&report.timeline);
    let parts = samples.iter().map(|sample| (sample.at, sample.heard_mean * 100.0)).collect();
    lines(report, "percent", &[(BLUE, "mean", parts)])
}

fn traffic(report: &Report) -> Result<Option<Plot>, DrawError> {
    let samples = thinned(&report.timeline);
    let rate = |pair: &[&Sample]| {
        let sent = pair[1].bytes_sent.saturating_sub(pair[0].bytes_sent) as f64;
        (pair[1].at, sent / (pair[1].at - pair[0].at).max(1e-3) / pair[1].up.max(1) as f64)
    };
    lines(report, "bytes", &[(BLUE, "mean of the nodes that are up", samples.windows(2).map(rate).collect())])
}

fn faults(report: &Report) -> Result<Option<Plot>, DrawError> {
    let shown = &report.troubles[..report.troubles.len().min(BARS)];
    if shown.is_empty() {
        return Ok(None);
    }
    let (end, rows) = (end(report), shown.len() as f64);
    let svg = svg(60 + 26 * shown.len() as u32, |area| {
        let mut chart = chart(area, end, rows, ("seconds", ""))?;
        for (row, span) in shown.iter().enumerate() {
            let top = rows - row as f64;
            fault(&mut chart, end, span, top - 0.1..top - 0.9)?;
        }
        broken(&mut chart, report, rows)
    })?;
    let keys = if report.troubles.len() > BARS { vec![(FAULT, "the first of many")] } else { Vec::new() };
    Ok(Some(Plot { svg, keys }))
}

fn fault(chart: &mut Chart<'_, '_>, end: f64, span: &Span, rows: std::ops::Range<f64>) -> Drawn {
    let until = span.until.max(span.from + end / 300.0);
    let middle = (rows.start + rows.end) / 2.0;
    draw(chart, Rectangle::new([(span.from, rows.start), (until, rows.end)], FAULT.mix(0.4).filled()))?;
    // The label extends to the side with more room.
    match span.from > end / 2.0 {
        false => label(chart, &format!("\u{a0}{}", span.what), (span.from, middle), (HPos::Left, VPos::Center)),
        true => label(chart, &format!("{}\u{a0}", span.what), (until.min(end), middle), (HPos::Right, VPos::Center)),
    }
}

fn histogram(bins: &[Bin], across: &str, up: &str, marks: &[(&str, f64)]) -> Result<Option<Plot>, DrawError> {
    let highest = bins.iter().map(|bin| bin.count).max().unwrap_or_default() as f64;
    if highest == 0.0 {
        return Ok(None);
    }
    let (right, top) = (upper(bins.iter().map(|bin| bin.upto)), highest * if marks.is_empty() { 1.05 } else { 1.3 });
    let svg = svg(HEIGHT, |area| {
        let mut chart = chart(area, right, top, (across, up))?;
        let width = bins.windows(2).map(|pair| pair[1].upto - pair[0].upto).next();
        let mut left = width.map_or(0.0, |width| bins[0].upto - width);
        for bin in bins {
            let gap = (bin.upto - left) * 0.06;
            let corners = [(left + gap, 0.0), (bin.upto - gap, bin.count as f64)];
            draw(&mut chart, Rectangle::new(corners, BLUE.mix(0.75).filled()))?;
            left = bin.upto;
        }
        for (row, (name, at)) in marks.iter().enumerate() {
            let height = top * (0.99 - 0.075 * row as f64);
            draw(&mut chart, PathElement::new([(*at, 0.0), (*at, height)], ORANGE.stroke_width(2)))?;
            let (text, side) = match *at > right * 0.7 {
                false => (format!("\u{a0}{name} {}", figure(at)), HPos::Left),
                true => (format!("{name} {}\u{a0}", figure(at)), HPos::Right),
            };
            label(&mut chart, &text, (*at, height), (side, VPos::Top))?;
        }
        Ok(())
    })?;
    Ok(Some(Plot { svg, keys: Vec::new() }))
}

type Line = (RGBColor, &'static str, Vec<(f64, f64)>);

fn lines(report: &Report, up: &str, lines: &[Line]) -> Result<Option<Plot>, DrawError> {
    if lines.iter().all(|(_, _, points)| points.is_empty()) {
        return Ok(None);
    }
    let right = end(report);
    let top = upper(lines.iter().flat_map(|(_, _, points)| points).map(|point| point.1)) * 1.05;
    let svg = svg(HEIGHT, |area| {
        let mut chart = chart(area, right, top, ("seconds", up))?;
        for span in &report.troubles {
            let until = span.until.max(span.from + right / 300.0);
            draw(&mut chart, Rectangle::new([(span.from, 0.0), (until, top)], FAULT.mix(0.16).filled()))?;
        }
        for (color, _, points) in lines {
            draw(&mut chart, PathElement::new(points.clone(), color.stroke_width(2)))?;
        }
        broken(&mut chart, report, top)
    })?;
    let mut keys: Vec<_> = lines.iter().map(|(color, name, _)| (*color, *name)).collect();
    if !report.troubles.is_empty() {
        keys.push((FAULT, "fault"));
    }
    if report.violation.is_some() {
        keys.push((BROKEN, "promise broken"));
    }
    Ok(Some(Plot { svg, keys }))
}

fn broken(chart: &mut Chart<'_, '_>, report: &Report, top: f64) -> Drawn {
    let Some(violation) = &report.violation else { return Ok(()) };
    let points = [(violation.at, 0.0), (violation.at, top)];
    draw(chart, PathElement::new(points, BROKEN.stroke_width(2)))
}

fn svg(height: u32, paint: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String, DrawError> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
    paint(&area)?;
    area.present()?;
    drop(area);
    Ok(text)
}

fn chart<'a, 'b>(
    area: &Area<'b>,
    right: f64,
    top: f64,
    (across, up): (&str, &str),
) -> Result<Chart<'a, 'b>, DrawError> {
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .margin_right(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    let text = FONT.into_font().color(&TEXT);
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().light_line_style(TRANSPARENT).bold_line_style(GRID).axis_style(AXIS);
    mesh.label_style(text.clone()).axis_desc_style(text).x_desc(across).y_desc(up).y_labels(6);
    mesh.x_label_formatter(&figure).y_label_formatter(&figure);
    if up.is_empty() {
        mesh.disable_y_mesh().disable_y_axis();
    }
    mesh.draw()?;
    Ok(chart)
}

fn draw<'b, E>(chart: &mut Chart<'_, 'b>, element: E) -> Drawn
where
    for<'e> &'e E: plotters::element::PointCollection<'e, (f64, f64)>,
    E: Drawable<SVGBackend<'b>>,
{
    chart.draw_series([element]).map(|_| ())
}

fn label(chart: &mut Chart<'_, '_>, text: &str, at: (f64, f64), (side, height): (HPos, VPos)) -> Drawn {
    let style = FONT.into_font().color(&TEXT).pos(Pos::new(side, height));
    draw(chart, Text::new(text.to_owned(), at, style))
}

/// The end of every time axis.
fn end(report: &Report) -> f64 {
    let spans = report.troubles.iter().map(|span| span.until);
    upper(report.timeline.iter().map(|sample| sample.at).chain(spans).chain([report.virtual_seconds]))
}

/// The largest value, but never 0, because an axis needs a length.
fn upper(values: impl Iterator<Item = f64>) -> f64 {
    let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
    if most > 0.0 { most } else { 1.0 }
}

fn thinned(samples: &[Sample]) -> Vec<&Sample> {
    let step = samples.len().div_ceil(POINTS).max(1);
    let kept = samples.iter().enumerate();
    kept.filter(|(index, _)| index % step == 0 || index + 1 == samples.len()).map(|(_, sample)| sample).collect()
}

/// A number that fits beside an axis.
fn figure(value: &f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (*value, ""),
    };
    let text = format!("{value:.1}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}
