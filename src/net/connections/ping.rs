//! How often is a peer pinged? The engine says after which silence a connection ends; a lost ping only opens a new
//! substream.

use libp2p_ping::{Behaviour, Config};

use avi_p2p_proto::engine::{PING_INTERVAL, PING_TIMEOUT};

pub(in crate::net) fn behaviour() -> Behaviour {
    Behaviour::new(Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT))
}
