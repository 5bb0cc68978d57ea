//! Has an engine given the same? A digest of its outputs: their kinds, ids and lengths, but no payloads.

use std::fmt::{self, Write as _};
use std::hash::Hasher as _;
use std::net::SocketAddr;

use siphasher::sip::SipHasher13;

use super::format::Answer;
use crate::engine::{NetAction, Output, Reply};
use crate::event::AviEvent;
use crate::publish::Published;

/// Counts outputs, and adds each to a digest.
#[derive(Debug)]
pub(super) struct Digest {
    hasher: SipHasher13,
    outputs: u32,
}

impl Digest {
    pub(super) fn new() -> Self {
        Self { hasher: SipHasher13::new(), outputs: 0 }
    }

    pub(super) fn answer(&self) -> Answer {
        Answer { outputs: self.outputs, digest: self.hasher.finish() }
    }

    /// Those that come with each frame or message are added by hand, since text is slow.
    pub(super) fn add(&mut self, output: &Output) {
        self.outputs = self.outputs.saturating_add(1);
        match output {
            Output::Net(NetAction::Write { substream, bytes }) => self.numbers(1, &[substream.0, bytes.len() as u64]),
            Output::Net(NetAction::SendDatagram { to, bytes }) => {
                self.address(to);
                self.numbers(2, &[bytes.len() as u64]);
            }
            Output::Audio { stream_id, frame, .. } => {
                let (at, len) = (frame.timestamp.as_nanos() as u64, frame.data.len() as u64);
                self.numbers(3, &[stream_id.0, frame.sequence, at, frame.missing, len]);
            }
            Output::Reply(Reply::Done { id, result: Ok(()) }) => self.numbers(4, &[id.number()]),
            Output::Event(AviEvent::Message { from, topic, data }) => {
                self.text(from.as_str());
                self.text(topic);
                self.numbers(5, &[data.len() as u64]);
            }
            Output::Net(NetAction::Publish { publish, topic, data }) => {
                self.text(topic.as_str());
                self.numbers(6, &[publish.0, data.len() as u64]);
            }
            Output::Reply(Reply::Published { id, result: Ok(published) }) => {
                self.numbers(7, &[id.number(), u64::from(*published == Published::Held)]);
            }
            other => {
                // A hasher takes any text.
                let _ = write!(self, "{other:?}");
                self.numbers(0, &[]);
            }
        }
    }

    fn numbers(&mut self, kind: u8, numbers: &[u64]) {
        self.hasher.write_u8(kind);
        numbers.iter().for_each(|number| self.hasher.write(&number.to_le_bytes()));
    }

    fn text(&mut self, text: &str) {
        self.hasher.write(text.as_bytes());
        self.hasher.write_u8(0xff);
    }

    fn address(&mut self, address: &SocketAddr) {
        match address.ip() {
            std::net::IpAddr::V4(ip) => self.hasher.write(&ip.octets()),
            std::net::IpAddr::V6(ip) => self.hasher.write(&ip.octets()),
        }
        self.hasher.write(&address.port().to_le_bytes());
    }
}

impl fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.hasher.write(text.as_bytes());
        Ok(())
    }
}
