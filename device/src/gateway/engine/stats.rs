//! What has a gateway done?

/// Figures of a gateway. All but `sessions`, `topics` and `streams` count since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayStats {
    /// Sessions now.
    pub sessions: usize,
    /// Topics that the gateway subscribes to now.
    pub topics: usize,
    /// Streams of devices now.
    pub streams: usize,
    /// Datagrams that came.
    pub datagrams_received: u64,
    /// Datagrams to devices.
    pub datagrams_sent: u64,
    /// Sessions that began; a device that says `Hello` again continues its own.
    pub sessions_begun: u64,
    /// Sessions that ended by silence or by the age of their keys.
    pub sessions_expired: u64,
    /// Sessions whose device has another address now.
    pub sessions_moved: u64,
    /// Messages, buttons and values from devices.
    pub published: u64,
    /// Messages for devices, once for each.
    pub delivered: u64,
    /// Frames of audio from devices.
    pub audio_received: u64,
    /// Datagrams of audio to devices.
    pub audio_sent: u64,
    /// Datagrams that are no frame.
    pub bad_frames: u64,
    /// Datagrams, messages or audio longer than a datagram.
    pub oversize: u64,
    /// Datagrams of devices beyond their rate, and messages beyond theirs.
    pub rate_limited: u64,
    /// Datagrams of addresses without a session, beyond their rate.
    pub unknown_limited: u64,
    /// Datagrams of sessions that do not exist.
    pub unknown_session: u64,
    /// Requests refused by a limit or a rule.
    pub refused: u64,
    /// Plain sessions refused.
    pub plain_refused: u64,
    /// Handshakes of devices that have no key here, the wrong one, or another version.
    pub handshakes_refused: u64,
    /// Handshakes beyond their rate.
    pub handshakes_limited: u64,
    /// Sealed datagrams that are not authentic, or that came before.
    pub not_authentic: u64,
    /// Frames to devices beyond their rate.
    pub downlink_limited: u64,
    /// Frames that devices with the original protocol cannot read, and were not sent.
    pub not_asked_for: u64,
    /// Frames of audio from devices that were dropped, because nobody had accepted their stream yet.
    pub audio_dropped: u64,
    /// What the mesh did not take.
    pub mesh_refused: u64,
    /// What the shared context did not take, and values beyond `context_values`.
    pub context_refused: u64,
    /// Messages and calls from the mesh that the gateway was too slow for.
    pub events_dropped: u64,
    /// Datagrams that the system did not take.
    pub send_failed: u64,
}
