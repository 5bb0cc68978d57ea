//! Does the wake protocol of `avi-p2p` lose no wake-up, in all interleavings with up to three preemptions? See
//! `tests/wake.rs`.
