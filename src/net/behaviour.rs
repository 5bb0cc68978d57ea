//! Which protocols does a node speak, and within which bounds?

use std::time::Duration;

use libp2p_gossipsub::{
    self as gossipsub, IdentityTransform, MaxCountSubscriptionFilter, MessageAuthenticity, MessageId, TopicHash,
    TopicSubscriptionFilter, ValidationMode,
};
use libp2p_identify as identify;
use libp2p_identity::{Keypair, PeerId};
use libp2p_ping as ping;
use libp2p_swarm::NetworkBehaviour;
use libp2p_swarm::behaviour::toggle::Toggle;

use crate::config::{AviP2pConfig, Limits};
use crate::error::AviP2pError;
use crate::net::audio;
use crate::net::gate::Gate;
use crate::net::liveness::{PING_INTERVAL, PING_TIMEOUT};
use crate::net::mdns::Mdns;
use crate::net::routing::Routing;

/// What makes a libp2p node a node of this kind.
pub(super) const PROTOCOL_VERSION: &str = "/avi/1.0.0";
/// How long a walk may take.
pub(super) const WALK_TIMEOUT: Duration = Duration::from_secs(10);

/// Yamux ends a connection that has more substreams than it allows. 4,096 is the most that its window accounting takes.
const MAX_YAMUX_STREAMS: usize = 4096;
/// What all protocols but audio may use of them.
const OTHER_STREAMS: usize = 256;

/// The message ids in one control message of gossipsub, and room for each: an author's 38 bytes, a sequence number's 8,
/// their framing, and somewhat longer ones.
const MAX_GOSSIP_IDS: usize = 1000;
const GOSSIP_ID_BYTES: usize = 64;
/// Gossipsub takes all bytes that it has read ahead for one message when it checks for the limit, and it reads 8 KiB at
/// a time; without this a full-size message followed by another would end the connection's pub/sub.
const READ_AHEAD_BYTES: usize = 16 * 1024;
/// Author, sequence number, signature and framing of a message.
const MESSAGE_OVERHEAD_BYTES: usize = 512;

/// All protocols. Routing comes first, whose dials end there; then the gate: what it refuses, no other sees.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
pub(super) struct Behaviour {
    pub(super) routing: Toggle<Routing>,
    pub(super) gate: Gate,
    pub(super) audio: audio::Behaviour,
    pub(super) gossipsub: gossipsub::Behaviour<IdentityTransform, MaxCountSubscriptionFilter<ShortTopics>>,
    pub(super) mdns: Toggle<Mdns>,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
}

impl Behaviour {
    pub(super) fn new(config: &AviP2pConfig, key: &Keypair, mdns: Option<Mdns>) -> Result<Self, AviP2pError> {
        let local = key.public().to_peer_id();
        Ok(Self {
            gate: Gate::new(config.max_peers, config.limits.pending_inbound),
            audio: audio::Behaviour::new(max_audio_substreams(config)),
            gossipsub: gossipsub(&config.limits, key)?,
            routing: config.enable_kad.then(|| Routing::new(local)).into(),
            mdns: mdns.into(),
            identify: identify(config, key),
            ping: ping(),
        })
    }
}

/// The most audio substreams on a connection, per direction.
pub(super) fn max_audio_substreams(config: &AviP2pConfig) -> usize {
    (2 * config.max_audio_streams + 16).min((MAX_YAMUX_STREAMS - OTHER_STREAMS) / 2)
}

/// The most substreams on a connection.
pub(super) fn max_substreams(config: &AviP2pConfig) -> usize {
    // Not below what others take for granted, the multiplexer's default.
    (2 * max_audio_substreams(config) + OTHER_STREAMS).max(512)
}

/// Forgets topics that are longer than any node may use: they would be remembered per peer.
pub(super) struct ShortTopics {
    max_topic_bytes: usize,
}

impl TopicSubscriptionFilter for ShortTopics {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        topic.as_str().len() <= self.max_topic_bytes
    }
}

fn gossipsub(
    limits: &Limits,
    key: &Keypair,
) -> Result<gossipsub::Behaviour<IdentityTransform, MaxCountSubscriptionFilter<ShortTopics>>, AviP2pError> {
    // A peer ends pub/sub with a node whose control messages exceed its limit: it must hold all subscriptions, which
    // go out as one, and the longest list of message ids.
    let subscriptions = limits.max_topics * (limits.max_topic_bytes + 16);
    let control = subscriptions.max(MAX_GOSSIP_IDS * GOSSIP_ID_BYTES + limits.max_topic_bytes) + 1024;
    let message = limits.max_message_bytes + limits.max_topic_bytes + MESSAGE_OVERHEAD_BYTES;
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .max_transmit_size(message.max(control) + READ_AHEAD_BYTES)
        .max_control_message_size(control)
        .max_control_messages_sent(MAX_GOSSIP_IDS)
        // As the specification has it, and half as long as this implementation's default.
        .message_id_fn(|message| {
            let mut id = message.source.map(PeerId::to_bytes).unwrap_or_default();
            id.extend(message.sequence_number.unwrap_or_default().to_be_bytes());
            MessageId(id)
        })
        // An author's own messages reach every neighbour that subscribes, mesh or not: one hop in a home.
        .flood_publish(true)
        .heartbeat_interval(Duration::from_secs(1))
        // Gossip, which repairs losses, begins with the first heartbeat.
        .heartbeat_initial_delay(Duration::ZERO)
        // Longer than a message can wait in queues, caches and a stalled connection before ping ends that.
        .duplicate_cache_time(Duration::from_secs(60))
        // Each neighbour that has a message says so to the others, if that is shorter than what it saves. Authors need
        // not: nobody sends them their own.
        .idontwant_message_size_threshold(1024)
        .idontwant_on_publish(false)
        .connection_handler_queue_len(limits.peer_queue_messages)
        .build()
        .map_err(|error| AviP2pError::NetworkError(format!("pub/sub: {error}")))?;
    let filter = MaxCountSubscriptionFilter {
        filter: ShortTopics { max_topic_bytes: limits.max_topic_bytes },
        // The engine remembers fewer, and counts the others; beyond this, all of a peer's are ignored.
        max_subscribed_topics: 4 * limits.max_topics,
        max_subscriptions_per_request: 4 * limits.max_topics,
    };
    gossipsub::Behaviour::new_with_subscription_filter(MessageAuthenticity::Signed(key.clone()), config, filter)
        .map_err(|error| AviP2pError::NetworkError(format!("pub/sub: {error}")))
}

fn identify(config: &AviP2pConfig, key: &Keypair) -> identify::Behaviour {
    let config = identify::Config::new(PROTOCOL_VERSION.to_owned(), key.public())
        .with_agent_version(config.node_name.clone())
        .with_push_listen_addr_updates(true)
        // The engine remembers addresses.
        .with_cache_size(0);
    identify::Behaviour::new(config)
}

fn ping() -> ping::Behaviour {
    ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT))
}
