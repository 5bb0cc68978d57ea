//! How does a figure go over time, in a bounded number of bins?

/// More bins could not be told apart on a page.
const MAX_BINS: usize = 600;
/// The first width of a bin, in seconds.
const WIDTH: f64 = 0.01;

/// Bins of equal width. They get twice as wide when there are too many.
#[derive(Debug)]
pub(super) struct Series {
    origin: Option<f64>,
    width: f64,
    bins: Vec<Option<f64>>,
}

impl Default for Series {
    fn default() -> Self {
        Self { origin: None, width: WIDTH, bins: Vec::new() }
    }
}

impl Series {
    /// Keeps the greatest value of a bin.
    pub(super) fn most(&mut self, at: f64, value: f64) {
        self.put(at, value, f64::max);
    }

    /// Adds up the values of a bin.
    pub(super) fn plus(&mut self, at: f64, value: f64) {
        self.put(at, value, |one, other| one + other);
    }

    fn put(&mut self, at: f64, value: f64, both: fn(f64, f64) -> f64) {
        let elapsed = (at - *self.origin.get_or_insert(at)).max(0.0);
        while elapsed / self.width >= MAX_BINS as f64 {
            let either = |pair: &[Option<f64>]| match *pair {
                [Some(one), Some(other)] => Some(both(one, other)),
                [one, other] => one.or(other),
                [one] => one,
                _ => None,
            };
            self.bins = self.bins.chunks(2).map(either).collect();
            self.width *= 2.0;
        }
        let index = (elapsed / self.width) as usize;
        if self.bins.len() <= index {
            self.bins.resize(index + 1, None);
        }
        let bin = &mut self.bins[index];
        *bin = Some(bin.map_or(value, |old| both(old, value)));
    }

    /// The bins that have a value: where each begins and ends, and the value.
    pub(super) fn bins(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let origin = self.origin.unwrap_or_default();
        let begin = move |index: usize, width: f64| origin + index as f64 * width;
        let width = self.width;
        let bins = self.bins.iter().enumerate();
        bins.filter_map(move |(index, bin)| bin.map(|value| (begin(index, width), begin(index + 1, width), value)))
    }

    pub(super) fn greatest(&self) -> f64 {
        self.bins().map(|(_, _, value)| value).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_length_of_time_fits_and_nothing_is_lost() {
        let (mut sum, mut most) = (Series::default(), Series::default());
        for second in 0..100_000_u32 {
            sum.plus(f64::from(second) + 5.0, 1.0);
            most.most(f64::from(second) + 5.0, if second == 77_777 { 9.0 } else { 1.0 });
        }
        assert!(sum.bins().count() <= MAX_BINS);
        assert_eq!(sum.bins().map(|(_, _, value)| value).sum::<f64>(), 100_000.0);
        assert_eq!(most.greatest(), 9.0);
        let at_most = most.bins().find(|(_, _, value)| *value == 9.0).unwrap();
        assert!((at_most.0..at_most.1).contains(&77_782.0), "{at_most:?}");
    }
}
