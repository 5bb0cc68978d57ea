//! The frames, and how their bodies are encoded and decoded.

use bytes::{BufMut, Bytes, BytesMut};

use super::reader::{Reader, WireError};
use crate::media::{MAX_CODEC_BYTES, MAX_LABEL_BYTES, Media};
use crate::path::{Key, SessionId};

/// The version that OPEN announces.
pub const WIRE_VERSION: u8 = 1;
/// The longest reason of REJECT and CLOSE, in bytes.
pub const MAX_REASON_BYTES: usize = 256;
/// The most bytes that DATA adds to its payload: the kind and two varints of 64 bits.
pub const DATA_OVERHEAD_BYTES: usize = 1 + 10 + 10;

const OPEN: u8 = 0x01;
const ACCEPT: u8 = 0x02;
const REJECT: u8 = 0x03;
const DATA: u8 = 0x04;
const CLOSE: u8 = 0x05;
const REPORT: u8 = 0x06;
const ACK: u8 = 0x07;
const MEDIA: u8 = 0x08;
const PROBE: u8 = 0x09;
const PROBED: u8 = 0x0a;
const RESUMABLE: u8 = 0x0b;
const RESUME: u8 = 0x0c;
/// Unknown kinds from this value on may not be skipped.
const CRITICAL: u8 = 0x80;

/// The version of MEDIA.
const MEDIA_VERSION: u8 = 1;

const FLAG_MEDIA: u8 = 0b01;
const FLAG_LABEL: u8 = 0b10;

/// Names a stream between two peers that have lost their connection. It is random, and means something only together
/// with the proven id of the peer it was given to.
pub type Token = [u8; 16];

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum Frame {
    /// Requests the stream; the first frame of the end that opened the substream.
    Open(Open),
    /// Accepts the request; the first frame of the other end, unless it rejects.
    Accept,
    /// Rejects the request; the last frame of the other end.
    Reject {
        /// The reason, for a program.
        code: Code,
        /// The reason, for a person; at most [`MAX_REASON_BYTES`].
        reason: String,
    },
    /// One frame of audio.
    Data {
        /// The index of the frame, counted from 0 by the sender.
        sequence: u64,
        /// Microseconds since the stream's first frame.
        timestamp_us: u64,
        /// The audio, as the application gave it.
        #[cfg_attr(feature = "recorder", serde(with = "crate::recording::lengths"))]
        payload: Bytes,
    },
    /// The last frame of a direction.
    Close {
        /// The reason, for a program.
        code: Code,
        /// The total number of frames that the sender's application gave.
        next_sequence: u64,
        /// The reason, for a person; at most [`MAX_REASON_BYTES`].
        reason: String,
    },
    /// What the receiver has measured so far.
    Report(Report),
    /// What has arrived so far.
    Ack(Ack),
    /// Invites the other end to send datagrams.
    Media(Invitation),
    /// Asks whether the path that it took works.
    Probe {
        /// A random number.
        token: u64,
    },
    /// Answers PROBE.
    Probed {
        /// The token of the PROBE.
        token: u64,
    },
    /// This end can go on with the stream on another connection.
    Resumable {
        /// What the other end must present.
        token: Token,
    },
    /// Goes on with a stream on this substream; the first frame of either direction.
    Resume {
        /// The token of the end that is asked; the same in its answer.
        token: Token,
        /// The sequence of the next frame of this direction.
        next_sequence: u64,
    },
}

/// The body of OPEN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Open {
    /// The description of the audio, if the application gave one.
    pub media: Option<Media>,
    /// The label of the stream, if the application gave one.
    pub label: Option<String>,
}

/// The body of REPORT: a receiver's view of a stream, as of RFC 3550 §6.4.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Report {
    /// Highest sequence received.
    pub highest_sequence: u64,
    /// Frames that never arrived.
    pub lost: u64,
    /// Frames that arrived too late to be played in time.
    pub late: u64,
    /// Interarrival jitter in microseconds.
    pub jitter_us: u64,
}

