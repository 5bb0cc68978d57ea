//! Who hears of whom on one network, as by mDNS?

use std::collections::BTreeMap;
use std::net::SocketAddr;

use avi_p2p::PeerId;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::stream::BoxStream;

use super::Host;

/// Everyone who is there, and everyone who listens.
#[derive(Default)]
pub(super) struct Lan {
    announced: BTreeMap<Host, PeerId>,
    ears: Vec<UnboundedSender<(PeerId, SocketAddr)>>,
}

impl Lan {
    /// Tells everyone who listens, now and later.
    pub(super) fn announce(&mut self, host: Host, peer: PeerId) {
        self.ears.retain(|ear| ear.unbounded_send((peer.clone(), host.socket())).is_ok());
        self.announced.insert(host, peer);
    }

    /// Who is there, and who comes.
    pub(super) fn listen_in(&mut self) -> BoxStream<'static, (PeerId, SocketAddr)> {
        let (ear, heard) = unbounded();
        for (host, peer) in &self.announced {
            // The other end is in our hands.
            let _ = ear.unbounded_send((peer.clone(), host.socket()));
        }
        self.ears.push(ear);
        heard.boxed()
    }
}
