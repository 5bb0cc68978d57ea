//! How is a fuzzer's input read? From the front, field by field, until it is used up.

use std::time::Duration;

use arbitrary::Unstructured;

/// Fields from bytes. Past the end every field is zero or empty.
pub(super) struct Script<'a>(Unstructured<'a>);

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `bound`, which is at most 256.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    pub(super) fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// One byte for small numbers, nine for any number, and the numbers at the limits of arithmetic.
    pub(super) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ ..0xf0 => small.into(),
            0xf0..0xf4 => self.0.arbitrary::<u16>().unwrap_or_default().into(),
            0xf4..0xf8 => self.0.arbitrary::<u32>().unwrap_or_default().into(),
            0xf8..0xfc => self.0.arbitrary().unwrap_or_default(),
            0xfc => 1 << 63,
            0xfd => u64::MAX - 1,
            _ => u64::MAX,
        }
    }

    /// Up to four months, in various units.
    pub(super) fn duration(&mut self) -> Duration {
        let unit_us = self.pick(&[1, 100, 1_000, 20_000, 1_000_000]);
        Duration::from_micros(self.number().min(10_000_000_000_000 / unit_us) * unit_us)
    }

    /// As many bytes as an array has.
    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        self.0.arbitrary().unwrap_or([0; N])
    }

    /// At most `max` bytes, preceded by their length.
    pub(super) fn bytes(&mut self, max: usize) -> &'a [u8] {
        let len = usize::try_from(self.number()).unwrap_or(usize::MAX).min(max).min(self.0.len());
        self.0.bytes(len).unwrap_or_default()
    }

    /// A text of at most `max_bytes`, preceded by its length.
    pub(super) fn text(&mut self, max_bytes: usize) -> String {
        let mut text = String::from_utf8_lossy(self.bytes(max_bytes)).into_owned();
        text.truncate(text.floor_char_boundary(max_bytes));
        text
    }

    /// The remaining bytes.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }
}
