//! How is a recording shown without naming anybody? Ids, names and addresses are replaced in what is printed, each by
//! the same word everywhere.
//!
//! The recording itself keeps them. An engine compares ids (which of two connections to keep, who asks first), measures
//! distances between them, and verifies what their keys have signed: with other ids it would be another recording.

use std::collections::{BTreeMap, BTreeSet};

use super::replay::{Step, StepInput};
use crate::engine::{Command, DialFailure, Engine, Input, NetAction, NetEvent, Output, Reply, Time};
use crate::event::AviEvent;

/// The most names that are remembered. Of more, nothing is shown.
const MAX_NAMES: usize = 100_000;
/// Shorter names are part of too many words.
const MIN_CHARS: usize = 2;

/// Words in place of names, in the order in which the names have come.
#[derive(Debug, Default)]
pub struct Pseudonyms {
    names: BTreeMap<String, String>,
    /// The lengths of the names, to look for the longest first.
    lengths: BTreeSet<usize>,
    counts: BTreeMap<&'static str, u64>,
}

impl Pseudonyms {
    /// No names yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns the names in a step. Do so before it is shown.
    pub fn learn(&mut self, step: &Step) {
        match &step.input {
            StepInput::Began(head) => self.add("peer", head.local.as_str()),
            StepInput::Input(Input::Command(command)) => self.learn_command(command),
            StepInput::Input(Input::Net(event)) => self.learn_event(event),
            StepInput::Timeout | StepInput::End(_) => {}
        }
        step.outputs.iter().for_each(|output| self.learn_output(output));
    }

    /// Learns the names in the state of an engine at a time: those that have come before the recording, or before a gap.
    /// Do so after a step that [begins](StepInput::Began) a segment, before it is shown.
    pub fn learn_state(&mut self, now: Time, engine: &Engine) {
        let linked = engine.links().map(|(_, peer)| peer.clone());
        let peers: BTreeSet<_> = linked.chain(engine.places().map(|(_, place)| place.peer)).collect();
        for peer in peers {
            self.add("peer", peer.as_str());
            let Ok(info) = engine.peer_info(now, &peer) else { continue };
            info.name.iter().for_each(|name| self.add("name", name));
            info.topics.iter().for_each(|topic| self.add("topic", topic));
            self.addresses(&info.addresses);
        }
        for (stream, _) in engine.places() {
            let label = engine.audio_stats(stream).ok().and_then(|stats| stats.label);
            label.iter().for_each(|label| self.add("label", label));
        }
    }

    /// The text with each name that is known replaced.
    pub fn hide(&self, text: &str) -> String {
        let (mut hidden, mut rest, mut is_within_word) = (String::with_capacity(text.len()), text, false);
        let is_of_word = |char: char| char.is_alphanumeric();
        while let Some(next) = rest.chars().next() {
            let found = self.lengths.iter().rev().filter(|_| !is_within_word).find_map(|&len| {
                let (word, after) = rest.split_at_checked(len)?;
                let is_whole = !after.starts_with(is_of_word);
                self.names.get(word).filter(|_| is_whole).map(|name| (len, name))
            });
            is_within_word = is_of_word(next);
            match found {
                Some((len, name)) => {
                    hidden.push_str(name);
                    rest = &rest[len..];
                }
                None => {
                    hidden.push(next);
                    rest = &rest[next.len_utf8()..];
                }
            }
        }
        hidden
    }

