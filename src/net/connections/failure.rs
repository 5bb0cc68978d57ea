//! Why did a connection attempt fail?

use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;

use libp2p_core::upgrade::NegotiationError;
use libp2p_noise as noise;
use libp2p_swarm::{ConnectionDenied, DialError};
use thiserror::Error as ThisError;

use crate::net::translate::{causes, cut, peer_id, root_cause, text};
use avi_p2p_proto::engine::{DialFailure, Refusal};

/// The time limit for a whole handshake.
pub(in crate::net) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The transport gave up a handshake after [`HANDSHAKE_TIMEOUT`].
#[derive(Debug, ThisError)]
#[error("no handshake within {HANDSHAKE_TIMEOUT:?}")]
pub(in crate::net) struct HandshakeTimeout;

const MAX_REASON_BYTES: usize = 512;
const OTHER_KEY: &str = "another network_key";

/// Why the connection policy refused a connection. Besides the gate only routing refuses connections, and the engine is
/// not told of those.
pub(super) fn refusal(denied: &ConnectionDenied) -> Refusal {
    denied.downcast_ref().copied().unwrap_or(Refusal::MaxPeers)
}

/// Why a dial failed.
pub(super) fn dial_failure(error: &DialError) -> DialFailure {
    let reason = match error {
        DialError::Denied { cause } => return DialFailure::Refused(refusal(cause)),
        // The swarm removes this node's own addresses from a dial. There was at least one address, so it was this
        // node's own.
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
            let texts = cut(texts.collect::<Vec<_>>().join("; "), MAX_REASON_BYTES);
            let has_hung_up = errors.iter().all(|(_, error)| is_hang_up(error));
            return if has_hung_up { DialFailure::HungUp(texts) } else { DialFailure::Unreachable(texts) };
        }
    };
    DialFailure::Unreachable(reason)
}

/// A peer that closes the connection during the handshake, is silent or sends invalid data may have a reason that the
/// socket error does not show. The text lists the likely ones.
fn dial_error(error: &(dyn Error + 'static)) -> String {
    let cause = root_cause(error);
    // With a different network_key each end waits for the rest of the length that the encrypted noise seems to
    // announce.
    if causes(error).any(|cause| cause.is::<HandshakeTimeout>()) {
        return format!("{HandshakeTimeout}; it may be out of reach, no node of AVI, or have {OTHER_KEY}");
    }
    if is_hang_up(error) {
        return format!("{cause}: closed in the handshake; it may be full, no node of AVI, or have {OTHER_KEY}");
    }
    if causes(error).any(|cause| cause.is::<NegotiationError>() || cause.is::<noise::Error>()) {
        return format!("{cause}: nonsense in the handshake; it may be no node of AVI, or have {OTHER_KEY}");
    }
    cause
}

/// Whether the other end closed the connection during the handshake.
fn is_hang_up(error: &(dyn Error + 'static)) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(socket_kind(error), Some(ConnectionReset | BrokenPipe | UnexpectedEof))
}

/// The kind of the innermost socket error. Noise's own error does not return the socket's error as its source.
fn socket_kind(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    let of_socket = |cause: &(dyn Error + 'static)| match cause.downcast_ref() {
        Some(noise::Error::Io(error)) => socket_kind(error).or(Some(error.kind())),
        _ => cause.downcast_ref().map(io::Error::kind),
    };
    causes(error).filter_map(of_socket).last()
}

#[cfg(test)]
mod tests {
    use libp2p_core::Multiaddr;
    use libp2p_core::transport::TransportError;

    use super::*;

    fn reason(error: impl Error + Send + Sync + 'static) -> String {
        // Wraps an error as libp2p wraps the errors of a transport.
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/9000".parse().unwrap();
        let error = TransportError::Other(io::Error::other(error));
        match dial_failure(&DialError::Transport(vec![(address, error)])) {
            DialFailure::Unreachable(reason) => {
                assert!(!reason.contains("closed in the handshake"), "{reason}");
                reason
            }
            DialFailure::HungUp(reason) => {
                assert!(reason.contains("closed in the handshake"), "{reason}");
                reason
            }
            other => panic!("{other:?}"),
        }
    }

    fn closed(cause: &str) -> String {
        format!("{cause}: closed in the handshake; it may be full, no node of AVI, or have another network_key")
    }

    fn nonsense(cause: &str) -> String {
        format!("{cause}: nonsense in the handshake; it may be no node of AVI, or have another network_key")
    }

    #[test]
    fn what_a_socket_says_is_passed_on_and_explained_by_its_kind() {
        for (kind, is_hang_up) in [
            (ErrorKind::ConnectionRefused, false),
            (ErrorKind::HostUnreachable, false),
            (ErrorKind::TimedOut, false),
            (ErrorKind::ConnectionReset, true),
            (ErrorKind::BrokenPipe, true),
            (ErrorKind::UnexpectedEof, true),
        ] {
            // The kind decides, whatever the text is.
            let error = || io::Error::new(kind, "gone");
            let expected = if is_hang_up { closed("gone") } else { "gone".to_owned() };
            assert_eq!(reason(error()), expected, "{kind:?}");
            assert_eq!(reason(io::Error::other(error())), expected, "{kind:?}, wrapped once more");
            let in_noise = || noise::Error::Io(error());
            let expected = if is_hang_up { closed("gone") } else { nonsense("gone") };
            assert_eq!(reason(in_noise()), expected, "{kind:?} in noise");
            assert_eq!(reason(io::Error::other(in_noise())), expected, "{kind:?} in noise, wrapped once more");
            let in_negotiation = NegotiationError::from(error());
            assert_eq!(reason(in_negotiation), expected, "{kind:?} in negotiation");
        }
        assert_eq!(reason(io::Error::other("reset at eof")), "reset at eof", "words alone say nothing");
    }

    #[test]
    fn nonsense_and_silence_in_a_handshake_have_other_causes_than_the_socket_knows() {
        let failed = NegotiationError::Failed;
        assert_eq!(reason(NegotiationError::Failed), nonsense(&failed.to_string()));
        let bad = noise::Error::BadSignature;
        assert_eq!(reason(noise::Error::BadSignature), nonsense(&bad.to_string()));
        let silent = "no handshake within 10s; it may be out of reach, no node of AVI, or have another network_key";
        assert_eq!(reason(HandshakeTimeout), silent);
        assert_eq!(reason(io::Error::other(HandshakeTimeout)), silent);
    }
}
