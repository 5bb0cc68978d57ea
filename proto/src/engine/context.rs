//! How does the shared context get from node to node? Writes go out on a topic of its own; nodes that meet, and every half
//! minute two neighbours, compare what they have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::command::CommandId;
use super::io::{AskId, ExchangeId, NetAction, Output};
use super::outbox::Outbox;
use super::rng::Rng;
use super::time::Time;
use super::topics::CONTEXT_TOPIC;
use super::{Engine, Phase};
use crate::config::AviP2pConfig;
use crate::context::{
    Author, Change, ContextOptions, ContextWrite, Entry, EntryId, Refused, Replica, Request, Response, Taken, Wall,
    answer, ask, gifts, message, next_request, read_file, read_message, topmost, write_file,
};
use crate::error::AviP2pError;
use crate::event::AviEvent;
use crate::id::{PeerId, Topic};
use crate::stats::Stats;

/// How often a node compares its context with one of its neighbours, in turn: what a message lost is found so.
const ROUND_EVERY: Duration = Duration::from_secs(30);
/// The node with the lower id asks at once when two meet. If it has not by then, the other one does.
const ASKED_BY: Duration = Duration::from_secs(5);
/// Before a node asks whom it has met, or tells its neighbours what an exchange has brought, so that several reasons make
/// one exchange.
const GATHER: Duration = Duration::from_millis(400);
/// Exchanges that this node has begun, at a time.
const MAX_EXCHANGES: usize = 4;
/// Before a peer that was busy is asked again.
const BUSY_FOR: Duration = Duration::from_secs(10);
/// How long nothing is taken from a peer that has passed on a forged entry, or bytes that are none.
const DISTRUST_FOR: Duration = Duration::from_secs(60);
/// What a peer may ask: at once, and a second.
const REQUESTS: Rate = Rate { burst: 128, per_second: 8 };
/// The signatures that are verified for one peer. A verification takes about 60 µs on a desktop computer, 400 µs on a small
/// board.
const VERIFICATIONS: Rate = Rate { burst: 4096, per_second: 64 };
/// Authors whose rate is remembered.
const MAX_SOURCES: usize = 1024;
/// The file is written so long after a change, and for each 100 KiB of it a second later: a context that changes all the
/// time must not wear out a memory card.
const SAVE_AFTER: Duration = Duration::from_secs(1);
const SAVED_BYTES_PER_SECOND: usize = 100 * 1024;

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
    next_round: Time,
    /// Whose turn it was in the last round.
    last_asked: Option<PeerId>,
    save_at: Option<Time>,
    saved_at: Option<Time>,
}

/// A connected peer that takes part in the context.
#[derive(Debug)]
struct Neighbour {
    /// Whether it subscribes to the topic.
    takes_part: bool,
    /// When to begin an exchange with it.
    ask_at: Option<Time>,
    requests: Budget,
    source: Source,
}

/// Whoever entries come from.
#[derive(Debug)]
struct Source {
    verifications: Budget,
    distrusted_until: Time,
}

/// An exchange that this node has begun.
#[derive(Debug)]
struct Exchange {
    peer: PeerId,
    step: Step,
    rounds: usize,
    /// Whether this round has brought or given anything.
    has_moved: bool,
}

#[derive(Debug)]
enum Step {
    Root,
    Have { is_all: bool },
    Give { wanted: Vec<EntryId>, has_more: bool },
}

#[derive(Clone, Copy)]
struct Rate {
    burst: u32,
    per_second: u32,
}

/// What is left of a rate.
#[derive(Debug)]
struct Budget {
    left: u32,
    at: Time,
}

impl Neighbour {
    fn new(now: Time) -> Self {
        let (requests, source) = (Budget::new(now, REQUESTS), Source::new(now));
        Self { takes_part: false, ask_at: None, requests, source }
    }
}

impl Budget {
    fn new(now: Time, rate: Rate) -> Self {
        Self { left: rate.burst, at: now }
    }

