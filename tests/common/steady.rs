//! A node with two peers that keep the rules: one in a call with it, one that writes to it, the whole time.
#![allow(dead_code)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pHandle, Stats, StreamId};
use tokio::task::JoinHandle;

use crate::common::{Node, WITHIN, call, config};

/// From frame to frame, and from message to message.
const PACE: Duration = Duration::from_millis(20);

/// What the victim has heard of its peers.
#[derive(Default)]
struct Heard {
    frames: u64,
    missing: u64,
    messages: u64,
    out_of_place: u64,
    closed: bool,
    requests: u64,
    /// The longest that a frame or message has taken since the last look.
    slowest: Duration,
}

/// The victim, and its peers at work.
pub struct Steady {
    pub handle: AviP2pHandle,
    pub address: String,
    heard: Arc<Mutex<Heard>>,
    sent: Arc<Mutex<(u64, u64)>>,
    tasks: Vec<JoinHandle<()>>,
    before: Usage,
    baseline: Duration,
    /// Dropped last: the nodes themselves.
    _nodes: Vec<AviP2p>,
}

#[derive(Clone, Copy, Debug)]
struct Usage {
    resident_kib: usize,
    descriptors: usize,
}

impl Usage {
    /// Of this whole process, attackers and peers included.
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
        Self {
            resident_kib: line.trim().trim_end_matches(" kB").parse().expect("a number"),
            descriptors: std::fs::read_dir("/proc/self/fd").expect("Linux").count(),
        }
    }
}

fn stamp(epoch: Instant, number: u64) -> Vec<u8> {
    let sent_us = epoch.elapsed().as_micros() as u64;
    [number.to_be_bytes(), sent_us.to_be_bytes()].concat()
}

