//! How does the shared context get from node to node? Writes go out on a topic of its own; nodes that meet, and every half
//! minute two neighbours, compare what they have.

mod driver;
mod exchanges;
mod saving;
mod sources;
mod taking;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::exchanges::{Exchange, Neighbour};
use self::sources::{Budget, NEW_AUTHORS, Source};
pub(crate) use self::taking::Standing;
use super::io::{ExchangeId, NetAction};
use super::outbox::Outbox;
use super::rng::Rng;
use super::time::Time;
use super::topics::CONTEXT_TOPIC;
use crate::config::AviP2pConfig;
#[cfg(feature = "recorder")]
use crate::context::Signer;
use crate::context::{Change, ContextOptions, ContextWrite, Corrected, Entry, Path, Replica, Wall, read_file, topmost};
use crate::error::AviP2pError;
use crate::event::AviEvent;
use crate::id::{PeerId, Topic};
use crate::stats::Stats;

/// How often a node compares its context with one of its neighbours, in turn: what a message lost is found so.
const ROUND_EVERY: Duration = Duration::from_secs(30);
/// After more entries than this were told in events, the next ones wait. What changes meanwhile is told together: who
/// writes above all again and again must not make this node read all of it each time.
const TOLD_AT_ONCE: usize = 64;
/// How long they wait, for each entry that was told.
const REST_PER_TOLD: Duration = Duration::from_micros(20);
/// Changes that wait. Beyond them, one of the whole tells them all.
const MAX_UNTOLD: usize = 4096;

/// What a context needs of the machine when a node starts.
#[derive(derive_more::Debug, Default)]
pub struct ContextStart {
    /// The secret half of this node's Ed25519 key, which signs what it writes. It is copied, and zeroized with the engine.
    #[debug("..")]
    pub secret: Option<zeroize::Zeroizing<[u8; 32]>>,
    /// The content of [`ContextOptions::file`], if there is one.
    #[debug("{:?} bytes", file.as_ref().map(Bytes::len))]
    pub file: Option<Bytes>,
    /// Wall time in milliseconds since 1970.
    pub unix_millis: u64,
}

/// The context of a node that takes part in one.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct SharedContext {
    options: ContextOptions,
    max_message_bytes: usize,
    topic: Topic,
    replica: Replica,
    pub(super) rng: Rng,
    wall: (Time, Wall),
    /// The latest wall time at [`Time::ZERO`] that the clock has stood for since the context followed it.
    latest_zero: Wall,
    peers: BTreeMap<PeerId, Neighbour>,
    exchanges: BTreeMap<ExchangeId, Exchange>,
    last_exchange: u64,
    /// Authors of messages.
    sources: BTreeMap<PeerId, Source>,
    /// New authors of messages.
    new_authors: Budget,
    next_round: Time,
    /// Whose turn it was in the last round.
    last_asked: Option<PeerId>,
    /// Changes that the application is not told yet.
    untold: Vec<Change>,
    /// Until then they wait.
    quiet_until: Time,
    save_at: Option<Time>,
    saved_at: Option<Time>,
    /// The wall time in the file.
    file_time: Wall,
}

/// What entries that came have led to.
#[derive(Default)]
struct News {
    changes: Vec<Change>,
    /// This node's own entries, written again.
    again: Vec<Arc<Entry>>,
    /// Whether a part of the state is new.
    has_any: bool,
}

impl SharedContext {
    /// The context of a node, if it is configured.
    pub(crate) fn new(config: &AviP2pConfig, local: &PeerId, rng: Rng, out: &mut Outbox) -> Option<Self> {
        let options = config.context.clone()?;
        let topic = Topic::new(CONTEXT_TOPIC, CONTEXT_TOPIC.len()).ok()?;
        out.net(NetAction::Subscribe { topic: topic.clone() });
        Some(Self {
            replica: Replica::new(&options, local.clone(), None),
            options,
            max_message_bytes: config.limits.max_message_bytes,
            topic,
            rng,
            wall: (Time::ZERO, Wall(0)),
            latest_zero: Wall(0),
            peers: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            last_exchange: 0,
            sources: BTreeMap::new(),
            new_authors: Budget::new(Time::ZERO, NEW_AUTHORS),
            next_round: Time::ZERO + ROUND_EVERY,
            last_asked: None,
            untold: Vec::new(),
            quiet_until: Time::ZERO,
            save_at: None,
            saved_at: None,
            file_time: Wall(0),
        })
    }

    fn start(&mut self, local: &PeerId, start: ContextStart) -> Result<(), AviP2pError> {
        self.set_wall(Time::ZERO, Wall(start.unix_millis));
        self.replica = Replica::new(&self.options, local.clone(), start.secret.as_deref());
        let (Some(path), Some(bytes)) = (&self.options.file, start.file) else { return Ok(()) };
        let read = read_file(&mut self.replica, &self.options, self.wall.1, bytes);
        self.file_time = read.map_err(|reason| AviP2pError::ContextFile { path: path.clone(), reason })?;
        Ok(())
    }

    #[cfg(feature = "recorder")]
    pub(in crate::engine) fn keep_signatures(&mut self) {
        self.replica.signer_mut().into_iter().for_each(Signer::keep_signatures);
    }

    #[cfg(feature = "recorder")]
    pub(in crate::engine) fn take_signatures(&mut self) -> Vec<[u8; 64]> {
        self.replica.signer_mut().map(Signer::take_signatures).unwrap_or_default()
    }

