//! How are the inputs of an engine recorded while it runs?

use std::collections::BTreeMap;
use std::hash::Hasher as _;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use siphasher::sip::SipHasher13;

use super::digest::Digest;
use super::format::{Answer, Began, Head, Kind, put_item, put_magic, put_value};
use super::options::{Content, RecorderOptions};
use super::redact::{Keep, Scanner};
use super::runs::zeros;
use super::store::Store;
use crate::engine::{Command, Engine, Input, NetEvent, Output, SubstreamId, Taken, Time};
use crate::path::OVERHEAD_BYTES;

/// Of a datagram: id and counter, and the tag at its end.
const HEADER_BYTES: usize = 16;
const TAG_BYTES: usize = OVERHEAD_BYTES - HEADER_BYTES;
/// After a gap, the time until recording is tried again: a snapshot of the engine is not cheap.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// So much of the payloads of an input is hashed: a longer one costs no more.
const HASHED_BYTES: usize = 1024;

/// What a recorder needs when it starts.
#[derive(Debug)]
pub struct Start {
    /// The options, which have been validated.
    pub options: RecorderOptions,
    /// Where the recording goes.
    pub store: Box<dyn Store>,
    /// The key of the hashes of payloads: random, and kept nowhere else.
    pub hash_key: [u8; 16],
    /// Wall time in milliseconds since 1970 at [`Time::ZERO`].
    pub unix_millis: u64,
    /// After how many bytes of a segment the next one begins: [`RecorderOptions::segment_bytes`].
    pub segment_bytes: usize,
}

/// Whether what comes is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    On,
    /// Something was not recorded. A new segment begins then.
    Gap {
        until: Time,
    },
    /// The engine has grown too large.
    Off,
}

/// Records one engine.
#[derive(derive_more::Debug)]
pub(super) struct Recorder {
    options: RecorderOptions,
    segment_bytes: usize,
    store: Box<dyn Store>,
    #[debug("..")]
    hash_key: SipHasher13,
    unix_millis: u64,
    state: State,
    /// The number of the next record.
    number: u64,
    last: Time,
    last_wall: u64,
    wall: Option<u64>,
    /// Bytes of the segment so far.
    written: usize,
    scanners: BTreeMap<SubstreamId, Scanner>,
    /// Whether an input is being handled.
    is_open: bool,
    #[debug("{} bytes", body.len())]
    body: Vec<u8>,
    #[debug("{} bytes", item.len())]
    item: Vec<u8>,
    payload: Option<u64>,
    datagram: Option<Datagram>,
    digest: Digest,
}

/// A datagram whose frames are known once the engine has opened it.
#[derive(Debug)]
struct Datagram {
    from: SocketAddr,
    header: [u8; HEADER_BYTES],
    len: usize,
}

