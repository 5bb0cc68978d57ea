//! How does an application start, call, observe and stop a node?

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use tokio::sync::mpsc::error::TryRecvError;

use crate::config::AviP2pConfig;
#[cfg(feature = "context")]
use crate::context::{Calls, Context as SharedContext};
use crate::error::AviP2pError;
use crate::event::AviEvent;
use crate::id::{PeerId, StreamId};
use crate::media::{Playout, StreamOptions};
use crate::metrics::Metrics;
use crate::publish::Published;
use crate::reader::AudioReader;
use crate::runtime::{EventQueue, Platform, Shared, Smol, Tokio};
use crate::stats::{AudioStats, PeerInfo, Stats};
use avi_p2p_proto::engine::{Command, CommandId};

/// A running node.
///
/// It has a thread of its own, which smol drives, or it is [a task](Self::start_on_tokio) of the application's tokio
/// runtime. It stops with [`AviP2p::shutdown`], or when the last of it and its handles is dropped. Dropping never blocks:
/// the node says goodbye and frees its port in its own time, and has ended when its [`EventReceiver`] ends.
#[derive(Debug)]
#[must_use = "a node stops when it and its handles are dropped"]
pub struct AviP2p {
    handle: AviP2pHandle,
}

/// Calls to a node. Cheap to clone, and usable from any thread and any executor.
///
/// Every call returns once the node has carried it out. A call does what it takes on the calling thread: encryption and
/// writes to sockets included, up to 32 KiB; the node's thread does the rest. A call never blocks on the network. It may
/// wait for a lock while the node handles other inputs: usually for less than 200 µs.
/// A call that is dropped before it has returned may have been carried out or not. Every call returns
/// [`AviP2pError::ChannelClosed`] after the node has stopped.
#[derive(Clone)]
pub struct AviP2pHandle {
    owner: Arc<Owner>,
    local_peer_id: PeerId,
}

/// The events of a node, for one reader. Also a [`Stream`](https://docs.rs/futures/0.3/futures/stream/trait.Stream.html)
/// of the crate `futures`, whose `StreamExt` and `select!` work on it.
///
/// Reading slowly, or never, delays nobody: see [`AviEvent`] for what is kept and what is dropped then. Dropping it says
/// that nobody wants the events; the node runs on. A call that comes in then is neither accepted nor rejected by anybody:
/// its caller waits for `accept_timeout`, and it takes one of `max_audio_streams` for so long. A node that wants no calls
/// sets `max_audio_streams` to 0.
#[must_use = "nobody reads the events, and nobody answers calls"]
pub struct EventReceiver {
    queue: Arc<EventQueue>,
}

/// What a node and its handles share; the last to go stops the node.
struct Owner {
    shared: Arc<Shared>,
    events: Arc<EventQueue>,
    #[cfg(feature = "metrics")]
    metrics: Metrics,
    ended: Mutex<Option<Ended>>,
}

/// Resolves when the node has ended; to an error if its task was dropped before that.
type Ended = oneshot::Receiver<()>;

impl AviP2p {
    /// Starts a node on a thread of its own. It listens when this returns.
    ///
    /// # Errors
    /// [`AviP2pError::InvalidConfig`] for a field out of range, [`AviP2pError::ListenFailed`] for a port that is taken
    /// or an address that is not this machine's, [`AviP2pError::Identity`] for a key file that cannot be used,
    /// [`AviP2pError::ContextFile`] for a file of the shared context that cannot be used,
    /// [`AviP2pError::Io`] if the system refuses a thread, a poller for sockets or randomness, or has no edge-triggered
    /// polling, as Windows; [`AviP2pError::NetworkError`] if the network interfaces cannot be watched, and not all of
    /// them are to be used.
    pub async fn start(config: AviP2pConfig) -> Result<(Self, EventReceiver), AviP2pError> {
        config.validate()?;
        let failed = |error| AviP2pError::Io(format!("cannot start the node's thread: {error}"));
        let platform = Smol::new().map_err(failed)?;
        let spawn = platform.spawner();
        Self::start_with(config, platform, |task| spawn(task).map_err(failed)).await
    }

