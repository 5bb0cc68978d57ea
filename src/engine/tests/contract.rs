//! What an engine keeps to, whatever happens: checked on everything that goes in and comes out.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[derive(Debug, Default)]
pub(super) struct Contract {
    max_peers: usize,
    concurrent_dials: usize,
    /// Commands without a reply.
    owed: BTreeMap<CommandId, Command>,
    streams: BTreeMap<StreamId, Heard>,
    connected: BTreeSet<PeerId>,
    dials: BTreeSet<DialId>,
    opening: BTreeMap<StreamId, ConnectionId>,
    substreams: BTreeMap<SubstreamId, Substream>,
    stopping: bool,
    stopped: bool,
}

/// What the application knows of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Asked,
    Accepted,
    Closed,
}

#[derive(Debug)]
struct Substream {
    connection: ConnectionId,
    writing: bool,
    finished: bool,
    heard_finish: bool,
}

impl Contract {
    pub(super) fn new(config: &AviP2pConfig) -> Self {
        let concurrent_dials = config.limits.concurrent_dials;
        Self { max_peers: config.max_peers, concurrent_dials, ..Self::default() }
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.stopped
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Substreams that the network still holds for this node.
    pub(super) fn substreams(&self) -> usize {
        self.substreams.len()
    }

    pub(super) fn dials(&self) -> usize {
        self.dials.len()
    }

    /// The node has stopped: nobody waits for it any more.
    pub(super) fn assert_settled(&self) {
        assert!(self.stopped, "not stopped");
        assert!(self.owed.is_empty(), "no reply: {:?}", self.owed);
        let mut open = self.streams.iter().filter(|(_, heard)| **heard != Heard::Closed);
        assert_eq!(open.next(), None, "no AudioStreamClosed");
    }

    pub(super) fn on_input(&mut self, input: &Input) {
        match input {
            Input::Command { id, command } => {
                self.stopping |= *command == Command::Shutdown;
                assert_eq!(self.owed.insert(*id, command.clone()), None, "the test uses {id:?} twice");
            }
            Input::Net(event) => self.on_event(event),
        }
    }

    fn on_event(&mut self, event: &NetEvent) {
        match event {
            NetEvent::Connected { direction: Direction::Outbound(dial), .. } | NetEvent::DialFailed { dial, .. } => {
                self.dials.remove(dial);
            }
            NetEvent::Disconnected { connection, .. } => {
                self.substreams.retain(|_, substream| substream.connection != *connection);
                self.opening.retain(|_, on| on != connection);
            }
            NetEvent::SubstreamOpened { stream, substream } => {
                let connection = self.opening.remove(stream).unwrap_or(ConnectionId(u64::MAX));
                self.open(*substream, connection);
            }
            NetEvent::SubstreamFailed { stream, .. } => {
                self.opening.remove(stream);
            }
            NetEvent::SubstreamOffered { substream, connection, .. } => self.open(*substream, *connection),
            NetEvent::Writable { substream } => {
                if let Some(substream) = self.substreams.get_mut(substream) {
                    substream.writing = false;
                }
                self.let_go();
            }
            NetEvent::Finished { substream } => {
                if let Some(substream) = self.substreams.get_mut(substream) {
                    substream.heard_finish = true;
                }
                self.let_go();
            }
            NetEvent::Broken { substream, .. } => {
                self.substreams.remove(substream);
            }
            _ => {}
        }
    }

    pub(super) fn on_output(&mut self, output: &Output) {
        assert!(!self.stopped || matches!(output, Output::Reply { .. }), "{output:?} after Stopped");
        match output {
            Output::Reply { id, result } => self.on_reply(*id, result),
            Output::Event(event) => self.on_application_event(event),
            Output::Net(action) => self.on_action(action),
            Output::Stopped => self.stopped = true,
        }
    }

    fn on_reply(&mut self, id: CommandId, result: &Reply) {
        let command = self.owed.remove(&id).unwrap_or_else(|| panic!("a second reply to {id:?}: {result:?}"));
        match (command, result) {
            (Command::RequestStream { .. }, Ok(Answer::Stream(stream))) => {
                assert_eq!(self.streams.insert(*stream, Heard::Asked), None, "{stream:?} given twice");
            }
            (Command::AcceptStream { stream }, Ok(_)) => self.accept(stream),
            _ => {}
        }
    }

    fn on_application_event(&mut self, event: &AviEvent) {
        match event {
            AviEvent::PeerConnected { peer_id, .. } => {
                assert!(self.connected.insert(peer_id.clone()), "{event:?} twice")
            }
            AviEvent::PeerDisconnected { peer_id } => assert!(self.connected.remove(peer_id), "{event:?} from nowhere"),
            AviEvent::AudioStreamRequested { stream_id, .. } => {
                assert_eq!(self.streams.insert(*stream_id, Heard::Asked), None, "{event:?} twice");
            }
            AviEvent::AudioStreamAccepted { stream_id, .. } => self.accept(*stream_id),
            AviEvent::AudioData { stream_id, .. } | AviEvent::AudioGap { stream_id, .. } => {
                assert_eq!(self.streams.get(stream_id), Some(&Heard::Accepted), "{event:?}");
            }
            AviEvent::AudioStreamClosed { stream_id, .. } => {
                let before = self.streams.insert(*stream_id, Heard::Closed);
                assert!(matches!(before, Some(Heard::Asked | Heard::Accepted)), "{event:?} after {before:?}");
            }
            _ => {}
        }
    }

    fn on_action(&mut self, action: &NetAction) {
        match action {
            NetAction::Dial { dial, .. } => {
                assert!(self.dials.insert(*dial), "{dial:?} twice");
                let (dials, connected) = (self.dials.len(), self.connected.len());
                assert!(dials <= self.concurrent_dials, "{dials} dials at a time");
                assert!(connected + dials <= self.max_peers, "{connected} connected, {dials} dials");
            }
            NetAction::OpenSubstream { stream, connection } => {
                self.opening.insert(*stream, *connection);
            }
            NetAction::Write { substream, bytes } => {
                let at = self.substream(*substream, action);
                assert!(!at.writing && !at.finished && !bytes.is_empty(), "{action:?} on {at:?}");
                at.writing = true;
            }
            NetAction::Finish { substream } => {
                let at = self.substream(*substream, action);
                assert!(!at.finished, "{action:?} twice");
                at.finished = true;
                self.let_go();
            }
            NetAction::Reset { substream } => {
                self.substream(*substream, action);
                self.substreams.remove(substream);
            }
            _ => {}
        }
    }

    fn accept(&mut self, stream: StreamId) {
        assert_eq!(self.streams.insert(stream, Heard::Accepted), Some(Heard::Asked), "{stream:?} accepted");
    }

    fn open(&mut self, id: SubstreamId, connection: ConnectionId) {
        let fresh = Substream { connection, writing: false, finished: false, heard_finish: false };
        assert!(self.substreams.insert(id, fresh).is_none(), "the test uses {id:?} twice");
    }

    fn substream(&mut self, id: SubstreamId, action: &NetAction) -> &mut Substream {
        self.substreams.get_mut(&id).unwrap_or_else(|| panic!("{action:?} on a substream that is gone"))
    }

    fn let_go(&mut self) {
        self.substreams.retain(|_, at| !(at.finished && at.heard_finish && !at.writing));
    }
}