    /// Takes one, if one is left.
    fn take(&mut self, now: Time, rate: Rate) -> bool {
        let seconds = u32::try_from((now - self.at).as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 {
            self.left = self.left.saturating_add(seconds.saturating_mul(rate.per_second)).min(rate.burst);
            self.at = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

impl Source {
    fn new(now: Time) -> Self {
        Self { verifications: Budget::new(now, VERIFICATIONS), distrusted_until: Time::ZERO }
    }

    fn is_idle(&self, now: Time) -> bool {
        self.distrusted_until <= now && now - self.verifications.at > DISTRUST_FOR
    }
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
            peers: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            last_exchange: 0,
            sources: BTreeMap::new(),
            next_round: Time::ZERO + ROUND_EVERY,
            last_asked: None,
            save_at: None,
            saved_at: None,
        })
    }

    fn start(&mut self, local: &PeerId, start: ContextStart) -> Result<(), AviP2pError> {
        self.wall = (Time::ZERO, Wall(start.unix_millis));
        self.replica = Replica::new(&self.options, local.clone(), start.secret.as_deref());
        let (Some(path), Some(bytes)) = (&self.options.file, start.file) else { return Ok(()) };
        read_file(&mut self.replica, &self.options, self.wall.1, bytes)
            .map_err(|reason| AviP2pError::ContextFile { path: path.clone(), reason })
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let asks = self.peers.values().filter_map(|peer| peer.ask_at);
        let next_ask = asks.min().filter(|_| self.exchanges.len() < MAX_EXCHANGES);
        [Some(self.next_round), next_ask, self.save_at].into_iter().flatten().min()
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

    fn wall(&self, now: Time) -> Wall {
        self.wall.1.after(now - self.wall.0)
    }

    // What the application writes.

    fn write(&mut self, now: Time, write: &ContextWrite, out: &mut Outbox) -> Result<Vec<Arc<Entry>>, AviP2pError> {
        let mut publish = self.follow_clock(now, out);
        let (entries, changes) = self.replica.write(self.wall(now), write)?;
        out.stats.context_writes += entries.len() as u64;
        self.tell(changes, out);
        self.want_save(now);
        publish.extend(entries);
        Ok(publish)
    }

    fn follow_clock(&mut self, now: Time, out: &mut Outbox) -> Vec<Arc<Entry>> {
        let (again, dropped) = self.replica.follow_clock(self.wall(now));
        out.stats.context_refused_ahead += dropped as u64;
        out.stats.context_written_again += again.len() as u64;
        again
    }

    /// Tells the application what has changed.
    fn tell(&self, changes: Vec<Change>, out: &mut Outbox) {
        for Change { author, path } in topmost(changes) {
            let value = self.replica.value_at(&path);
            out.event(AviEvent::ContextChanged { author: author.peer_id(), path: path.as_str().to_owned(), value });
        }
    }

    // What others write.

    fn on_message(&mut self, now: Time, from: &PeerId, data: Bytes, out: &mut Outbox) -> News {
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
                news = self.take_all(now, &mut source, entries, &|_| false, out);
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
        is_blocked: &dyn Fn(&PeerId) -> bool,
        out: &mut Outbox,
    ) -> News {
        let (wall, mut news) = (self.wall(now), News::default());
        for entry in entries {
            if !self.replica.is_news(&entry) {
                // It may be refused for want of room, which is counted below, and costs no verification.
            } else if is_blocked(&entry.stamp.author.peer_id()) {
                out.stats.context_refused_blocked += 1;
                continue;
            } else if !source.verifications.take(now, VERIFICATIONS) {
                out.stats.context_refused_busy += 1;
                continue;
            }
            match self.replica.take(wall, entry) {
                Taken::Known => {}
                Taken::Refused(Refused::Ahead) => out.stats.context_refused_ahead += 1,
                Taken::Refused(Refused::NotOwner) => out.stats.context_refused_not_owner += 1,
                Taken::Refused(Refused::Full) => out.stats.context_refused_full += 1,
                Taken::Refused(Refused::Forged) => {
                    out.stats.context_refused_forged += 1;
                    source.distrusted_until = now + DISTRUST_FOR;
                    break;
                }
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
        self.tell(std::mem::take(&mut news.changes), out);
        news
    }

    // Exchanges.

    /// A connected peer takes part.
    fn on_peer(&mut self, now: Time, local: &PeerId, peer: PeerId) {
        let wait = if *local < peer { self.rng.jitter(GATHER) } else { self.rng.jitter(ASKED_BY) };
        let neighbour = self.peers.entry(peer).or_insert_with(|| Neighbour::new(now));
        (neighbour.takes_part, neighbour.ask_at) = (true, Some(now + wait));
    }

    /// A peer that is still connected takes part no more. What is held against it stays.
    pub(crate) fn on_peer_left(&mut self, peer: &PeerId) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            (neighbour.takes_part, neighbour.ask_at) = (false, None);
        }
    }

    pub(crate) fn on_peer_gone(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
        self.exchanges.retain(|_, exchange| exchange.peer != *peer);
    }

    /// Begins the exchanges that are due, as far as there may be more.
    fn begin_exchanges(&mut self, now: Time, out: &mut Outbox) {
        while self.exchanges.len() < MAX_EXCHANGES {
            let due = self.peers.iter_mut().filter(|(_, peer)| peer.ask_at.is_some_and(|at| at <= now));
            let Some((peer, neighbour)) = due.min_by_key(|(_, neighbour)| neighbour.ask_at) else { return };
            neighbour.ask_at = None;
            let peer = peer.clone();
            if self.exchanges.values().any(|exchange| exchange.peer == peer) {
                continue;
            }
            out.stats.context_exchanges += 1;
            let exchange = Exchange { peer, step: Step::Root, rounds: 0, has_moved: false };
            let request = ask(&mut self.replica.store);
            self.ask(exchange, &request, out);
        }
    }

    fn ask(&mut self, exchange: Exchange, request: &Request, out: &mut Outbox) {
        self.last_exchange += 1;
        let id = ExchangeId(self.last_exchange);
        out.net(NetAction::AskContext { exchange: id, peer: exchange.peer.clone(), request: request.encode() });
        self.exchanges.insert(id, exchange);
    }

    fn on_answered(
        &mut self,
        now: Time,
        id: ExchangeId,
        result: Result<Bytes, String>,
        is_blocked: &dyn Fn(&PeerId) -> bool,
        out: &mut Outbox,
    ) -> News {
        let Some(exchange) = self.exchanges.remove(&id) else { return News::default() };
        let peer = exchange.peer.clone();
        let failed = match result.map(Response::decode) {
            Ok(Ok(Response::Busy)) => {
                if let Some(neighbour) = self.peers.get_mut(&peer) {
                    neighbour.ask_at = Some(now + BUSY_FOR);
                }
                "busy".to_owned()
            }
            Ok(Ok(response)) => match self.go_on(now, exchange, response, is_blocked, out) {
                Ok(news) => return news,
                Err(why) => why.to_owned(),
            },
            Ok(Err(error)) => {
                out.stats.context_refused_invalid += 1;
                if let Some(neighbour) = self.peers.get_mut(&peer) {
                    neighbour.source.distrusted_until = now + DISTRUST_FOR;
                }
                error.to_string()
            }
            Err(why) => why,
        };
        tracing::debug!(%peer, failed, "the context was not compared");
        out.stats.context_exchanges_failed += 1;
        News::default()
    }

    fn go_on(
        &mut self,
        now: Time,
        mut exchange: Exchange,
        response: Response,
        is_blocked: &dyn Fn(&PeerId) -> bool,
        out: &mut Outbox,
    ) -> Result<News, &'static str> {
        let mut news = News::default();
        match (exchange.step, response) {
            (Step::Root, Response::Same) => return Ok(news),
            (Step::Root, Response::Buckets(theirs)) => {
                let (request, is_all) = next_request(&mut self.replica.store, &theirs);
                exchange.step = Step::Have { is_all };
                self.ask(exchange, &request, out);
                return Ok(news);
            }
            (Step::Have { is_all }, Response::Differ { has_more, wanted, entries }) => {
                let Some(mut neighbour) = self.peers.remove(&exchange.peer) else { return Ok(news) };
                if neighbour.source.distrusted_until <= now {
                    news = self.take_all(now, &mut neighbour.source, entries, is_blocked, out);
                }
                self.peers.insert(exchange.peer.clone(), neighbour);
                let wanted: BTreeSet<_> = wanted.into_iter().collect();
                exchange.has_moved = news.has_any || !wanted.is_empty();
                exchange.step = Step::Give { wanted: wanted.into_iter().collect(), has_more: has_more || !is_all };
            }
            (step @ Step::Give { .. }, Response::Taken) => exchange.step = step,
            _ => return Err("an answer to another request"),
        }
        self.give(exchange, out);
        Ok(news)
    }

    /// Gives what is still wanted, then begins another round if there is more.
    fn give(&mut self, mut exchange: Exchange, out: &mut Outbox) {
        let Step::Give { wanted, has_more } = &mut exchange.step else { return };
        if let Some(request) = gifts(&self.replica.store, wanted) {
            return self.ask(exchange, &request, out);
        }
        // A round moves 64 KiB at least, in one direction.
        let max_rounds = 4 + self.options.max_bytes / (32 * 1024);
        if *has_more && exchange.has_moved && exchange.rounds < max_rounds {
            exchange.rounds += 1;
            exchange.has_moved = false;
            exchange.step = Step::Root;
            let request = ask(&mut self.replica.store);
            self.ask(exchange, &request, out);
        }
    }

    /// Answers a peer.
    fn on_asked(
        &mut self,
        now: Time,
        id: AskId,
        peer: &PeerId,
        request: Bytes,
        is_blocked: &dyn Fn(&PeerId) -> bool,
        out: &mut Outbox,
    ) -> News {
        // It may ask before its subscription has come. Only connected peers ask.
        let mut neighbour = self.peers.remove(peer).unwrap_or_else(|| Neighbour::new(now));
        let mut news = News::default();
        let response = if neighbour.source.distrusted_until > now || !neighbour.requests.take(now, REQUESTS) {
            out.stats.context_refused_busy += 1;
            Some(Response::Busy)
        } else {
            match Request::decode(request) {
                Ok(request) => {
                    if let Request::Root(_) = request {
                        neighbour.ask_at = None;
                    }
                    let answer = answer(&mut self.replica.store, request);
                    out.stats.context_answers += 1;
                    news = self.take_all(now, &mut neighbour.source, answer.given, is_blocked, out);
                    Some(answer.response)
                }
                Err(error) => {
                    tracing::debug!(%peer, %error, "not a request of the context");
                    out.stats.context_refused_invalid += 1;
                    neighbour.source.distrusted_until = now + DISTRUST_FOR;
                    None
                }
            }
        };
        self.peers.insert(peer.clone(), neighbour);
        out.net(NetAction::AnswerContext { ask: id, response: response.map(|response| response.encode()) });
        news
    }

    /// What one neighbour has brought, the others may lack too.
    fn spread(&mut self, now: Time, from: &PeerId) {
        for (peer, neighbour) in &mut self.peers {
            if peer != from && neighbour.takes_part && neighbour.ask_at.is_none() {
                neighbour.ask_at = Some(now + self.rng.jitter(GATHER));
            }
        }
    }

    // What time does.

    fn handle_timeout(&mut self, now: Time, out: &mut Outbox) -> Vec<Arc<Entry>> {
        let mut again = Vec::new();
        if self.next_round <= now {
            self.next_round = now + self.rng.jitter(ROUND_EVERY);
            again = self.follow_clock(now, out);
            self.replica.expire(self.wall(now));
            self.choose_next(now);
        }
        if self.save_at.is_some_and(|at| at <= now) {
            self.save(now, out);
        }
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

    fn save(&mut self, now: Time, out: &mut Outbox) {
        self.save_at = None;
        self.saved_at = Some(now);
        out.push(Output::SaveContext { bytes: write_file(&self.replica, self.wall(now)) });
    }

    fn save_last(&mut self, now: Time, out: &mut Outbox) {
        if self.save_at.is_some() {
            self.save(now, out);
        }
    }
}

impl Engine {
    /// Gives the context what it needs of the machine. Call it once, before the first input, if
    /// [`AviP2pConfig::context`] is set; without it this node writes nothing into the context.
    ///
    /// # Errors
    /// [`AviP2pError::ContextFile`] for a file that is damaged.
    pub fn start_context(&mut self, start: ContextStart) -> Result<(), AviP2pError> {
        self.context.as_mut().map_or(Ok(()), |context| context.start(&self.local, start))
    }

    /// Whether the engine wants to know the wall time with each input.
    pub fn wants_wall_time(&self) -> bool {
        self.context.is_some()
    }

    /// Tells the wall time in milliseconds since 1970. It may jump in either direction.
    pub fn set_wall_time(&mut self, now: Time, unix_millis: u64) {
        if let Some(context) = &mut self.context {
            context.wall = (now, Wall(unix_millis));
        }
    }

    /// What the shared context has at a path; the whole of it at the empty path.
    ///
    /// # Errors
    /// [`AviP2pError::Disabled`] without [`AviP2pConfig::context`]; [`AviP2pError::InvalidContextPath`].
    pub fn context_value(&self, path: &str) -> Result<Option<Value>, AviP2pError> {
        self.check_running()?;
        self.context.as_ref().ok_or(AviP2pError::Disabled("context"))?.replica.value(path)
    }

    pub(super) fn write_context(&mut self, now: Time, id: CommandId, write: &ContextWrite) {
        let Some(context) = &mut self.context else {
            return self.out.done(id, Err(AviP2pError::Disabled("context")));
        };
        let written = context.write(now, write, &mut self.out);
        self.out.done(id, written.as_ref().map(|_| ()).map_err(Clone::clone));
        self.publish_context(now, written.unwrap_or_default());
    }

    pub(super) fn on_context_message(&mut self, now: Time, from: &PeerId, data: Bytes) {
        let Some(context) = &mut self.context else { return self.out.stats.messages_refused += 1 };
        let news = context.on_message(now, from, data, &mut self.out);
        self.publish_context(now, news.again);
    }

    pub(super) fn on_context_peer(&mut self, now: Time, peer: &PeerId, topic: &str) {
        if let Some(context) = self.context.as_mut().filter(|_| topic == CONTEXT_TOPIC) {
            context.on_peer(now, &self.local, peer.clone());
        }
    }

    pub(super) fn on_context_answered(&mut self, now: Time, exchange: ExchangeId, result: Result<Bytes, String>) {
        let (peers, Some(context)) = (&self.peers, &mut self.context) else { return };
        let from = context.exchanges.get(&exchange).map(|exchange| exchange.peer.clone());
        let news = context.on_answered(now, exchange, result, &|peer| peers.is_blocked(peer), &mut self.out);
        self.on_context_news(now, from, news);
    }

    pub(super) fn on_context_asked(&mut self, now: Time, ask: AskId, peer: PeerId, request: Bytes) {
        let is_here = self.phase == Phase::Running && self.peers.is_connected(&peer);
        let (peers, Some(context)) = (&self.peers, self.context.as_mut().filter(|_| is_here)) else {
            return self.out.net(NetAction::AnswerContext { ask, response: None });
        };
        let news = context.on_asked(now, ask, &peer, request, &|peer| peers.is_blocked(peer), &mut self.out);
        self.on_context_news(now, Some(peer), news);
    }

    fn on_context_news(&mut self, now: Time, from: Option<PeerId>, news: News) {
        if let (Some(context), Some(from)) = (self.context.as_mut().filter(|_| news.has_any), from) {
            context.spread(now, &from);
        }
        self.publish_context(now, news.again);
    }

    pub(super) fn handle_context_timeout(&mut self, now: Time) {
        let Some(context) = &mut self.context else { return };
        let again = context.handle_timeout(now, &mut self.out);
        self.publish_context(now, again);
    }

    /// Begins the exchanges that are due. An input may have made room for them.
    pub(super) fn begin_context_exchanges(&mut self, now: Time) {
        if let Some(context) = &mut self.context {
            context.begin_exchanges(now, &mut self.out);
        }
    }

    /// Sends this node's own entries to those who are there. Who is not gets them by an exchange.
    fn publish_context(&mut self, now: Time, mut entries: Vec<Arc<Entry>>) {
        let Some(context) = self.context.as_ref().filter(|_| !entries.is_empty()) else { return };
        self.last_publish = Some(now);
        while let Some(data) = message(&mut entries, context.max_message_bytes) {
            self.topics.publish_now(context.topic.clone(), data, &mut self.out);
        }
    }

    /// Ends the context, and saves what is not saved yet.
    pub(super) fn end_context(&mut self, now: Time) {
        if let Some(mut context) = self.context.take() {
            context.save_last(now, &mut self.out);
        }
    }
}
