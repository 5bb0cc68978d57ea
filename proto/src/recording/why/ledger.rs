//! Whose is a connection or a stream, and why did a connection end?

use std::collections::BTreeMap;

use crate::engine::{
    Command, ConnectionId, DialId, Direction, Engine, Input, NetAction, NetEvent, Output, Place, Time,
};
use crate::event::AviEvent;
use crate::id::{PeerId, StreamId};
use crate::recording::replay::{Step, StepInput};
use crate::stats::Stats;

/// Why a connection has ended whose peer has never said its name.
const HUNG_UP: &str = "the other end hung up after the handshake, or the network ended it: it may be full, or not let this \
                       node in";

/// What is known of connections, dials and streams before a step.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    counters: Stats,
    links: BTreeMap<ConnectionId, Link>,
    dials: BTreeMap<DialId, Dialled>,
    pub(super) places: BTreeMap<StreamId, Place>,
}

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) peer: PeerId,
    /// When its peer gave the last sign of life.
    pub(super) heard: Time,
    /// When this node began to close it, and why.
    pub(super) closing: Option<(Time, String)>,
    /// Whether its peer has said its name on it.
    pub(super) is_identified: bool,
}

/// A dial.
#[derive(Clone, Debug)]
pub(super) struct Dialled {
    /// The peer that must answer, if its id is known.
    pub(super) peer: Option<PeerId>,
    pub(super) addresses: Vec<String>,
}

/// What a step does to connections.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// This node closes them: for this reason.
    pub(super) closing: Vec<(ConnectionId, PeerId, String)>,
    /// It has ended: whose it was, and why.
    pub(super) ended: Option<(ConnectionId, PeerId, String)>,
    /// A dial has failed.
    pub(super) dialled: Option<Dialled>,
}

impl Ledger {
    /// What a step does. Afterwards, [`Ledger::settle`].
    pub(super) fn on_step(&mut self, step: &Step, engine: &Engine) -> Changes {
        let mut changes = Changes::default();
        let StepInput::Input(input) = &step.input else {
            self.close(step, engine, &mut changes);
            return changes;
        };
        match input {
            Input::Net(NetEvent::Connected { connection, peer, direction, .. }) => {
                if let Direction::Outbound(dial) = direction {
                    self.dials.remove(dial);
                }
                let link = Link { peer: peer.clone(), heard: step.time, closing: None, is_identified: false };
                self.links.insert(*connection, link);
            }
            Input::Net(NetEvent::DialFailed { dial, .. }) => {
                let before = || Dialled { peer: None, addresses: told_addresses(step) };
                changes.dialled = Some(self.dials.remove(dial).unwrap_or_else(before));
            }
            Input::Net(NetEvent::Pong { connection, .. } | NetEvent::Answered { connection, .. }) => {
                self.links.get_mut(connection).into_iter().for_each(|link| link.heard = step.time);
            }
            Input::Net(NetEvent::Progress { connection, silent_for }) => {
                if let Some(link) = self.links.get_mut(connection) {
                    link.heard = link.heard.max(step.time - *silent_for);
                }
            }
            Input::Net(NetEvent::Identified { connection, .. }) => {
                self.links.get_mut(connection).into_iter().for_each(|link| link.is_identified = true);
            }
            Input::Net(NetEvent::Disconnected { connection, peer }) => {
                let link = self.links.remove(connection);
                let why = match link.as_ref().and_then(|link| link.closing.clone()) {
                    Some((at, why)) => format!("this node had closed it at {:.3} s: {why}", at.0.as_secs_f64()),
                    None if link.is_some_and(|link| !link.is_identified) => HUNG_UP.to_owned(),
                    None => "the other end or the network ended it".to_owned(),
                };
                changes.ended = Some((*connection, peer.clone(), why));
            }
            _ => {}
        }
        self.close(step, engine, &mut changes);
        changes
    }

    /// When the peer of a connection gave the last sign of life.
    pub(super) fn heard(&self, connection: ConnectionId) -> Option<Time> {
        self.links.get(&connection).map(|link| link.heard)
    }

    /// Whether there is a connection to a peer.
    pub(super) fn is_connected(&self, peer: &PeerId) -> bool {
        self.links.values().any(|link| link.peer == *peer && link.closing.is_none())
    }

