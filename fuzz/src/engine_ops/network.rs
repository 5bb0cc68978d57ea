//! How does a network respond: as asked, with a failure, or with nonsense?

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use avi_p2p_proto::engine::{
    ConnectionId, DialFailure, DialId, Direction, MAX_DATAGRAM_BYTES, NetAction, NetEvent, PublishId, PublishOutcome,
    Refusal, SubstreamId,
};
use avi_p2p_proto::event::DiscoverySource;
use avi_p2p_proto::id::PeerId;
use avi_p2p_proto::wire::{Code, Decoder, Frame, Open, Token};
use bytes::Bytes;

use super::super::frames::{any_frame, any_token, encoded};
use super::super::script::Script;
use super::world::World;
use super::{address, any_peer, any_stream, any_topic, peer};

/// The connections and substreams that exist, as far as the engine was told.
#[derive(Default)]
pub(super) struct Network {
    connections: Vec<(ConnectionId, PeerId)>,
    substreams: Vec<(SubstreamId, ConnectionId)>,
    /// The last token that the engine gave.
    token: Token,
    next: u64,
    pub(super) reuses_ids: bool,
}

impl Network {
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        if self.reuses_ids { self.next % 5 } else { self.next }
    }

    pub(super) fn on_event(&mut self, event: &NetEvent) {
        match event {
            NetEvent::Connected { connection, peer, .. } => self.connections.push((*connection, peer.clone())),
            NetEvent::Disconnected { connection, .. } => {
                self.connections.retain(|(other, _)| other != connection);
                self.substreams.retain(|(_, on)| on != connection);
            }
            NetEvent::SubstreamOffered { substream, connection, .. } => self.substreams.push((*substream, *connection)),
            NetEvent::Broken { substream, .. } => self.substreams.retain(|(other, _)| other != substream),
            _ => {}
        }
    }

    pub(super) fn on_action(&mut self, action: &NetAction) {
        match action {
            NetAction::Reset { substream } => self.substreams.retain(|(other, _)| other != substream),
            NetAction::Write { bytes, .. } => self.on_write(bytes.clone()),
            _ => {}
        }
    }

    /// A peer can only go on with a stream whose token it was given.
    fn on_write(&mut self, mut bytes: Bytes) {
        let mut decoder = Decoder::new(bytes.len());
        while let Ok(Some(frame)) = decoder.decode(&mut bytes) {
            if let Frame::Resumable { token } = frame {
                self.token = token;
            }
        }
    }

    fn has(&self, connection: ConnectionId) -> bool {
        self.connections.iter().any(|(other, _)| *other == connection)
    }

    /// The events after an action that succeeds.
    pub(super) fn as_asked(&mut self, action: &NetAction) -> Vec<NetEvent> {
        let event = match action {
            NetAction::Dial { dial, peer: wanted, addresses } => NetEvent::Connected {
                connection: ConnectionId(self.fresh()),
                peer: wanted.clone().unwrap_or_else(|| peer(3)),
                address: addresses.first().cloned().unwrap_or_default(),
                direction: Direction::Outbound(*dial),
            },
            NetAction::Disconnect { connection } | NetAction::Abort { connection } => {
                return self.disconnect(|(other, _)| other == connection);
            }
            NetAction::Grant { peer, bytes: Some(_) } => NetEvent::CreditUsed { peer: peer.clone() },
            NetAction::DisconnectAll => return self.disconnect(|_| true),
            NetAction::RetryDiscovery { source } => NetEvent::DiscoveryAvailable { source: *source },
            NetAction::Walk { .. } => NetEvent::WalkEnded { result: Ok(vec![peer(2), peer(7)]) },
            NetAction::Publish { publish, .. } => {
                NetEvent::Published { publish: *publish, outcome: PublishOutcome::Sent }
            }
            NetAction::OpenSubstream { stream, connection } if self.has(*connection) => {
                let substream = SubstreamId(self.fresh());
                self.substreams.push((substream, *connection));
                NetEvent::SubstreamOpened { stream: *stream, substream }
            }
            NetAction::Retire { connection } => {
                let retired = self.connections.iter().find(|(other, _)| other == connection);
                return retired.map(|(_, peer)| NetEvent::PeerRenewed { peer: peer.clone() }).into_iter().collect();
            }
            NetAction::Flush { connection } if self.has(*connection) => NetEvent::Flushed { connection: *connection },
            NetAction::Probe { connection } => {
                let probed = self.connections.iter().find(|(other, _)| other == connection);
                let answered =
                    probed.map(|(_, peer)| NetEvent::Answered { connection: *connection, peer: peer.clone() });
                return answered.into_iter().collect();
            }
            NetAction::CheckAlive { connection } => {
                NetEvent::Progress { connection: *connection, silent_for: Duration::ZERO }
            }
            NetAction::Write { substream, .. } => NetEvent::Writable { substream: *substream },
            NetAction::Finish { substream } => NetEvent::Finished { substream: *substream },
            _ => return Vec::new(),
        };
        vec![event]
    }

    /// The events after an action that fails.
    pub(super) fn otherwise(&mut self, action: &NetAction, how: u8) -> Vec<NetEvent> {
        let event = match action {
            NetAction::Dial { dial, .. } => NetEvent::DialFailed { dial: *dial, failure: failure(how) },
            NetAction::RetryDiscovery { source } => unavailable(*source),
            NetAction::RetryListeners => NetEvent::ListenersMissing,
            NetAction::Heartbeat => NetEvent::GossipActive,
            NetAction::Walk { .. } => NetEvent::WalkEnded { result: Err("no".to_owned()) },
            NetAction::Publish { publish, .. } => NetEvent::Published { publish: *publish, outcome: outcome(how) },
            NetAction::OpenSubstream { stream, .. } => {
                NetEvent::SubstreamFailed { stream: *stream, reason: "no".to_owned() }
            }
            NetAction::CheckAlive { connection } => {
                NetEvent::Progress { connection: *connection, silent_for: Duration::from_secs(how.into()) }
            }
            NetAction::Write { substream, .. } | NetAction::Finish { substream } => {
                NetEvent::Broken { substream: *substream, reason: "reset".to_owned() }
            }
            _ => return Vec::new(),
        };
        vec![event]
    }

    fn disconnect(&self, which: impl Fn(&(ConnectionId, PeerId)) -> bool) -> Vec<NetEvent> {
        let ended = self.connections.iter().filter(|connection| which(connection)).cloned();
        ended.map(|(connection, peer)| NetEvent::Disconnected { connection, peer }).collect()
    }

    fn substream(&self, script: &mut Script) -> Option<SubstreamId> {
        let n = usize::from(script.byte()) % self.substreams.len().clamp(1, 4);
        self.substreams.iter().rev().nth(n).map(|(substream, _)| *substream)
    }

    fn connection(&self, script: &mut Script) -> Option<(ConnectionId, PeerId)> {
        let n = usize::from(script.byte()) % self.connections.len().max(1);
        self.connections.get(n).cloned()
    }
}

