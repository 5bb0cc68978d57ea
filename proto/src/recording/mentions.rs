//! Which peers and streams does a step concern? For whoever shows those of one peer or stream alone.

use std::collections::{BTreeMap, BTreeSet};

use super::replay::{Step, StepInput};
use crate::engine::{
    Command, ConnectionId, DialId, Direction, Engine, Input, NetAction, NetEvent, Output, Place, Reply, SubstreamId,
};
use crate::event::AviEvent;
use crate::id::{PeerId, StreamId};

/// Follows a replay: give it every [`Step`], and the engine after it.
///
/// ```no_run
/// # fn show(recording: Vec<u8>, peer: avi_p2p_proto::id::PeerId) -> Result<(), avi_p2p_proto::recording::RecordingError> {
/// use avi_p2p_proto::recording::{Mentions, Replay};
/// let (mut replay, mut mentions) = (Replay::new(recording)?, Mentions::default());
/// while let Some(step) = replay.next() {
///     let step = step?;
///     mentions.on_step(&step, replay.engine());
///     if mentions.peers().contains(&peer) {
///         println!("{} {}", step.number, step.input);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Mentions {
    places: BTreeMap<StreamId, Place>,
    links: BTreeMap<ConnectionId, PeerId>,
    dials: BTreeMap<DialId, PeerId>,
    peers: BTreeSet<PeerId>,
    streams: BTreeSet<StreamId>,
}

impl Mentions {
    /// The peers that the last step concerns.
    pub fn peers(&self) -> &BTreeSet<PeerId> {
        &self.peers
    }

    /// The streams that the last step concerns.
    pub fn streams(&self) -> &BTreeSet<StreamId> {
        &self.streams
    }

    /// Takes a step, and the engine after it.
    pub fn on_step(&mut self, step: &Step, engine: &Engine) {
        self.peers.clear();
        self.streams.clear();
        let after: BTreeMap<_, _> = engine.places().collect();
        // A stream that ends with this step is known from before it, one that begins from after it.
        let gone = std::mem::take(&mut self.places).into_iter().filter(|(id, _)| !after.contains_key(id));
        self.places = gone.chain(after.clone()).collect();
        if let StepInput::Began(_) = step.input {
            self.links = engine.links().map(|(connection, peer)| (connection, peer.clone())).collect();
        }
        match &step.input {
            StepInput::Input(Input::Command(command)) => self.command(command),
            StepInput::Input(Input::Net(event)) => self.event(event),
            StepInput::Began(_) | StepInput::Timeout | StepInput::End(_) => {}
        }
        step.outputs.iter().for_each(|output| self.output(output));
        self.places = after;
    }

    fn peer(&mut self, peer: &PeerId) {
        self.peers.insert(peer.clone());
    }

    fn stream(&mut self, stream: StreamId) {
        self.streams.insert(stream);
        self.peers.extend(self.places.get(&stream).map(|place| place.peer.clone()));
    }

    fn substream(&mut self, substream: SubstreamId) {
        let found = self.places.iter().find(|(_, place)| place.substream == Some(substream)).map(|(id, _)| *id);
        found.into_iter().for_each(|stream| self.stream(stream));
    }

