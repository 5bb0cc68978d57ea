//! Why has a connection not come to be?

use std::error::Error;
use std::time::Duration;

use libp2p_core::upgrade::NegotiationError;
use libp2p_swarm::{ConnectionDenied, DialError};

use crate::engine::{DialFailure, Refusal};
use crate::net::translate::{causes, cut, peer_id, root_cause, text};

/// From the first byte to the last of a handshake; a peer that takes longer is no peer.
pub(in crate::net) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

const MAX_REASON_BYTES: usize = 512;
const OTHER_KEY: &str = "another network_key";

/// Why the connection policy refused a connection. No other behaviour that the engine hears of refuses any.
pub(super) fn refusal(denied: &ConnectionDenied) -> Refusal {
    denied.downcast_ref().copied().unwrap_or(Refusal::MaxPeers)
}

/// Why a dial failed.
pub(super) fn dial_failure(error: &DialError) -> DialFailure {
    let reason = match error {
        DialError::Denied { cause } => return DialFailure::Refused(refusal(cause)),
        // The swarm takes this node's own addresses out of a dial; there was at least one address.
        DialError::LocalPeerId { .. } | DialError::NoAddresses => return DialFailure::Myself,
        DialError::WrongPeerId { obtained, address } => {
            return DialFailure::WrongPeer { address: text(address), obtained: peer_id(obtained) };
        }
        DialError::Aborted => "given up".to_owned(),
        DialError::DialPeerConditionFalse(_) => "connected already".to_owned(),
        DialError::Transport(errors) => {
            let texts = errors.iter().map(|(address, error)| match errors.len() {
                1 => dial_error(error),
                _ => format!("{}: {}", text(address), dial_error(error)),
            });
            texts.collect::<Vec<_>>().join("; ")
        }
    };
    DialFailure::Unreachable(cut(reason, MAX_REASON_BYTES))
}

/// Somebody who hangs up in the middle, keeps silent or talks nonsense may have a reason that the socket does not know.
fn dial_error(error: &(dyn Error + 'static)) -> String {
    let cause = root_cause(error);
    let text = cause.to_lowercase();
    let is_any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // With another network_key either end waits for the rest of what the noise seems to announce.
    if is_any(&["timeout has been reached"]) {
        let within = HANDSHAKE_TIMEOUT;
        return format!("no handshake within {within:?}; it may be out of reach, no node of AVI, or have {OTHER_KEY}");
    }
    if is_any(&["reset", "broken pipe", "eof", "end of file"]) {
        return format!("{cause}: closed in the handshake; it may be full, no node of AVI, or have {OTHER_KEY}");
    }
    if causes(error).any(|cause| cause.is::<NegotiationError>() || cause.is::<libp2p_noise::Error>()) {
        return format!("{cause}: nonsense in the handshake; it may be no node of AVI, or have {OTHER_KEY}");
    }
    cause
}