fn failure(how: u8) -> DialFailure {
    match how % 5 {
        0 => DialFailure::Refused(Refusal::MaxPeers),
        1 => DialFailure::Refused(Refusal::KeptOut),
        2 => DialFailure::Myself,
        3 => DialFailure::WrongPeer { address: address(1), obtained: peer(1) },
        _ => DialFailure::Unreachable("nobody there".to_owned()),
    }
}

fn unavailable(source: DiscoverySource) -> NetEvent {
    NetEvent::DiscoveryUnavailable { source, reason: "no".to_owned() }
}

fn outcome(how: u8) -> PublishOutcome {
    [PublishOutcome::NoSubscribers, PublishOutcome::Congested, PublishOutcome::Refused("the message cannot be signed")]
        [usize::from(how) % 3]
}

/// A plausible event of the network. `None` if there is nothing that it could happen to.
pub(super) fn likely(world: &mut World, script: &mut Script) -> Option<NetEvent> {
    let network = &mut world.network;
    Some(match script.below(18) {
        0 => {
            let n = u16::from(script.byte() % 9);
            let connection = ConnectionId(network.fresh());
            NetEvent::Connected { connection, peer: peer(n), address: address(n), direction: Direction::Inbound }
        }
        1 => {
            let (connection, peer) = network.connection(script)?;
            NetEvent::Disconnected { connection, peer }
        }
        2 | 3 => {
            let (connection, peer) = network.connection(script)?;
            NetEvent::SubstreamOffered { substream: SubstreamId(network.fresh()), peer, connection }
        }
        4..=8 => {
            let substream = network.substream(script)?;
            NetEvent::Received { substream, bytes: any_bytes(network.token, script) }
        }
        9 => NetEvent::Writable { substream: network.substream(script)? },
        10 => NetEvent::Finished { substream: network.substream(script)? },
        11 => NetEvent::Broken { substream: network.substream(script)?, reason: "reset".to_owned() },
        12 => {
            let (peer, topic) = (network.connection(script)?.1, any_topic(script));
            NetEvent::PeerSubscribed { peer, topic }
        }
        13 => NetEvent::PeerUnsubscribed { peer: any_peer(script), topic: any_topic(script) },
        14 => {
            NetEvent::Message { from: any_peer(script), topic: any_topic(script), data: Bytes::from_static(b"hello") }
        }
        15 => {
            let n = u16::from(script.byte() % 9);
            let (connection, peer) = network.connection(script)?;
            NetEvent::Identified { connection, peer, name: "node".to_owned(), addresses: vec![address(n)] }
        }
        16 => {
            let (peer, n) = (any_peer(script), u16::from(script.byte()));
            NetEvent::Discovered { peer, addresses: vec![address(n)], source: DiscoverySource::Mdns }
        }
        _ => seldom(network, script)?,
    })
}

