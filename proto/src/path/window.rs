//! Which numbers have been seen? A sliding window, as RFC 6479 proposes for replay protection.

/// Numbers that the window reaches back from the highest one.
const WIDTH: u64 = 1_024;
/// One word more than the width, because the newest word is only partly used.
const WORDS: usize = WIDTH as usize / 64 + 1;

/// Remembers which of the last 1,024 numbers were seen. Older ones count as seen.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Window {
    /// One more than the highest number seen.
    end: u128,
    /// A ring of bits: number `n` is bit `n % 64` of word `n / 64`.
    words: [u64; WORDS],
}

impl Default for Window {
    fn default() -> Self {
        Self { end: 0, words: [0; WORDS] }
    }
}

impl Window {
    /// Whether the number was seen, or is too old to say.
    pub fn has_seen(&self, number: u64) -> bool {
        let back = self.end.saturating_sub(1).saturating_sub(number.into());
        let is_new = u128::from(number) >= self.end;
        !is_new && (back >= WIDTH.into() || self.words[word(number)] & bit(number) != 0)
    }

    /// Whether the number is higher than all before it.
    pub fn is_highest(&self, number: u64) -> bool {
        u128::from(number) >= self.end
    }

    /// Marks a number as seen. Returns false if it was.
    pub fn insert(&mut self, number: u64) -> bool {
        if self.has_seen(number) {
            return false;
        }
        if self.is_highest(number) {
            self.clear_up_to(number);
            self.end = u128::from(number) + 1;
        }
        self.words[word(number)] |= bit(number);
        true
    }

    /// Empties the words that the ring reuses for the numbers up to `number`. That of the highest so far stays.
    fn clear_up_to(&mut self, number: u64) {
        let last = number / 64;
        let first = (self.end.div_ceil(64) as u64).max((last + 1).saturating_sub(WORDS as u64));
        for index in first..=last {
            self.words[(index % WORDS as u64) as usize] = 0;
        }
    }
}

fn word(number: u64) -> usize {
    (number / 64 % WORDS as u64) as usize
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_new_once() {
        let mut window = Window::default();
        for number in [0, 1, 5, 3, 1023, 1024, 4, 100_000, 99_000, u64::MAX - 1, u64::MAX, u64::MAX - 1023] {
            assert!(!window.has_seen(number) && window.insert(number), "{number}");
            assert!(window.has_seen(number) && !window.insert(number), "{number}");
        }
    }

    #[test]
    fn the_window_reaches_back_1024_numbers() {
        let mut window = Window::default();
        window.insert(5_000);
        assert!(!window.insert(5_000 - 1_024), "too old");
        assert!(window.insert(5_000 - 1_023));
        window.insert(5_001);
        assert!(!window.insert(5_001 - 1_024));
    }

    proptest! {
        /// Jumps of all sizes, forward and back, from anywhere.
        #[test]
        fn it_agrees_with_a_set(
            start in prop_oneof![Just(0), any::<u64>(), Just(u64::MAX - 2_000)],
            jumps in vec(prop_oneof![8 => -5..6i64, 4 => -1_100..1_101i64, 1 => -70_000..70_001i64], 0..400),
        ) {
            let (mut window, mut seen, mut highest, mut at) = (Window::default(), BTreeSet::new(), None, start);
            for jump in jumps {
                let is_highest = highest.is_none_or(|highest| at > highest);
                let is_old = highest.is_some_and(|highest| highest.saturating_sub(at) >= WIDTH);
                prop_assert_eq!(window.is_highest(at), is_highest);
                prop_assert_eq!(window.has_seen(at), is_old || seen.contains(&at));
                prop_assert_eq!(window.insert(at), !is_old && seen.insert(at));
                highest = highest.max(Some(at));
                at = at.saturating_add_signed(jump);
            }
        }
    }
}
