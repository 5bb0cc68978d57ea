//! What does a node take of what others have written?

use std::sync::Arc;

use bytes::Bytes;

use super::sources::{BEYOND_BOUNDS, DISTRUST_FOR, NEW_AUTHORS, Source, VERIFICATIONS};
use super::{News, SharedContext};
use crate::context::{Author, Entry, Refused, Taken, read_message};
use crate::engine::outbox::Outbox;
use crate::engine::time::Time;
use crate::id::PeerId;
use crate::situation::{Situation, reached};
use crate::stats::Stats;

/// Authors whose rate is remembered.
const MAX_SOURCES: usize = 1024;

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
    match refused {
        Refused::Ahead => reached(Situation::ContextAhead),
        Refused::Full => reached(Situation::ContextFull),
        Refused::Busy => reached(Situation::ContextBusy),
        Refused::NotOwner | Refused::KeptOut | Refused::Forged => {}
    }
}

impl SharedContext {
    pub(super) fn on_message(
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
    pub(super) fn take_all(
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
        let (taken, compared) = self.replica.take_new(self.wall(now), entry);
        source.verifications.spend_on(compared);
        if let Taken::Refused(Refused::Full) = taken {
            source.beyond_bounds.take(now, BEYOND_BOUNDS);
        }
        taken
    }
}