fn seldom(network: &Network, script: &mut Script) -> Option<NetEvent> {
    Some(match script.below(22) {
        0 => NetEvent::Misbehaved { peer: any_peer(script) },
        1 => NetEvent::Foreign { peer: any_peer(script) },
        2 => NetEvent::SlowPeer { peer: any_peer(script), dropped: script.number() },
        3 => NetEvent::MeshChanged { peers: (0..script.below(9) as u16).map(peer).collect() },
        4 => {
            let (connection, peer) = network.connection(script)?;
            NetEvent::Pong { connection, peer, rtt: script.duration() }
        }
        5 => NetEvent::Deaf { connection: network.connection(script)?.0 },
        6 => NetEvent::Listening { addresses: (0..script.below(3) as u16).map(address).collect() },
        7 => unavailable(DiscoverySource::Mdns),
        8 => NetEvent::InboundRefused(script.pick(&[Refusal::MaxPeers, Refusal::KeptOut, Refusal::PendingInbound])),
        9 => NetEvent::InboundFailed,
        10 => {
            let (peer, n) = (any_peer(script), u16::from(script.byte()));
            NetEvent::Announced { peer, addresses: (n..=n + script.below(3) as u16).map(address).collect() }
        }
        11 => NetEvent::DiscoveryAvailable { source: DiscoverySource::Mdns },
        12 => NetEvent::InterfacesChanged,
        13 => NetEvent::ListenersMissing,
        14 => NetEvent::GossipActive,
        15 => {
            let connection = network.connection(script)?.0;
            NetEvent::Progress { connection, silent_for: script.duration() }
        }
        16 => of_datagrams(script),
        17 => NetEvent::CreditUsed { peer: any_peer(script) },
        18 => NetEvent::PeerRenewed { peer: any_peer(script) },
        20 => NetEvent::PubSubOpened { connection: network.connection(script)?.0 },
        19 => NetEvent::Doubled { address: script.text(40) },
        _ => NetEvent::MessageRefused,
    })
}

