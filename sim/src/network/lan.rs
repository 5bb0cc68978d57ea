//! Which nodes are announced to each other on one network, as by mDNS?

use std::collections::BTreeMap;
use std::net::SocketAddr;

use avi_p2p::PeerId;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::stream::BoxStream;

use super::{Homes, Host};

/// All announced nodes, and all listeners.
pub(super) struct Lan {
    homes: Homes,
    announced: BTreeMap<Host, PeerId>,
    ears: Vec<UnboundedSender<(PeerId, SocketAddr)>>,
}

impl Lan {
    pub(super) fn new(homes: Homes) -> Self {
        Self { homes, announced: BTreeMap::new(), ears: Vec::new() }
    }

    /// Announces a node to all present and future listeners.
    pub(super) fn announce(&mut self, host: Host, peer: PeerId) {
        let socket = self.homes.socket(host);
        self.ears.retain(|ear| ear.unbounded_send((peer.clone(), socket)).is_ok());
        self.announced.insert(host, peer);
    }

    /// The announced nodes, and those that will be announced.
    pub(super) fn listen_in(&mut self) -> BoxStream<'static, (PeerId, SocketAddr)> {
        let (ear, heard) = unbounded();
        for (host, peer) in &self.announced {
            // The receiver `heard` still exists, so sending cannot fail.
            let _ = ear.unbounded_send((peer.clone(), self.homes.socket(*host)));
        }
        self.ears.push(ear);
        heard.boxed()
    }
}
