//! Deterministic simulation of avi-p2p: the real stack over simulated byte streams, in virtual time.
//!
//! A [`Scenario`](scenario::Scenario) and a seed make a [`Plan`](plan::Plan); [`run`] executes it and returns a
//! [`Report`](report::Report). Run one simulation per process, because libraries below have process-wide counters.
#![deny(missing_docs)]

mod allocator;
mod app;
mod audit;
mod context;
mod course;
mod foreign;
mod hostile;
pub mod html;
mod identity;
pub mod interpose;
mod ledger;
pub mod mesh;
pub mod network;
pub mod plan;
mod platform;
mod random;
mod recordings;
pub mod report;
mod runner;
pub mod scenario;
pub mod shrink;
pub mod situations;
mod summary;
pub mod swarm;
mod world;

pub use runner::{NetworkKind, Options, Unsupported, run};
