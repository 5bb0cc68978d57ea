//! Has something changed? Whoever may write to a tracked value has changed it, as far as that can be told.

use std::ops::{Deref, DerefMut};

/// A value that notes when it is borrowed to be changed.
#[derive(Debug)]
pub(crate) struct Tracked<T> {
    value: T,
    has_changed: bool,
}

impl<T> Tracked<T> {
    /// What is new has changed.
    pub(crate) fn new(value: T) -> Self {
        Self { value, has_changed: true }
    }

    pub(crate) fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// What follows from the changes has been done.
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
