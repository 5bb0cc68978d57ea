//! How is pub/sub set up? GossipSub with every value chosen, and peers scored by their behaviour.
//!
//! "§" is the section of the [specification](https://github.com/libp2p/specs/tree/master/pubsub/gossipsub) that a value
//! comes from.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "metrics")]
use libp2p_gossipsub::MetricsConfig;
use libp2p_gossipsub::{
    self as gossipsub, IdentTopic, IdentityTransform, MessageAuthenticity, MessageId, PeerScoreParams,
    PeerScoreThresholds, TopicScoreParams, ValidationMode, score_parameter_decay_with_base,
};
use libp2p_identity::{Keypair, PeerId};

use avi_p2p_proto::config::MAX_MESSAGE_BYTES;

use crate::config::{AviP2pConfig, Limits};
use crate::error::AviP2pError;
use crate::metrics::Metrics;
use crate::net::connections::Closing;
use crate::net::pubsub::subscriptions::Subscriptions;
use crate::net::pubsub::watched::Watched;

/// The most message ids in one control message of gossipsub, and room for each: an author's 38 bytes, a sequence
/// number's 8, their framing, and somewhat longer ones.
const MAX_GOSSIP_IDS: usize = 1000;
const GOSSIP_ID_BYTES: usize = 64;
/// Room for the subscriptions of peers of another make, of which those beyond this node's limit are counted.
const MIN_CONTROL_BYTES: usize = 256 * 1024;
/// When gossipsub checks the size limit, it counts all bytes that it has read ahead as one message, and it reads 8 KiB
/// at a time. Without this room, a full-size message followed by another would end the connection's pub/sub.
const READ_AHEAD_BYTES: usize = 16 * 1024;
/// Author, sequence number, signature and framing of a message.
const MESSAGE_OVERHEAD_BYTES: usize = 512;
/// The most topics of others that have a label of their own in libp2p's metrics. The rest share one.
#[cfg(feature = "metrics")]
const MAX_FOREIGN_TOPICS: usize = 16;

/// Below this score, messages of a peer are no longer read, and the engine ends its connections.
pub(super) const GRAYLIST: f64 = -60.0;
/// The shortest time between two heartbeats. It is also upstream's shortest.
pub(super) const BEAT_EVERY: Duration = Duration::from_secs(1);
/// The longest wait of a message in the queue of a neighbour.
const QUEUED: Duration = Duration::from_secs(30);
/// How often the counters of the score decay. In a quiet mesh they decay more slowly.
const DECAY_EVERY: Duration = BEAT_EVERY;
const DECAY_TO_ZERO: f64 = 0.1;
/// The highest score that good behaviour can reach. It is less than a second invalid message costs.
const MAX_GOOD_SCORE: f64 = 10.0;

/// Upstream's behaviour, with filter and transform.
pub(in crate::net) type Upstream = gossipsub::Behaviour<IdentityTransform, Subscriptions>;

/// GossipSub as a node uses it.
pub(in crate::net) fn behaviour(
    config: &AviP2pConfig,
    key: &Keypair,
    metrics: &Metrics,
    closing: Arc<Closing>,
) -> Result<Watched<Upstream>, AviP2pError> {
    let failed = |error: String| AviP2pError::NetworkError(format!("pub/sub: {error}"));
    let limits = &config.limits;
    let filter = Subscriptions::new(limits);
    let subscriptions = filter.clone();
    let authenticity = MessageAuthenticity::Signed(key.clone());
    let config = protocol(limits).build().map_err(|error| failed(error.to_string()))?;
    let upstream = gossipsub::Behaviour::new_with_subscription_filter(authenticity, config, filter)
        .map_err(|error| failed(error.to_owned()))?;
    let mut upstream = observe(upstream, metrics, limits);
    upstream.with_peer_score(score(limits), thresholds()).map_err(failed)?;
    Ok(Watched::new(upstream, subscriptions, closing))
}