impl Steady {
    pub async fn start(change: impl FnOnce(&mut AviP2pConfig)) -> Self {
        let mut config_of_victim = config();
        change(&mut config_of_victim);
        let mut victim = Node::start(config_of_victim).await;
        victim.handle.subscribe("steady").await.unwrap();
        let mut caller = Node::connected_to(config(), &mut [&mut victim]).await;
        let writer = Node::connected_to(config(), &mut [&mut victim]).await;
        for peer in [&caller, &writer] {
            peer.handle.subscribe("steady").await.unwrap();
            peer.wait_subscriber_of(&victim.id).await;
        }
        let (near, far) = call(&mut caller, &mut victim).await;

        let epoch = Instant::now();
        let (heard, sent) = (Arc::<Mutex<Heard>>::default(), Arc::<Mutex<(u64, u64)>>::default());
        let mut steady = Self {
            handle: victim.handle.clone(),
            address: victim.address.clone(),
            tasks: vec![
                tokio::spawn(frames(caller.handle.clone(), near, epoch, sent.clone())),
                tokio::spawn(messages(writer.handle.clone(), epoch, sent.clone())),
            ],
            heard: heard.clone(),
            sent,
            before: Usage::now(),
            baseline: Duration::ZERO,
            _nodes: Vec::new(),
        };
        let writer_id = writer.id.clone();
        let Node { node, mut events, .. } = victim;
        steady.tasks.push(tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let mut heard = heard.lock().unwrap();
                match event {
                    AviEvent::AudioData { stream_id, data, .. } if stream_id == far => {
                        let (number, took) = read(&data, epoch);
                        heard.out_of_place += u64::from(number != heard.frames);
                        heard.frames += 1;
                        heard.slowest = heard.slowest.max(took);
                    }
                    AviEvent::AudioGap { missing, .. } => heard.missing += missing,
                    AviEvent::Message { from, data, .. } if from == writer_id => {
                        heard.messages += 1;
                        heard.slowest = heard.slowest.max(read(&data, epoch).1);
                    }
                    AviEvent::Message { .. } | AviEvent::AudioData { .. } => heard.out_of_place += 1,
                    AviEvent::AudioStreamClosed { stream_id, .. } if stream_id == far => heard.closed = true,
                    AviEvent::AudioStreamRequested { .. } => heard.requests += 1,
                    _ => {}
                }
            }
        }));
        steady._nodes = vec![node, caller.node, writer.node];
        steady.baseline = steady.slowest_of_a_second().await;
        steady
    }

    async fn slowest_of_a_second(&self) -> Duration {
        self.heard.lock().unwrap().slowest = Duration::ZERO;
        let until = self.heard.lock().unwrap().frames + 50;
        let deadline = Instant::now() + WITHIN;
        while self.heard.lock().unwrap().frames < until {
            assert!(Instant::now() < deadline, "the call stands still");
            tokio::time::sleep(PACE).await;
        }
        self.heard.lock().unwrap().slowest
    }

    /// Waits for figures of the victim that say so.
    pub async fn stats(&self, what: &str, is_so: impl Fn(&Stats) -> bool) -> Stats {
        let deadline = Instant::now() + WITHIN;
        loop {
            let stats = self.handle.stats().await.expect("the victim answers");
            if is_so(&stats) {
                return stats;
            }
            assert!(Instant::now() < deadline, "{what}: {stats:#?}");
            tokio::time::sleep(PACE).await;
        }
    }

    /// Offers that reached the application.
    pub fn requests(&self) -> u64 {
        self.heard.lock().unwrap().requests
    }

    fn has_heard_all(&self, deadline: Instant) -> bool {
        let (frames, messages) = *self.sent.lock().unwrap();
        let heard = self.heard.lock().unwrap();
        assert!(!heard.closed, "the call goes on");
        assert_eq!((heard.missing, heard.out_of_place), (0, 0));
        assert!(Instant::now() < deadline, "{} of {frames}, {} of {messages}", heard.frames, heard.messages);
        // The last may have been aborted between being sent and being counted.
        heard.frames >= frames && heard.messages >= messages
    }

    /// The attack is over: the peers have noticed nothing, and nothing is left of it.
    pub async fn assert_unharmed(self, grown_mib: usize) {
        let slowest = self.heard.lock().unwrap().slowest;
        // The machine may be busy: what is looked for is a stall.
        let bound = (self.baseline * 20).max(Duration::from_secs(2));
        assert!(slowest < bound, "{slowest:?} under attack, {:?} before", self.baseline);
        self.slowest_of_a_second().await;
        self.tasks[0].abort();
        self.tasks[1].abort();
        let deadline = Instant::now() + WITHIN;
        loop {
            if self.has_heard_all(deadline) {
                break;
            }
            tokio::time::sleep(PACE).await;
        }
        loop {
            let now = Usage::now();
            let grown = now.resident_kib.saturating_sub(self.before.resident_kib) / 1024;
            if now.descriptors <= self.before.descriptors + 4 && grown <= grown_mib {
                break;
            }
            assert!(Instant::now() < deadline, "{now:?} after {:?}; {grown_mib} MiB more are allowed", self.before);
            tokio::time::sleep(PACE).await;
        }
        self.tasks[2].abort();
    }
}

fn read(data: &[u8], epoch: Instant) -> (u64, Duration) {
    let number = |at: usize| u64::from_be_bytes(data[at..at + 8].try_into().expect("eight bytes"));
    (number(0), epoch.elapsed().saturating_sub(Duration::from_micros(number(8))))
}

async fn frames(caller: AviP2pHandle, stream: StreamId, epoch: Instant, sent: Arc<Mutex<(u64, u64)>>) {
    let mut pace = tokio::time::interval(PACE);
    for number in 0.. {
        pace.tick().await;
        if caller.send_audio(stream, stamp(epoch, number)).await.is_err() {
            return;
        }
        sent.lock().unwrap().0 += 1;
    }
}

async fn messages(writer: AviP2pHandle, epoch: Instant, sent: Arc<Mutex<(u64, u64)>>) {
    let mut pace = tokio::time::interval(PACE);
    for number in 0.. {
        pace.tick().await;
        if writer.publish("steady", stamp(epoch, number)).await.is_err() {
            return;
        }
        sent.lock().unwrap().1 += 1;
    }
}
