//! Why does a command end without success, and with which exit code?

use std::path::PathBuf;

use avi_p2p::AviP2pError;
use thiserror::Error;

/// Why a command has not done what it was asked for.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// It ran, and the answer is no.
    #[error("{0}")]
    Finding(String),
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong; the text has the file and the line.
    #[error("{0}")]
    Config(String),
    /// A file cannot be read or written.
    #[error("{path:?}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why, and what was expected.
        reason: String,
    },
    /// The node cannot run.
    #[error("{0}")]
    Network(String),
    /// A signal has ended it; its number.
    #[error("interrupted")]
    Interrupted(u8),
    /// Nobody reads standard output any more.
    #[error("standard output is closed")]
    OutputClosed,
}

impl Failure {
    /// The exit code, as `avi --help` documents it.
    pub(crate) fn code(&self) -> u8 {
        match self {
            // As of any program in a pipe whose reader has enough.
            Self::OutputClosed => 0,
            Self::Finding(_) => 1,
            Self::Usage(_) => 2,
            Self::Config(_) | Self::File { .. } => 3,
            Self::Network(_) => 4,
            Self::Interrupted(signal) => 128 + signal,
        }
    }

    /// Whether a person needs to be told.
    pub(crate) fn is_told(&self) -> bool {
        !matches!(self, Self::OutputClosed | Self::Interrupted(_))
    }

    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::File { path: path.into(), reason: reason.to_string() }
    }
}

impl From<AviP2pError> for Failure {
    fn from(error: AviP2pError) -> Self {
        let text = error.to_string();
        match error {
            AviP2pError::InvalidConfig { .. }
            | AviP2pError::Identity { .. }
            | AviP2pError::ContextFile { .. }
            | AviP2pError::RecorderFile { .. } => Self::Config(text),
            AviP2pError::ListenFailed { .. }
            | AviP2pError::NetworkError(_)
            | AviP2pError::Io(_)
            | AviP2pError::ChannelClosed
            | AviP2pError::Panicked(_) => Self::Network(text),
            AviP2pError::InvalidTopic(_)
            | AviP2pError::InvalidPeerId(_)
            | AviP2pError::InvalidAddress { .. }
            | AviP2pError::InvalidContextPath { .. }
            | AviP2pError::InvalidContextValue { .. }
            | AviP2pError::PayloadTooLarge { .. } => Self::Usage(text),
            _ => Self::Finding(text),
        }
    }
}