    /// Starts a node as a task of the tokio runtime that this is called in, which needs its I/O and time drivers
    /// (`enable_all`; `#[tokio::main]` has them).
    ///
    /// What arrives then changes no thread on its way to a task (`tokio::spawn`) that reads the events. On an idle machine
    /// the change of threads takes a good part of the time that a frame of audio needs. In exchange, one task that blocks
    /// its thread can stop the node: after 14 s its peers disconnect it. If the runtime ends first, the
    /// node says no goodbye. With `enable_mdns` there is a thread for mDNS. tokio's clock must not be paused.
    ///
    /// # Errors
    /// As [`AviP2p::start`]; [`AviP2pError::Io`] outside of a tokio runtime, or in one without drivers, of which tokio's
    /// own panic message tells.
    pub async fn start_on_tokio(config: AviP2pConfig) -> Result<(Self, EventReceiver), AviP2pError> {
        let outside = || AviP2pError::Io("start_on_tokio needs a tokio runtime around it: or call start".to_owned());
        let platform = Tokio::here().ok_or_else(outside)?;
        let spawn = platform.spawner();
        Self::start_with(config, platform, |task| {
            spawn(task);
            Ok(())
        })
        .await
    }

    /// Starts a node on another executor, clock and network: `spawn` runs its task to the end.
    ///
    /// # Errors
    /// As [`AviP2p::start`].
    #[cfg(feature = "unstable")]
    pub async fn start_on(
        config: AviP2pConfig,
        platform: impl Platform,
        spawn: impl FnOnce(BoxFuture<'static, ()>),
    ) -> Result<(Self, EventReceiver), AviP2pError> {
        Self::start_with(config, platform, |task| {
            spawn(task);
            Ok(())
        })
        .await
    }

    async fn start_with(
        config: AviP2pConfig,
        platform: impl Platform,
        spawn: impl FnOnce(BoxFuture<'static, ()>) -> Result<(), AviP2pError>,
    ) -> Result<(Self, EventReceiver), AviP2pError> {
        config.validate()?;
        let events = Arc::new(EventQueue::new(&config.limits));
        let shared = Shared::new(Arc::new(platform), events.clone());
        let metrics = Metrics::default();
        let (ending, ended) = oneshot::channel();
        let owner = Owner {
            shared: shared.clone(),
            events: events.clone(),
            #[cfg(feature = "metrics")]
            metrics: metrics.clone(),
            ended: Mutex::new(Some(ended)),
        };
        let (started, start) = oneshot::channel();
        spawn(Box::pin(async move {
            shared.run(config, &metrics, started).await;
            drop(shared);
            // Nobody has to wait for it.
            let _ = ending.send(());
        }))?;
        let ended_at_once =
            "the node's task panicked at once: if it is one of tokio's, has its runtime drivers (enable_all)?";
        let local_peer_id = start.await.map_err(|_| AviP2pError::Io(ended_at_once.to_owned()))??;
        let handle = AviP2pHandle { owner: Arc::new(owner), local_peer_id };
        Ok((Self { handle }, EventReceiver { queue: events }))
    }

    /// A handle for calls.
    #[must_use]
    pub fn handle(&self) -> AviP2pHandle {
        self.handle.clone()
    }

    /// This node's id.
    #[must_use]
    pub fn local_peer_id(&self) -> &PeerId {
        self.handle.local_peer_id()
    }

    /// Says goodbye to peers and streams, and frees the port. Takes at most about 2 s, and only that long if a peer does
    /// not answer; a runtime that the node is a task of must run for that. Events that are not read yet stay readable. If
    /// the future is dropped, the node stops all the same.
    ///
    /// # Errors
    /// [`AviP2pError::ChannelClosed`] if the node has stopped already, [`AviP2pError::Panicked`] if a panic has ended it,
    /// [`AviP2pError::Io`] if the runtime that it was a task of has ended.
    pub async fn shutdown(self) -> Result<(), AviP2pError> {
        let owner = &self.handle.owner;
        let asked = self.handle.done(|id| Command::Shutdown { id }).await;
        if let Some(panic) = owner.shared.panic() {
            return Err(AviP2pError::Panicked(panic.to_owned()));
        }
        asked?;
        let ended = owner.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        match ended {
            Some(ended) => ended.await.map_err(|_| AviP2pError::Io("the node's task ended half-way".to_owned())),
            None => Ok(()),
        }
    }
}

impl AviP2pHandle {
    /// The node's id.
    #[must_use]
    pub fn local_peer_id(&self) -> &PeerId {
        &self.local_peer_id
    }

    /// The addresses that the node listens on now, as in [`AviEvent::Started`].
    ///
    /// # Errors
    /// [`ChannelClosed`](AviP2pError::ChannelClosed).
    pub async fn listen_addresses(&self) -> Result<Vec<String>, AviP2pError> {
        self.owner.shared.ask(|engine, _| engine.listen_addresses()).await
    }

    /// Takes all draws of this node's engine from another seed from now on, for simulations that follow several futures of
    /// one past.
    ///
    /// # Errors
    /// [`ChannelClosed`](AviP2pError::ChannelClosed).
    #[cfg(feature = "unstable")]
    pub async fn reseed(&self, seed: [u8; 32]) -> Result<(), AviP2pError> {
        self.owner.shared.reseed(seed).await
    }

    /// Subscribes to a topic, 1 to `limits.max_topic_bytes` bytes without control characters: its messages come as
    /// [`AviEvent::Message`], each once. A second call changes nothing, and one [`unsubscribe`](Self::unsubscribe) ends both.
    ///
    /// # Errors
    /// [`InvalidTopic`](AviP2pError::InvalidTopic), [`LimitReached`](AviP2pError::LimitReached) beyond
    /// `limits.max_topics`.
    pub async fn subscribe(&self, topic: &str) -> Result<(), AviP2pError> {
        self.done(|id| Command::Subscribe { id, topic: topic.to_owned() }).await
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// [`InvalidTopic`](AviP2pError::InvalidTopic), [`NotSubscribed`](AviP2pError::NotSubscribed).
    pub async fn unsubscribe(&self, topic: &str) -> Result<(), AviP2pError> {
        self.done(|id| Command::Unsubscribe { id, topic: topic.to_owned() }).await
    }

    /// Sends a message to every subscriber of a topic; to this node itself only with
    /// [`deliver_own`](crate::AviP2pConfig::deliver_own). It need not be subscribed itself. The payload
    /// has 0 to `limits.max_message_bytes` bytes.
    ///
    /// Without any subscriber the message is held for up to
    /// [`publish_hold`](crate::AviP2pConfig::publish_hold) and sent to the first one that appears; if none does, it
    /// comes back as [`AviEvent::PublishExpired`].
    ///
    /// # Errors
    /// [`InvalidTopic`](AviP2pError::InvalidTopic), [`PayloadTooLarge`](AviP2pError::PayloadTooLarge),
    /// [`Congested`](AviP2pError::Congested), [`LimitReached`](AviP2pError::LimitReached) if too much is held already.
    pub async fn publish(&self, topic: &str, data: impl Into<Bytes>) -> Result<(), AviP2pError> {
        self.publish_bytes(topic, data.into()).await.map(drop)
    }

    /// As [`publish`](Self::publish), and says whether the message was sent or is held.
    ///
    /// ```no_run
    /// use avi_p2p::{AviP2pError, AviP2pHandle, Published};
    ///
    /// async fn light(handle: &AviP2pHandle) -> Result<(), AviP2pError> {
    ///     match handle.publish_tracked("kitchen/light", "on").await? {
    ///         Published::Held => println!("the lamp is not there yet"),
    ///         _ => println!("on its way"),
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub async fn publish_tracked(&self, topic: &str, data: impl Into<Bytes>) -> Result<Published, AviP2pError> {
        self.publish_bytes(topic, data.into()).await
    }

    async fn publish_bytes(&self, topic: &str, data: Bytes) -> Result<Published, AviP2pError> {
        self.owner.shared.call(|id| Command::Publish { id, topic: topic.to_owned(), data }).await
    }

    /// Asks a peer for an audio stream. Its answer comes as [`AviEvent::AudioStreamAccepted`] or
    /// [`AviEvent::AudioStreamClosed`], within `accept_timeout`. A peer that has been heard of and is not connected is
    /// dialled first, before all others, and an idle peer makes room for it if `max_peers` is reached.
    ///
    /// # Errors
    /// [`InvalidPeerId`](AviP2pError::InvalidPeerId); [`PeerNotFound`](AviP2pError::PeerNotFound) if nobody has said where
    /// it is; [`PeerRefused`](AviP2pError::PeerRefused) if it is this node itself, or kept out;
    /// [`LimitReached`](AviP2pError::LimitReached) beyond `max_audio_streams`.
    pub async fn request_audio_stream(&self, peer: PeerId) -> Result<StreamId, AviP2pError> {
        self.request_stream_with(peer, StreamOptions::default()).await
    }

    /// A short name for [`request_audio_stream`](Self::request_audio_stream).
    ///
    /// # Errors
    /// As there.
    pub async fn request_stream(&self, peer: PeerId) -> Result<StreamId, AviP2pError> {
        self.request_audio_stream(peer).await
    }

    /// Asks for an audio stream, with a description for the other end and a choice of what congestion does.
    ///
    /// # Errors
    /// As [`request_audio_stream`](Self::request_audio_stream); [`InvalidOptions`](AviP2pError::InvalidOptions) for
    /// options out of range.
    pub async fn request_stream_with(&self, peer: PeerId, options: StreamOptions) -> Result<StreamId, AviP2pError> {
        self.owner.shared.call(|id| Command::RequestStream { id, peer, options }).await
    }

    /// Agrees to a stream that a peer asked for. Audio may flow in both directions at once.
    ///
    /// # Errors
    /// [`StreamNotFound`](AviP2pError::StreamNotFound); [`StreamState`](AviP2pError::StreamState) if it is not offered.
    pub async fn accept_audio_stream(&self, stream_id: StreamId) -> Result<(), AviP2pError> {
        self.done(|id| Command::AcceptStream { id, stream: stream_id }).await
    }

    /// Declines a stream that a peer asked for. The reason reaches the other end, cut to 256 bytes.
    ///
    /// # Errors
    /// As [`accept_audio_stream`](Self::accept_audio_stream).
    pub async fn reject_audio_stream(&self, stream_id: StreamId, reason: &str) -> Result<(), AviP2pError> {
        self.done(|id| Command::RejectStream { id, stream: stream_id, reason: reason.to_owned() }).await
    }

    /// Sends a frame of audio, 1 to `limits.max_audio_frame_bytes` bytes. If the path is congested, the oldest frames
    /// that wait are dropped, or this one is refused, as the stream's [`OnCongestion`](crate::OnCongestion) says.
    ///
    /// # Errors
    /// [`StreamEnded`](AviP2pError::StreamEnded), [`StreamNotFound`](AviP2pError::StreamNotFound),
    /// [`StreamNotAccepted`](AviP2pError::StreamNotAccepted), [`EmptyPayload`](AviP2pError::EmptyPayload),
    /// [`PayloadTooLarge`](AviP2pError::PayloadTooLarge), [`Congested`](AviP2pError::Congested).
    pub async fn send_audio(&self, stream_id: StreamId, data: impl Into<Bytes>) -> Result<(), AviP2pError> {
        let data = data.into();
        self.done(|id| Command::SendAudio { id, stream: stream_id, data }).await
    }

    /// Reads the audio that comes in on a stream, in place of [`AviEvent::AudioData`] and [`AviEvent::AudioGap`]: each
    /// frame as it comes, with sequence and timestamp, or one frame for each frame duration, through a jitter buffer that
    /// follows the path. `AudioStreamClosed` stays an event.
    ///
    /// Call it before the first frame comes: after `request_stream`, or before `accept_audio_stream`. Frames that came
    /// before are events, and stay so.
    ///
    /// ```no_run
    /// use avi_p2p::{AudioItem, AviP2pError, AviP2pHandle, Playout, StreamId};
    ///
    /// /// Answers a call, and plays it.
    /// async fn listen(handle: AviP2pHandle, call: StreamId) -> Result<(), AviP2pError> {
    ///     let mut audio = handle.audio_reader(call, Playout::default()).await?;
    ///     handle.accept_audio_stream(call).await?;
    ///     while let Some(item) = audio.recv().await {
    ///         match item {
    ///             AudioItem::Frame(frame) => println!("decode and play {} bytes", frame.data.len()),
    ///             AudioItem::Conceal => println!("fill the time of a frame"),
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`StreamNotFound`](AviP2pError::StreamNotFound); [`StreamState`](AviP2pError::StreamState) if the stream has a
    /// reader; [`InvalidOptions`](AviP2pError::InvalidOptions) for options out of range.
    pub async fn audio_reader(&self, stream_id: StreamId, playout: Playout) -> Result<AudioReader, AviP2pError> {
        playout.validate()?;
        self.owner.shared.open_reader(stream_id, playout).await
    }

    /// Ends a stream, requested, offered or open. Audio that waits is still sent.
    ///
    /// # Errors
    /// [`StreamNotFound`](AviP2pError::StreamNotFound).
    pub async fn close_audio_stream(&self, stream_id: StreamId) -> Result<(), AviP2pError> {
        self.done(|id| Command::CloseStream { id, stream: stream_id }).await
    }

    /// The peers that are connected now, in order of their ids.
    ///
    /// # Errors
    /// [`ChannelClosed`](AviP2pError::ChannelClosed).
    pub async fn connected_peers(&self) -> Result<Vec<PeerId>, AviP2pError> {
        self.owner.shared.ask(|engine, _| engine.connected_peers()).await
    }

    /// Begins to look for peers through the peers that are known, and returns at once. Those that were not known yet come
    /// as [`AviEvent::PeerDiscovered`].
    ///
    /// # Errors
    /// [`Disabled`](AviP2pError::Disabled) without `enable_kad`.
    pub async fn discover_peers(&self) -> Result<(), AviP2pError> {
        self.done(|id| Command::DiscoverPeers { id }).await
    }

    /// As [`discover_peers`](Self::discover_peers), but waits for the end of the search, and returns all peers that it heard
    /// of, also those that were known.
    ///
    /// # Errors
    /// [`Disabled`](AviP2pError::Disabled) without `enable_kad`; [`NetworkError`](AviP2pError::NetworkError) or
    /// [`Timeout`](AviP2pError::Timeout) if no peer answers; [`LimitReached`](AviP2pError::LimitReached) beyond
    /// `limits.pending_commands`.
    pub async fn find_more_peers(&self) -> Result<Vec<PeerId>, AviP2pError> {
        self.owner.shared.call(|id| Command::FindMorePeers { id }).await
    }

    /// Adds a peer to [`allowed_peers`](crate::AviP2pConfig::allowed_peers), for as long as the node runs.
    ///
    /// # Errors
    /// [`InvalidPeerId`](AviP2pError::InvalidPeerId); [`Disabled`](AviP2pError::Disabled) if the configuration has no
    /// such list, and everyone may connect; [`LimitReached`](AviP2pError::LimitReached) beyond 10,000.
    pub async fn allow_peer(&self, peer: &PeerId) -> Result<(), AviP2pError> {
        self.done(|id| Command::SetAllowed { id, peer: peer.clone(), is_allowed: true }).await
    }

    /// Takes a peer from [`allowed_peers`](crate::AviP2pConfig::allowed_peers), and ends its connection. One of
    /// [`paired_peers`](crate::AviP2pConfig::paired_peers) is allowed all the same and stays connected: block it.
    ///
    /// # Errors
    /// As [`allow_peer`](Self::allow_peer).
    pub async fn disallow_peer(&self, peer: &PeerId) -> Result<(), AviP2pError> {
        self.done(|id| Command::SetAllowed { id, peer: peer.clone(), is_allowed: false }).await
    }

    /// Adds a peer to [`blocked_peers`](crate::AviP2pConfig::blocked_peers), for as long as the node runs; ends its
    /// connection, and delivers nothing that it writes, whether it is paired or allowed or not.
    ///
    /// # Errors
    /// [`InvalidPeerId`](AviP2pError::InvalidPeerId), [`LimitReached`](AviP2pError::LimitReached) beyond 10,000.
    pub async fn block_peer(&self, peer: &PeerId) -> Result<(), AviP2pError> {
        self.done(|id| Command::SetBlocked { id, peer: peer.clone(), is_blocked: true }).await
    }

    /// Takes a peer from [`blocked_peers`](crate::AviP2pConfig::blocked_peers).
    ///
    /// # Errors
    /// [`InvalidPeerId`](AviP2pError::InvalidPeerId).
    pub async fn unblock_peer(&self, peer: &PeerId) -> Result<(), AviP2pError> {
        self.done(|id| Command::SetBlocked { id, peer: peer.clone(), is_blocked: false }).await
    }

    /// The known peers that call themselves so, in order of their ids, the connected ones first. Anybody may take any name:
    /// who must not talk to somebody else keeps the id.
    ///
    /// ```no_run
    /// use avi_p2p::{AviP2pError, AviP2pHandle, StreamId};
    ///
    /// /// Calls by name; `None` if nobody of that name is known.
    /// async fn call(handle: &AviP2pHandle, name: &str) -> Result<Option<StreamId>, AviP2pError> {
    ///     match handle.find_peers(name).await?.into_iter().next() {
    ///         Some(peer) => handle.request_stream(peer).await.map(Some),
    ///         None => Ok(None),
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`ChannelClosed`](AviP2pError::ChannelClosed).
    pub async fn find_peers(&self, name: &str) -> Result<Vec<PeerId>, AviP2pError> {
        self.owner.shared.ask(|engine, _| engine.find_peers(name)).await
    }

    /// What is known about a peer.
    ///
    /// # Errors
    /// [`InvalidPeerId`](AviP2pError::InvalidPeerId), [`PeerNotFound`](AviP2pError::PeerNotFound).
    pub async fn peer_info(&self, peer: &PeerId) -> Result<PeerInfo, AviP2pError> {
        self.owner.shared.ask(|engine, now| engine.peer_info(now, peer)).await
    }

    /// The node's counters.
    ///
    /// # Errors
    /// [`ChannelClosed`](AviP2pError::ChannelClosed).
    pub async fn stats(&self) -> Result<Stats, AviP2pError> {
        let mut stats = self.owner.shared.stats().await?;
        let dropped = self.owner.events.dropped();
        stats.events_dropped_messages = dropped.messages;
        stats.events_dropped_audio_frames += dropped.audio_frames;
        stats.events_dropped_lifecycle = dropped.lifecycle;
        Ok(stats)
    }

    /// The figures of the node and of libp2p in Prometheus' text format (OpenMetrics 1.0), to be served by the
    /// application as `application/openmetrics-text; version=1.0.0; charset=utf-8`: `avi_p2p_*` are those of
    /// [`stats`](Self::stats), `libp2p_*` libp2p's own.
    ///
    /// # Errors
    /// [`ChannelClosed`](AviP2pError::ChannelClosed).
    #[cfg(feature = "metrics")]
    pub async fn metrics(&self) -> Result<String, AviP2pError> {
        let stats = self.stats().await?;
        self.owner.metrics.encode(&stats).map_err(|error| AviP2pError::NetworkError(format!("metrics: {error}")))
    }

    /// The context that the nodes of this mesh share: a map of JSON values. This node takes part in it if
    /// [`AviP2pConfig::context`](crate::AviP2pConfig::context) says so.
    #[cfg(feature = "context")]
    #[must_use]
    pub fn context(&self) -> SharedContext {
        SharedContext::new(self.owner.clone())
    }

    /// What the flight recorder has recorded so far: what went into the node's engine, and a digest of what came out. It can also
    /// be had after the node has ended, by a panic too; with [`RecorderOptions::file`](crate::RecorderOptions::file) it is
    /// what the files of this run hold.
    ///
    /// ```no_run
    /// # async fn example(handle: avi_p2p::AviP2pHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// std::fs::write("flight.rec", handle.recording().await?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Disabled`](AviP2pError::Disabled) without [`AviP2pConfig::recorder`](crate::AviP2pConfig::recorder);
    /// [`RecorderFile`](AviP2pError::RecorderFile) if its files cannot be read.
    #[cfg(feature = "recorder")]
    pub async fn recording(&self) -> Result<Vec<u8>, AviP2pError> {
        self.owner.shared.recording().await
    }

    /// The figures of an audio stream, also of the 64 that ended last.
    ///
    /// # Errors
    /// [`StreamNotFound`](AviP2pError::StreamNotFound).
    pub async fn audio_stats(&self, stream_id: StreamId) -> Result<AudioStats, AviP2pError> {
        self.owner.shared.audio_stats(stream_id).await
    }

    async fn done(&self, command: impl FnOnce(CommandId) -> Command) -> Result<(), AviP2pError> {
        self.owner.shared.call(command).await
    }
}

impl EventReceiver {
    /// The next event, or `None` once the node has stopped and every event is read. Nothing is lost if the future is
    /// dropped, as in `select!`.
    pub async fn recv(&mut self) -> Option<AviEvent> {
        std::future::poll_fn(|cx| self.queue.poll(cx)).await
    }

