//! Which secrets do the nodes of a seed have? The same ones in every run, whatever happens in the run.

use avi_p2p::PeerId;
use libp2p_identity::Keypair;
use sha2::{Digest, Sha256};

use crate::network::Host;

/// The secret of a node for this use.
pub fn secret(seed: u64, what: &str, host: Host) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(b"avi-sim ");
    digest.update(what);
    digest.update(seed.to_le_bytes());
    digest.update(host.0.to_le_bytes());
    digest.finalize().into()
}

/// The secret of a node's identity.
pub fn identity(seed: u64, host: Host) -> [u8; 32] {
    secret(seed, "identity", host)
}

/// The key of a node.
pub fn keypair(seed: u64, host: Host) -> Keypair {
    Keypair::ed25519_from_bytes(identity(seed, host)).expect("any 32 bytes are the secret of an Ed25519 key")
}

/// The peer id of a node.
pub fn peer_id(seed: u64, host: Host) -> PeerId {
    PeerId::new(&keypair(seed, host).public().to_peer_id().to_base58())
}
