//! How do sides compare? Medians, and ratios of runs of the same round.

use crate::sides::{Chosen, is_ours};

/// What there are goals relative to: the plain program.
const PLAIN: &str = "plain";

/// A figure's name, its value, what is wanted of its ratio.
pub type Figure = (&'static str, f64, Goal);

/// What is wanted of ours, relative to another.
#[derive(Clone, Copy)]
pub enum Goal {
    None,
    AtMost(f64),
    AtLeast(f64),
    /// Of ours alone.
    Zero,
    /// Nothing. It explains a figure that may not be.
    Most,
}

impl Goal {
    fn text(self) -> String {
        match self {
            Self::None | Self::Most => String::new(),
            Self::AtMost(most) => format!("≤ {most:.2}"),
            Self::AtLeast(least) => format!("≥ {least:.2}"),
            Self::Zero => "0".to_owned(),
        }
    }

    fn is_met(self, ours: f64, ratio: f64) -> bool {
        match self {
            Self::None | Self::Most => true,
            Self::AtMost(most) => ratio <= most,
            Self::AtLeast(least) => ratio >= least,
            Self::Zero => ours == 0.0,
        }
    }

    /// What is wanted of ours, whoever the others are.
    fn of_ours(self) -> Self {
        match self {
            Self::Zero | Self::Most => self,
            _ => Self::None,
        }
    }
}

/// Rows as they come.
pub struct Table {
    /// The first is what the others are relative to.
    sides: Vec<String>,
    misses: Vec<String>,
}

impl Table {
    pub fn new(sides: &[Chosen]) -> Self {
        let sides: Vec<String> = sides.iter().map(|side| side.name.clone()).collect();
        let (names, lines): (Vec<_>, Vec<_>) = sides
            .iter()
            .skip(1)
            .map(|other| (format!(" {other} | ratio | least … greatest |"), "---:|---:|---:|"))
            .unzip();
        println!("| work | figure | {} |{} goal |", sides[0], names.concat());
        println!("|---|---|---:|{}---:|", lines.concat());
        Self { sides, misses: Vec::new() }
    }

    /// Adds the rows of a work, from the runs of the first side and of each other.
    pub fn add(&mut self, what: &str, first: &[Vec<Figure>], others: &[Vec<Vec<Figure>>]) {
        for (at, &(figure, _, goal)) in first.first().into_iter().flatten().enumerate() {
            let values = |runs: &[Vec<Figure>]| runs.iter().map(|run| run[at].1).collect::<Vec<f64>>();
            let first = values(first);
            let others: Vec<Other> = others.iter().map(|runs| Other::new(&first, &values(runs), goal)).collect();
            let first = middle(&first, goal);
            let goal = if self.sides[0] == PLAIN { goal } else { goal.of_ours() };
            let cells: String = others.iter().map(Other::cells).collect();
            println!("| {what} | {figure} | {} |{cells} {} |", number(first), goal.text());
            let found = std::iter::once((first, f64::NAN)).chain(others.iter().map(|other| (other.value, other.ratio)));
            for (side, (value, ratio)) in self.sides.iter().zip(found).filter(|(side, _)| is_ours(side)) {
                if !goal.is_met(value, ratio) {
                    let found = number(if ratio.is_finite() { ratio } else { value });
                    self.misses.push(format!("{side}, {what}, {figure}: {found}, wanted {}", goal.text()));
                }
            }
        }
    }

    pub fn print_misses(&self) {
        self.misses.iter().for_each(|miss| println!("not met: {miss}"));
    }
}

/// One figure of another side, and its ratio to the first.
struct Other {
    value: f64,
    /// Not a number where none makes sense.
    ratio: f64,
    least: f64,
    greatest: f64,
}

impl Other {
    fn new(first: &[f64], others: &[f64], goal: Goal) -> Self {
        let mut ratios: Vec<f64> = first.iter().zip(others).map(|(first, other)| other / first).collect();
        ratios.sort_by(f64::total_cmp);
        let bound = |ratio: Option<&f64>| ratio.copied().unwrap_or(f64::NAN);
        let (least, greatest) = (bound(ratios.first()), bound(ratios.last()));
        let ratio = if matches!(goal, Goal::Zero | Goal::Most) { f64::NAN } else { median(&ratios) };
        Self { value: middle(others, goal), ratio, least, greatest }
    }

    fn cells(&self) -> String {
        let value = number(self.value);
        if self.ratio.is_finite() {
            let (least, greatest) = (number(self.least), number(self.greatest));
            format!(" {value} | {} | {least} … {greatest} |", number(self.ratio))
        } else {
            format!(" {value} |  |  |")
        }
    }
}

/// Of what may never happen, the worst run counts.
fn middle(values: &[f64], goal: Goal) -> f64 {
    match goal {
        Goal::Zero | Goal::Most => values.iter().copied().fold(f64::NAN, f64::max),
        _ => median(values),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
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
        unknown if unknown.is_nan() => "–".to_owned(),
        0.0 => "0".to_owned(),
        tiny if tiny < 0.1 => format!("{value:.3}"),
        small if small < 10.0 => format!("{value:.2}"),
        medium if medium < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
