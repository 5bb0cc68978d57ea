//! How fast is the pure core? Frames to and from bytes, and the engine's transitions.
//!
//! ```text
//! cargo bench --bench micro [-- FILTER]
//! ```
//!
//! First the ratios to a copy of the same bytes, from runs that alternate; then the figures of each, of which only
//! those of one run can be compared.

mod rig;

use std::hint::black_box;
use std::time::Instant;

use avi_p2p::engine::{
    Command, CommandId, ConnectionId, ContextStart, ContextWrite, Direction, Engine, Input, NetAction, NetEvent,
    Output, Time,
};
use avi_p2p::path::{AudioFrame, Key, Opener, Sealer, SessionId, frames};
use avi_p2p::wire::{Decoder, encode_data};
use avi_p2p::{AviP2pConfig, ContextOptions, PeerId, StreamId};
use bytes::{Bytes, BytesMut};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

use rig::{Rig, frames_from};

const FRAMES: u64 = 64;
const PAYLOADS: [usize; 3] = [64, 1024, 16 * 1024];
const MAX_FRAME_BYTES: usize = 64 * 1024;
const PEERS: [usize; 3] = [10, 100, 1000];
/// Inputs a sample of the engine.
const INPUTS: u64 = 100;

fn main() {
    print_ratios();
    divan::main();
}

// ---- wire ----

fn copy(bytes: &[u8], out: &mut BytesMut) {
    out.clear();
    out.extend_from_slice(black_box(bytes));
    black_box(&out);
}

fn encode_all(payload: &[u8], out: &mut BytesMut) {
    out.clear();
    for sequence in 0..FRAMES {
        encode_data(sequence, sequence * 20_000, black_box(payload), out);
    }
    black_box(&out);
}

/// Decodes bytes that come in pieces of that size.
fn decode_all(mut bytes: Bytes, piece: usize) -> u64 {
    let (mut decoder, mut frames) = (Decoder::new(MAX_FRAME_BYTES), 0);
    while !bytes.is_empty() {
        let mut piece = bytes.split_to(piece.min(bytes.len()));
        while let Some(frame) = decoder.decode(&mut piece).expect("the frames are well formed") {
            black_box(frame);
            frames += 1;
        }
    }
    frames
}

#[divan::bench(args = PAYLOADS)]
fn memcpy(bencher: Bencher, payload: usize) {
    let bytes = frames_from(0, FRAMES, &vec![7; payload]);
    let mut out = BytesMut::with_capacity(bytes.len());
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| copy(&bytes, &mut out));
}

#[divan::bench(args = PAYLOADS)]
fn encode(bencher: Bencher, payload: usize) {
    let bytes = frames_from(0, FRAMES, &vec![7; payload]);
    let mut out = BytesMut::with_capacity(bytes.len());
    let payload = vec![7; payload];
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| encode_all(&payload, &mut out));
}

#[divan::bench(args = PAYLOADS)]
fn decode_whole(bencher: Bencher, payload: usize) {
    let bytes = frames_from(0, FRAMES, &vec![7; payload]);
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| decode_all(bytes.clone(), usize::MAX));
}

/// Frames of 1 KiB in pieces: every byte alone, less than a frame, about one, many.
#[divan::bench(args = [1, 100, 1000, 1500, 16 * 1024])]
fn decode_pieces(bencher: Bencher, piece: usize) {
    let bytes = frames_from(0, FRAMES, &[7; 1024]);
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| decode_all(bytes.clone(), piece));
}

