//! What does the context promise?

mod faults;
mod properties;
mod replicas;