    /// Notes the connections that this node closes, and why.
    fn close(&mut self, step: &Step, engine: &Engine, changes: &mut Changes) {
        for output in &step.outputs {
            let closed: Vec<ConnectionId> = match output {
                Output::Net(NetAction::Disconnect { connection }) => vec![*connection],
                Output::Net(NetAction::DisconnectAll) => self.links.keys().copied().collect(),
                Output::Net(NetAction::Dial { dial, peer, addresses }) => {
                    self.dials.insert(*dial, Dialled { peer: peer.clone(), addresses: addresses.clone() });
                    continue;
                }
                _ => continue,
            };
            for connection in closed {
                let why = self.why_closed(step, engine, connection);
                if let Some(link) = self.links.get_mut(&connection).filter(|link| link.closing.is_none()) {
                    link.closing = Some((step.time, why.clone()));
                    changes.closing.push((connection, link.peer.clone(), why));
                }
            }
        }
    }

    /// Why this node closes a connection: what the step has counted, and what went in, tell it.
    fn why_closed(&self, step: &Step, engine: &Engine, connection: ConnectionId) -> String {
        let (before, after) = (&self.counters, engine.counters());
        let link = self.links.get(&connection);
        let silent = link.map_or(0.0, |link| (step.time - link.heard).as_secs_f64());
        let input = match &step.input {
            StepInput::Input(input) => Some(input),
            _ => None,
        };
        let why = match input {
            Some(Input::Command(Command::Shutdown { .. })) => "the application has shut the node down",
            Some(Input::Command(Command::SetBlocked { is_blocked: true, .. })) => {
                "the application has blocked the peer"
            }
            Some(Input::Command(Command::SetAllowed { .. } | Command::SetBlocked { .. })) => {
                "the peer is not among those that may connect any more"
            }
            Some(Input::Net(NetEvent::Foreign { .. })) => "the peer speaks none of this node's pub/sub protocols",
            Some(Input::Net(NetEvent::Misbehaved { .. })) => "the peer breaks the rules of pub/sub, and is banned",
            Some(Input::Net(NetEvent::Deaf { .. })) => "the peer has refused every pub/sub substream on it",
            _ if after.ping_timeouts > before.ping_timeouts => {
                return format!("the peer was silent for {silent:.1} s: no ping was answered, and no bytes moved");
            }
            _ if after.peers_pruned > before.peers_pruned => {
                "to make room for a newcomer, since max_peers is reached, and this peer can be spared best"
            }
            _ if after.peers_displaced > before.peers_displaced => {
                "to make room for a peer that is to be dialled, since max_peers is reached"
            }
            _ if after.duplicate_connections > before.duplicate_connections => {
                "there is another connection to the same peer, and one is enough"
            }
            Some(Input::Net(NetEvent::Connected { .. })) if after.peers_refused > before.peers_refused => {
                "the peer may not connect: the lists changed while it did"
            }
            Some(Input::Net(NetEvent::Pong { .. } | NetEvent::Answered { .. })) => {
                "a newer connection is used in its place, and it has delivered what it had taken"
            }
            Some(Input::Net(NetEvent::Disconnected { .. })) => "the newer connection to the same peer has ended",
            _ if step.outputs.iter().any(|output| matches!(output, Output::Net(NetAction::DisconnectAll))) => {
                "the node shuts down"
            }
            _ => return format!("it was silent for {silent:.1} s"),
        };
        why.to_owned()
    }

    /// Makes what is after the step what is before the next one.
    pub(super) fn settle(&mut self, step: &Step, engine: &Engine) {
        if let StepInput::Began(_) = step.input {
            // What was before is known from the state alone.
            let known = engine.links().map(|(connection, peer)| {
                let link = Link { peer: peer.clone(), heard: step.time, closing: None, is_identified: true };
                (connection, self.links.remove(&connection).unwrap_or(link))
            });
            let known = known.collect();
            self.links = known;
        }
        self.counters = engine.counters().clone();
        self.places = engine.places().collect();
    }
}

/// The addresses that have failed, as the application is told them: of a dial that has begun before the recording.
fn told_addresses(step: &Step) -> Vec<String> {
    let failed = step.outputs.iter().filter_map(|output| match output {
        Output::Event(AviEvent::BootstrapFailed { address, .. }) => Some(address.clone()),
        _ => None,
    });
    failed.collect()
}