/// The body of ACK: what has arrived, several times a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Ack {
    /// Highest sequence received; 0 if `received` is 0.
    pub highest_sequence: u64,
    /// Frames received so far. With 0, the frame only says that its sender acknowledges.
    pub received: u64,
    /// How much longer the newest frame was on its way than the fastest one of late, in microseconds.
    pub delay_us: u64,
}

/// The body of MEDIA: how the end that sends it wants to be sent datagrams. [`Sealer`](crate::path::Sealer) makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub struct Invitation {
    /// The UDP port, at the address at which the other end knows this one. Not 0.
    pub port: u16,
    /// The session that the datagrams are for.
    pub id: SessionId,
    /// The key that seals them.
    pub key: Key,
}

/// Why a stream is rejected or closed, for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum Code {
    /// The application asked for it.
    Application,
    /// An answer did not come in time.
    Timeout,
    /// A limit was reached.
    Limit,
    /// The other end broke the protocol.
    Protocol,
    /// A code of a later version.
    Other(u8),
}

impl From<u8> for Code {
    fn from(code: u8) -> Self {
        match code {
            0 => Self::Application,
            1 => Self::Timeout,
            2 => Self::Limit,
            3 => Self::Protocol,
            other => Self::Other(other),
        }
    }
}

impl From<Code> for u8 {
    fn from(code: Code) -> Self {
        match code {
            Code::Application => 0,
            Code::Timeout => 1,
            Code::Limit => 2,
            Code::Protocol => 3,
            Code::Other(other) => other,
        }
    }
}

