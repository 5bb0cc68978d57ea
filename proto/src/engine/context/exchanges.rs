//! When do two nodes compare what they have, and what do they do with the answers?

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::sources::{Budget, DISTRUST_FOR, REQUESTS, Source};
use super::{News, SharedContext, Standing};
use crate::context::{EntryId, Request, Response, answer, ask, gifts, next_request};
use crate::engine::io::{AskId, ExchangeId, NetAction};
use crate::engine::outbox::Outbox;
use crate::engine::time::Time;
use crate::id::PeerId;

/// The node with the lower id asks at once when two meet. If it has not by then, the other one does.
const ASKED_BY: Duration = Duration::from_secs(5);
/// Before a node asks whom it has met, or tells its neighbours what an exchange has brought, so that several reasons make
/// one exchange.
const GATHER: Duration = Duration::from_millis(400);
/// Exchanges that this node has begun, at a time.
pub(super) const MAX_EXCHANGES: usize = 4;
/// Before a peer that was busy is asked again.
const BUSY_FOR: Duration = Duration::from_secs(10);

/// A connected peer that takes part in the context.
#[derive(Debug)]
pub(super) struct Neighbour {
    /// Whether it subscribes to the topic.
    pub(super) takes_part: bool,
    /// When to begin an exchange with it.
    pub(super) ask_at: Option<Time>,
    requests: Budget,
    source: Source,
}

/// An exchange that this node has begun.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) peer: PeerId,
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

impl Neighbour {
    fn new(now: Time) -> Self {
        let (requests, source) = (Budget::new(now, REQUESTS), Source::new(now));
        Self { takes_part: false, ask_at: None, requests, source }
    }
}

impl SharedContext {
    /// A connected peer takes part.
    pub(super) fn on_peer(&mut self, now: Time, local: &PeerId, peer: PeerId) {
        let wait = if *local < peer { self.rng.jitter(GATHER) } else { self.rng.jitter(ASKED_BY) };
        let neighbour = self.peers.entry(peer).or_insert_with(|| Neighbour::new(now));
        (neighbour.takes_part, neighbour.ask_at) = (true, Some(now + wait));
    }

    /// A peer that is still connected takes part no more. What is held against it stays.
    pub(in crate::engine) fn on_peer_left(&mut self, peer: &PeerId) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            (neighbour.takes_part, neighbour.ask_at) = (false, None);
        }
    }

    pub(in crate::engine) fn on_peer_gone(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
        self.exchanges.retain(|_, exchange| exchange.peer != *peer);
    }

    /// Begins the exchanges that are due, as far as there may be more.
    pub(super) fn begin_exchanges(&mut self, now: Time, out: &mut Outbox) {
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

    pub(super) fn on_answered(
        &mut self,
        now: Time,
        id: ExchangeId,
        result: Result<Bytes, String>,
        standing: &dyn Fn(&PeerId) -> Standing,
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
            Ok(Ok(response)) => match self.go_on(now, exchange, response, standing, out) {
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
        standing: &dyn Fn(&PeerId) -> Standing,
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
                    news = self.take_all(now, &mut neighbour.source, entries, standing, out);
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
    pub(super) fn on_asked(
        &mut self,
        now: Time,
        id: AskId,
        peer: &PeerId,
        request: Bytes,
        standing: &dyn Fn(&PeerId) -> Standing,
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
                    news = self.take_all(now, &mut neighbour.source, answer.given, standing, out);
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
    pub(super) fn spread(&mut self, now: Time, from: &PeerId) {
        for (peer, neighbour) in &mut self.peers {
            if peer != from && neighbour.takes_part && neighbour.ask_at.is_none() {
                neighbour.ask_at = Some(now + self.rng.jitter(GATHER));
            }
        }
    }
}