fn of_datagrams(script: &mut Script) -> NetEvent {
    let there = SocketAddr::new(Ipv4Addr::new(10, 0, 0, script.byte()).into(), script.number() as u16);
    match script.below(5) {
        0 => NetEvent::DatagramsOn { port: there.port() },
        1 => NetEvent::DatagramsOff { reason: "no".to_owned() },
        2 => NetEvent::DatagramDropped { to: there },
        3 => NetEvent::DatagramsIgnored { count: script.number() },
        _ => NetEvent::Datagram { from: there, bytes: Bytes::copy_from_slice(script.bytes(MAX_DATAGRAM_BYTES)) },
    }
}

/// An event of a lying or defective network. New ids are unused ones, unless ids are reused.
pub(super) fn absurd(world: &mut World, script: &mut Script) -> NetEvent {
    let stream = any_stream(world, script);
    let (network, n) = (&mut world.network, script.number());
    match script.below(12) {
        0 => NetEvent::Connected {
            connection: ConnectionId(network.fresh()),
            peer: any_peer(script),
            address: script.text(40),
            direction: Direction::Outbound(DialId(n)),
        },
        1 => NetEvent::Disconnected { connection: ConnectionId(n), peer: any_peer(script) },
        2 => NetEvent::DialFailed { dial: DialId(n), failure: failure(script.byte()) },
        3 => NetEvent::WalkEnded { result: Ok(vec![any_peer(script)]) },
        4 => NetEvent::Published { publish: PublishId(n), outcome: outcome(script.byte()) },
        5 => NetEvent::SubstreamOpened { stream, substream: SubstreamId(network.fresh()) },
        6 => NetEvent::SubstreamFailed { stream, reason: script.text(40) },
        7 => {
            let (connection, peer) = (ConnectionId(n), any_peer(script));
            NetEvent::SubstreamOffered { substream: SubstreamId(network.fresh()), peer, connection }
        }
        8 => NetEvent::Received { substream: SubstreamId(n), bytes: any_bytes(network.token, script) },
        9 => {
            let connection = ConnectionId(network.fresh());
            NetEvent::Identified {
                connection,
                peer: any_peer(script),
                name: script.text(80),
                addresses: vec![script.text(40); 9],
            }
        }
        10 => {
            let (peer, addresses) = (any_peer(script), vec![script.text(200); script.below(40)]);
            NetEvent::Discovered { peer, addresses, source: DiscoverySource::Kademlia }
        }
        _ => NetEvent::Pong { connection: ConnectionId(n), peer: any_peer(script), rtt: Duration::MAX },
    }
}

/// Usually frames that could follow, seldom any frame, a part of one, or other bytes.
fn any_bytes(token: Token, script: &mut Script) -> Bytes {
    let frame = match script.byte() {
        0..0x30 => Frame::Open(Open::default()),
        0x30..0x60 => Frame::Accept,
        0x60..0xa0 => {
            let (sequence, timestamp_us) = (script.number(), script.number());
            Frame::Data { sequence, timestamp_us, payload: Bytes::from_static(b"audio") }
        }
        0xa0..0xb0 => Frame::Close { code: Code::Application, next_sequence: script.number(), reason: String::new() },
        0xb0..0xc0 => Frame::Resumable { token: any_token(script) },
        0xc0..0xd0 => Frame::Resume { token, next_sequence: script.number() },
        0xd0..0xe0 => any_frame(script),
        _ => return Bytes::copy_from_slice(script.bytes(300)),
    };
    let bytes = encoded(&frame);
    match script.byte() {
        cut @ 0xf0.. => bytes.slice(..bytes.len().min(usize::from(cut - 0xf0))),
        _ => bytes,
    }
}
