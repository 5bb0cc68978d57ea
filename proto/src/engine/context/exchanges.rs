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
use crate::situation::{Situation, reached};

/// The node with the lower id asks at once when two meet. If it has not by then, the other one does.
const ASKED_BY: Duration = Duration::from_secs(5);
/// Before a node asks whom it has met, or tells its neighbours what an exchange has brought, so that several reasons make
/// one exchange.
const GATHER: Duration = Duration::from_millis(400);
/// Exchanges that this node has begun, at a time.
const MAX_EXCHANGES: usize = 4;
/// Before a peer that was busy is asked again.
const BUSY_FOR: Duration = Duration::from_secs(10);
/// How long an exchange lasts at most. What it has brought stays, and the rest comes with the next one.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(60);
/// Before a peer with which an exchange has failed is asked again, the first time. Each time it is twice as long.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// The longest time before a peer is asked again.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// Disconnected peers whose budgets are remembered: to come back at once must not fill them.
const MAX_GONE: usize = 256;

/// A connected peer that takes part in the context.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Neighbour {
    /// Whether it subscribes to the topic.
    pub(super) takes_part: bool,
    /// When to begin an exchange with it.
    pub(super) ask_at: Option<Time>,
    /// Exchanges with it that have failed in a row.
    failures: u32,
    /// Since when it is not connected.
    gone_at: Option<Time>,
    requests: Budget,
    source: Source,
}

/// An exchange that this node has begun.
#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Exchange {
    pub(super) peer: PeerId,
    step: Step,
    began: Time,
    rounds: usize,
    /// Whether this round has brought anything, or the peer wants other entries than in the last one.
    has_moved: bool,
    /// What the peer has wanted in this round.
    was_wanted: BTreeSet<EntryId>,
}

#[derive(Debug)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
enum Step {
    Root,
    Have { is_all: bool },
    Give { wanted: Vec<EntryId>, has_more: bool },
}

impl Neighbour {
    fn new(now: Time) -> Self {
        let (requests, source) = (Budget::new(now, REQUESTS), Source::new(now));
        Self { takes_part: false, ask_at: None, failures: 0, gone_at: None, requests, source }
    }
}

impl SharedContext {
    /// A connected peer takes part.
    pub(super) fn on_peer(&mut self, now: Time, local: &PeerId, peer: PeerId) {
        let wait = if *local < peer { self.rng.jitter(GATHER) } else { self.rng.jitter(ASKED_BY) };
        let neighbour = self.peers.entry(peer).or_insert_with(|| Neighbour::new(now));
        (neighbour.takes_part, neighbour.ask_at, neighbour.gone_at) = (true, Some(now + wait), None);
    }

