//! How does the shared context get from node to node? Writes go out on a topic of its own; nodes that meet, and every half
//! minute two neighbours, compare what they have.

mod driver;
mod exchanges;
mod sources;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::exchanges::{Exchange, Neighbour};
use self::sources::{BEYOND_BOUNDS, Budget, DISTRUST_FOR, NEW_AUTHORS, Source, VERIFICATIONS};
use super::io::{ExchangeId, NetAction, Output};
use super::outbox::Outbox;
use super::rng::Rng;
use super::time::Time;
use super::topics::CONTEXT_TOPIC;
use crate::config::AviP2pConfig;
use crate::context::{
    Author, Change, ContextOptions, ContextWrite, Corrected, Entry, Path, Refused, Replica, Taken, Wall, read_file,
    read_message, topmost, write_file,
};
use crate::error::AviP2pError;
use crate::event::AviEvent;
use crate::id::{PeerId, Topic};
use crate::stats::Stats;

/// How often a node compares its context with one of its neighbours, in turn: what a message lost is found so.
const ROUND_EVERY: Duration = Duration::from_secs(30);
/// Authors whose rate is remembered.
const MAX_SOURCES: usize = 1024;
/// The file is written so long after a change, and for each 100 KiB of it a second later: a context that changes all the
/// time must not wear out a memory card.
const SAVE_AFTER: Duration = Duration::from_secs(1);
const SAVED_BYTES_PER_SECOND: usize = 100 * 1024;
/// The file is written at least so often, or eight times in the lifetime of a tombstone: its age says how long the node was
/// away.
const SAVE_EVERY: Duration = Duration::from_secs(24 * 3600);

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
pub(crate) struct SharedContext {
    options: ContextOptions,
    max_message_bytes: usize,
    topic: Topic,
    replica: Replica,
    rng: Rng,
    wall: (Time, Wall),
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

/// How an author stands with this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may not connect: nothing of it is taken.
    KeptOut,
    /// Nobody knows whether it exists.
    Stranger,
    /// It is connected, or listed.
    Met,
}

