//! Which nodes are announced to each other on one network, as by mDNS?

use std::collections::BTreeMap;
use std::net::SocketAddr;

use avi_p2p::PeerId;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::stream::BoxStream;

use super::Host;

/// All announced nodes, and all listeners.
#[derive(Default)]
pub(super) struct Lan {
    announced: BTreeMap<Host, PeerId>,
    ears: Vec<UnboundedSender<(PeerId, SocketAddr)>>,
}

impl Lan {
    /// Announces a node to all present and future listeners.
    pub(super) fn announce(&mut self, host: Host, peer: PeerId) {
        self.ears.retain(|ear| ear.unbounded_send((peer.clone(), host.socket())).is_ok());
        self.announced.insert(host, peer);
    }

    /// The announced nodes, and those that will be announced.
    pub(super) fn listen_in(&mut self) -> BoxStream<'static, (PeerId, SocketAddr)> {
        let (ear, heard) = unbounded();
        for (host, peer) in &self.announced {
            // The receiver `heard` still exists, so sending cannot fail.
            let _ = ear.unbounded_send((peer.clone(), host.socket()));
        }
        self.ears.push(ear);
        heard.boxed()
    }
}
