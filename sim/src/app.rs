//! The application of a simulated node: carries out the plan, answers calls, and reports its events to the ledger.

use std::sync::Arc;
use std::time::Duration;

use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pHandle, EventReceiver, Platform, StreamId};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::context::{SHARED, Write};
use crate::identity::secret;
use crate::ledger::{Shared, StreamKey};
use crate::network::{Host, Network};
use crate::platform::{SimPlatform, Tasks};
use crate::random::mix;
use crate::recordings::Recordings;
use crate::scenario::Calls;

/// An order of the plan to a node.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Publish a message.
    Publish {
        /// The number of the topic.
        topic: usize,
        /// The number of the message.
        message: u64,
    },
    /// Call one of its peers.
    Call {
        /// The number of the call.
        call: u64,
    },
    /// Write into the shared context.
    Write {
        /// The number of the write.
        write: u64,
    },
    /// Tell the ledger what the shared context has.
    ReadContext,
    /// Write into the shared context without pause.
    FloodContext {
        /// Whether to write also what others share, by a clock that is too far ahead.
        is_ahead: bool,
    },
    /// Report the node's state to the ledger.
    Sample,
    /// Search for peers.
    Discover,
    /// Leave all topics.
    Unsubscribe,
    /// Subscribe to all topics.
    Subscribe,
    /// Begin to read events.
    Wake,
    /// Publish without pause.
    Flood,
    /// Request streams from all peers without pause.
    FloodStreams,
    /// Draw from another seed from now on.
    Reseed {
        /// The seed.
        seed: u64,
    },
    /// Shut down.
    Leave,
}

/// How an application reads its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It reads them as they come.
    Promptly,
    /// It takes this long for each event.
    Slowly(Duration),
    /// It does not read before [`Order::Wake`].
    Never,
}

/// The setup of an application.
#[derive(Clone)]
pub struct Setup {
    /// The host of its node.
    pub host: Host,
    /// The machine it runs on. It differs from `host` after a move.
    pub machine: Host,
    /// How often the host has started.
    pub generation: u32,
    /// The configuration of its node.
    pub config: AviP2pConfig,
    /// How it reads its events.
    pub reading: Reading,
    /// Topics to subscribe to.
    pub topics: usize,
    /// Bytes of its messages.
    pub message_bytes: usize,
    /// The values of the shared context that all nodes write.
    pub shared: usize,
    /// The properties of its calls.
    pub calls: Calls,
    /// Whether it keeps the rules.
    pub is_honest: bool,
    /// The seed of the run.
    pub seed: u64,
    /// Where its recording goes, if it is recorded.
    pub recordings: Option<Recordings>,
    /// The network that announces each node to all others, as mDNS does.
    pub lan: Option<Arc<dyn Network>>,
}

/// The name of the topic with this number.
pub fn topic(number: usize) -> String {
    format!("topic-{number}")
}

/// Runs a node and its application until [`Order::Leave`], or until its host loses power.
pub async fn run(setup: Setup, platform: SimPlatform, tasks: Tasks, orders: UnboundedReceiver<Order>, ledger: Shared) {
    let host = setup.host;
    let clock = platform.clone();
    let mut config = setup.config.clone();
    config.recorder = setup.recordings.as_ref().map(|_| Recordings::options());
    let (node, events) = match AviP2p::start_on(config, platform, |task| tasks.spawn(task)).await {
        Ok(started) => started,
        Err(error) => return ledger.lock().violate("a node starts", host, error.to_string()),
    };
    ledger.lock().on_start(host, setup.generation, node.local_peer_id().clone());
    if let Some(network) = &setup.lan {
        network.announce(setup.machine, node.local_peer_id().clone());
    }
    let handle = node.handle();
    let recordings = setup.recordings.clone();
    let generation = setup.generation;
    recordings.iter().for_each(|all| all.begin(host, generation, handle.clone()));
    subscribe(&handle, &ledger, &setup).await;
    let app = App { setup, handle, clock, ledger: ledger.clone(), jobs: FuturesUnordered::new() };
    app.serve(events, orders).await;
    if let Err(error) = node.shutdown().await {
        ledger.lock().violate("a shutdown succeeds", host, error.to_string());
    }
    if let Some(recordings) = recordings {
        recordings.save(host, generation, &ledger).await;
    }
}