fn count(refused: Refused, stats: &mut Stats) {
    let counter = match refused {
        Refused::Ahead => &mut stats.context_refused_ahead,
        Refused::NotOwner => &mut stats.context_refused_not_owner,
        Refused::KeptOut => &mut stats.context_refused_blocked,
        Refused::Full => &mut stats.context_refused_full,
        Refused::Busy => &mut stats.context_refused_busy,
        Refused::Forged => &mut stats.context_refused_forged,
    };
    *counter += 1;
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
        self.wall = (Time::ZERO, Wall(start.unix_millis));
        self.replica = Replica::new(&self.options, local.clone(), start.secret.as_deref());
        let (Some(path), Some(bytes)) = (&self.options.file, start.file) else { return Ok(()) };
        let read = read_file(&mut self.replica, &self.options, self.wall.1, bytes);
        self.file_time = read.map_err(|reason| AviP2pError::ContextFile { path: path.clone(), reason })?;
        Ok(())
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

    fn wall(&self, now: Time) -> Wall {
        self.wall.1.after(now - self.wall.0)
    }

    // What the application writes.

    fn write(&mut self, now: Time, write: &ContextWrite, out: &mut Outbox) -> Result<Vec<Arc<Entry>>, AviP2pError> {
        let mut publish = self.follow_clock(now, out);
        let (entries, changes) = self.replica.write(self.wall(now), write)?;
        out.stats.context_writes += entries.len() as u64;
        self.tell(now, changes, out);
        self.want_save(now);
        publish.extend(entries);
        Ok(publish)
    }

    fn follow_clock(&mut self, now: Time, out: &mut Outbox) -> Vec<Arc<Entry>> {
        let Corrected { again, changes, ahead } = self.replica.follow_clock(self.wall(now));
        out.stats.context_refused_ahead += ahead as u64;
        out.stats.context_written_again += again.len() as u64;
        if ahead > 0 || !changes.is_empty() {
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

    // What others write.

    fn on_message(
        &mut self,
        now: Time,
        from: &PeerId,
        data: Bytes,
        standing: &dyn Fn(&PeerId) -> Standing,
        out: &mut Outbox,
    ) -> News {
        let Some(mut source) = self.source(now, from) else {
            out.stats.context_refused_busy += 1;
            return News::default();
        };
        let mut news = News::default();
        match read_message(data) {
            _ if source.distrusted_until > now => out.stats.context_refused_busy += 1,
            Err(error) => {
                tracing::debug!(%from, %error, "not a message of the context");
                out.stats.context_refused_invalid += 1;
                source.distrusted_until = now + DISTRUST_FOR;
            }
            Ok(mut entries) => {
                // Nobody publishes what another one has written: exchanges are for that.
                let author = Author::of(from);
                let all = entries.len();
                entries.retain(|entry| Some(entry.stamp.author) == author);
                out.stats.context_refused_invalid += (all - entries.len()) as u64;
                // Whoever publishes under invented keys has one budget for all of them.
                source.new_authors = self.new_authors;
                news = self.take_all(now, &mut source, entries, standing, out);
                self.new_authors = source.new_authors;
            }
        }
        self.sources.insert(from.clone(), source);
        news
    }

    /// What is remembered of the author of a message. `None` if there are too many.
    fn source(&mut self, now: Time, from: &PeerId) -> Option<Source> {
        if let Some(source) = self.sources.remove(from) {
            return Some(source);
        }
        if self.sources.len() >= MAX_SOURCES {
            self.sources.retain(|_, source| !source.is_idle(now));
        }
        (self.sources.len() < MAX_SOURCES).then(|| Source::new(now))
    }

    /// Takes entries until one is forged.
    fn take_all(
        &mut self,
        now: Time,
        source: &mut Source,
        entries: Vec<Arc<Entry>>,
        standing: &dyn Fn(&PeerId) -> Standing,
        out: &mut Outbox,
    ) -> News {
        let mut news = News::default();
        for entry in entries {
            match self.take_one(now, source, entry, standing) {
                Taken::Known => {}
                Taken::Refused(Refused::Forged) => {
                    out.stats.context_refused_forged += 1;
                    source.distrusted_until = now + DISTRUST_FOR;
                    break;
                }
                Taken::Refused(why) => count(why, &mut out.stats),
                Taken::New { change, again } => {
                    out.stats.context_taken += 1;
                    out.stats.context_written_again += again.len() as u64;
                    news.has_any = true;
                    news.changes.extend(change);
                    news.again.extend(again);
                }
            }
        }
        if news.has_any {
            self.want_save(now);
        }
        self.tell(now, std::mem::take(&mut news.changes), out);
        news
    }

    /// Takes an entry, if its author may write, and as far as the budgets of its source allow.
    fn take_one(
        &mut self,
        now: Time,
        source: &mut Source,
        entry: Arc<Entry>,
        standing: &dyn Fn(&PeerId) -> Standing,
    ) -> Taken {
        if let Some(taken) = self.replica.screen(self.wall(now), &entry) {
            return taken;
        }
        let (store, author) = (&self.replica.store, entry.stamp.author);
        if self.replica.author() != Some(author) {
            match standing(&author.peer_id()) {
                Standing::KeptOut => return Taken::Refused(Refused::KeptOut),
                Standing::Stranger if !store.has_author(author) => {
                    if !source.new_authors.take(now, NEW_AUTHORS) {
                        return Taken::Refused(Refused::Busy);
                    }
                }
                Standing::Stranger | Standing::Met => {}
            }
        }
        // What takes the place of an entry at the same path may fit also where nothing else does.
        let is_update = store.slot(entry.path.as_str()).is_some();
        if !(is_update || source.beyond_bounds.has(now, BEYOND_BOUNDS))
            || !source.verifications.take(now, VERIFICATIONS)
        {
            return Taken::Refused(Refused::Busy);
        }
        let (taken, compared) = self.replica.take_new(entry);
        source.verifications.spend_on(compared);
        if let Taken::Refused(Refused::Full) = taken {
            source.beyond_bounds.take(now, BEYOND_BOUNDS);
        }
        taken
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

    fn want_save(&mut self, now: Time) {
        if self.options.file.is_none() || self.save_at.is_some() {
            return;
        }
        let pause = SAVE_AFTER + Duration::from_secs((self.replica.store.bytes() / SAVED_BYTES_PER_SECOND) as u64);
        self.save_at = Some((now + SAVE_AFTER).max(self.saved_at.map_or(Time::ZERO, |at| at + pause)));
    }

    /// Has the file written again before it looks as if this node had been away, and after the clock was set.
    fn keep_file_young(&mut self, now: Time) {
        let wall = self.wall(now);
        let every = SAVE_EVERY.min(self.options.tombstone_lifetime / 8);
        let is_young = self.file_time.after(every) > wall && self.file_time <= wall.after(every);
        if wall.is_plausible() && !is_young && self.replica.store.bytes() > 0 {
            self.want_save(now);
        }
    }

    fn save(&mut self, now: Time, out: &mut Outbox) {
        self.save_at = None;
        self.saved_at = Some(now);
        self.file_time = self.replica.age(self.wall(now));
        out.push(Output::SaveContext { bytes: write_file(&self.replica, self.wall(now)) });
    }

    /// Saves at the end, also without a change: the node was here until now.
    fn save_last(&mut self, now: Time, out: &mut Outbox) {
        if self.options.file.is_some() && (self.save_at.is_some() || self.replica.store.bytes() > 0) {
            self.save(now, out);
        }
    }
}
