//! Which seeds does the command line name, and how do as many runs at a time as there are cores get through them?

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::thread;

use thiserror::Error;

/// A range of seeds, at least one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seeds(RangeInclusive<u64>);

#[derive(Debug, Error, PartialEq)]
pub(super) enum SeedsError {
    #[error("expected A..B or A..=B, as 0..100")]
    Form,
    #[error("there is no seed in it: A..B is without B, and A..=B with it")]
    Empty,
}

impl Seeds {
    pub(super) fn all(&self) -> RangeInclusive<u64> {
        self.0.clone()
    }

    /// How many there are, or `u64::MAX` if there are more.
    pub(super) fn count(&self) -> u64 {
        (self.0.end() - self.0.start()).saturating_add(1)
    }
}

impl FromStr for Seeds {
    type Err = SeedsError;

    fn from_str(text: &str) -> Result<Self, SeedsError> {
        let (first, rest) = text.split_once("..").ok_or(SeedsError::Form)?;
        let (last, included) = rest.strip_prefix('=').map_or((rest, false), |last| (last, true));
        let first: u64 = first.parse().map_err(|_| SeedsError::Form)?;
        let last: u64 = last.parse().map_err(|_| SeedsError::Form)?;
        let last = if included { last } else { last.checked_sub(1).ok_or(SeedsError::Empty)? };
        if first > last { Err(SeedsError::Empty) } else { Ok(Self(first..=last)) }
    }
}

/// The seeds of branches: a range, or one alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BranchSeeds(Seeds);

#[derive(Debug, Error, PartialEq)]
#[error("expected a seed, or several as A..B or A..=B: {0}")]
pub(super) struct BranchSeedsError(SeedsError);

impl BranchSeeds {
    /// The seed, if there is one alone.
    pub(super) fn only(&self) -> Option<u64> {
        (self.0.count() == 1).then(|| *self.0.0.start())
    }

    pub(super) fn all(&self) -> RangeInclusive<u64> {
        self.0.all()
    }

    pub(super) fn count(&self) -> u64 {
        self.0.count()
    }
}

impl FromStr for BranchSeeds {
    type Err = BranchSeedsError;

    fn from_str(text: &str) -> Result<Self, BranchSeedsError> {
        match text.parse() {
            Ok(seed) => Ok(Self(Seeds(seed..=seed))),
            Err(_) => text.parse().map(Self).map_err(BranchSeedsError),
        }
    }
}

impl fmt::Display for BranchSeeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.only() {
            Some(seed) => write!(f, "{seed}"),
            None => write!(f, "{}..={}", self.0.0.start(), self.0.0.end()),
        }
    }
}

/// Does something for each item, for so many at a time: as many as there are cores, if it is not said. The results are in the
/// order of the items.
pub(super) fn in_parallel<K: Clone + Ord + Send, T: Send>(
    items: impl Iterator<Item = K> + Send,
    jobs: Option<NonZero<usize>>,
    run: impl Fn(&K) -> T + Sync,
) -> BTreeMap<K, T> {
    let jobs = jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let (items, results) = (Mutex::new(items), Mutex::new(BTreeMap::new()));
    let take = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..jobs {
            // One more thread only if there is something for it to do.
            let Some(mut item) = take() else { break };
            let (take, run, results) = (&take, &run, &results);
            scope.spawn(move || {
                loop {
                    let result = run(&item);
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(item, result);
                    match take() {
                        Some(next) => item = next,
                        None => break,
                    }
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_seeds_excludes_its_end_unless_it_says_otherwise() {
        assert_eq!("3..5".parse(), Ok(Seeds(3..=4)));
        assert_eq!("3..=5".parse(), Ok(Seeds(3..=5)));
        assert_eq!("7..=7".parse(), Ok(Seeds(7..=7)));
        assert_eq!(format!("0..={}", u64::MAX).parse(), Ok(Seeds(0..=u64::MAX)));
    }

    #[test]
    fn a_range_without_seeds_or_sense_is_refused() {
        for empty in ["5..5", "5..4", "0..0", "5..=4"] {
            assert_eq!(empty.parse::<Seeds>(), Err(SeedsError::Empty), "{empty}");
        }
        for wrong in
            ["", "5", "..", "5..", "..5", "a..b", "1..2..3", "-1..3", "1...3", "1..==3", "1..99999999999999999999"]
        {
            assert_eq!(wrong.parse::<Seeds>(), Err(SeedsError::Form), "{wrong}");
        }
    }

    #[test]
    fn a_branch_may_have_one_seed() {
        assert_eq!("5".parse::<BranchSeeds>().unwrap().only(), Some(5));
        assert_eq!("5..7".parse::<BranchSeeds>().unwrap().only(), None);
        assert_eq!("5..7".parse::<BranchSeeds>().unwrap().to_string(), "5..=6");
        assert!("five".parse::<BranchSeeds>().is_err());
    }

    #[test]
    fn every_item_is_done_once() {
        for jobs in [1, 7, 1000] {
            let done = in_parallel(0..100u64, NonZero::new(jobs), |item| item * 2);
            assert_eq!(done, (0..100).map(|item| (item, item * 2)).collect());
        }
    }
}
