//! How are rows and figures drawn over time? As SVG without colours of its own: the style sheet has them, light and dark.

use std::fmt::Write as _;

use super::page::escape;
use super::series::Series;

const WIDTH: f64 = 1_000.0;
/// Where time begins and ends; the labels of rows are left of it.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 985.0;
const TOP: f64 = 8.0;
const ROW: f64 = 20.0;
const BAR: f64 = 12.0;
const FIGURE: f64 = 90.0;
/// The label of a row has at most so many characters.
const MAX_LABEL_CHARS: usize = 26;
/// Narrower bars could not be seen.
const MIN_BAR: f64 = 1.5;
/// About so many marks on the axis of time.
const TICKS: f64 = 8.0;

/// The time that a page shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    pub(super) fn new(from: f64, to: f64) -> Self {
        Self { from, to: if to > from { to } else { from + 1.0 } }
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (at.clamp(self.from, self.to) - self.from) / (self.to - self.from) * (RIGHT - LEFT)
    }

    /// Round times: 1, 2 or 5 of a power of ten apart.
    fn ticks(&self) -> (f64, Vec<f64>) {
        let least = (self.to - self.from) / TICKS;
        let power = 10_f64.powf(least.log10().floor());
        let step = [1.0, 2.0, 5.0].iter().map(|part| part * power).find(|step| *step >= least).unwrap_or(10.0 * power);
        let first = (self.from / step).ceil();
        let ticks = (0..).map(|n| (first + f64::from(n)) * step).take_while(|at| *at <= self.to).take(50);
        (step, ticks.collect())
    }
}

/// A drawing of rows, from the first to the last.
pub(super) struct Rows {
    axis: Axis,
    body: String,
    rows: usize,
}

impl Rows {
    pub(super) fn new(axis: Axis) -> Self {
        Self { axis, body: String::new(), rows: 0 }
    }

    /// Begins a row.
    pub(super) fn row(&mut self, label: &str, whole: &str) {
        self.rows += 1;
        let y = self.y() + BAR - 2.0;
        let short: String = match label.char_indices().nth(MAX_LABEL_CHARS) {
            Some((at, _)) => format!("{}…", &label[..at]),
            None => label.to_owned(),
        };
        let (short, whole) = (escape(&short), escape(whole));
        let _ = writeln!(self.body, "<text x=\"0\" y=\"{y:.0}\">{short}<title>{whole}</title></text>");
    }

    fn y(&self) -> f64 {
        TOP + (self.rows as f64 - 1.0) * ROW
    }

    /// A time in the row.
    pub(super) fn bar(&mut self, class: &str, from: f64, until: f64, told: &str) {
        let (left, right) = (self.axis.x(from), self.axis.x(until));
        let (y, width, told) = (self.y(), (right - left).max(MIN_BAR), escape(told));
        let _ = writeln!(
            self.body,
            "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{BAR}\"><title>{told}</title></rect>"
        );
    }

    /// A moment in the row.
    pub(super) fn mark(&mut self, class: &str, at: f64, told: &str) {
        let (x, y, told) = (self.axis.x(at), self.y(), escape(told));
        let (top, bottom) = (y - 2.0, y + BAR + 2.0);
        let _ = writeln!(
            self.body,
            "<path class=\"{class}\" d=\"M{x:.1} {top:.0}V{bottom:.0}\"><title>{told}</title></path>"
        );
    }

    pub(super) fn svg(self, title: &str) -> String {
        let bottom = TOP + self.rows as f64 * ROW;
        svg(self.axis, bottom, &self.body, title)
    }
}

/// A figure over time, from 0 to its greatest value.
pub(super) fn figure(axis: Axis, series: &Series, title: &str, shown: impl Fn(f64) -> String) -> String {
    let greatest = series.greatest();
    let top = if greatest > 0.0 { greatest } else { 1.0 };
    let bottom = TOP + FIGURE;
    let y = |value: f64| bottom - value / top * FIGURE;
    let mut path = String::new();
    let mut last: Option<f64> = None;
    for (from, _, value) in series.bins() {
        let left = axis.x(from);
        // Between two values the first one stays.
        let _ = match last {
            None => write!(path, "M{left:.1} {:.1}", y(value)),
            Some(last) if last == value => Ok(()),
            Some(_) => write!(path, "H{left:.1}V{:.1}", y(value)),
        };
        last = Some(value);
    }
    if last.is_some() {
        let _ = write!(path, "H{RIGHT:.1}");
    }
    let mut body = format!("<path class=\"line\" d=\"{path}\"/>\n");
    let (greatest, none) = (escape(&shown(greatest)), escape(&shown(0.0)));
    let _ = writeln!(body, "<text class=\"value\" x=\"{:.0}\" y=\"{:.0}\">{greatest}</text>", LEFT - 6.0, TOP + 8.0);
    let _ = writeln!(body, "<text class=\"value\" x=\"{:.0}\" y=\"{bottom:.0}\">{none}</text>", LEFT - 6.0);
    svg(axis, bottom, &body, title)
}

fn svg(axis: Axis, bottom: f64, body: &str, title: &str) -> String {
    let height = bottom + 22.0;
    let title = escape(title);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{title}\">\n");
    let (step, ticks) = axis.ticks();
    let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    for at in ticks {
        let x = axis.x(at);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom:.0}\"/>");
        let _ = writeln!(svg, "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.0}\">{at:.digits$} s</text>", bottom + 16.0);
    }
    svg + body + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_marks_within_its_time() {
        for (from, to, expected) in [(0.0, 10.0, 2.0), (3.2, 3.9, 0.1), (100.0, 4_000.0, 500.0), (5.0, 5.0, 0.2)] {
            let axis = Axis::new(from, to);
            let (step, ticks) = axis.ticks();
            assert!((step - expected).abs() < 1e-9, "{from} to {to}: {step}");
            assert!((4..=9).contains(&ticks.len()), "{from} to {to}: {ticks:?}");
            assert!(ticks.iter().all(|at| (axis.from..=axis.to + 1e-9).contains(at)), "{ticks:?}");
        }
    }
}
