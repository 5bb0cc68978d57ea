//! What does the engine do for the shared context?

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::{ContextStart, News};
use crate::context::{ContextWrite, Entry, Wall, message};
use crate::engine::command::CommandId;
use crate::engine::io::{AskId, ExchangeId, NetAction};
use crate::engine::time::Time;
use crate::engine::topics::CONTEXT_TOPIC;
use crate::engine::{Engine, Phase};
use crate::error::AviP2pError;
use crate::id::PeerId;

impl Engine {
    /// Gives the context what it needs of the machine. Call it once, before the first input, if
    /// [`AviP2pConfig::context`](crate::config::AviP2pConfig::context) is set; without it this node writes nothing into the context.
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
            context.set_wall(now, Wall(unix_millis));
        }
    }

    /// What the shared context has at a path; the whole of it at the empty path.
    ///
    /// # Errors
    /// [`AviP2pError::Disabled`] without [`AviP2pConfig::context`](crate::config::AviP2pConfig::context); [`AviP2pError::InvalidContextPath`].
    pub fn context_value(&self, path: &str) -> Result<Option<Value>, AviP2pError> {
        self.check_running()?;
        self.context.as_ref().ok_or(AviP2pError::Disabled("context"))?.replica.value(path)
    }

    pub(in crate::engine) fn write_context(&mut self, now: Time, id: CommandId, write: &ContextWrite) {
        let Some(context) = &mut self.context else {
            return self.out.done(id, Err(AviP2pError::Disabled("context")));
        };
        let again = context.follow_clock(now, &mut self.out);
        let written = context.write(now, write, &mut self.out);
        self.out.done(id, written.as_ref().map(|_| ()).map_err(Clone::clone));
        self.publish_context(now, again.into_iter().chain(written.unwrap_or_default()).collect());
    }

    pub(in crate::engine) fn on_context_message(&mut self, now: Time, from: &PeerId, data: Bytes) {
        let (peers, Some(context)) = (&self.peers, &mut self.context) else {
            return self.out.stats.messages_refused += 1;
        };
        let news = context.on_message(now, from, data, &|peer| peers.standing(peer), &mut self.out);
        self.publish_context(now, news.again);
    }

    pub(in crate::engine) fn on_context_peer(&mut self, now: Time, peer: &PeerId, topic: &str) {
        if let Some(context) = self.context.as_mut().filter(|_| topic == CONTEXT_TOPIC) {
            context.on_peer(now, &self.local, peer.clone());
        }
    }

    pub(in crate::engine) fn on_context_answered(
        &mut self,
        now: Time,
        exchange: ExchangeId,
        result: Result<Bytes, String>,
    ) {
        let (peers, Some(context)) = (&self.peers, &mut self.context) else { return };
        let from = context.exchanges.get(&exchange).map(|exchange| exchange.peer.clone());
        let news = context.on_answered(now, exchange, result, &|peer| peers.standing(peer), &mut self.out);
        self.on_context_news(now, from, news);
    }

    pub(in crate::engine) fn on_context_asked(&mut self, now: Time, ask: AskId, peer: PeerId, request: Bytes) {
        let is_here = self.phase == Phase::Running && self.peers.is_connected(&peer);
        let (peers, Some(context)) = (&self.peers, self.context.as_mut().filter(|_| is_here)) else {
            return self.out.net(NetAction::AnswerContext { ask, response: None });
        };
        let news = context.on_asked(now, ask, &peer, request, &|peer| peers.standing(peer), &mut self.out);
        self.on_context_news(now, Some(peer), news);
    }

    fn on_context_news(&mut self, now: Time, from: Option<PeerId>, news: News) {
        if let (Some(context), Some(from)) = (self.context.as_mut().filter(|_| news.has_any), from) {
            context.spread(now, &from);
        }
        self.publish_context(now, news.again);
    }

    pub(in crate::engine) fn handle_context_timeout(&mut self, now: Time) {
        let Some(context) = &mut self.context else { return };
        let again = context.handle_timeout(now, &mut self.out);
        self.publish_context(now, again);
    }

    /// Begins the exchanges that are due. An input may have made room for them.
    pub(in crate::engine) fn begin_context_exchanges(&mut self, now: Time) {
        if let Some(context) = &mut self.context {
            context.begin_exchanges(now, &mut self.out);
        }
    }

    /// Sends this node's own entries to those who are there. Who is not gets them by an exchange.
    fn publish_context(&mut self, now: Time, mut entries: Vec<Arc<Entry>>) {
        if entries.is_empty() {
            return;
        }
        self.last_publish = Some(now);
        // What is too long for a message goes by exchanges alone: they begin at once.
        if let Some(context) = self.context.as_mut().filter(|it| entries.iter().any(|entry| it.is_long(entry))) {
            context.spread(now, &self.local);
        }
        let Some(context) = self.context.as_ref() else { return };
        while let Some(data) = message(&mut entries, context.max_message_bytes) {
            self.topics.publish_now(context.topic.clone(), data, &mut self.out);
        }
    }

    /// Ends the context, and saves what is not saved yet.
    pub(in crate::engine) fn end_context(&mut self, now: Time) {
        if let Some(mut context) = self.context.take() {
            context.tell_all(now, &mut self.out);
            context.save_last(now, &mut self.out);
        }
    }
}
