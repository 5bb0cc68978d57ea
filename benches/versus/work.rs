//! What is done in a run? The child's half: a server that hears, a client that does the work.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::MissedTickBehavior;

use crate::ear::{Ear, Tally, UNSTAMPED, percentile_us, stamped};
use crate::process::{Facts, Outcome, now, obey};
use crate::side::{Call, FRAME_BYTES, Side};

const FRAME_EVERY: Duration = Duration::from_millis(20);

/// The whole life of a child.
pub fn child<S: Side>(role: &str, facts: Facts) -> Outcome {
    let work = async {
        match role {
            "server" => serve::<S>(facts).await,
            _ => work::<S>(facts).await,
        }
    };
    tokio::runtime::Runtime::new()?.block_on(work).inspect_err(|error| println!("failed {error}"))
}

async fn serve<S: Side>(facts: Facts) -> Outcome {
    let mut words = obey();
    let ear = Ear::new(facts.count("expected")?);
    let node = S::serve(ear.clone(), facts.text("work")? == "echo").await?;
    println!("ready address={}", node.address());
    tokio::select! {
        () = ear.complete() => {}
        _ = words.recv() => {}
    }
    let Tally { heard, unread, out_of_order, last_ns, stamped } = ear.tally();
    let latencies_ns: Vec<u64> = stamped.iter().map(|heard| heard.latency_ns).collect();
    let report = Facts::default()
        .with("heard", heard)
        .with("unread", unread)
        .with("out_of_order", out_of_order)
        .with("last_ns", last_ns)
        .with("p50_us", percentile_us(latencies_ns.clone(), 50))
        .with("p99_us", percentile_us(latencies_ns, 99));
    println!("done{report}");
    // The process ends with its parent's words.
    std::future::pending().await
}

async fn work<S: Side>(facts: Facts) -> Outcome {
    let mut words = obey();
    let addresses: Vec<String> = facts.text("addresses")?.split(',').map(str::to_owned).collect();
    if facts.text("work")? == "start" {
        println!("ready");
        words.recv().await;
        let address = addresses.into_iter().next().ok_or("no address")?;
        let greeted = S::greet(address, stamped(0, now(), FRAME_BYTES)).await?;
        println!("end");
        return keep(greeted, words).await;
    }
    let mut node = S::connect(addresses).await?;
    let mut calls = Vec::new();
    for _ in 0..facts.count("calls")? {
        calls.push(node.call().await?);
    }
    println!("ready");
    words.recv().await;
    // On the runtime's own threads, as an application's tasks are.
    let done = tokio::spawn(async move {
        let report = match facts.text("work")? {
            "echo" => echo(&mut node, calls, &facts).await?,
            "pace" => pace(&node, calls, &facts).await?,
            "flood" => flood(calls, &facts).await?,
            "publish" => publish(&node, &facts).await?,
            _ => idle(&facts).await?,
        };
        Outcome::Ok((node, report))
    });
    let (node, report) = done.await??;
    println!("end{report}");
    keep(node, words).await
}

/// Says, whenever it is asked, what the node has dropped.
async fn keep(mut node: impl Side, mut words: UnboundedReceiver<String>) -> Outcome {
    while words.recv().await.is_some() {
        let dropped = node.dropped().await?.map(|dropped| Facts::default().with("messages", dropped));
        println!("dropped{}", dropped.unwrap_or_default());
    }
    Ok(())
}

/// One frame after the other, each when the last has come back.
async fn echo<S: Side>(node: &mut S, calls: Vec<S::Call>, facts: &Facts) -> Outcome<Facts> {
    let mut call = calls.into_iter().next().ok_or("no call")?;
    let mut latencies_ns = Vec::new();
    for number in 0..facts.count("frames")? {
        let began = now();
        node.echo(&mut call, stamped(number, UNSTAMPED, FRAME_BYTES)).await?;
        latencies_ns.push(now() - began);
    }
    let p50 = percentile_us(latencies_ns.clone(), 50);
    Ok(Facts::default().with("p50_us", p50).with("p99_us", percentile_us(latencies_ns, 99)))
}

/// A frame every 20 ms on every call, of which the first is measured, with messages beside them.
async fn pace<S: Side>(node: &S, calls: Vec<S::Call>, facts: &Facts) -> Outcome<Facts> {
    let (frames, messages) = (facts.count("frames")?, facts.count("messages")?);
    let speaking = calls.into_iter().enumerate().map(|(n, call)| tokio::spawn(speak(call, n == 0, frames)));
    let speaking: Vec<_> = speaking.collect();
    let mut beat = ticks(FRAME_EVERY * frames as u32 / messages.max(1) as u32);
    for number in 0..messages {
        beat.tick().await;
        node.publish(stamped(number, UNSTAMPED, 64)).await?;
    }
    for call in speaking {
        call.await??;
    }
    Ok(Facts::default())
}

async fn speak(mut call: impl Call, is_measured: bool, frames: u64) -> Outcome {
    let mut beat = ticks(FRAME_EVERY);
    for number in 0..frames {
        beat.tick().await;
        call.send(stamped(number, if is_measured { now() } else { UNSTAMPED }, FRAME_BYTES)).await?;
    }
    Ok(())
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut beat = tokio::time::interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

/// As many frames as go, on every call from a task of its own.
async fn flood<C: Call>(calls: Vec<C>, facts: &Facts) -> Outcome<Facts> {
    let frames = facts.count("frames")?;
    let sending = calls.into_iter().map(|mut call| {
        tokio::spawn(async move {
            for number in 0..frames {
                call.send(stamped(number, UNSTAMPED, FRAME_BYTES)).await?;
            }
            Outcome::Ok(call)
        })
    });
    for call in sending.collect::<Vec<_>>() {
        // What was sent last is still on its way.
        std::mem::forget(call.await??);
    }
    Ok(Facts::default())
}

async fn publish<S: Side>(node: &S, facts: &Facts) -> Outcome<Facts> {
    let bytes = facts.count("bytes")? as usize;
    for number in 0..facts.count("messages")? {
        node.publish(stamped(number, UNSTAMPED, bytes)).await?;
    }
    Ok(Facts::default())
}

async fn idle(facts: &Facts) -> Outcome<Facts> {
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs_f64(facts.number("seconds")?)).await;
    Ok(Facts::default().with("seconds", began.elapsed().as_secs_f64()))
}