impl Frame {
    /// The frame's name in the byte-layout table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "OPEN",
            Self::Accept => "ACCEPT",
            Self::Reject { .. } => "REJECT",
            Self::Data { .. } => "DATA",
            Self::Close { .. } => "CLOSE",
            Self::Report(_) => "REPORT",
            Self::Ack(_) => "ACK",
            Self::Media(_) => "MEDIA",
            Self::Probe { .. } => "PROBE",
            Self::Probed { .. } => "PROBED",
            Self::Resumable { .. } => "RESUMABLE",
            Self::Resume { .. } => "RESUME",
        }
    }

    /// Appends the frame to `out`, with its length.
    #[inline]
    pub fn encode(&self, out: &mut BytesMut) {
        if let Self::Data { sequence, timestamp_us, payload } = self {
            return encode_data(*sequence, *timestamp_us, payload, out);
        }
        let mut body = BytesMut::with_capacity(64);
        match self {
            Self::Open(open) => encode_open(open, &mut body),
            Self::Accept => body.put_u8(ACCEPT),
            Self::Reject { code, reason } => {
                body.put_u8(REJECT);
                body.put_u8((*code).into());
                put_text(reason, MAX_REASON_BYTES, &mut body);
            }
            Self::Close { code, next_sequence, reason } => {
                body.put_u8(CLOSE);
                body.put_u8((*code).into());
                put_uvarint(*next_sequence, &mut body);
                put_text(reason, MAX_REASON_BYTES, &mut body);
            }
            Self::Report(report) => {
                body.put_u8(REPORT);
                for value in [report.highest_sequence, report.lost, report.late, report.jitter_us] {
                    put_uvarint(value, &mut body);
                }
            }
            Self::Ack(ack) => {
                body.put_u8(ACK);
                for value in [ack.highest_sequence, ack.received, ack.delay_us] {
                    put_uvarint(value, &mut body);
                }
            }
            Self::Media(invitation) => encode_invitation(invitation, &mut body),
            Self::Probe { token } => {
                body.put_u8(PROBE);
                body.put_u64(*token);
            }
            Self::Probed { token } => {
                body.put_u8(PROBED);
                body.put_u64(*token);
            }
            Self::Resumable { token } => {
                body.put_u8(RESUMABLE);
                body.put_slice(token);
            }
            Self::Resume { token, next_sequence } => {
                body.put_u8(RESUME);
                body.put_slice(token);
                put_uvarint(*next_sequence, &mut body);
            }
            Self::Data { .. } => {}
        }
        put_uvarint(body.len() as u64, out);
        out.put_slice(&body);
    }

    /// Decodes kind and body, without the length. Returns `None` for what may be skipped: an unknown kind, and a MEDIA
    /// of another version.
    #[inline]
    pub(super) fn decode(frame: Bytes) -> Result<Option<Self>, WireError> {
        let mut reader = Reader::new(frame);
        let kind = reader.u8("kind").map_err(|_| WireError::Empty)?;
        let frame = match kind {
            OPEN => Self::Open(decode_open(&mut reader)?),
            ACCEPT => Self::Accept,
            REJECT => Self::Reject {
                code: reader.u8("REJECT.code")?.into(),
                reason: reader.text("REJECT.reason", MAX_REASON_BYTES)?,
            },
            DATA => return decode_data(reader).map(Some),
            CLOSE => Self::Close {
                code: reader.u8("CLOSE.code")?.into(),
                next_sequence: reader.uvarint("CLOSE.next_sequence")?,
                reason: reader.text("CLOSE.reason", MAX_REASON_BYTES)?,
            },
            REPORT => Self::Report(Report {
                highest_sequence: reader.uvarint("REPORT.highest_sequence")?,
                lost: reader.uvarint("REPORT.lost")?,
                late: reader.uvarint("REPORT.late")?,
                jitter_us: reader.uvarint("REPORT.jitter_us")?,
            }),
            ACK => Self::Ack(Ack {
                highest_sequence: reader.uvarint("ACK.highest_sequence")?,
                received: reader.uvarint("ACK.received")?,
                delay_us: reader.uvarint("ACK.delay_us")?,
            }),
            MEDIA => match reader.u8("MEDIA.version")? {
                MEDIA_VERSION => Self::Media(decode_invitation(&mut reader)?),
                _ => return Ok(None),
            },
            PROBE => Self::Probe { token: reader.u64("PROBE.token")? },
            PROBED => Self::Probed { token: reader.u64("PROBED.token")? },
            RESUMABLE => Self::Resumable { token: reader.array("RESUMABLE.token")? },
            RESUME => Self::Resume {
                token: reader.array("RESUME.token")?,
                next_sequence: reader.uvarint("RESUME.next_sequence")?,
            },
            CRITICAL.. => return Err(WireError::UnknownKind { kind }),
            _ => return Ok(None),
        };
        reader.finish(frame.name()).map(|()| Some(frame))
    }
}

/// Appends a DATA frame to `out`, with its length, without copying the payload twice.
#[inline]
pub fn encode_data(sequence: u64, timestamp_us: u64, payload: &[u8], out: &mut BytesMut) {
    let (mut first, mut second) = (unsigned_varint::encode::u64_buffer(), unsigned_varint::encode::u64_buffer());
    let sequence = unsigned_varint::encode::u64(sequence, &mut first);
    let timestamp = unsigned_varint::encode::u64(timestamp_us, &mut second);
    let len = 1 + sequence.len() + timestamp.len() + payload.len();
    out.reserve(uvarint_bytes(len as u64) + len);
    put_uvarint(len as u64, out);
    out.put_u8(DATA);
    out.put_slice(sequence);
    out.put_slice(timestamp);
    out.put_slice(payload);
}

/// The number of bytes that [`encode_data`] appends.
#[inline]
pub fn data_bytes(sequence: u64, timestamp_us: u64, payload: usize) -> usize {
    let len = 1 + uvarint_bytes(sequence) + uvarint_bytes(timestamp_us) + payload;
    uvarint_bytes(len as u64) + len
}

