//! What is known of each peer, and of each stream?

/// From when until when; `None` if it has not ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) from: f64,
    pub(super) until: Option<f64>,
}

/// A dial, and why it failed.
#[derive(Clone, Debug)]
pub(super) struct Dialled {
    pub(super) at: f64,
    /// `None` while it goes on, or if the peer answered.
    pub(super) failed: Option<String>,
    pub(super) answered: bool,
}

/// What happened with a peer, or with an address whose peer is not known.
#[derive(Debug, Default)]
pub(super) struct PeerRow {
    pub(super) name: Option<String>,
    pub(super) connected: Vec<Span>,
    pub(super) dials: Vec<Dialled>,
}

impl PeerRow {
    /// When something happened first.
    pub(super) fn begins(&self) -> f64 {
        let dials = self.dials.first().map(|dial| dial.at);
        let connected = self.connected.first().map(|span| span.from);
        dials.into_iter().chain(connected).fold(f64::INFINITY, f64::min)
    }
}

/// What happened with a stream.
#[derive(Debug)]
pub(super) struct StreamRow {
    pub(super) peer: Option<String>,
    pub(super) requested: f64,
    pub(super) accepted: Option<f64>,
    pub(super) ended: Option<(f64, String)>,
    pub(super) dropped: Vec<(f64, u64)>,
}
