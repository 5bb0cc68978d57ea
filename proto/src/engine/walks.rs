//! When to search for peers through the known ones.

use std::time::Duration;

use super::command::{CommandId, Reply};
use super::io::NetAction;
use super::outbox::Outbox;
use super::rng::Rng;
use super::time::Time;
use crate::config::AviP2pConfig;
use crate::error::AviP2pError;
use crate::id::PeerId;
use crate::situation::{Situation, reached};

/// Waits this long after a new peer: its neighbours may connect too, and one walk serves them all.
const SETTLE: Duration = Duration::from_millis(300);
/// The first pause between walks. It doubles with every walk.
const MIN_PAUSE: Duration = Duration::from_secs(5);
/// The pause before a walk through a bootstrap peer. It may be full, and disconnect this node after three seconds. By then
/// this node must know others there.
const BOOTSTRAP_PAUSE: Duration = Duration::from_millis(1500);
/// The longest pause between walks.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// A walk that has not ended by then is abandoned.
const WALK_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Walks {
    enabled: bool,
    max_waiting: usize,
    /// The deadline of the current walk.
    running: Option<Time>,
    /// When the next walk begins.
    next: Option<Time>,
    /// Whether a bootstrap peer has come that no walk has asked.
    has_bootstrap_peer: bool,
    /// When the last walk ended.
    ended: Option<Time>,
    pause: Duration,
    /// Callers that wait for the end of the walk.
    waiting: Vec<CommandId<Vec<PeerId>>>,
    count: u64,
    pub(super) rng: Rng,
}

impl Walks {
    pub(crate) fn new(config: &AviP2pConfig, rng: Rng) -> Self {
        Self {
            enabled: config.enable_kad,
            max_waiting: config.limits.pending_commands,
            running: None,
            next: None,
            has_bootstrap_peer: false,
            ended: None,
            pause: MIN_PAUSE,
            waiting: Vec::new(),
            count: 0,
            rng,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.running.or(self.next)
    }

    /// Begins a walk, unless one is running.
    pub(crate) fn discover(&mut self, now: Time, out: &mut Outbox) -> Result<(), AviP2pError> {
        if !self.enabled {
            return Err(AviP2pError::Disabled("enable_kad"));
        }
        if self.running.is_none() {
            self.begin(now, out);
        }
        Ok(())
    }

    /// Handles a request of the application. The reply comes when a walk ends.
    pub(crate) fn find_more(&mut self, now: Time, id: CommandId<Vec<PeerId>>, out: &mut Outbox) {
        let limit = AviP2pError::LimitReached { limit: "limits.pending_commands", max: self.max_waiting };
        let has_room = if self.waiting.len() < self.max_waiting { Ok(()) } else { Err(limit) };
        match has_room.and_then(|()| self.discover(now, out)) {
            Ok(()) => self.waiting.push(id),
            Err(error) => out.reply(Reply::Peers { id, result: Err(error) }),
        }
    }

    /// Schedules a walk soon, because a peer has connected or disconnected.
    pub(crate) fn hasten(&mut self, now: Time) {
        self.schedule(now, MIN_PAUSE);
    }

    /// Schedules a walk very soon, because a bootstrap peer has connected.
    pub(crate) fn on_bootstrap_peer(&mut self, now: Time) {
        self.has_bootstrap_peer = true;
        self.schedule(now, BOOTSTRAP_PAUSE);
    }

    fn schedule(&mut self, now: Time, pause: Duration) {
        if self.enabled {
            let earliest = self.ended.map_or(now + SETTLE, |ended| (ended + pause).max(now + SETTLE));
            self.next = Some(self.next.map_or(earliest, |next| next.min(earliest)));
        }
    }

    pub(crate) fn on_ended(&mut self, now: Time, result: Result<Vec<PeerId>, AviP2pError>, out: &mut Outbox) {
        if self.running.take().is_none() {
            return;
        }
        self.ended = Some(now);
        reached(match &result {
            Ok(found) if !found.is_empty() => Situation::WalkFoundPeers,
            Err(AviP2pError::Timeout { .. }) => Situation::WalkTimedOut,
            _ => Situation::WalkFoundNobody,
        });
        // A walk that was asked for meanwhile comes before the regular one.
        let regular = now + self.rng.jitter(self.pause);
        self.next = Some(self.next.map_or(regular, |asked| {
            regular.min(asked.max(now + if self.has_bootstrap_peer { BOOTSTRAP_PAUSE } else { MIN_PAUSE }))
        }));
        self.pause = (self.pause * 2).min(MAX_PAUSE);
        for id in self.waiting.drain(..) {
            out.reply(Reply::Peers { id, result: result.clone() });
        }
    }

    /// Starts a walk that is due, or ends one that is too late. A node with enough peers does not search by
    /// itself, except through each bootstrap peer.
    pub(crate) fn handle_timeout(&mut self, now: Time, wants_peers: bool, out: &mut Outbox) {
        match (self.running, self.next) {
            (Some(deadline), _) if deadline <= now => {
                let timeout = AviP2pError::Timeout { operation: "the search for peers", after: WALK_WITHIN };
                self.on_ended(now, Err(timeout), out);
            }
            (None, Some(next)) if next <= now && (wants_peers || self.has_bootstrap_peer) => self.begin(now, out),
            (None, Some(next)) if next <= now => self.next = Some(now + self.rng.jitter(MAX_PAUSE)),
            _ => {}
        }
    }

    pub(crate) fn stop(&mut self, out: &mut Outbox) {
        self.enabled = false;
        self.running = None;
        self.next = None;
        for id in self.waiting.drain(..) {
            out.reply(Reply::Peers { id, result: Err(AviP2pError::ChannelClosed) });
        }
    }

    fn begin(&mut self, now: Time, out: &mut Outbox) {
        self.running = Some(now + WALK_WITHIN);
        self.next = None;
        self.has_bootstrap_peer = false;
        self.count += 1;
        // Alternates between this node's own neighbourhood and a random key.
        let target = if self.count % 2 == 1 { None } else { Some(self.rng.key()) };
        out.net(NetAction::Walk { target });
    }
}
