//! What do the benchmarks of the pure core run? An engine with connected peers and a call, driven as data.
#![allow(dead_code)] // Not everybody who includes this needs all of it.

use avi_p2p::engine::{
    Command, CommandId, ConnectionId, Direction, Engine, Input, NetAction, NetEvent, Output, PublishOutcome, Reply,
    SubstreamId, Time,
};
use avi_p2p::recording::{Memory, Recorded, Start};
use avi_p2p::wire::{Ack, Frame, encode_data};
use avi_p2p::{AviP2pConfig, Limits, OnCongestion, PeerId, RecorderOptions, StreamId, StreamOptions};
use bytes::{Bytes, BytesMut};

pub const TOPIC: &str = "bench";
/// The call's substream.
pub const SUBSTREAM: SubstreamId = SubstreamId(1);

/// An engine, and the time it believes in.
pub struct Rig {
    pub engine: Recorded,
    pub now: Time,
    pub stream: StreamId,
    first_peer: PeerId,
    next_command: u64,
    next_sequence: u64,
}

impl Rig {
    /// An engine that subscribes to [`TOPIC`], as its `peers` do, and has a call with the first of them.
    pub fn new(peers: usize) -> Self {
        Self::with(peers, None)
    }

    /// The same, and it is recorded in memory.
    pub fn recorded(peers: usize) -> Self {
        let options = RecorderOptions { bytes: 64 * 1024 * 1024, ..RecorderOptions::default() };
        let (store, segment_bytes) = (Box::<Memory>::default(), options.segment_bytes());
        Self::with(peers, Some(Start { options, store, hash_key: [7; 16], unix_millis: 0, segment_bytes }))
    }

    fn with(peers: usize, start: Option<Start>) -> Self {
        let config = AviP2pConfig {
            max_peers: 2 * peers,
            limits: Limits { known_peers: 4 * peers + 16, ..Limits::default() },
            ..AviP2pConfig::default()
        };
        config.validate().expect("the configuration is valid");
        let engine = Recorded::new(Engine::new(&config, peer(u32::MAX), [7; 32]), start);
        let mut rig = Self {
            engine,
            now: Time::ZERO,
            stream: StreamId(0),
            first_peer: peer(0),
            next_command: 0,
            next_sequence: 0,
        };
        rig.command(|id| Command::Subscribe { id, topic: TOPIC.to_owned() });
        for n in 0..peers as u32 {
            rig.net(NetEvent::Connected {
                connection: ConnectionId(n.into()),
                peer: peer(n),
                address: format!("/ip4/192.0.2.{}/tcp/{}", n % 250, 1024 + n / 250),
                direction: Direction::Inbound,
            });
            rig.net(NetEvent::PeerSubscribed { peer: peer(n), topic: TOPIC.to_owned() });
        }
        rig.call();
        rig
    }

    fn call(&mut self) {
        let options = StreamOptions { on_congestion: OnCongestion::Refuse, ..StreamOptions::default() };
        let outputs = self.command(|id| Command::RequestStream { id, peer: peer(0), options });
        self.stream = outputs
            .into_iter()
            .find_map(|output| match output {
                Output::Reply(Reply::Stream { result: Ok(stream), .. }) => Some(stream),
                _ => None,
            })
            .expect("a connected peer can be asked");
        self.net(NetEvent::SubstreamOpened { stream: self.stream, substream: SUBSTREAM });
        self.net(NetEvent::Writable { substream: SUBSTREAM });
        let mut answer = BytesMut::new();
        Frame::Accept.encode(&mut answer);
        Frame::Ack(Ack::default()).encode(&mut answer);
        self.net(NetEvent::Received { substream: SUBSTREAM, bytes: answer.freeze() });
        self.net(NetEvent::Writable { substream: SUBSTREAM });
    }

    /// Carries a command out, for all that comes of it.
    pub fn command<T>(&mut self, command: impl FnOnce(CommandId<T>) -> Command) -> Vec<Output> {
        let input = self.input(command);
        let mut outputs = Vec::new();
        self.step(input, |output| outputs.push(output));
        outputs
    }

    /// Tells the engine of the network, for all that comes of it.
    pub fn net(&mut self, event: NetEvent) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.step(Input::Net(event), |output| outputs.push(output));
        outputs
    }

    /// One turn of a drive loop.
    pub fn step(&mut self, input: Input, mut carry_out: impl FnMut(Output)) {
        self.engine.handle(self.now, input);
        while let Some(output) = self.engine.poll_output() {
            carry_out(output);
        }
    }

    /// A command as an input.
    pub fn input<T>(&mut self, command: impl FnOnce(CommandId<T>) -> Command) -> Input {
        self.next_command += 1;
        Input::Command(command(CommandId::new(self.next_command)))
    }

    /// The application sends a frame.
    pub fn send(&mut self, payload: Bytes) -> Input {
        let stream = self.stream;
        self.input(|id| Command::SendAudio { id, stream, data: payload })
    }

    /// The application sends a frame, and the network has written it.
    pub fn send_and_write(&mut self, payload: Bytes, mut carry_out: impl FnMut(Output)) {
        let input = self.send(payload);
        self.step(input, &mut carry_out);
        self.step(Input::Net(NetEvent::Writable { substream: SUBSTREAM }), carry_out);
    }

    /// The next frames of the call's other end, as they come from the network.
    pub fn receive(&mut self, frames: u64, payload: &[u8]) -> Input {
        let bytes = frames_from(self.next_sequence, frames, payload);
        self.next_sequence += frames;
        Input::Net(NetEvent::Received { substream: SUBSTREAM, bytes })
    }

    /// A message of a peer.
    pub fn message(&self, data: Bytes) -> Input {
        Input::Net(NetEvent::Message { from: self.first_peer.clone(), topic: TOPIC.to_owned(), data })
    }

    /// The application publishes, and the network has sent it.
    pub fn publish(&mut self, data: Bytes, mut carry_out: impl FnMut(Output)) {
        let input = self.input(|id| Command::Publish { id, topic: TOPIC.to_owned(), data });
        let mut given = None;
        self.step(input, |output| match output {
            Output::Net(NetAction::Publish { publish, .. }) => given = Some(publish),
            other => carry_out(other),
        });
        let publish = given.expect("a message with a subscriber is given to the network");
        self.step(Input::Net(NetEvent::Published { publish, outcome: PublishOutcome::Sent }), carry_out);
    }
}

/// A peer id in the form that libp2p gives it.
pub fn peer(n: u32) -> PeerId {
    let mut hash = [0; 38];
    hash[..6].copy_from_slice(&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20]);
    hash[6..10].copy_from_slice(&n.to_be_bytes());
    PeerId::new(&bs58::encode(hash).into_string())
}

/// DATA frames as one piece, that no other memory is part of.
pub fn frames_from(first_sequence: u64, frames: u64, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    for sequence in first_sequence..first_sequence + frames {
        encode_data(sequence, sequence * 20, payload, &mut out);
    }
    Bytes::copy_from_slice(&out)
}