struct App {
    setup: Setup,
    handle: AviP2pHandle,
    clock: SimPlatform,
    ledger: Shared,
    /// Running calls and other tasks that take time.
    jobs: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl App {
    async fn serve(mut self, mut events: EventReceiver, mut orders: UnboundedReceiver<Order>) {
        loop {
            let is_reading = self.setup.reading != Reading::Never;
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    None | Some(Order::Leave) => return self.ledger.lock().on_leave(self.setup.host, self.setup.generation),
                    Some(Order::Wake) => self.wake(&mut events).await,
                    Some(order) => self.obey(order).await,
                },
                event = events.recv(), if is_reading => match event {
                    Some(event) => self.react(event).await,
                    None => return self.ledger.lock().violate("a node runs until it is stopped", self.setup.host, String::new()),
                },
                Some(()) = self.jobs.next() => {}
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Publish { topic, message } => self.publish(topic, message).await,
            Order::Call { call } => self.call(call).await,
            Order::Write { write } => self.write(write).await,
            Order::ReadContext => self.read_context().await,
            Order::FloodContext { is_ahead } => self.jobs.push(Box::pin(flood_context(self.handle.clone(), is_ahead))),
            Order::Sample => self.sample().await,
            Order::Subscribe => subscribe(&self.handle, &self.ledger, &self.setup).await,
            Order::Unsubscribe => unsubscribe(&self.handle, &self.ledger, &self.setup).await,
            Order::Discover => {
                let search = discover(self.handle.clone(), self.ledger.clone(), self.setup.host);
                self.jobs.push(Box::pin(search));
            }
            Order::Reseed { seed } => {
                let _ = self.handle.reseed(secret(seed, "branch", self.setup.host)).await;
            }
            Order::Flood => self.jobs.push(Box::pin(flood(self.handle.clone(), self.setup.message_bytes))),
            Order::FloodStreams => self.jobs.push(Box::pin(flood_streams(self.handle.clone()))),
            // Handled by the caller.
            Order::Wake | Order::Leave => {}
        }
    }

    /// Reads the queued events, which must have been bounded.
    async fn wake(&mut self, events: &mut EventReceiver) {
        self.setup.reading = Reading::Promptly;
        let waiting: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
        let max = self.setup.config.limits.event_messages;
        let messages = waiting.iter().filter(|event| matches!(event, AviEvent::Message { .. })).count();
        let frames = waiting.iter().filter(|event| matches!(event, AviEvent::AudioData { .. })).count();
        if messages > max || frames > max {
            let detail = format!("{messages} messages and {frames} frames waited, {max} of each may");
            self.ledger.lock().violate("what waits for a slow application is bounded", self.setup.host, detail);
        }
        for event in waiting {
            self.react(event).await;
        }
    }

    async fn publish(&mut self, number: usize, message: u64) {
        let host = self.setup.host;
        let data = self.ledger.lock().compose(host, number, message, self.setup.message_bytes);
        if let Err(error) = self.handle.publish(&topic(number), data).await {
            self.ledger.lock().on_refused(message, &error);
        }
    }

    /// Writes what the seed draws for this number.
    async fn write(&mut self, write: u64) {
        let (host, generation) = (self.setup.host, self.setup.generation);
        let Write { path, value } = Write::draw(self.setup.seed, write, host, self.setup.shared, &self.handle);
        let context = self.handle.context();
        let written = match &value {
            // What one node alone writes is what it writes last, and nothing of what it wrote before.
            Some(value) if !path.starts_with(SHARED) || write.is_multiple_of(3) => {
                context.replace(&path, value.clone()).await
            }
            Some(value) => context.set(&path, value.clone()).await,
            None => context.remove(&path).await,
        };
        match written {
            Ok(()) => self.ledger.lock().context.on_write(host, generation, self.clock.unix_millis(), path, value),
            Err(error) => self.ledger.lock().violate("a write into the context succeeds", host, error.to_string()),
        }
    }

    async fn read_context(&mut self) {
        if let Ok(snapshot) = self.handle.context().snapshot().await {
            self.ledger.lock().context.on_snapshot(self.setup.host, snapshot);
        }
    }