/// Pub/sub under a name that no node of AVI knows.
#[cfg(test)]
pub(in crate::net) fn foreign(key: &Keypair) -> Watched<Upstream> {
    let config = gossipsub::ConfigBuilder::default()
        .protocol_id("/other/1.0.0", gossipsub::Version::V1_1)
        .build()
        .expect("a name is all that differs");
    let filter = Subscriptions::new(&Limits::default());
    let authenticity = MessageAuthenticity::Signed(key.clone());
    let upstream = Upstream::new_with_subscription_filter(authenticity, config, filter.clone()).expect("as above");
    Watched::new(upstream, filter, Closing::new(Arc::default()))
}

/// The id of a message, as js-libp2p has it (`msgIdFnStrictSign` of @libp2p/gossipsub): the author's public key, which the peer
/// id of an Ed25519 key holds behind two bytes, and the sequence number.
fn message_id(message: &gossipsub::Message) -> MessageId {
    let author = message.source.map(PeerId::to_bytes).unwrap_or_default();
    let mut id = Vec::with_capacity(GOSSIP_ID_BYTES);
    id.extend(author.get(2..).unwrap_or_default());
    id.extend(message.sequence_number.unwrap_or_default().to_be_bytes());
    MessageId(id)
}

/// Lets pub/sub record metrics, with a bounded number of labels.
#[cfg(feature = "metrics")]
fn observe(upstream: Upstream, metrics: &Metrics, limits: &Limits) -> Upstream {
    let mut config = MetricsConfig {
        max_topics: limits.max_topics,
        max_never_subscribed_topics: MAX_FOREIGN_TOPICS,
        ..MetricsConfig::default()
    };
    config.buckets_using_scoring_thresholds(&thresholds());
    let mut registry = metrics.registry();
    let libp2p = registry.sub_registry_with_prefix("libp2p");
    upstream.with_metrics(libp2p.sub_registry_with_prefix("gossipsub"), config)
}

#[cfg(not(feature = "metrics"))]
fn observe(upstream: Upstream, _: &Metrics, _: &Limits) -> Upstream {
    upstream
}

fn protocol(limits: &Limits) -> gossipsub::ConfigBuilder {
    // A peer ends pub/sub with a node whose control messages exceed the peer's limit. The limit must leave room for all
    // subscriptions, which are sent in one message, and for the longest list of message ids. A peer of another make may
    // have more of both.
    let subscriptions = limits.max_topics * (limits.max_topic_bytes + 16);
    let ids = MAX_GOSSIP_IDS * GOSSIP_ID_BYTES + limits.max_topic_bytes;
    let control = subscriptions.max(ids).max(MIN_CONTROL_BYTES) + 1024;
    // A message that exceeds this node's limit but not the largest possible one is refused and counted. Exceeding
    // upstream's own limit ends all pub/sub of a connection without any report.
    let message = MAX_MESSAGE_BYTES + limits.max_topic_bytes + MESSAGE_OVERHEAD_BYTES;
    let mut config = gossipsub::ConfigBuilder::default();
    config
        // v1.1 §StrictSign: the author's signature is checked before anything else.
        .validation_mode(ValidationMode::Strict)
        // v1.0 §Message identification. IHAVE and IDONTWANT of other makes mean the same.
        .message_id_fn(message_id)
        // A message is forwarded after the node has checked its bounds. The sender of one beyond them is held
        // responsible.
        .validate_messages()
        // After a restart a node may be offered its own earlier messages, which is no fault of the neighbour. They are
        // not reported to the application.
        .allow_self_origin(true)
        // v1.0 §Parameters: D, D_low, D_high, D_lazy; v1.1 §Parameters: D_out below half of D.
        .mesh_n(6)
        .mesh_n_low(4)
        .mesh_n_high(12)
        .gossip_lazy(6)
        .mesh_outbound_min(2)
        .retain_scores(4)
        // v1.1 §Adaptive gossip dissemination.
        .gossip_factor(0.25)
        // v1.0 §Parameters: mcache_len, mcache_gossip, fanout_ttl, heartbeat_interval.
        .history_length(5)
        .history_gossip(3)
        .fanout_ttl(Duration::from_secs(60))
        .heartbeat_interval(BEAT_EVERY)
        // Gossip, which repairs losses, begins with the first heartbeat.
        .heartbeat_initial_delay(Duration::ZERO)
        // v1.1 §Flood publishing: an author's own messages go to every neighbour that subscribes, which is one hop in a
        // home.
        .flood_publish(true)
        // v1.1 §Prune backoff: ten seconds, as for a peer that has just left the topic. Upstream takes the first one for a
        // neighbour that leaves, too. A GRAFT within ten seconds is a flood.
        .prune_backoff(Duration::from_secs(10))
        .unsubscribe_backoff(Duration::from_secs(10))
        .graft_flood_threshold(Duration::from_secs(10))
        // v1.1 §Opportunistic grafting.
        .opportunistic_graft_ticks(60)
        .opportunistic_graft_peers(2)
        // v1.1 §Spam protection: IHAVEs per heartbeat, of which each topic has its own; ids in one IHAVE; transmissions
        // of a message; and when a promise is broken.
        .max_ihave_messages_heartbeat(limits.max_topics.max(10))
        .max_control_messages_sent(MAX_GOSSIP_IDS)
        .gossip_retransimission(3)
        .iwant_followup_time(Duration::from_secs(3))
        // Neighbours send one message at a time, unless they answer an IWANT.
        .max_publish_messages(MAX_GOSSIP_IDS)
        .max_transmit_size(message.max(control) + READ_AHEAD_BYTES)
        .max_control_message_size(control)
        // Longer than a message can wait in queues, caches and a stalled connection before ping ends that connection.
        .duplicate_cache_time(Duration::from_secs(60))
        // v1.2 §IDONTWANT: each neighbour that has a message announces that to the others, if the announcement is
        // shorter than what it saves. Authors need not: nobody sends them their own messages.
        .idontwant_message_size_threshold(1024)
        .idontwant_on_publish(false)
        .connection_handler_queue_len(limits.peer_queue_messages)
        // Beside a call, a neighbour's queue moves as slowly as the call's path asks. What waits longer than this is
        // dropped, and reported.
        .publish_queue_duration(QUEUED)
        .forward_queue_duration(QUEUED);
    // Peer exchange stays off: the engine decides which peers to dial.
    config
}

