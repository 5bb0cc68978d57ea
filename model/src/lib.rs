//! Does the wake protocol of `avi-p2p` lose no wake-up, in any interleaving? See `tests/wake.rs`.
