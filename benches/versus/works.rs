//! What is asked of every side? Messages to subscribers, a start, and to be there for nothing.

use crate::process::{Facts, Outcome};
use crate::run::{Plan, Run, Work};
use crate::table::{Figure, Goal};

/// `times` is for longer runs.
pub fn pubsub(plan: &Plan, times: u64) -> Vec<Work> {
    let publish = |bytes: u64, messages: u64, servers: usize| {
        let messages = messages * times / plan.shorter;
        let facts = Facts::default().with("work", "publish").with("calls", 0);
        let what = match servers {
            1 => format!("messages of {bytes} B"),
            more => format!("messages of {bytes} B to {more}"),
        };
        let facts = facts.with("bytes", bytes).with("messages", messages);
        Work { servers, ..Work::new(&what, facts, messages, messages_a_second) }
    };
    vec![publish(64, 12_000, 1), publish(1024, 12_000, 1), publish(65_536, 1_600, 1), publish(1024, 1_600, 10)]
}

pub fn node(plan: &Plan) -> Vec<Work> {
    let idle = Facts::default().with("work", "idle").with("calls", 0).with("seconds", 6.0 / plan.shorter as f64);
    vec![
        Work::new("start", Facts::default().with("work", "start"), 1, |run| {
            let server = run.servers.first().ok_or("no server")?;
            Ok(vec![("ms to the first message", server.number("p50_us")? / 1000.0, Goal::None)])
        }),
        Work::new("idle", idle, 0, |run| {
            Ok(vec![
                ("CPU µs/s a node", run.cpu_us / run.client.number("seconds")? / 2.0, Goal::AtMost(1.2)),
                ("RSS KiB", run.end.rss_kib, Goal::None),
                ("threads", run.end.threads, Goal::None),
            ])
        }),
    ]
}

fn messages_a_second(run: &Run) -> Outcome<Vec<Figure>> {
    let (heard, lost) = (run.sum("heard")?, run.lost()?);
    // Who does not say what it has dropped does not say what it has lost.
    let unread = if run.dropped.is_some() { run.sum("unread")? } else { f64::NAN };
    let dropped = run.dropped.unwrap_or(f64::NAN);
    if lost != dropped + unread && run.dropped.is_some() {
        return Err(format!("{lost} messages lost, but {dropped} dropped and {unread} unread").into());
    }
    Ok(vec![
        ("messages/s", heard / run.seconds, Goal::AtLeast(1.0)),
        ("CPU µs a message", run.cpu_us / heard, Goal::AtMost(1.0)),
        ("lost", lost, Goal::Zero),
        ("lost: the author's node counts", dropped, Goal::Most),
        ("lost: the readers are told", unread, Goal::Most),
        ("out of order", run.sum("out_of_order")?, Goal::Zero),
    ])
}