/// v1.1 §Peer scoring, for small and quiet meshes: only breaking the rules lowers the score. A slow, distant or silent
/// neighbour loses nothing.
fn score(limits: &Limits) -> PeerScoreParams {
    PeerScoreParams {
        topics: HashMap::new(),
        topic_score_cap: MAX_GOOD_SCORE,
        // P5: the engine has lists of its own.
        app_specific_weight: 0.0,
        // P6: the nodes of a home, or of a site behind NAT, share one address.
        ip_colocation_factor_weight: 0.0,
        ip_colocation_factor_threshold: 1.0,
        ip_colocation_factor_whitelist: HashSet::new(),
        // P7: ids of unanswered IWANTs, and GRAFTs against the backoff, which count twice. A neighbour on a stalled
        // path or behind a full queue may leave all ids of every heartbeat unanswered; with a decay of one half that
        // adds up to twice as many. A neighbour that has restarted knows of no backoff. A flood of GRAFTs is ten
        // thousand per message.
        behaviour_penalty_weight: -1.0,
        behaviour_penalty_threshold: (3 * MAX_GOSSIP_IDS + 2 * limits.max_topics) as f64,
        behaviour_penalty_decay: 0.5,
        decay_interval: DECAY_EVERY,
        decay_to_zero: DECAY_TO_ZERO,
        // The engine remembers disconnected peers, within a bound.
        retain_score: Duration::ZERO,
        // Slowness is no fault: it is counted, and reported as an event.
        slow_peer_weight: 0.0,
        slow_peer_threshold: 0.0,
        slow_peer_decay: fading(Duration::from_secs(10)),
    }
}

