//! How does audio get from a device to a node of the mesh, and back?

use std::collections::VecDeque;

use super::session::{Session, Stream, StreamState};
use super::uplink::{is_reason, is_text};
use super::{Downlink, ErrorCode, GatewayEngine, MAX_DATAGRAM_BYTES, Output, Sent, Time};

/// A device's own numbers are below; the gateway's are from here.
const FIRST_OFFERED: u8 = 128;
/// What a device may send before its stream is accepted, in frames: a second of 16 kHz mono in datagrams of 512 bytes.
const HELD_FRAMES: usize = 64;
/// The longest peer id, in bytes.
const MAX_PEER_BYTES: usize = 128;

impl GatewayEngine {
    pub(super) fn start_stream(&mut self, time: Time, device: u64, local: u8, peer: &str, reason: &str) {
        let limit = self.config.limits.streams as usize;
        let asked = Some((peer.to_owned(), reason.to_owned()));
        let Some(session) = self.sessions.get_mut(device) else { return };
        if let Some(stream) = session.streams.get(&local) {
            let (is_open, is_repeated) = (matches!(stream.state, StreamState::Open { .. }), stream.asked == asked);
            return match () {
                () if is_repeated && is_open => self.tell_accepted(time, device, local),
                () if is_repeated => {}
                () => self.refuse(time, device, ErrorCode::BadStream),
            };
        }
        let refusal = match () {
            () if session.is_extended() && local >= FIRST_OFFERED => Some(ErrorCode::BadStream),
            () if session.streams.len() >= limit => Some(ErrorCode::TooManyStreams),
            () if !is_text(peer, MAX_PEER_BYTES) => Some(ErrorCode::UnknownTarget),
            () if !is_reason(reason) => Some(ErrorCode::BadName),
            () => None,
        };
        if let Some(code) = refusal {
            return self.refuse(time, device, code);
        }
        if !session.rates.messages.take(1, time.now) {
            return self.limit(time, device);
        }
        let request = self.requests;
        self.requests += 1;
        let state = StreamState::Opening { request };
        session.streams.insert(local, Stream { asked, state, held: VecDeque::new() });
        self.outputs.push_back(Output::OpenStream { request, peer: peer.to_owned(), reason: reason.to_owned() });
    }

    pub(super) fn stream_data(&mut self, time: Time, device: u64, local: u8, data: &[u8]) {
        let Some(session) = self.sessions.get_mut(device) else { return };
        let Some(stream) = session.streams.get_mut(&local) else {
            return self.refuse(time, device, ErrorCode::BadStream);
        };
        if data.is_empty() {
            return;
        }
        self.stats.audio_received += 1;
        match stream.state {
            StreamState::Open { stream } => self.outputs.push_back(Output::SendAudio { stream, data: data.to_vec() }),
            StreamState::Opening { .. } | StreamState::Requested { .. } => {
                if stream.held.len() >= HELD_FRAMES {
                    stream.held.pop_front();
                    self.stats.audio_dropped += 1;
                }
                stream.held.push_back(data.to_vec());
            }
            StreamState::Offered { .. } => self.stats.audio_dropped += 1,
        }
    }

    /// Ends a stream. One that the device has not got has ended already.
    pub(super) fn close_stream(&mut self, time: Time, device: u64, local: u8) {
        let Some(session) = self.sessions.get_mut(device) else { return };
        match session.streams.remove(&local).map(|stream| stream.state) {
            // The answer to a request finds no stream, and ends it then.
            None | Some(StreamState::Opening { .. }) => {}
            Some(StreamState::Offered { stream }) => {
                self.streams.remove(&stream);
                self.outputs.push_back(Output::RejectStream { stream, reason: "the device declined" });
            }
            Some(StreamState::Requested { stream } | StreamState::Open { stream }) => {
                self.streams.remove(&stream);
                self.outputs.push_back(Output::CloseStream { stream });
            }
        }
        self.tell_closed(time, device, local);
    }

    /// Accepts a stream that was offered. Once more changes nothing.
    pub(super) fn accept_stream(&mut self, time: Time, device: u64, local: u8) {
        let stream = self.sessions.get_mut(device).and_then(|session| session.streams.get_mut(&local));
        match stream.map(|stream| (stream.state, stream)) {
            Some((StreamState::Offered { stream: id }, stream)) => {
                stream.state = StreamState::Open { stream: id };
                self.outputs.push_back(Output::AcceptStream { stream: id });
            }
            Some((StreamState::Open { .. }, stream)) if stream.asked.is_none() => {}
            _ => self.refuse(time, device, ErrorCode::BadStream),
        }
    }

    /// The node has asked the peer of a device's request, as `stream`, or could not.
    pub fn handle_stream_opened(&mut self, time: Time, request: u64, opened: Option<u64>) {
        let asked = StreamState::Opening { request };
        let found = self.sessions.iter().find_map(|(device, session)| {
            let stream = session.streams.iter().find(|(_, stream)| stream.state == asked);
            stream.map(|(local, _)| (device, *local))
        });
        let (found, opened) = match (found, opened) {
            (None, None) => return,
            (None, Some(stream)) => return self.outputs.push_back(Output::CloseStream { stream }),
            (Some(found), opened) => (found, opened),
        };
        let (device, local) = found;
        let Some(session) = self.sessions.get_mut(device) else { return };
        if let Some(id) = opened {
            if let Some(stream) = session.streams.get_mut(&local) {
                stream.state = StreamState::Requested { stream: id };
                self.streams.insert(id, found);
            }
            return;
        }
        session.streams.remove(&local);
        self.stats.mesh_refused += 1;
        self.tell(time, device, ErrorCode::UnknownTarget);
        self.tell_closed(time, device, local);
    }