    /// The next event, if there is one now.
    ///
    /// ```no_run
    /// use avi_p2p::{AviEvent, EventReceiver};
    ///
    /// fn all_that_wait(events: &mut EventReceiver) -> Vec<AviEvent> {
    ///     std::iter::from_fn(|| events.try_recv().ok()).collect()
    /// }
    /// ```
    ///
    /// # Errors
    /// `Empty` if there is none now, `Disconnected` if none will come: as with tokio's `mpsc::Receiver`, whose error this is.
    pub fn try_recv(&mut self) -> Result<AviEvent, TryRecvError> {
        self.queue.pop()
    }

    /// As [`recv`](Self::recv), for a thread that may wait. In asynchronous code it would stop the executor: there use
    /// `recv`.
    pub fn blocking_recv(&mut self) -> Option<AviEvent> {
        futures::executor::block_on(self.recv())
    }

    /// Refuses further events. Those that wait can still be read; then [`recv`](Self::recv) returns `None`. The node runs
    /// on, as if the receiver was dropped.
    pub fn close(&mut self) {
        self.queue.refuse();
    }
}

impl Stream for EventReceiver {
    type Item = AviEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AviEvent>> {
        self.queue.poll(cx)
    }
}

impl Drop for EventReceiver {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

#[cfg(feature = "context")]
impl Calls for Owner {
    fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl fmt::Debug for AviP2pHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AviP2pHandle").finish_non_exhaustive()
    }
}

impl fmt::Debug for EventReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventReceiver").finish_non_exhaustive()
    }
}