    fn connection(&mut self, connection: ConnectionId) {
        self.peers.extend(self.links.get(&connection).cloned());
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::AcceptStream { stream, .. }
            | Command::RejectStream { stream, .. }
            | Command::SendAudio { stream, .. }
            | Command::CloseStream { stream, .. } => self.stream(*stream),
            Command::RequestStream { peer, .. }
            | Command::SetAllowed { peer, .. }
            | Command::SetBlocked { peer, .. } => self.peer(peer),
            _ => {}
        }
    }

    fn event(&mut self, event: &NetEvent) {
        match event {
            NetEvent::Connected { connection, peer, direction, .. } => {
                if let Direction::Outbound(dial) = direction {
                    self.dials.remove(dial);
                }
                self.links.insert(*connection, peer.clone());
                self.peer(peer);
            }
            NetEvent::Disconnected { connection, peer } => {
                self.links.remove(connection);
                self.peer(peer);
                let here = self.places.iter().filter(|(_, place)| place.connection == Some(*connection));
                let here: Vec<_> = here.map(|(id, _)| *id).collect();
                here.into_iter().for_each(|stream| self.stream(stream));
            }
            NetEvent::DialFailed { dial, .. } => self.peers.extend(self.dials.remove(dial)),
            NetEvent::Discovered { peer, .. }
            | NetEvent::Announced { peer, .. }
            | NetEvent::Identified { peer, .. }
            | NetEvent::Foreign { peer }
            | NetEvent::Pong { peer, .. }
            | NetEvent::Answered { peer, .. }
            | NetEvent::CreditUsed { peer }
            | NetEvent::PeerRenewed { peer }
            | NetEvent::PeerSubscribed { peer, .. }
            | NetEvent::PeerUnsubscribed { peer, .. }
            | NetEvent::SlowPeer { peer, .. }
            | NetEvent::Misbehaved { peer }
            | NetEvent::Message { from: peer, .. } => self.peer(peer),
            NetEvent::PubSubOpened { connection }
            | NetEvent::Flushed { connection }
            | NetEvent::Progress { connection, .. }
            | NetEvent::Deaf { connection } => self.connection(*connection),
            NetEvent::SubstreamOffered { substream, peer, .. } => {
                self.peer(peer);
                self.substream(*substream);
            }
            NetEvent::SubstreamOpened { stream, .. } | NetEvent::SubstreamFailed { stream, .. } => self.stream(*stream),
            NetEvent::Received { substream, .. }
            | NetEvent::Writable { substream }
            | NetEvent::Finished { substream }
            | NetEvent::Broken { substream, .. } => self.substream(*substream),
            NetEvent::Datagram { bytes, .. } => {
                let session = bytes.first_chunk();
                let found =
                    self.places.iter().find(|(_, place)| place.session.is_some() && place.session.as_ref() == session);
                found.map(|(id, _)| *id).into_iter().for_each(|stream| self.stream(stream));
            }
            _ => {}
        }
    }

    fn output(&mut self, output: &Output) {
        match output {
            Output::Reply(Reply::Stream { result: Ok(stream), .. }) | Output::Audio { stream_id: stream, .. } => {
                self.stream(*stream);
            }
            Output::Event(event) => self.told(event),
            Output::Net(action) => self.action(action),
            _ => {}
        }
    }

    fn told(&mut self, event: &AviEvent) {
        match event {
            AviEvent::AudioStreamRequested { stream_id, .. }
            | AviEvent::AudioStreamAccepted { stream_id, .. }
            | AviEvent::AudioData { stream_id, .. }
            | AviEvent::AudioGap { stream_id, .. }
            | AviEvent::AudioRate { stream_id, .. }
            | AviEvent::AudioStreamClosed { stream_id, .. } => self.stream(*stream_id),
            AviEvent::PeerDiscovered { peer_id }
            | AviEvent::PeerConnected { peer_id, .. }
            | AviEvent::PeerDisconnected { peer_id }
            | AviEvent::PeerIdentified { peer_id, .. }
            | AviEvent::PeerDuplicated { peer_id, .. }
            | AviEvent::PeerSlow { peer_id, .. }
            | AviEvent::Message { from: peer_id, .. } => self.peer(peer_id),
            _ => {}
        }
    }

    fn action(&mut self, action: &NetAction) {
        match action {
            NetAction::Dial { dial, peer: Some(peer), .. } => {
                self.dials.insert(*dial, peer.clone());
                self.peer(peer);
            }
            NetAction::AddRoute { peer, .. } | NetAction::Grant { peer, .. } => self.peer(peer),
            NetAction::CheckAlive { connection }
            | NetAction::Probe { connection }
            | NetAction::Flush { connection }
            | NetAction::Retire { connection }
            | NetAction::Disconnect { connection }
            | NetAction::Abort { connection } => self.connection(*connection),
            NetAction::OpenSubstream { stream, .. } => self.stream(*stream),
            NetAction::Write { substream, .. } | NetAction::Finish { substream } | NetAction::Reset { substream } => {
                self.substream(*substream);
            }
            _ => {}
        }
    }
}