/// Medians of alternating runs.
fn print_ratios() {
    println!("relative to a copy of the same bytes (64 frames, medians of 301 runs that alternate):");
    println!("| payload | encode | decode, whole | decode, pieces of 1000 B |");
    println!("|---:|---:|---:|---:|");
    for payload in PAYLOADS {
        let (bytes, payload_bytes) = (frames_from(0, FRAMES, &vec![7; payload]), vec![7; payload]);
        let mut out = BytesMut::with_capacity(bytes.len());
        let mut ratios = [const { Vec::new() }; 3];
        for _ in 0..301 {
            let copied = nanos(|| copy(&bytes, &mut out));
            let encoded = nanos(|| encode_all(&payload_bytes, &mut out));
            let whole = nanos(|| decode_all(bytes.clone(), usize::MAX));
            let pieces = nanos(|| decode_all(bytes.clone(), 1000));
            for (ratios, run) in ratios.iter_mut().zip([encoded, whole, pieces]) {
                ratios.push(run / copied);
            }
        }
        let [encode, whole, pieces] = ratios.map(median);
        println!("| {payload} B | {encode:.2} | {whole:.2} | {pieces:.2} |");
    }
    println!();
}

fn nanos<T>(mut run: impl FnMut() -> T) -> f64 {
    let began = Instant::now();
    black_box(run());
    began.elapsed().as_nanos().max(1) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

// ---- datagrams ----

/// What a frame costs at both ends: 20 ms of Opus at 64 kbit/s, and of PCM at 16 kHz.
#[divan::bench(args = [160, 640])]
fn datagram_sealed_and_opened(bencher: Bencher, payload: usize) {
    let (id, key) = (SessionId::new([1; 8]), Key::new([2; 32]));
    let (mut sealer, mut opener) = (Sealer::new(id, &key), Opener::new(id, &key));
    let frame = AudioFrame { sequence: 1_000, timestamp_us: 20_000_000, payload: Bytes::from(vec![7; payload]) };
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        for _ in 0..FRAMES {
            let frame = black_box(&frame);
            let datagram = sealer.seal(frame.encoded_bytes(), |out| frame.encode(out)).expect("it fits");
            let opened = opener.open(datagram).expect("it is authentic");
            black_box(frames(opened.plaintext).next());
        }
    });
}

// ---- engine ----

/// One that is refused at once: the least that a command costs.
#[divan::bench(args = PEERS)]
fn command(bencher: Bencher, peers: usize) {
    let mut rig = Rig::new(peers);
    bencher.counter(ItemsCount::new(INPUTS)).bench_local(|| {
        for _ in 0..INPUTS {
            let input = rig.input(|id| Command::AcceptStream { id, stream: StreamId(0) });
            rig.step(input, |output| drop(black_box(output)));
        }
    });
}

#[divan::bench(args = PEERS)]
fn message_published(bencher: Bencher, peers: usize) {
    let (mut rig, data) = (Rig::new(peers), Bytes::from(vec![7; 1024]));
    bencher.counter(ItemsCount::new(INPUTS)).bench_local(|| {
        for _ in 0..INPUTS {
            rig.publish(data.clone(), |output| drop(black_box(output)));
        }
    });
}

#[divan::bench(args = PEERS)]
fn message_received(bencher: Bencher, peers: usize) {
    let mut rig = Rig::new(peers);
    bencher.counter(ItemsCount::new(INPUTS)).bench_local(|| {
        for _ in 0..INPUTS {
            let input = rig.message(Bytes::from(vec![7; 1024]));
            rig.step(input, |output| drop(black_box(output)));
        }
    });
}

/// A frame each, and the word of the network that it has been written.
#[divan::bench(args = PEERS)]
fn audio_sent(bencher: Bencher, peers: usize) {
    let (mut rig, payload) = (Rig::new(peers), Bytes::from(vec![7; 1024]));
    bencher.counter(ItemsCount::new(INPUTS)).bench_local(|| {
        for _ in 0..INPUTS {
            rig.send_and_write(payload.clone(), |output| drop(black_box(output)));
        }
    });
}

#[divan::bench(args = PEERS)]
fn audio_received(bencher: Bencher, peers: usize) {
    let (mut rig, payload) = (Rig::new(peers), [7; 1024]);
    bencher.counter(ItemsCount::new(INPUTS)).bench_local(|| {
        for _ in 0..INPUTS {
            let input = rig.receive(1, &payload);
            rig.step(input, |output| drop(black_box(output)));
        }
    });
}

