//! What does an engine take from its secrets, and how does it go on without them? For a recording, which has no secret.

use serde::{Deserialize, Serialize};

use super::Engine;
use super::io::SubstreamId;
use crate::path::Drawn;

/// What the secrets of an engine have given for one input.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// Of the sessions of datagrams.
    pub(crate) sessions: Drawn,
    /// The signatures of this node's own entries of the context.
    signatures: Vec<Signature>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Signature(#[serde(with = "crate::recording::array")] [u8; 64]);

impl Taken {
    /// Whether there is nothing that a recording must have.
    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.sessions.is_empty() && self.sessions.tokens.is_empty() && self.signatures.is_empty()
    }
}

impl Engine {
    /// Keeps what its secrets give from now on, for [`Engine::take_drawn`].
    pub(crate) fn keep_drawn(&mut self) {
        self.streams.secrets.keep();
        #[cfg(feature = "context")]
        self.context.iter_mut().for_each(|context| context.keep_signatures());
    }

    pub(crate) fn take_drawn(&mut self) -> Taken {
        Taken {
            sessions: self.streams.secrets.take(),
            #[cfg(feature = "context")]
            signatures: match &mut self.context {
                Some(context) => context.take_signatures().into_iter().map(Signature).collect(),
                None => Vec::new(),
            },
            #[cfg(not(feature = "context"))]
            signatures: Vec::new(),
        }
    }

    /// What the secrets of an engine that was recorded give next.
    pub(crate) fn supply(&mut self, taken: Taken) {
        self.streams.secrets.supply(taken.sessions);
        #[cfg(feature = "context")]
        if let Some(context) = &mut self.context {
            context.supply(taken.signatures.into_iter().map(|Signature(signature)| signature).collect());
        }
    }

    /// Makes what a recording does not have of an engine.
    pub(crate) fn complete(&mut self) {
        #[cfg(feature = "context")]
        self.context.iter_mut().for_each(|context| context.complete());
    }

    /// Whether a stream uses the substream. Otherwise its bytes mean nothing.
    pub(crate) fn uses_substream(&self, substream: SubstreamId) -> bool {
        self.streams.by_substream.contains_key(&substream)
    }

    pub(crate) fn local(&self) -> &crate::id::PeerId {
        &self.local
    }
}
