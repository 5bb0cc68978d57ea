//! Where does sound come from, and where does it go?

use std::path::PathBuf;

use crate::Outcome;
use crate::codec::FRAME;
#[cfg(feature = "devices")]
use crate::devices::{Loudspeaker, Microphone};
use crate::wav::{self, Speaking, Writer};

/// What the user chose. With a file for one direction, the devices are left alone in the other too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub wav_in: Option<PathBuf>,
    pub wav_out: Option<PathBuf>,
}

pub enum Source {
    File(Speaking),
    Silence,
    #[cfg(feature = "devices")]
    Device(Microphone),
}

pub enum Sink {
    File(Writer),
    Nobody,
    #[cfg(feature = "devices")]
    Device(Loudspeaker),
}

impl Choice {
    pub fn is_file(&self) -> bool {
        self.wav_in.is_some() || self.wav_out.is_some()
    }

    /// For one call: devices are open only during calls.
    pub fn open(&self) -> Outcome<(Source, Sink)> {
        if !self.is_file() {
            return devices();
        }
        let source = match &self.wav_in {
            Some(file) => Source::File(Speaking::new(wav::read(file)?)),
            None => Source::Silence,
        };
        let sink = match &self.wav_out {
            Some(file) => Sink::File(wav::create(file)?),
            None => Sink::Nobody,
        };
        Ok((source, sink))
    }
}

#[cfg(feature = "devices")]
fn devices() -> Outcome<(Source, Sink)> {
    Ok((Source::Device(Microphone::open()?), Sink::Device(Loudspeaker::open()?)))
}

#[cfg(not(feature = "devices"))]
fn devices() -> Outcome<(Source, Sink)> {
    Err("this program was built without the feature `devices`: give it --wav-in FILE, --wav-out FILE, or both".into())
}

impl Source {
    /// The next 20 ms; `None` once there will be no more. Nothing is lost if the future is dropped.
    pub async fn frame(&mut self) -> Option<[i16; FRAME]> {
        match self {
            Self::File(speaking) => speaking.frame().await,
            Self::Silence => std::future::pending().await,
            #[cfg(feature = "devices")]
            Self::Device(microphone) => Some(microphone.frame().await),
        }
    }
}

impl Sink {
    pub fn play(&mut self, samples: &[i16]) -> Outcome {
        match self {
            Self::File(wav) => {
                for sample in samples {
                    wav.write_sample(*sample)?;
                }
            }
            Self::Nobody => {}
            #[cfg(feature = "devices")]
            Self::Device(loudspeaker) => loudspeaker.play(samples),
        }
        Ok(())
    }

    pub fn finish(self) -> Outcome {
        match self {
            Self::File(wav) => Ok(wav.finalize()?),
            _ => Ok(()),
        }
    }
}