    /// Calls the connected peer that comes first for this seed and call. Which other peers there are does not matter.
    async fn call(&mut self, call: u64) {
        let Ok(peers) = self.handle.connected_peers().await else { return };
        let draw = mix(self.setup.seed, call);
        let ranked = peers.into_iter().filter_map(|peer| {
            let ledger = self.ledger.lock();
            let is_callable = ledger.is_honest(&peer) && !ledger.is_foreign(&peer);
            let host = ledger.host_of(&peer).filter(|_| is_callable)?;
            Some((mix(draw, host.0.into()), peer))
        });
        let Some((_, peer)) = ranked.min_by_key(|(rank, _)| *rank) else {
            return self.ledger.lock().on_call_failed();
        };
        match self.handle.request_stream(peer).await {
            Ok(stream) => self.ledger.lock().on_call(self.key(stream), call),
            Err(_) => self.ledger.lock().on_call_failed(),
        }
    }

    async fn sample(&mut self) {
        if let (Ok(stats), Ok(peers)) = (self.handle.stats().await, self.handle.connected_peers().await) {
            self.ledger.lock().on_sample(self.setup.host, self.setup.generation, &stats, peers);
        }
    }

    async fn react(&mut self, event: AviEvent) {
        self.ledger.lock().on_event(self.setup.host, self.setup.generation, &event);
        match event {
            AviEvent::AudioStreamRequested { stream_id, .. } => {
                // The stream may have been closed since.
                let _ = self.handle.accept_audio_stream(stream_id).await;
            }
            AviEvent::AudioStreamAccepted { stream_id, .. } if self.setup.is_honest => {
                let talk =
                    talk(self.handle.clone(), self.ledger.clone(), self.key(stream_id), self.setup.calls.clone());
                self.jobs.push(Box::pin(talk));
            }
            _ => {}
        }
        if let Reading::Slowly(pause) = self.setup.reading {
            tokio::time::sleep(pause).await;
        }
    }

    fn key(&self, stream: StreamId) -> StreamKey {
        StreamKey { host: self.setup.host, generation: self.setup.generation, stream }
    }
}

async fn subscribe(handle: &AviP2pHandle, ledger: &Shared, setup: &Setup) {
    let Setup { host, generation, topics, .. } = *setup;
    for number in 0..topics {
        if let Err(error) = handle.subscribe(&topic(number)).await {
            ledger.lock().violate("a subscription succeeds", host, error.to_string());
        }
    }
    ledger.lock().on_subscribed(host, generation, true);
}

async fn unsubscribe(handle: &AviP2pHandle, ledger: &Shared, setup: &Setup) {
    let Setup { host, generation, topics, .. } = *setup;
    ledger.lock().on_subscribed(host, generation, false);
    for number in 0..topics {
        if let Err(error) = handle.unsubscribe(&topic(number)).await {
            ledger.lock().violate("a subscription ends", host, error.to_string());
        }
    }
}

/// Sends the frames of a call in real time, and closes it.
async fn talk(handle: AviP2pHandle, ledger: Shared, key: StreamKey, calls: Calls) {
    let frames = (calls.seconds * 1000.0) as u64 / calls.frame_ms;
    let mut beat = tokio::time::interval(Duration::from_millis(calls.frame_ms));
    for frame in 0..frames {
        beat.tick().await;
        let data = ledger.lock().compose_frame(key, frame, calls.frame_bytes);
        if handle.send_audio(key.stream, data).await.is_err() {
            return;
        }
        ledger.lock().on_frame_sent(key);
    }
    // The other end may have closed the call since.
    let _ = handle.close_audio_stream(key.stream).await;
}

async fn discover(handle: AviP2pHandle, ledger: Shared, host: Host) {
    let found = handle.find_more_peers().await;
    ledger.lock().on_discovery(host, &found);
}

async fn flood(handle: AviP2pHandle, bytes: usize) {
    loop {
        // The library decides whether the message is taken or refused.
        let _ = handle.publish(&topic(0), vec![0xff; bytes]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Fills what it may, and perhaps overwrites what others share.
async fn flood_context(handle: AviP2pHandle, is_ahead: bool) {
    let context = handle.context();
    for number in 0u64.. {
        if is_ahead {
            let _ = context.set(&format!("{SHARED}.{}", number % 4), number).await;
        }
        let _ = context.set(&format!("noise.{}.{}", handle.local_peer_id(), number), number).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn flood_streams(handle: AviP2pHandle) {
    loop {
        for peer in handle.connected_peers().await.unwrap_or_default() {
            let _ = handle.request_stream(peer).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
