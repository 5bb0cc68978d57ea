//! Has a value changed? Every mutable borrow counts as a change.

use std::ops::{Deref, DerefMut};

/// A value that records whether it was mutably borrowed.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Tracked<T> {
    value: T,
    has_changed: bool,
}

impl<T> Tracked<T> {
    /// A new value counts as changed.
    pub(crate) fn new(value: T) -> Self {
        Self { value, has_changed: true }
    }

    pub(crate) fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// Marks all changes as handled.
    pub(crate) fn settle(&mut self) {
        self.has_changed = false;
    }
}

impl<T> Deref for Tracked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Tracked<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.has_changed = true;
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_write_has_changed_it_and_whoever_reads_has_not() {
        let mut tracked = Tracked::new(vec![1]);
        assert!(tracked.has_changed());
        tracked.settle();
        assert_eq!(tracked.len(), 1);
        assert!(!tracked.has_changed());
        tracked.push(2);
        assert!(tracked.has_changed());
    }
}