    /// The other end has accepted a device's stream. What the device sent before goes out now.
    pub fn handle_stream_accepted(&mut self, time: Time, stream: u64) {
        let Some(&(device, local)) = self.streams.get(&stream) else { return };
        let of_device = self.sessions.get_mut(device).and_then(|session| session.streams.get_mut(&local));
        let Some(of_device) = of_device.filter(|found| found.state == StreamState::Requested { stream }) else {
            return;
        };
        of_device.state = StreamState::Open { stream };
        let held = std::mem::take(&mut of_device.held);
        self.outputs.extend(held.into_iter().map(|data| Output::SendAudio { stream, data }));
        self.tell_accepted(time, device, local);
    }

    /// A device with the original protocol cannot be told, and need not be: it sends in any case.
    fn tell_accepted(&mut self, time: Time, device: u64, local: u8) {
        if self.sessions.get(device).is_some_and(Session::is_extended) {
            self.send(time, device, &Downlink::StreamAccepted { local_stream_id: local });
        }
    }

    fn tell_closed(&mut self, time: Time, device: u64, local: u8) {
        if self.sessions.get(device).is_some_and(Session::is_extended) {
            self.send(time, device, &Downlink::StreamClosed { local_stream_id: local });
        }
    }

    /// A peer asks this node for a stream. True if its label `device/<device id>/<reason>` says that it is for a small
    /// device: then the gateway answers.
    pub fn handle_stream_offered(&mut self, time: Time, stream: u64, peer: &str, label: &str) -> bool {
        let Some((id, reason)) = addressee(label) else { return false };
        let device = self.sessions.of(id).unwrap_or(id);
        let limit = self.config.limits.streams as usize;
        let reject = |reason| Output::RejectStream { stream, reason };
        let Some(session) = self.sessions.get_mut(device) else {
            self.outputs.push_back(reject("there is no such device at this gateway"));
            return true;
        };
        let free = (FIRST_OFFERED..=u8::MAX).find(|local| !session.streams.contains_key(local));
        let local = match free {
            Some(local) if session.is_extended() && session.streams.len() < limit => local,
            Some(_) if !session.is_extended() => {
                self.outputs.push_back(reject("the device's protocol has no audio for it"));
                return true;
            }
            _ => {
                self.outputs.push_back(reject("the device has all the streams that it may have"));
                return true;
            }
        };
        let state = StreamState::Offered { stream };
        session.streams.insert(local, Stream { asked: None, state, held: VecDeque::new() });
        self.streams.insert(stream, (device, local));
        let offer = Downlink::StreamOffer { local_stream_id: local, peer_id: peer, reason };
        if self.send(time, device, &offer) != Sent::Yes {
            self.streams.remove(&stream);
            if let Some(session) = self.sessions.get_mut(device) {
                session.streams.remove(&local);
            }
            self.outputs.push_back(reject("the device cannot be told"));
        }
        true
    }

    /// A frame of audio for a device. A frame longer than a datagram comes in parts, which end between samples of
    /// 16-bit stereo: that suits PCM, which the original protocol is for.
    pub fn handle_audio(&mut self, time: Time, stream: u64, data: &[u8]) {
        let Some(&(device, local)) = self.streams.get(&stream) else { return };
        let Some(session) = self.sessions.get(device) else { return };
        if !session.is_extended() {
            self.stats.not_asked_for += 1;
            return;
        }
        // Variant, stream, and a length of up to two bytes.
        let part = (session.max_frame_bytes().min(MAX_DATAGRAM_BYTES) - 4) & !3;
        for data in data.chunks(part) {
            let sent = self.send(time, device, &Downlink::StreamData { local_stream_id: local, data });
            self.stats.audio_sent += u64::from(sent == Sent::Yes);
        }
    }

    /// A stream has ended: the other end's doing, or the network's.
    pub fn handle_stream_closed(&mut self, time: Time, stream: u64) {
        let Some((device, local)) = self.streams.remove(&stream) else { return };
        let Some(session) = self.sessions.get_mut(device) else { return };
        let ended = session.streams.remove(&local);
        if !session.is_extended() {
            // It has no frame for that: an error tells it that its audio goes nowhere.
            let was_asked = ended.is_some_and(|ended| matches!(ended.state, StreamState::Requested { .. }));
            let code = if was_asked { ErrorCode::UnknownTarget } else { ErrorCode::BadStream };
            return self.tell(time, device, code);
        }
        self.send(time, device, &Downlink::StreamClosed { local_stream_id: local });
    }
}

/// Whether the label of an offered stream, `device/<device id>/<reason>`, says that it is for a small device.
#[must_use]
pub fn is_for_small_device(label: &str) -> bool {
    addressee(label).is_some()
}

/// The device and the reason in a label `device/<device id>/<reason>`.
fn addressee(label: &str) -> Option<(u64, &str)> {
    let (device, reason) = label.strip_prefix("device/")?.split_once('/')?;
    Some((device.parse().ok()?, reason))
}
