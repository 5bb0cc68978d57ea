//! What happens in one call, once it is open?

use avi_p2p::{AudioItem, AudioReader, AviP2pHandle, StreamId};

use crate::Outcome;
use crate::codec::{Ear, FRAME, Voice};
use crate::sound::{Choice, Sink, Source};

/// Frames between two looks at the other end's reports, which come once a second.
const FRAMES_A_LOOK: u64 = 50;

pub struct Call {
    pub stream: StreamId,
    reader: AudioReader,
    source: Source,
    sink: Sink,
    voice: Voice,
    ear: Ear,
    is_speaking: bool,
    spoken: u64,
}

/// What a call waits for.
pub enum Next {
    /// 20 ms to send; `None`: there will be no more.
    Said(Option<Box<[i16; FRAME]>>),
    /// An item to play; `None`: the call is over, and all is played.
    Heard(Option<AudioItem>),
}

impl Call {
    pub fn new(stream: StreamId, reader: AudioReader, sound: &Choice, is_speaking: bool) -> Outcome<Self> {
        let (source, sink) = sound.open()?;
        let (voice, ear) = (Voice::new()?, Ear::new()?);
        Ok(Self { stream, reader, source, sink, voice, ear, is_speaking, spoken: 0 })
    }

    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Next {
        tokio::select! {
            item = self.reader.recv() => Next::Heard(item),
            frame = self.source.frame() => Next::Said(frame.map(Box::new)),
        }
    }

    /// Whether the microphone is on now.
    pub fn toggle(&mut self) -> bool {
        self.is_speaking = !self.is_speaking;
        self.is_speaking
    }

    /// While the microphone is off nothing is sent; the other end's playout waits.
    pub async fn say(&mut self, handle: &AviP2pHandle, frame: &[i16; FRAME]) -> Outcome {
        if !self.is_speaking {
            return Ok(());
        }
        handle.send_audio(self.stream, self.voice.encode(frame)?).await?;
        self.spoken += 1;
        if self.spoken.is_multiple_of(FRAMES_A_LOOK)
            && let Some(report) = handle.audio_stats(self.stream).await?.remote
        {
            self.voice.follow_loss(report.highest_sequence.saturating_add(1), report.lost);
        }
        Ok(())
    }

    /// There is nothing more to say.
    pub fn fall_silent(&mut self) {
        self.source = Source::Silence;
    }

    pub fn hear(&mut self, item: AudioItem) -> Outcome {
        self.sink.play(&self.ear.hear(item))
    }

    pub fn follow_rate(&mut self, bits_per_second: Option<u64>) -> u64 {
        self.voice.follow_rate(bits_per_second)
    }

    /// Ends the sound, and says how it was.
    pub async fn finish(self, handle: &AviP2pHandle) -> Outcome<String> {
        self.sink.finish()?;
        let stats = handle.audio_stats(self.stream).await?;
        Ok(format!(
            "{} frames spoken by {:?}, {} dropped; {} received, {} lost, jitter {:?}; {:?}; {:?}",
            self.spoken,
            stats.path,
            stats.frames_dropped,
            stats.frames_received,
            stats.frames_lost,
            stats.jitter,
            self.ear.figures,
            self.reader.playout_stats()
        ))
    }
}
