//! Which peer of a recording does a text mean?

use std::collections::{BTreeMap, BTreeSet};

use avi_p2p::PeerId;
use avi_p2p_proto::engine::{Input, NetEvent};
use avi_p2p_proto::recording::{Mentions, Replay, Step, StepInput};

use super::words::Words;
use crate::exit::Failure;

/// An error lists so many candidates.
const MAX_CANDIDATES: usize = 10;
/// A part of an id has at least so many characters.
const MIN_PART_CHARS: usize = 4;

/// The peers of a recording.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: BTreeMap<PeerId, Option<String>>,
    /// The names that they had before.
    older: BTreeSet<(PeerId, String)>,
    mentions: Mentions,
    words: Words,
}

impl Names {
    pub(super) fn new(words: Words) -> Self {
        Self { words, ..Self::default() }
    }

    pub(super) fn add(&mut self, replay: &Replay, step: &Step) {
        self.words.learn(replay, step);
        self.mentions.on_step(step, replay.engine());
        for peer in self.mentions.peers() {
            self.names.entry(peer.clone()).or_default();
        }
        match &step.input {
            StepInput::Began(_) => {
                for peer in replay.engine().connected_peers().unwrap_or_default() {
                    let name = replay.engine().peer_info(step.time, &peer).ok().and_then(|info| info.name);
                    self.rename(peer, name);
                }
            }
            StepInput::Input(Input::Net(NetEvent::Identified { peer, name, .. })) => {
                self.rename(peer.clone(), Some(name.clone()));
            }
            _ => {}
        }
    }

    fn rename(&mut self, peer: PeerId, name: Option<String>) {
        if let Some(Some(older)) = self.names.insert(peer.clone(), name) {
            self.older.insert((peer, older));
        }
    }

    /// The peer that the text means: an id, its beginning or end, a name now or before, or a pseudonym.
    pub(super) fn peer(&self, text: &str) -> Result<PeerId, Failure> {
        let known = || self.names.iter();
        let is_whole = |peer: &PeerId, name: &Option<String>| {
            peer.as_str() == text || name.as_deref() == Some(text) || self.words.say(peer.as_str()) == text
        };
        let mut fits: Vec<_> = known().filter(|(peer, name)| is_whole(peer, name)).collect();
        if fits.is_empty() {
            let had = |peer: &PeerId| self.older.contains(&(peer.clone(), text.to_owned()));
            fits = known().filter(|(peer, _)| had(peer)).collect();
        }
        if fits.is_empty() && text.chars().count() >= MIN_PART_CHARS {
            let is_part = |peer: &PeerId| peer.as_str().starts_with(text) || peer.as_str().ends_with(text);
            fits = known().filter(|(peer, _)| is_part(peer)).collect();
        }
        match &fits[..] {
            [(peer, _)] => Ok((*peer).clone()),
            [] => {
                let others = self.listed(&known().collect::<Vec<_>>());
                Err(Failure::Finding(format!("the recording has no peer {text:?}; it has: {others}")))
            }
            _ => Err(Failure::Usage(format!("{text:?} may be any of: {}; say more of the id", self.listed(&fits)))),
        }
    }

    fn listed(&self, peers: &[(&PeerId, &Option<String>)]) -> String {
        let shown = peers.iter().take(MAX_CANDIDATES).map(|(peer, name)| match name {
            Some(name) => self.words.say(&format!("{peer} ({name})")),
            None => self.words.say(peer.as_str()),
        });
        if peers.is_empty() { "nobody".to_owned() } else { shown.collect::<Vec<_>>().join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KITCHEN: &str = "12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV";
    const HALL: &str = "12D3KooWGQ3Ao3XzcqVpzPo7PFrUCz4erRTtWCATErx943YEFDVR";

    #[test]
    fn a_peer_is_found_by_an_older_name_unless_another_one_has_it_now() {
        let mut names = Names::default();
        let (kitchen, hall) = (PeerId::new(KITCHEN), PeerId::new(HALL));
        names.rename(kitchen.clone(), Some("kitchen".to_owned()));
        names.rename(kitchen.clone(), Some("cellar".to_owned()));
        names.rename(hall.clone(), Some("hall".to_owned()));
        for name in ["kitchen", "cellar", &KITCHEN[..16]] {
            assert_eq!(names.peer(name).ok(), Some(kitchen.clone()), "{name}");
        }
        names.rename(hall.clone(), Some("kitchen".to_owned()));
        assert_eq!((names.peer("kitchen").ok(), names.peer("hall").ok()), (Some(hall.clone()), Some(hall)));
        assert!(names.peer("attic").is_err());
    }
}