    /// A peer that is still connected takes part no more. What is held against it stays.
    pub(in crate::engine) fn on_peer_left(&mut self, peer: &PeerId) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            (neighbour.takes_part, neighbour.ask_at) = (false, None);
        }
    }

    /// A peer has disconnected. What is held against it stays for a while.
    pub(in crate::engine) fn on_peer_gone(&mut self, now: Time, peer: &PeerId) {
        self.exchanges.retain(|_, exchange| exchange.peer != *peer);
        if self.peers.values().filter(|peer| peer.gone_at.is_some()).count() >= MAX_GONE {
            self.peers.remove(peer);
        } else if let Some(neighbour) = self.peers.get_mut(peer) {
            (neighbour.takes_part, neighbour.ask_at, neighbour.gone_at) = (false, None, Some(now));
        }
    }

    pub(super) fn forget_gone(&mut self, now: Time) {
        self.peers.retain(|_, neighbour| neighbour.gone_at.is_none_or(|at| now - at < DISTRUST_FOR));
    }

    /// When the next exchange is to be begun, or given up.
    pub(super) fn next_exchange(&self) -> Option<Time> {
        let is_free = |peer: &PeerId| !self.exchanges.values().any(|exchange| exchange.peer == *peer);
        let asks = self.peers.iter().filter(|(peer, _)| is_free(peer)).filter_map(|(_, neighbour)| neighbour.ask_at);
        let ask = asks.min().filter(|_| self.exchanges.len() < MAX_EXCHANGES);
        let end = self.exchanges.values().map(|exchange| exchange.began + EXCHANGE_WITHIN).min();
        [ask, end].into_iter().flatten().min()
    }

    /// Gives up the exchanges that last too long.
    pub(super) fn end_exchanges(&mut self, now: Time, out: &mut Outbox) {
        let is_over = |exchange: &Exchange| exchange.began + EXCHANGE_WITHIN <= now;
        let over: Vec<_> = self.exchanges.extract_if(.., |_, exchange| is_over(exchange)).collect();
        over.iter().for_each(|(_, exchange)| self.on_failed(now, &exchange.peer, "it takes too long", out));
    }

    /// Begins the exchanges that are due, as far as there may be more. With a peer there is one at a time: another one waits.
    pub(super) fn begin_exchanges(&mut self, now: Time, out: &mut Outbox) {
        while self.exchanges.len() < MAX_EXCHANGES {
            let busy: BTreeSet<_> = self.exchanges.values().map(|exchange| &exchange.peer).collect();
            let free = self.peers.iter_mut().filter(|(peer, _)| !busy.contains(peer));
            let due = free.filter(|(_, neighbour)| neighbour.ask_at.is_some_and(|at| at <= now));
            let Some((peer, neighbour)) = due.min_by_key(|(_, neighbour)| neighbour.ask_at) else { return };
            neighbour.ask_at = None;
            out.stats.context_exchanges += 1;
            let exchange = Exchange {
                peer: peer.clone(),
                step: Step::Root,
                began: now,
                rounds: 0,
                has_moved: false,
                was_wanted: BTreeSet::new(),
            };
            let request = ask(&mut self.replica.store);
            self.ask(exchange, &request, out);
        }
    }

    /// An exchange has failed. It is tried again, the more seldom the more often it fails.
    fn on_failed(&mut self, now: Time, peer: &PeerId, why: &str, out: &mut Outbox) {
        tracing::debug!(%peer, why, "the context was not compared");
        reached(Situation::ContextFailed);
        out.stats.context_exchanges_failed += 1;
        let Some(neighbour) = self.peers.get_mut(peer).filter(|neighbour| neighbour.takes_part) else { return };
        let wait = RETRY_AFTER.saturating_mul(1 << neighbour.failures.min(8)).min(MAX_RETRY_AFTER);
        neighbour.failures = neighbour.failures.saturating_add(1);
        neighbour.ask_at = Some(neighbour.source.distrusted_until.max(now + self.rng.jitter(wait)));
    }

    fn on_ended(&mut self, peer: &PeerId) {
        if let Some(neighbour) = self.peers.get_mut(peer) {
            neighbour.failures = 0;
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
        match result.map(Response::decode) {
            Ok(Ok(Response::Busy)) => {
                self.on_failed(now, &peer, "busy", out);
                let later = now + BUSY_FOR;
                self.peers.get_mut(&peer).into_iter().for_each(|it| it.ask_at = it.ask_at.map(|at| at.max(later)));
            }
            Ok(Ok(response)) => match self.go_on(now, exchange, response, standing, out) {
                Ok(news) => return news,
                Err(why) => self.on_failed(now, &peer, why, out),
            },
            Ok(Err(error)) => {
                out.stats.context_refused_invalid += 1;
                if let Some(neighbour) = self.peers.get_mut(&peer) {
                    neighbour.source.distrusted_until = now + DISTRUST_FOR;
                }
                self.on_failed(now, &peer, &error.to_string(), out);
            }
            Err(why) => self.on_failed(now, &peer, &why, out),
        }
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
            (Step::Root, Response::Same) => {
                reached(Situation::ContextSame);
                self.on_ended(&exchange.peer);
                return Ok(news);
            }
            (Step::Root, Response::Buckets(theirs)) => {
                reached(Situation::ContextDiffered);
                let (request, is_all) = next_request(&mut self.replica.store, &theirs, self.rng.next() as u8);
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
                // A peer that keeps wanting the same takes none of it.
                exchange.has_moved = news.has_any || !wanted.is_subset(&exchange.was_wanted);
                exchange.was_wanted = wanted.clone();
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
            reached(Situation::ContextRounds);
            exchange.rounds += 1;
            exchange.has_moved = false;
            exchange.step = Step::Root;
            let request = ask(&mut self.replica.store);
            self.ask(exchange, &request, out);
        } else {
            self.on_ended(&exchange.peer);
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
        neighbour.gone_at = None;
        let mut news = News::default();
        let response = if neighbour.source.distrusted_until > now || !neighbour.requests.take(now, REQUESTS) {
            reached(Situation::ContextBusy);
            out.stats.context_refused_busy += 1;
            Some(Response::Busy)
        } else {
            match Request::decode(request) {
                Ok(request) => {
                    let answer = answer(&mut self.replica.store, request);
                    neighbour.ask_at = match answer.response {
                        // It hears of all that this node would ask it for.
                        Response::Same | Response::Differ { has_more: false, .. } => None,
                        Response::Buckets(_) => neighbour.ask_at.map(|at| at.max(now + ASKED_BY)),
                        _ => neighbour.ask_at,
                    };
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
