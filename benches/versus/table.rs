//! How do two sides compare? Medians, and ratios of runs that stood next to each other.

use crate::Figure;

/// What is wanted of ours, relative to the plain program.
#[derive(Clone, Copy)]
pub enum Goal {
    None,
    AtMost(f64),
    AtLeast(f64),
    /// Of ours alone.
    Zero,
}

impl Goal {
    fn text(self) -> String {
        match self {
            Self::None => String::new(),
            Self::AtMost(most) => format!("≤ {most:.2}"),
            Self::AtLeast(least) => format!("≥ {least:.2}"),
            Self::Zero => "0".to_owned(),
        }
    }

    fn is_met(self, ours: f64, ratio: f64) -> bool {
        match self {
            Self::None => true,
            Self::AtMost(most) => ratio <= most,
            Self::AtLeast(least) => ratio >= least,
            Self::Zero => ours == 0.0,
        }
    }
}

/// Rows as they come.
pub struct Table {
    misses: Vec<String>,
}

impl Table {
    pub fn new() -> Self {
        println!("| work | figure | ours | plain | ratio | least … greatest | goal |");
        println!("|---|---|---:|---:|---:|---:|---:|");
        Self { misses: Vec::new() }
    }

    /// Adds the rows of a work, from its runs.
    pub fn add(&mut self, what: &str, ours: &[Vec<Figure>], plain: &[Vec<Figure>]) {
        for (at, &(figure, _, goal)) in ours.first().into_iter().flatten().enumerate() {
            let values = |runs: &[Vec<Figure>]| runs.iter().map(|run| run[at].1).collect::<Vec<f64>>();
            let (ours, plain) = (values(ours), values(plain));
            let mut ratios: Vec<f64> = ours.iter().zip(&plain).map(|(ours, plain)| ours / plain).collect();
            ratios.sort_by(f64::total_cmp);
            // Of what may never happen, the worst run counts.
            let (ours, plain, ratio) = match goal {
                Goal::Zero => (worst(ours), worst(plain), f64::NAN),
                _ => (median(ours), median(plain), median(ratios.clone())),
            };
            let spread = match (ratios.first(), ratios.last()) {
                (Some(least), Some(greatest)) if ratio.is_finite() => format!("{least:.2} … {greatest:.2}"),
                _ => String::new(),
            };
            let shown = if ratio.is_finite() { format!("{ratio:.2}") } else { String::new() };
            let (ours_shown, plain_shown) = (number(ours), number(plain));
            println!("| {what} | {figure} | {ours_shown} | {plain_shown} | {shown} | {spread} | {} |", goal.text());
            if !goal.is_met(ours, ratio) {
                let found = if shown.is_empty() { ours_shown } else { shown };
                self.misses.push(format!("{what}, {figure}: {found}, wanted {}", goal.text()));
            }
        }
    }

    pub fn print_misses(&self) {
        self.misses.iter().for_each(|miss| println!("not met: {miss}"));
    }
}

fn worst(values: Vec<f64>) -> f64 {
    values.into_iter().fold(0.0, f64::max)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        small if small < 10.0 => format!("{value:.2}"),
        medium if medium < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