/// Honest neighbours check a message before they forward it, so none of them sends an invalid one. The second invalid
/// message ends the peer's connections.
fn topic_score() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        // P1 and P2 keep long-lived and fast neighbours when a mesh has too many.
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 300.0,
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: fading(Duration::from_secs(60)),
        first_message_deliveries_cap: 30.0,
        // P3, P3b: the number of messages in a home says nothing about its devices.
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // P4: the square of the number of invalid messages in the last ten minutes.
        invalid_message_deliveries_weight: -20.0,
        invalid_message_deliveries_decay: fading(Duration::from_secs(600)),
        ..TopicScoreParams::default()
    }
}

/// One invalid message ends gossip with a peer, the second ends everything.
pub(super) fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -10.0,
        publish_threshold: -30.0,
        graylist_threshold: GRAYLIST,
        accept_px_threshold: 2.0 * MAX_GOOD_SCORE,
        // v1.1 §Opportunistic grafting: below a small positive median.
        opportunistic_graft_threshold: 1.0,
    }
}

fn fading(time: Duration) -> f64 {
    score_parameter_decay_with_base(time, DECAY_EVERY, DECAY_TO_ZERO)
}

impl Watched<Upstream> {
    /// Subscribes, and scores what peers send on the topic. At most `max_topics` topics at a time, and four times as
    /// many over the node's life, are scored.
    pub(super) fn subscribe(&mut self, topic: &str, max_topics: usize) {
        let topic = IdentTopic::new(topic);
        if let Err(error) = self.upstream().subscribe(&topic) {
            tracing::warn!(%topic, %error, "cannot subscribe");
        }
        // Upstream never forgets a topic's score parameters.
        if self.scored.len() < 4 * max_topics && self.scored.insert(topic.hash()) {
            // This fails only without scoring.
            let _ = self.upstream().set_topic_params(topic, topic_score());
        }
    }

    /// Ends a subscription. The behaviour must be polled afterwards.
    pub(super) fn unsubscribe(&mut self, topic: &str) {
        self.upstream().unsubscribe(&IdentTopic::new(topic));
    }

    /// The neighbours in the meshes of all topics.
    pub(in crate::net) fn mesh(&self) -> impl Iterator<Item = PeerId> {
        self.single.upstream.all_mesh_peers().copied()
    }

    /// Whether this node no longer reads what the peer sends.
    pub(super) fn is_graylisted(&self, peer: &PeerId) -> bool {
        self.single.upstream.peer_score(peer).is_some_and(|score| score < GRAYLIST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_and_threshold_is_one_that_upstream_takes() {
        score(&Limits::default()).validate().unwrap();
        thresholds().validate().unwrap();
        topic_score().validate().unwrap();
        behaviour(
            &AviP2pConfig::default(),
            &Keypair::generate_ed25519(),
            &Metrics::default(),
            Closing::new(Arc::default()),
        )
        .unwrap();
    }

    #[test]
    fn the_id_of_a_message_is_its_authors_key_and_its_number() {
        let key = Keypair::generate_ed25519();
        let mut message = gossipsub::Message {
            source: Some(key.public().to_peer_id()),
            data: b"hello".to_vec(),
            sequence_number: Some(0x0102_0304_0506_0708),
            topic: gossipsub::TopicHash::from_raw("t"),
        };
        let MessageId(id) = message_id(&message);
        let author = key.public().encode_protobuf();
        assert_eq!((id[..36].to_vec(), &id[36..]), (author, &[1, 2, 3, 4, 5, 6, 7, 8][..]));
        (message.source, message.sequence_number) = (None, None);
        assert_eq!(message_id(&message), MessageId(vec![0; 8]));
    }

    #[test]
    fn a_neighbour_that_answers_no_iwant_and_has_forgotten_every_backoff_is_not_punished() {
        let limits = Limits::default();
        let score = score(&limits);
        let unanswered = MAX_GOSSIP_IDS as f64 / (1.0 - score.behaviour_penalty_decay);
        assert!(unanswered + 2.0 * limits.max_topics as f64 <= score.behaviour_penalty_threshold);
    }

    #[test]
    fn two_invalid_messages_outweigh_whatever_good_a_peer_has_done() {
        let bad = topic_score().invalid_message_deliveries_weight * 4.0;
        // Almost all of it is left a second later.
        assert!(bad * 0.9 + MAX_GOOD_SCORE < GRAYLIST);
    }
}