fn decode_data(mut reader: Reader) -> Result<Frame, WireError> {
    let sequence = reader.uvarint("DATA.sequence")?;
    let timestamp_us = reader.uvarint("DATA.timestamp_us")?;
    let payload = reader.rest();
    if payload.is_empty() {
        return Err(WireError::Truncated { field: "DATA.payload" });
    }
    Ok(Frame::Data { sequence, timestamp_us, payload })
}

fn encode_open(open: &Open, body: &mut BytesMut) {
    body.put_u8(OPEN);
    body.put_u8(WIRE_VERSION);
    let media = if open.media.is_some() { FLAG_MEDIA } else { 0 };
    let label = if open.label.is_some() { FLAG_LABEL } else { 0 };
    body.put_u8(media | label);
    if let Some(media) = &open.media {
        put_text(&media.codec, MAX_CODEC_BYTES, body);
        body.put_u32(media.sample_rate_hz);
        body.put_u8(media.channels);
        body.put_u32(media.frame_duration_us);
    }
    if let Some(label) = &open.label {
        put_text(label, MAX_LABEL_BYTES, body);
    }
}

fn decode_open(reader: &mut Reader) -> Result<Open, WireError> {
    let version = reader.u8("OPEN.version")?;
    if version != WIRE_VERSION {
        return Err(WireError::OutOfRange { field: "OPEN.version", value: version.into() });
    }
    let flags = reader.u8("OPEN.flags")?;
    if flags & !(FLAG_MEDIA | FLAG_LABEL) != 0 {
        return Err(WireError::OutOfRange { field: "OPEN.flags", value: flags.into() });
    }
    let media = (flags & FLAG_MEDIA != 0).then(|| decode_media(reader)).transpose()?;
    let label = (flags & FLAG_LABEL != 0).then(|| reader.text("OPEN.label", MAX_LABEL_BYTES)).transpose()?;
    Ok(Open { media, label })
}

fn encode_invitation(invitation: &Invitation, body: &mut BytesMut) {
    body.put_u8(MEDIA);
    body.put_u8(MEDIA_VERSION);
    body.put_u8(0);
    body.put_u16(invitation.port);
    body.put_slice(invitation.id.as_bytes());
    body.put_slice(invitation.key.as_bytes());
}

fn decode_invitation(reader: &mut Reader) -> Result<Invitation, WireError> {
    let flags = reader.u8("MEDIA.flags")?;
    if flags != 0 {
        return Err(WireError::OutOfRange { field: "MEDIA.flags", value: flags.into() });
    }
    let port = reader.u16("MEDIA.port")?;
    if port == 0 {
        return Err(WireError::OutOfRange { field: "MEDIA.port", value: 0 });
    }
    let id = SessionId::new(reader.array("MEDIA.id")?);
    Ok(Invitation { port, id, key: Key::new(reader.array("MEDIA.key")?) })
}

fn decode_media(reader: &mut Reader) -> Result<Media, WireError> {
    Ok(Media {
        codec: reader.text("OPEN.codec", MAX_CODEC_BYTES)?,
        sample_rate_hz: reader.u32("OPEN.sample_rate_hz")?,
        channels: reader.u8("OPEN.channels")?,
        frame_duration_us: reader.u32("OPEN.frame_duration_us")?,
    })
}

/// Each byte carries seven bits.
fn uvarint_bytes(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_uvarint(value: u64, out: &mut BytesMut) {
    let mut buffer = unsigned_varint::encode::u64_buffer();
    out.put_slice(unsigned_varint::encode::u64(value, &mut buffer));
}

/// Writes the text, truncated to `max_bytes` at a character boundary, so that the result can always be decoded.
fn put_text(text: &str, max_bytes: usize, out: &mut BytesMut) {
    let text = &text[..text.floor_char_boundary(max_bytes)];
    put_uvarint(text.len() as u64, out);
    out.put_slice(text.as_bytes());
}