    fn add(&mut self, kind: &'static str, name: &str) {
        let is_known = self.names.contains_key(name);
        if is_known || name.chars().count() < MIN_CHARS || self.names.len() >= MAX_NAMES {
            return;
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        self.names.insert(name.to_owned(), format!("{kind}-{count}"));
        self.lengths.insert(name.len());
    }

    /// An address as a whole, its host, and the peer that it may name.
    fn address(&mut self, address: &str) {
        let mut parts = address.split('/').skip(1);
        while let Some(protocol) = parts.next() {
            match protocol {
                "ip4" | "ip6" | "dns" | "dns4" | "dns6" => {
                    parts.next().into_iter().for_each(|host| self.add("host", host));
                }
                "p2p" => parts.next().into_iter().for_each(|peer| self.add("peer", peer)),
                _ => {}
            }
        }
    }

    fn addresses(&mut self, addresses: &[String]) {
        addresses.iter().for_each(|address| self.address(address));
    }

    fn learn_output(&mut self, output: &Output) {
        match output {
            Output::Event(event) => self.learn_told(event),
            Output::Net(NetAction::Dial { peer, addresses, .. }) => {
                peer.iter().for_each(|peer| self.add("peer", peer.as_str()));
                self.addresses(addresses);
            }
            Output::Net(NetAction::AddRoute { peer, addresses }) => {
                self.add("peer", peer.as_str());
                self.addresses(addresses);
            }
            Output::Net(NetAction::Grant { peer, .. }) => self.add("peer", peer.as_str()),
            Output::Net(NetAction::SendDatagram { to, .. }) => self.add("host", &to.ip().to_string()),
            Output::Reply(Reply::Peers { result: Ok(peers), .. }) => {
                peers.iter().for_each(|peer| self.add("peer", peer.as_str()));
            }
            _ => {}
        }
    }

    fn learn_told(&mut self, event: &AviEvent) {
        match event {
            AviEvent::Started { listen_addresses, .. } | AviEvent::ListenAddressesChanged { listen_addresses } => {
                self.addresses(listen_addresses);
            }
            AviEvent::BootstrapFailed { address, .. } => self.address(address),
            AviEvent::PeerDuplicated { peer_id, addresses } => {
                self.add("peer", peer_id.as_str());
                self.addresses(addresses);
            }
            AviEvent::PeerDiscovered { peer_id }
            | AviEvent::PeerDisconnected { peer_id }
            | AviEvent::AudioStreamClosed { peer_id, .. } => self.add("peer", peer_id.as_str()),
            AviEvent::PublishExpired { topic, .. } => self.add("topic", topic),
            _ => {}
        }
    }

    fn learn_failure(&mut self, failure: &DialFailure) {
        if let DialFailure::WrongPeer { address, obtained } = failure {
            self.address(address);
            self.add("peer", obtained.as_str());
        }
    }

    fn learn_command(&mut self, command: &Command) {
        match command {
            Command::Subscribe { topic, .. } | Command::Unsubscribe { topic, .. } | Command::Publish { topic, .. } => {
                self.add("topic", topic);
            }
            Command::SetAllowed { peer, .. } | Command::SetBlocked { peer, .. } => self.add("peer", peer.as_str()),
            Command::RequestStream { peer, options, .. } => {
                self.add("peer", peer.as_str());
                options.label.iter().for_each(|label| self.add("label", label));
            }
            _ => {}
        }
    }

    fn learn_event(&mut self, event: &NetEvent) {
        match event {
            NetEvent::Listening { addresses } => self.addresses(addresses),
            NetEvent::Discovered { peer, addresses, .. } | NetEvent::Announced { peer, addresses } => {
                self.add("peer", peer.as_str());
                self.addresses(addresses);
            }
            NetEvent::Connected { peer, address, .. } => {
                self.add("peer", peer.as_str());
                self.address(address);
            }
            NetEvent::Identified { peer, name, addresses, .. } => {
                self.add("peer", peer.as_str());
                self.add("name", name);
                self.addresses(addresses);
            }
            NetEvent::PeerSubscribed { peer, topic } | NetEvent::PeerUnsubscribed { peer, topic } => {
                self.add("peer", peer.as_str());
                self.add("topic", topic);
            }
            NetEvent::Message { from, topic, .. } => {
                self.add("peer", from.as_str());
                self.add("topic", topic);
            }
            NetEvent::Datagram { from: address, .. } | NetEvent::DatagramDropped { to: address } => {
                self.add("host", &address.ip().to_string());
            }
            NetEvent::WalkEnded { result: Ok(peers) } => {
                peers.iter().for_each(|peer| self.add("peer", peer.as_str()));
            }
            NetEvent::DialFailed { failure, .. } => self.learn_failure(failure),
            NetEvent::MeshChanged { peers } => peers.iter().for_each(|peer| self.add("peer", peer.as_str())),
            NetEvent::Disconnected { peer, .. }
            | NetEvent::Foreign { peer }
            | NetEvent::Pong { peer, .. }
            | NetEvent::Answered { peer, .. }
            | NetEvent::SlowPeer { peer, .. }
            | NetEvent::Misbehaved { peer }
            | NetEvent::SubstreamOffered { peer, .. } => self.add("peer", peer.as_str()),
            NetEvent::Doubled { address } => self.address(address),
            _ => {}
        }
    }
}