    #[cfg(feature = "recorder")]
    pub(in crate::engine) fn supply(&mut self, signatures: Vec<[u8; 64]>) {
        if let Some(signer) = self.replica.signer_mut() {
            signer.supply(signatures);
        }
    }

    #[cfg(feature = "recorder")]
    pub(in crate::engine) fn complete(&mut self) {
        self.replica.store.complete();
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let tell_at = (!self.untold.is_empty()).then_some(self.quiet_until);
        [Some(self.next_round), self.next_exchange(), self.save_at, tell_at].into_iter().flatten().min()
    }

    pub(crate) fn add_figures(&self, stats: Stats) -> Stats {
        let store = &self.replica.store;
        Stats {
            context_entries: store.visible() as u64,
            context_tombstones: store.tombstones() as u64,
            context_bytes: store.bytes() as u64,
            context_authors: store.authors() as u64,
            ..stats
        }
    }

    /// Whether an entry is too long for a message.
    fn is_long(&self, entry: &Entry) -> bool {
        entry.len() > self.max_message_bytes
    }

    fn set_wall(&mut self, now: Time, wall: Wall) {
        self.wall = (now, wall);
        self.latest_zero = self.latest_zero.max(self.zero());
    }

    /// The wall time at [`Time::ZERO`], by the clock as it is.
    fn zero(&self) -> Wall {
        self.wall.1.before(self.wall.0 - Time::ZERO)
    }

    fn wall(&self, now: Time) -> Wall {
        self.wall.1.after(now - self.wall.0)
    }

    // What the application writes.

    fn write(&mut self, now: Time, write: &ContextWrite, out: &mut Outbox) -> Result<Vec<Arc<Entry>>, AviP2pError> {
        let (entries, changes) = self.replica.write(self.wall(now), write)?;
        out.stats.context_writes += entries.len() as u64;
        self.tell(now, changes, out);
        self.want_save(now);
        Ok(entries)
    }

    fn follow_clock(&mut self, now: Time, out: &mut Outbox) -> Vec<Arc<Entry>> {
        let gone_back = Duration::from_millis(self.latest_zero.0.saturating_sub(self.zero().0));
        let Corrected { again, changes, ahead } = self.replica.follow_clock(self.wall(now), gone_back);
        out.stats.context_refused_ahead += ahead as u64;
        out.stats.context_written_again += again.len() as u64;
        if ahead > 0 || !changes.is_empty() {
            self.latest_zero = self.zero();
            self.want_save(now);
        }
        self.tell(now, changes, out);
        again
    }

    /// Renews what belongs to this node, and drops what others have not renewed.
    fn renew(&mut self, now: Time, out: &mut Outbox) -> Vec<Arc<Entry>> {
        let renewed = self.replica.renew(self.wall(now));
        out.stats.context_written_again += renewed.len() as u64;
        let changes = self.replica.expire(self.wall(now));
        if !renewed.is_empty() || !changes.is_empty() {
            self.want_save(now);
        }
        self.tell(now, changes, out);
        renewed
    }

    /// Tells the application what has changed, at once unless much was told just now.
    fn tell(&mut self, now: Time, changes: Vec<Change>, out: &mut Outbox) {
        self.untold.extend(changes);
        if self.untold.len() > MAX_UNTOLD {
            // One event tells it all.
            self.untold = self.untold.pop().into_iter().map(|last| Change { path: Path::root(), ..last }).collect();
        }
        if self.quiet_until <= now {
            self.tell_all(now, out);
        }
    }

    fn tell_all(&mut self, now: Time, out: &mut Outbox) {
        let mut told = 0;
        for Change { author, path } in topmost(std::mem::take(&mut self.untold)) {
            told += self.replica.store.under(path.as_str()).count();
            let value = self.replica.value_at(&path);
            out.event(AviEvent::ContextChanged { author: author.peer_id(), path: path.as_str().to_owned(), value });
        }
        if told > TOLD_AT_ONCE {
            self.quiet_until = now + REST_PER_TOLD.saturating_mul(u32::try_from(told).unwrap_or(u32::MAX));
        }
    }

    // What time does.

    fn handle_timeout(&mut self, now: Time, out: &mut Outbox) -> Vec<Arc<Entry>> {
        let mut again = Vec::new();
        if self.next_round <= now {
            self.next_round = now + self.rng.jitter(ROUND_EVERY);
            again = self.follow_clock(now, out);
            again.extend(self.renew(now, out));
            self.replica.calm_down();
            self.forget_gone(now);
            self.choose_next(now);
            self.keep_file_young(now);
        }
        if self.save_at.is_some_and(|at| at <= now) {
            self.save(now, out);
        }
        if self.quiet_until <= now {
            self.tell_all(now, out);
        }
        self.end_exchanges(now, out);
        self.begin_exchanges(now, out);
        again
    }

    /// Has the next neighbour in turn asked.
    fn choose_next(&mut self, now: Time) {
        let after = self.last_asked.take();
        let mut part = self.peers.iter().filter(|(_, neighbour)| neighbour.takes_part).map(|(peer, _)| peer);
        let next = after.and_then(|last| part.clone().find(|peer| **peer > last)).or_else(|| part.next()).cloned();
        if let Some(neighbour) = next.as_ref().and_then(|next| self.peers.get_mut(next)) {
            neighbour.ask_at.get_or_insert(now);
        }
        self.last_asked = next;
    }
}
