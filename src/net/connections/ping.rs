//! What makes a peer speak, so that its silence can be noticed? The engine says how long that may last.

use libp2p_ping::{Behaviour, Config};

use crate::engine::{PING_INTERVAL, PING_TIMEOUT};

pub(in crate::net) fn behaviour() -> Behaviour {
    Behaviour::new(Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT))
}
