//! Side by side: nodes of this library and plain programs on libp2p, in processes of their own over loopback.
//!
//! ```text
//! cargo bench --bench versus [-- [audio] [pubsub] [node] [--only WORK] [--quick] [--rounds N]
//!     [--sides A,B] [--relative-to A] [--before EXECUTABLE]]
//! ```
//!
//! The runs of the sides take turns. Each row has the median of each side, and the median of the ratios of the runs of
//! the same round, with the least and the greatest of them. Sides are `plain`, `ours`, `ours-on-tokio`, with `--before`
//! also `before` and `before-on-tokio`, and, only if they are chosen, `ours-recorded` and those of `ways.rs`. `BENCHMARKS.md` says more.

mod ear;
mod ours;
mod plain;
mod process;
mod run;
mod side;
mod sides;
mod table;
mod ways;
mod work;
mod works;

use ours::{Ours, Own, Recorded};
use plain::Plain;
use process::{Facts, Outcome};
use run::{Plan, Run, Section, Work};
use sides::Sides;
use table::{Figure, Goal};
use ways::{OnTokio, SmolAsyncIo, SmolTokio};

const SECTIONS: [Section; 3] = [("audio", audio), ("pubsub", |plan| works::pubsub(plan, 1)), ("node", works::node)];
const SIDES: Sides =
    Sides { usual: &["plain", "ours", "ours-on-tokio"], further: &["ours-recorded", "smol-tokio", "smol-async-io"] };

fn main() -> std::process::ExitCode {
    process::program("versus", child, |arguments| Plan::parse(arguments, &SECTIONS, &SIDES)?.run(&SECTIONS))
}

fn child(role: &str, facts: Facts) -> Outcome {
    match facts.text("side")? {
        "plain" => work::child::<Plain>(role, facts),
        "ours" => work::child::<Ours<Own>>(role, facts),
        "ours-on-tokio" => work::child::<Ours<OnTokio>>(role, facts),
        "ours-recorded" => work::child::<Ours<Recorded>>(role, facts),
        "smol-tokio" => work::child::<Ours<SmolTokio>>(role, facts),
        "smol-async-io" => work::child::<Ours<SmolAsyncIo>>(role, facts),
        other => Err(format!("no side {other:?}").into()),
    }
}

fn audio(plan: &Plan) -> Vec<Work> {
    let echoes = 8000 / plan.shorter;
    let paced = 200 / plan.shorter;
    let (one, each) = (200_000 / plan.shorter, 10_000 / plan.shorter);
    let facts = |work: &str, calls: u64, frames: u64| {
        Facts::default().with("work", work).with("calls", calls).with("frames", frames).with("messages", 0)
    };
    let messages = paced * 4;
    vec![
        Work::new("round trip", facts("echo", 1, echoes), echoes, |run| {
            let goals = [("p50 µs", "p50_us", Goal::AtMost(1.3)), ("p99 µs", "p99_us", Goal::None)];
            goals.into_iter().map(|(name, key, goal)| Ok((name, run.client.number(key)?, goal))).collect()
        }),
        Work::new("one way, 50 frames/s", facts("pace", 1, paced), paced, one_way),
        Work::new(
            "one way, beside 20 calls and 200 messages/s",
            facts("pace", 21, paced).with("messages", messages),
            21 * paced + messages,
            one_way,
        ),
        Work::new("20 calls of 50 frames/s", facts("pace", 20, paced), 20 * paced, |run| {
            Ok(vec![("CPU µs a frame", run.cpu_us / run.sum("heard")?, Goal::None), ("lost", run.lost()?, Goal::None)])
        }),
        Work::new("flood, 1 call", facts("flood", 1, one), one, flood),
        Work::new("flood, 20 calls", facts("flood", 20, each), 20 * each, flood),
    ]
}

fn one_way(run: &Run) -> Outcome<Vec<Figure>> {
    let server = run.servers.first().ok_or("no server")?;
    Ok(vec![("p50 µs", server.number("p50_us")?, Goal::None), ("p99 µs", server.number("p99_us")?, Goal::None)])
}

fn flood(run: &Run) -> Outcome<Vec<Figure>> {
    let heard = run.sum("heard")?;
    Ok(vec![
        ("frames/s", heard / run.seconds, Goal::AtLeast(1.5)),
        ("CPU s a million frames", run.cpu_us / heard, Goal::AtMost(0.75)),
        ("lost", run.lost()?, Goal::Zero),
        ("out of order", run.sum("out_of_order")?, Goal::Zero),
    ])
}
