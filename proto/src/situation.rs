//! Which rare situations should a simulation reach? Sometimes assertions: what a test never reaches, it does not test.
//!
//! Where the engine decides, it marks the situation with a `tracing` event of [`TARGET`]. Nobody listens in production, and
//! then a mark costs as much as any other disabled event: a load and a comparison. None is on the path of a frame or a message
//! that nothing happens to.

/// The target of the `tracing` events, each of which has the name of a situation in its field [`FIELD`].
pub const TARGET: &str = "avi_p2p::situation";
/// The field that has the name.
pub const FIELD: &str = "situation";

macro_rules! situations {
    ($($(#[doc = $what:literal])+ $variant:ident = $name:literal,)+) => {
        /// A situation that is worth reaching.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Situation {
            $($(#[doc = $what])+ $variant,)+
        }

        impl Situation {
            /// The one with this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|situation| situation.name() == name)
            }

            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name, in events and reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What has happened then.
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($what,)+),)+
                }
            }
        }
    };
}

situations! {
    /// A message was held for a first subscriber.
    MessageHeld = "message_held",
    /// A held message was sent, because a subscriber came.
    MessageReleased = "message_released",
    /// A held message expired: it found no subscriber, or no room on the way to one.
    MessageExpired = "message_expired",
    /// A message was refused, because the queues to all subscribers are full.
    MessageCongested = "message_congested",
    /// A message came on a topic that this node has left.
    MessageUnwanted = "message_unwanted",
    /// A connection ended before it was known to have delivered what was published into it.
    MessageMayBeLost = "message_may_be_lost",

    /// A peer was dialled after an earlier dial had failed.
    DialRetried = "dial_retried",
    /// This node refused its own dial when it was answered: there was no room any more.
    DialRefused = "dial_refused",
    /// A peer that could not be reached again and again was forgotten.
    PeerForgotten = "peer_forgotten",
    /// A configured peer could not be reached.
    BootstrapFailed = "bootstrap_failed",
    /// A newcomer was refused, because all places were taken.
    NewcomerRefused = "newcomer_refused",
    /// A peer was disconnected to make room for newcomers.
    PeerPruned = "peer_pruned",
    /// A peer was disconnected so that a wanted one could be dialled: a bootstrap peer, or one for a call.
    PeerDisplaced = "peer_displaced",
    /// A peer was banned.
    PeerBanned = "peer_banned",
    /// A peer that speaks no pub/sub of this node was disconnected.
    PeerForeign = "peer_foreign",
    /// Another node was noticed to have the identity of this one.
    IdentityDoubled = "identity_doubled",
    /// Two nodes were noticed to have the identity of one peer.
    PeerDoubled = "peer_doubled",
    /// An address heard by mDNS was not repeated in time.
    AddressExpired = "address_expired",

    /// Of two connections to a peer, one was closed.
    DuplicateClosed = "duplicate_closed",
    /// Of several connections to a peer, the older ones were retired.
    ConnectionRetired = "connection_retired",
    /// A retired connection was closed, since it had delivered everything.
    RetiredDelivered = "retired_delivered",
    /// A connection that moved nothing had its peer dialled again.
    ConnectionStuck = "connection_stuck",
    /// A silent peer was given up.
    PeerSilent = "peer_silent",
    /// A connection that did not close in time was aborted.
    CloseAborted = "close_aborted",

    /// A search for peers found some.
    WalkFoundPeers = "walk_found_peers",
    /// A search for peers found nobody, or failed.
    WalkFoundNobody = "walk_found_nobody",
    /// A search for peers did not end in time.
    WalkTimedOut = "walk_timed_out",

    /// A call was refused: too many streams.
    CallRefused = "call_refused",
    /// A call was not answered in time.
    CallUnanswered = "call_unanswered",
    /// A request for a call moved to another connection before it was answered.
    CallMoved = "call_moved",
    /// The audio of a call changed from its substream to datagrams.
    CallToDatagrams = "call_to_datagrams",
    /// The audio of a call changed from datagrams to its substream.
    CallToSubstream = "call_to_substream",
    /// A call lost its connection, and waits for another one.
    CallParted = "call_parted",
    /// A call went on over another connection.
    CallResumed = "call_resumed",
    /// A call was given up: no other connection came in time.
    CallGivenUp = "call_given_up",
    /// A call ended while it had no connection: the goodbye waits for one.
    GoodbyeDelayed = "goodbye_delayed",
    /// The other end of a call broke the protocol.
    ProtocolBroken = "protocol_broken",

    /// A frame was dropped at its sender, because it had waited too long, or there was no room.
    FrameDropped = "frame_dropped",
    /// A frame was dropped at its receiver, because it had been stuck on the way.
    FrameStuck = "frame_stuck",
    /// A frame waited at its receiver for one before it.
    FrameReordered = "frame_reordered",
    /// A frame came after its place had been given up.
    FrameLate = "frame_late",
    /// A frame came twice.
    FrameTwice = "frame_twice",
    /// Frames are sent twice from now on, because the path loses some.
    RedundancyOn = "redundancy_on",
    /// Frames are not sent twice for a while, because that has not helped.
    RedundancyUseless = "redundancy_useless",
    /// What may flow beside a call was reduced, because audio waited in queues.
    BulkReduced = "bulk_reduced",
    /// A sender was told how much its path takes.
    RateTold = "rate_told",

    /// A reader was so slow that messages were dropped.
    ReaderLaggedMessages = "reader_lagged_messages",
    /// A reader was so slow that audio was dropped.
    ReaderLaggedAudio = "reader_lagged_audio",

    /// Two nodes compared the shared context, and found no difference.
    ContextSame = "context_same",
    /// Two nodes compared the shared context, and found a difference.
    ContextDiffered = "context_differed",
    /// One round was not enough to make two contexts the same.
    ContextRounds = "context_rounds",
    /// An exchange of the shared context failed.
    ContextFailed = "context_failed",
    /// An entry was refused: its clock is too far ahead.
    ContextAhead = "context_ahead",
    /// An entry was refused: a limit of the shared context is reached.
    ContextFull = "context_full",
    /// An entry or a request was refused: too much came.
    ContextBusy = "context_busy",
    /// A node wrote an entry of its own again: an older one had come back with a later stamp.
    ContextWrittenAgain = "context_written_again",
    /// An entry whose time is over was dropped: a tombstone, or what its owner has not renewed.
    ContextExpired = "context_expired",
}

/// Marks a situation.
pub(crate) fn reached(situation: Situation) {
    tracing::trace!(target: "avi_p2p::situation", situation = situation.name());
}

#[cfg(test)]
#[path = "tests/situation.rs"]
mod tests;
