//! How does a device that is too small to be a node take part?
