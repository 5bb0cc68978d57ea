//! Other libraries: nodes of this library, of zenoh and of iroh-gossip, in processes of their own over loopback.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml [-- [pubsub] [node] [--only WORK] [--quick] [--rounds N]
//!     [--sides A,B] [--relative-to A] [--before EXECUTABLE]]
//! ```
//!
//! The processes, works and table are those of `benches/versus`; the runs of the three sides take turns.
//! `BENCHMARKS.md` says what the others do otherwise.

#[path = "../../versus/ear.rs"]
mod ear;
mod on_iroh;
mod on_zenoh;
#[path = "../../versus/ours.rs"]
mod ours;
#[path = "../../versus/process.rs"]
mod process;
#[path = "../../versus/run.rs"]
mod run;
#[path = "../../versus/side.rs"]
mod side;
#[path = "../../versus/sides.rs"]
mod sides;
#[path = "../../versus/table.rs"]
mod table;
#[path = "../../versus/work.rs"]
mod work;
#[path = "../../versus/works.rs"]
mod works;

use std::convert::Infallible;

use on_iroh::OnIroh;
use on_zenoh::OnZenoh;
use ours::{Ours, Own};
use process::{Facts, Outcome};
use run::{Plan, Section};
use side::Call;
use sides::Sides;

const SECTIONS: [Section; 2] = [("pubsub", |plan| works::pubsub(plan, TIMES)), ("node", works::node)];
/// The fastest of the three would be done with the messages of `benches/versus` in some milliseconds.
const TIMES: u64 = 5;
const ZENOH: &str = "zenoh";
const IROH: &str = "iroh-gossip";
const SIDES: Sides = Sides { usual: &["ours", ZENOH, IROH], further: &[] };

fn main() -> std::process::ExitCode {
    process::program("peers", child, |arguments| Plan::parse(arguments, &SECTIONS, &SIDES)?.run(&SECTIONS))
}

fn child(role: &str, facts: Facts) -> Outcome {
    match facts.text("side")? {
        "ours" => work::child::<Ours<Own>>(role, facts),
        ZENOH => work::child::<OnZenoh>(role, facts),
        _ => work::child::<OnIroh>(role, facts),
    }
}

impl Call for Infallible {
    async fn send(&mut self, _frame: Vec<u8>) -> Outcome {
        match *self {}
    }
}
