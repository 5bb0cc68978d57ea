//! How do a small device and its gateway speak? The frames, in [postcard](https://postcard.jamesmunns.com)'s encoding.
//!
//! The order of variants and fields is the wire format. What is new is appended.

use serde::{Deserialize, Serialize};

/// The longest datagram in either direction, in bytes.
pub const MAX_DATAGRAM_BYTES: usize = 1024;

/// How a button was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PressType {
    /// Once.
    Single,
    /// Twice in a short time.
    Double,
    /// For a long time.
    Long,
}

/// What a sensor measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum SensorValue {
    /// Degrees Celsius; finite.
    Temperature(f32),
    /// Per cent; finite.
    Humidity(f32),
    /// Per cent.
    Battery(u8),
    /// On or off.
    Status(bool),
    /// A number without a unit.
    Raw(i32),
}

/// What a device sends. Variants 0 to 8 are those of the original protocol.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Uplink<'a> {
    /// Begins a plain session.
    Hello {
        /// The device's number.
        device_id: u64,
    },
    /// Asks for the messages of a topic.
    Subscribe {
        /// The topic, as it is: there are no wildcards.
        topic: &'a str,
    },
    /// Ends that.
    Unsubscribe {
        /// The topic.
        topic: &'a str,
    },
    /// Sends a message to all subscribers of a topic.
    Publish {
        /// The topic.
        topic: &'a str,
        /// The message.
        data: &'a [u8],
    },
    /// Asks a node of the mesh for a stream of audio.
    StreamStart {
        /// The device's own number for it, 0 to 127.
        local_stream_id: u8,
        /// The node's peer id.
        target_peer_id: &'a str,
        /// What it is for: the stream's label.
        reason: &'a str,
    },
    /// A frame of audio.
    StreamData {
        /// The stream.
        local_stream_id: u8,
        /// The frame.
        data: &'a [u8],
    },
    /// Ends a stream, or refuses one that was offered.
    StreamClose {
        /// The stream.
        local_stream_id: u8,
    },
    /// A button was pressed.
    ButtonPress {
        /// Which.
        button_id: u8,
        /// How.
        press_type: PressType,
        /// Whatever the device adds.
        custom_data: &'a str,
    },
    /// A sensor has a value.
    SensorUpdate {
        /// Which.
        sensor_name: &'a str,
        /// The value.
        data: SensorValue,
        /// Whatever the device adds.
        custom_data: &'a str,
    },
    /// Asks for a `Pong`: the session goes on. Since version 1 of the gateway, as all that follow.
    Ping {
        /// Comes back in the `Pong`.
        token: u32,
    },
    /// Begins a plain session as `Hello`, and asks for the downlink frames that the original protocol does not have.
    HelloExtended {
        /// The device's number.
        device_id: u64,
    },
    /// Accepts a stream that was offered.
    StreamAccept {
        /// The stream.
        local_stream_id: u8,
    },
    /// Ends the session.
    Goodbye,
}

/// What a gateway sends. Variants 0 to 4 are those of the original protocol; a device that began with `Hello` never
/// gets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Downlink<'a> {
    /// The session has begun.
    Welcome,
    /// What the device sent was refused, or something for it was lost.
    Error {
        /// An [`ErrorCode`].
        reason: u8,
    },
    /// A message on a topic.
    Message {
        /// The topic.
        topic: &'a str,
        /// The message.
        data: &'a [u8],
    },
    /// The messages of a topic will come.
    SubscribeAck {
        /// The topic.
        topic: &'a str,
    },
    /// The messages of a topic will not come any more.
    UnsubscribeAck {
        /// The topic.
        topic: &'a str,
    },
    /// Answers a `Ping`. Only for a device that asked, as all that follow.
    Pong {
        /// That of the `Ping`.
        token: u32,
    },
    /// A node of the mesh asks this device for a stream of audio: `StreamAccept` or `StreamClose`.
    StreamOffer {
        /// The gateway's number for it, 128 to 255.
        local_stream_id: u8,
        /// The node's peer id.
        peer_id: &'a str,
        /// What it is for.
        reason: &'a str,
    },
    /// The node that the device asked has accepted the stream.
    StreamAccepted {
        /// The stream.
        local_stream_id: u8,
    },
    /// Audio from the node.
    StreamData {
        /// The stream.
        local_stream_id: u8,
        /// A frame, or a part of one that was longer.
        data: &'a [u8],
    },
    /// The stream has ended.
    StreamClosed {
        /// The stream.
        local_stream_id: u8,
    },
}

/// Why something was refused or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The datagram is no frame of the protocol.
    BadFrame = 1,
    /// A datagram, or a message or frame of audio for the device, is longer than a datagram may be.
    Oversize = 2,
    /// The gateway has no session with this address: say `Hello`.
    UnknownSession = 3,
    /// The gateway has all the sessions that it may have.
    TooManySessions = 4,
    /// The device, or the gateway, has all the subscriptions that it may have.
    TooManySubscriptions = 5,
    /// The device sends too fast, and what came last is dropped. At most once a second.
    Rate = 6,
    /// The target of a stream is no peer id, or a node that cannot be reached.
    UnknownTarget = 7,
    /// The device has no such stream, or one by this number already.
    BadStream = 8,
    /// The device has all the streams that it may have.
    TooManyStreams = 9,
    /// A topic, name, reason or value is empty, too long, reserved, or has characters that it may not have.
    BadName = 10,
    /// This device may not have a plain session: plain sessions are off, or off for this address, or the device has a
    /// key.
    NotAllowed = 11,
    /// The mesh did not take it: try again later.
    Congested = 12,
    /// The device has all the sensors that it may have.
    TooManySensors = 13,
    /// The session has ended: begin another.
    SessionEnded = 14,
}

/// One frame, and nothing behind it.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((frame, [])) => Some(frame),
        _ => None,
    }
}

/// A frame as bytes, of any length.
pub(super) fn encode<T: Serialize>(frame: &T) -> Vec<u8> {
    // A growing buffer takes everything, and these types have no maps of unknown length: this cannot fail.
    postcard::to_allocvec(frame).unwrap_or_default()
}

impl<'a> Uplink<'a> {
    /// The frame of a datagram. `None` if it is no frame, or something follows it.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        decode(bytes)
    }

    /// The frame as bytes. A datagram may be too short for it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

impl<'a> Downlink<'a> {
    /// The frame of a datagram. `None` if it is no frame, or something follows it.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        decode(bytes)
    }

    /// The frame as bytes. A datagram may be too short for it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Whether the original protocol has this frame.
    #[must_use]
    pub fn is_original(&self) -> bool {
        matches!(
            self,
            Self::Welcome
                | Self::Error { .. }
                | Self::Message { .. }
                | Self::SubscribeAck { .. }
                | Self::UnsubscribeAck { .. }
        )
    }
}