impl Recorder {
    pub(super) fn new(start: Start) -> Self {
        let Start { options, store, hash_key, unix_millis, segment_bytes } = start;
        Self {
            options,
            segment_bytes,
            store,
            hash_key: SipHasher13::new_with_key(&hash_key),
            unix_millis,
            state: State::Off,
            number: 0,
            last: Time::ZERO,
            last_wall: 0,
            wall: None,
            written: 0,
            scanners: BTreeMap::new(),
            is_open: false,
            body: Vec::new(),
            item: Vec::new(),
            payload: None,
            datagram: None,
            digest: Digest::new(),
        }
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Begins a segment with the state of the engine, which has no outputs left.
    pub(super) fn begin_segment(&mut self, engine: &Engine, began: Began) {
        self.scanners.retain(|substream, _| engine.uses_substream(*substream));
        self.body.clear();
        let mut segment = Vec::new();
        put_magic(&mut segment);
        let head = Head {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            has_context: cfg!(feature = "context"),
            content: self.options.content,
            pseudonyms: self.options.pseudonyms,
            local: engine.local().clone(),
            unix_millis: self.unix_millis,
            first: self.number,
            time: self.last,
            began,
        };
        let written = put_value(&head, &mut self.body).and_then(|()| {
            put_item(Kind::Head, &self.body, &mut segment);
            self.body.clear();
            put_value(engine, &mut self.body)
        });
        let (len, max) = (self.body.len(), self.options.bytes / 4);
        put_item(Kind::State, &self.body, &mut segment);
        self.body.clear();
        if self.body.capacity() > 64 * 1024 {
            self.body = Vec::new();
        }
        match written {
            // Of the state of an engine, each type can be written.
            Err(error) => self.end(&format!("the state of the engine cannot be written: {error}")),
            Ok(()) if len > max => self.end(&format!(
                "the state of the engine has {len} bytes, and a quarter of recorder.bytes is {max}: raise it"
            )),
            Ok(()) => {
                self.last_wall = 0;
                self.state = match self.store.begin(segment) {
                    Some(written) => {
                        self.written = written;
                        State::On
                    }
                    None => State::Gap { until: self.last + RETRY_AFTER },
                };
            }
        }
    }

    /// Records nothing more.
    fn end(&mut self, why: &str) {
        tracing::warn!(why, "the recorder ends");
        self.item.clear();
        put_item(Kind::End, why.as_bytes(), &mut self.item);
        self.store.append(&self.item);
        (self.state, self.is_open) = (State::Off, false);
    }

    #[cfg(feature = "context")]
    pub(super) fn set_wall_time(&mut self, unix_millis: u64) {
        self.wall = Some(unix_millis);
    }

    /// An input comes; `None` is a timeout. The engine has not handled it.
    pub(super) fn begin(&mut self, engine: &mut Engine, now: Time, input: Option<&Input>) {
        if self.is_open {
            self.finish(engine);
        }
        if let State::Gap { until } = self.state
            && now >= until
            && self.store.has_room()
        {
            self.last = now;
            self.begin_segment(engine, Began::Gap);
        }
        let wall = self.wall.take();
        #[cfg(feature = "context")]
        wall.into_iter().for_each(|wall| engine.set_wall_time(now, wall));
        if self.state == State::Off {
            return;
        }
        // What came within a gap is not for the record that comes after it.
        (self.payload, self.datagram) = (None, None);
        // Also within a gap: where the frames of a substream begin must be known after it.
        let redacted = input.and_then(|input| self.redact(engine, input));
        if self.state != State::On {
            self.number += 1;
            return;
        }
        self.is_open = true;
        self.body.clear();
        self.digest = Digest::new();
        let elapsed = (now - self.last).as_nanos();
        let wall = wall.map(|wall| {
            let elapsed = wall.wrapping_sub(std::mem::replace(&mut self.last_wall, wall));
            elapsed.cast_signed()
        });
        self.last = now;
        let written = put_value(&(elapsed, wall), &mut self.body);
        let event = match (&self.datagram, input) {
            (Some(_), _) => Ok(()),
            (None, Some(input)) => put_input(redacted.as_ref().unwrap_or(input), &mut self.body),
            (None, None) => put_value(&1u32, &mut self.body),
        };
        if let Err(error) = written.and(event) {
            self.end(&format!("an input cannot be written: {error}"));
        }
    }

    pub(super) fn on_output(&mut self, engine: &mut Engine, output: Option<&Output>) {
        match output {
            Some(output) if self.is_open => self.digest.add(output),
            None if self.is_open => self.finish(engine),
            None => drop(engine.take_drawn()),
            Some(_) => {}
        }
    }

    /// All outputs of an input have come.
    fn finish(&mut self, engine: &mut Engine) {
        let mut taken = engine.take_drawn();
        let opened = taken.sessions.opened.take();
        self.write((!taken.is_empty()).then_some(taken), opened, Some(self.digest.answer()));
        if self.state == State::On && self.written >= self.segment_bytes {
            self.begin_segment(engine, Began::Full);
        }
    }

    /// The engine has panicked: nothing can be asked of it.
    pub(super) fn fail(&mut self) {
        if self.is_open {
            self.write(None, None, None);
        }
        self.state = State::Off;
    }

    fn write(&mut self, taken: Option<Taken>, opened: Option<Bytes>, answer: Option<Answer>) {
        self.is_open = false;
        if let Some(datagram) = self.datagram.take() {
            let event = self.plain(&datagram, opened);
            if put_input(&event, &mut self.body).is_err() {
                return self.end("a datagram cannot be written");
            }
        }
        if put_value(&(taken, self.payload.take(), answer), &mut self.body).is_err() {
            return self.end("an answer cannot be written");
        }
        self.item.clear();
        put_item(Kind::Record, &self.body, &mut self.item);
        self.number += 1;
        self.written += self.item.len();
        if !self.store.append(&self.item) {
            self.state = State::Gap { until: self.last + RETRY_AFTER };
        }
    }

    /// The input as it is recorded, if that is not as it came.
    fn redact(&mut self, engine: &Engine, input: &Input) -> Option<Input> {
        match input {
            Input::Command(Command::SendAudio { id, stream, data }) => {
                let data = self.payload(data)?;
                Some(Input::Command(Command::SendAudio { id: *id, stream: *stream, data }))
            }
            Input::Command(Command::Publish { id, topic, data }) => {
                let data = self.payload(data)?;
                Some(Input::Command(Command::Publish { id: *id, topic: topic.clone(), data }))
            }
            // It is compared by its hashes.
            #[cfg(feature = "context")]
            Input::Net(NetEvent::Message { topic, .. }) if topic == crate::engine::CONTEXT_TOPIC => None,
            Input::Net(NetEvent::Message { from, topic, data }) => {
                let data = self.payload(data)?;
                Some(Input::Net(NetEvent::Message { from: from.clone(), topic: topic.clone(), data }))
            }
            Input::Net(NetEvent::Received { substream, bytes }) => {
                let bytes = self.received(engine, *substream, bytes);
                Some(Input::Net(NetEvent::Received { substream: *substream, bytes }))
            }
            Input::Net(NetEvent::Datagram { from, bytes }) => {
                let mut header = [0; HEADER_BYTES];
                header.iter_mut().zip(&bytes[..]).for_each(|(to, from)| *to = *from);
                self.datagram = Some(Datagram { from: *from, header, len: bytes.len() });
                None
            }
            Input::Net(NetEvent::Broken { substream, .. }) => {
                self.scanners.remove(substream);
                None
            }
            _ => None,
        }
    }

    /// Hashes a payload. Returns what is recorded in its place.
    fn payload(&mut self, data: &Bytes) -> Option<Bytes> {
        let mut hash = Hash::new(self.hash_key);
        hash.add(data);
        self.payload = hash.finish();
        match self.options.content {
            Content::Kept => None,
            Content::Redacted => zeros(data.len()),
        }
    }

    fn keep(&self) -> Keep {
        match self.options.content {
            Content::Kept => Keep::Payloads,
            Content::Redacted => Keep::Lengths,
        }
    }

    fn received(&mut self, engine: &Engine, substream: SubstreamId, bytes: &Bytes) -> Bytes {
        if !engine.uses_substream(substream) {
            // Nobody looks at them.
            self.scanners.remove(&substream);
            return zeros(bytes.len()).unwrap_or_default();
        }
        let (keep, mut hash) = (self.keep(), Hash::new(self.hash_key));
        let mut redacted = BytesMut::from(&bytes[..]);
        let scanner = self.scanners.entry(substream).or_default();
        scanner.redact(&mut redacted, keep, |payload| hash.add(payload));
        self.payload = hash.finish();
        redacted.freeze()
    }

    /// A datagram in the clear: id, counter, frames, and a tag of zeros if it was authentic.
    fn plain(&mut self, datagram: &Datagram, opened: Option<Bytes>) -> Input {
        let Datagram { from, header, len } = *datagram;
        let mut bytes = BytesMut::with_capacity(len);
        bytes.extend_from_slice(&header[..len.min(HEADER_BYTES)]);
        match opened {
            Some(frames) => {
                let mut frames = BytesMut::from(&frames[..]);
                let (keep, mut hash) = (self.keep(), Hash::new(self.hash_key));
                Scanner::default().redact(&mut frames, keep, |payload| hash.add(payload));
                self.payload = hash.finish();
                bytes.extend_from_slice(&frames);
                bytes.put_bytes(0, TAG_BYTES);
            }
            None => {
                bytes.put_bytes(0, len.saturating_sub(HEADER_BYTES + TAG_BYTES));
                bytes.put_bytes(u8::MAX, len.saturating_sub(bytes.len()));
            }
        }
        Input::Net(NetEvent::Datagram { from, bytes: bytes.freeze() })
    }
}

/// The keyed hash of the payloads of an input: of their first bytes, and of their length.
struct Hash {
    hasher: SipHasher13,
    bytes: usize,
}

impl Hash {
    fn new(key: SipHasher13) -> Self {
        Self { hasher: key, bytes: 0 }
    }

    fn add(&mut self, payload: &[u8]) {
        let room = HASHED_BYTES.saturating_sub(self.bytes).min(payload.len());
        self.hasher.write(&payload[..room]);
        self.bytes += payload.len();
    }

    /// `None` if there was no payload.
    fn finish(mut self) -> Option<u64> {
        self.hasher.write(&(self.bytes as u64).to_le_bytes());
        (self.bytes > 0).then(|| self.hasher.finish())
    }
}

/// Writes an [`Event`](super::format::Event).
fn put_input(input: &Input, into: &mut Vec<u8>) -> Result<(), postcard::Error> {
    put_value(&0u32, into)?;
    put_value(input, into)
}
