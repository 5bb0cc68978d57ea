//! Deterministic simulation of avi-p2p: the real stack over simulated byte streams, in virtual time.
//!
//! A [`Scenario`](scenario::Scenario) and a seed make a [`Plan`](plan::Plan); [`run`] carries it out and returns a
//! [`Report`](report::Report). One simulation a process: crates below have counters of their own.
#![deny(missing_docs)]

mod app;
mod audit;
mod hostile;
pub mod html;
pub mod interpose;
mod ledger;
pub mod network;
pub mod plan;
mod platform;
mod random;
pub mod report;
mod runner;
pub mod scenario;
mod summary;
mod world;

pub use runner::{NetworkKind, Options, Unsupported, run};
