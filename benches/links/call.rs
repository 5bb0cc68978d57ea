//! What do the two ends do? One speaks and publishes by the clock, the other hears.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::ear::{Ear, Kind, Tally, percentile_us, stamped};
use crate::process::{Facts, Outcome, now, obey};
use crate::side::{Call, Side};

pub const FRAME_EVERY: Duration = Duration::from_millis(20);
pub const MESSAGE_EVERY: Duration = Duration::from_millis(500);
const MESSAGE_BYTES: usize = 64;
/// How long what was sent has to arrive.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The whole life of a child.
pub fn child<S: Side>(role: &str, facts: Facts) -> Outcome {
    let life = async {
        match role {
            "server" => serve::<S>(facts).await,
            _ => speak::<S>(facts).await,
        }
    };
    tokio::runtime::Runtime::new()?.block_on(life).inspect_err(|error| println!("failed {error}"))
}

async fn serve<S: Side>(facts: Facts) -> Outcome {
    let mut words = obey();
    let ear = Ear::new(u64::MAX);
    let node = S::serve(ear.clone(), false).await?;
    println!("ready address={}", node.address());
    words.recv().await;
    let deadline = Instant::now() + ARRIVES_WITHIN;
    let expected = facts.count("frames")? + facts.count("messages")?;
    let late_ns = facts.count("late_ns")?;
    let heard = loop {
        let heard = Heard::of(&ear.tally(), late_ns);
        if heard.frames + heard.messages >= expected || Instant::now() >= deadline {
            break heard;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    println!("done{}", heard.facts());
    // The process ends with its parent's words.
    std::future::pending().await
}

/// What came, each once.
struct Heard {
    frames: u64,
    messages: u64,
    /// Frames that came, but too late.
    late: u64,
    ages_ns: Vec<u64>,
}

impl Heard {
    fn of(tally: &Tally, late_ns: u64) -> Self {
        let of = |kind: Kind| {
            let mut first = BTreeMap::new();
            for heard in tally.stamped.iter().filter(|heard| heard.kind == kind) {
                first.entry(heard.number).or_insert(heard.latency_ns);
            }
            first
        };
        let ages_ns: Vec<u64> = of(Kind::Frame).into_values().collect();
        Self {
            frames: ages_ns.len() as u64,
            messages: of(Kind::Message).len() as u64,
            late: ages_ns.iter().filter(|age| **age > late_ns).count() as u64,
            ages_ns,
        }
    }

    fn facts(self) -> Facts {
        let percentile = |percent| percentile_us(self.ages_ns.clone(), percent);
        Facts::default()
            .with("frames", self.frames)
            .with("messages", self.messages)
            .with("late", self.late)
            .with("p50_us", percentile(50))
            .with("p99_us", percentile(99))
            .with("max_us", percentile(100))
    }
}

async fn speak<S: Side>(facts: Facts) -> Outcome {
    let mut words = obey();
    let mut node = S::connect(vec![facts.text("addresses")?.to_owned()]).await?;
    let call = node.call().await?;
    println!("ready");
    words.recv().await;
    let bytes = facts.count("frame_bytes")? as usize;
    let (frames, messages) = (facts.count("frames")?, facts.count("messages")?);
    // As tasks, on the runtime's own threads.
    let speaking = tokio::spawn(say(FRAME_EVERY, frames, bytes, Speaker(call)));
    let publishing = tokio::spawn(say(MESSAGE_EVERY, messages, MESSAGE_BYTES, Publisher(node)));
    let (spoken, published) = (speaking.await?, publishing.await?);
    let mut report = Facts::default().with("spoken", spoken.taken).with("published", published.taken);
    if let Some(error) = &spoken.error {
        report = report.with("ended", error.split_whitespace().collect::<Vec<_>>().join("_"));
    }
    println!("end{report}");
    // What was sent last is still on its way: the call and the node live as long as the process.
    let _kept = (spoken.mouth, published.mouth);
    std::future::pending().await
}

/// Where something goes.
trait Mouth: Send {
    fn take(&mut self, data: Vec<u8>) -> impl Future<Output = Outcome> + Send;
    /// Whether an error is the end.
    const ENDS: bool;
}

struct Speaker<C>(C);

impl<C: Call> Mouth for Speaker<C> {
    const ENDS: bool = true;

    async fn take(&mut self, data: Vec<u8>) -> Outcome {
        self.0.send(data).await
    }
}

struct Publisher<S>(S);

impl<S: Side> Mouth for Publisher<S> {
    const ENDS: bool = false;

    async fn take(&mut self, data: Vec<u8>) -> Outcome {
        self.0.publish(data).await
    }
}

/// What was given to a mouth.
struct Said<M> {
    mouth: M,
    /// Those that it took.
    taken: u64,
    /// Why it took no more, or not all.
    error: Option<String>,
}

/// One every so often. A mouth that blocks holds the later ones up, and their age counts from when they were due: a
/// microphone does not wait. Those that are not taken when the last should have been are not sent.
async fn say<M: Mouth>(every: Duration, count: u64, bytes: usize, mut mouth: M) -> Said<M> {
    let (began, began_ns) = (Instant::now(), now());
    let end = began + every * count as u32;
    let (mut taken, mut error) = (0, None);
    for number in 0..count {
        let after = every * number as u32;
        let stamp = if Instant::now() < began + after {
            tokio::time::sleep_until(began + after).await;
            now()
        } else {
            began_ns + after.as_nanos() as u64
        };
        match tokio::time::timeout_at(end, mouth.take(stamped(number, stamp, bytes))).await {
            Ok(Ok(())) => taken += 1,
            Ok(Err(reason)) => {
                error = Some(format!("at {:.1} s: {reason}", began.elapsed().as_secs_f64()));
                if M::ENDS {
                    break;
                }
            }
            // It blocks until the end.
            Err(_) => break,
        }
    }
    tokio::time::sleep_until(end).await;
    Said { mouth, taken, error }
}