// ---- context ----

const ENTRIES: [usize; 3] = [10, 100, 1000];
/// The peer id of the key whose secret bytes are all 1.
const WRITER: &str = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5";

/// Somebody to publish for.
const NEIGHBOUR: &str = "12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba";

/// Two nodes that share a context, of which the first writes.
struct Pair {
    writer: Engine,
    reader: Engine,
    written: usize,
    published: Vec<Bytes>,
}

impl Pair {
    /// The writer has so many entries.
    fn new(entries: usize) -> Self {
        let config = AviP2pConfig { context: Some(ContextOptions::default()), ..AviP2pConfig::default() };
        let start = |secret: u8, id: &str| {
            let mut engine = Engine::new(&config, PeerId::new(id), [secret; 32]);
            let (secret, unix_millis) = (Some([secret; 32].into()), 1_767_225_600_000);
            engine.start_context(ContextStart { secret, file: None, unix_millis }).expect("there is no file");
            engine
        };
        let (writer, reader) = (start(1, WRITER), start(2, "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq"));
        let mut pair = Self { writer, reader, written: 0, published: Vec::new() };
        let (connection, peer) = (ConnectionId(1), PeerId::new(NEIGHBOUR));
        let (address, direction) = (String::new(), Direction::Inbound);
        let events = [
            NetEvent::Connected { connection, peer: peer.clone(), address, direction },
            NetEvent::PeerSubscribed { peer, topic: "/avi/context/1".to_owned() },
        ];
        events.into_iter().for_each(|event| pair.writer.handle(Time::ZERO, Input::Net(event)));
        (0..entries).for_each(|_| pair.write(entries));
        pair
    }

    /// Writes the next of so many values.
    fn write(&mut self, entries: usize) {
        self.written += 1;
        let path = format!("bench.{}", self.written % entries);
        let write = ContextWrite::Set { path, value: self.written.into() };
        let id = CommandId::new(self.written as u64);
        self.writer.handle(Time::ZERO, Input::Command(Command::WriteContext { id, write }));
        while let Some(output) = self.writer.poll_output() {
            if let Output::Net(NetAction::Publish { data, .. }) = output {
                self.published.push(data);
            }
        }
    }

    /// The reader gets what was published.
    fn read(&mut self) {
        for data in self.published.drain(..) {
            let (from, topic) = (PeerId::new(WRITER), "/avi/context/1".to_owned());
            self.reader.handle(Time::ZERO, Input::Net(NetEvent::Message { from, topic, data }));
            while let Some(output) = self.reader.poll_output() {
                black_box(output);
            }
        }
    }
}

/// Signed, and put in place of the older one.
#[divan::bench(args = ENTRIES)]
fn context_written(bencher: Bencher, entries: usize) {
    let mut pair = Pair::new(entries);
    bencher.counter(ItemsCount::new(INPUTS)).bench_local(|| {
        pair.published.clear();
        (0..INPUTS).for_each(|_| pair.write(entries));
    });
}

/// Written, sent, verified and put in place of the older one. At most 4,096 at once are verified of one author.
#[divan::bench(args = ENTRIES, sample_count = 20, sample_size = 1)]
fn context_taken(bencher: Bencher, entries: usize) {
    let mut pair = Pair::new(entries);
    pair.published.clear();
    bencher.counter(ItemsCount::new(INPUTS)).bench_local(|| {
        (0..INPUTS).for_each(|_| pair.write(entries));
        pair.read();
    });
}

/// The whole, as JSON.
#[divan::bench(args = ENTRIES)]
fn context_snapshot(bencher: Bencher, entries: usize) {
    let pair = Pair::new(entries);
    bencher.bench_local(|| black_box(pair.writer.context_value("")));
}
