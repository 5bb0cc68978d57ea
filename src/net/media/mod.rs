//! How do datagrams of audio get in and out? Over sockets at the addresses that the node listens on, beside everything
//! that libp2p does. What they mean, the engine decides.

mod binding;
#[cfg(test)]
mod tests;
mod tokio;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use self::binding::{Bind, Bound, Socket};
use crate::config::AviP2pConfig;
use crate::network::Network;
use crate::wake::{Flag, Wake};
use avi_p2p_proto::engine::{DatagramId, MAX_DATAGRAM_BYTES, NetEvent};

/// The most datagrams that one turn reads. Anybody can send some, at any rate: the connections have their turns in
/// between.
const READS: usize = 32;

/// The sockets of a node for datagrams. All have one port.
pub(super) struct Media {
    /// `None`: the configuration or the network has no datagrams.
    bind: Option<Bind>,
    /// The sockets that are being bound.
    binding: Option<BoxFuture<'static, Vec<Bound>>>,
    sockets: Vec<(IpAddr, Socket)>,
    /// What the engine wants to hear of.
    expected: BTreeSet<DatagramId>,
    /// The port that the engine knows.
    told: Option<u16>,
    /// One byte longer than any datagram, so that a longer one shows.
    scratch: Vec<u8>,
    due: Arc<Flag>,
    waker: Waker,
}

impl Media {
    /// `wake` is notified when [`poll`](Self::poll) must be called.
    pub(super) fn new(config: &AviP2pConfig, network: &Network, wake: Arc<Wake>) -> Self {
        let due = Flag::new(wake);
        Self {
            bind: config.enable_datagrams.then(|| binding::of(network)),
            binding: None,
            sockets: Vec::new(),
            expected: BTreeSet::new(),
            told: None,
            scratch: Vec::new(),
            waker: Waker::from(due.clone()),
            due,
        }
    }

    pub(super) fn is_due(&self) -> bool {
        self.due.is_set()
    }

    /// Has sockets at exactly these addresses: closes the others, and binds those that are missing. A first socket gets
    /// this port, or another one if it is taken.
    pub(super) fn follow(&mut self, ips: &BTreeSet<IpAddr>, port: u16) {
        let Some(bind) = &self.bind else { return };
        self.sockets.retain(|(ip, _)| ips.contains(ip));
        let is_missing = |ip: &IpAddr| !self.sockets.iter().any(|(other, _)| other == ip);
        let missing: Vec<_> = ips.iter().copied().filter(is_missing).collect();
        self.binding = match self.port() {
            _ if missing.is_empty() => None,
            Some(port) => Some(binding::at(bind.clone(), missing, port).boxed()),
            None => Some(binding::first(bind.clone(), missing, port).boxed()),
        };
        self.due.set();
    }

    fn port(&self) -> Option<u16> {
        self.sockets.first().map(|(_, socket)| socket.local_addr().port())
    }

    /// Reports the datagrams that begin with this id.
    pub(super) fn expect(&mut self, id: DatagramId) {
        self.expected.insert(id);
    }

    /// Reports them no more.
    pub(super) fn forget(&mut self, id: DatagramId) {
        self.expected.remove(&id);
    }

    /// Sends a datagram at once, or drops it.
    pub(super) fn send(&mut self, to: SocketAddr, datagram: &[u8], events: &mut VecDeque<NetEvent>) {
        debug_assert!(datagram.len() <= MAX_DATAGRAM_BYTES, "a datagram of {} bytes", datagram.len());
        let sent = match self.towards(to.ip()) {
            Some(socket) => socket.try_send_to(datagram, to),
            None => Err(io::ErrorKind::NetworkUnreachable.into()),
        };
        if let Err(error) = sent {
            tracing::trace!(%to, %error, "a datagram is dropped");
            events.push_back(NetEvent::DatagramDropped { to });
        }
    }

    /// The socket to send from: as in RFC 6724 §5, rule 8, the one whose address has the longest prefix in common. Nothing
    /// leaves the machine from a loopback address.
    fn towards(&mut self, to: IpAddr) -> Option<&mut Socket> {
        let may_send = |ip: IpAddr| ip.is_ipv4() == to.is_ipv4() && (to.is_loopback() || !ip.is_loopback());
        let same_family = self.sockets.iter_mut().filter(|(ip, _)| may_send(*ip));
        same_family.max_by_key(|(ip, _)| (common_bits(*ip, to), *ip)).map(|(_, socket)| socket)
    }

    /// Does what is due: binds, and reads some datagrams. Returns false if there was nothing to do.
    pub(super) fn poll(&mut self, events: &mut VecDeque<NetEvent>) -> bool {
        if !self.due.take() {
            return false;
        }
        let has_bound = self.poll_binding(events);
        let has_read = self.read(events);
        has_bound || has_read
    }

    fn poll_binding(&mut self, events: &mut VecDeque<NetEvent>) -> bool {
        let Some(binding) = &mut self.binding else {
            // The last socket may have gone with its address.
            return self.tell("no address to listen on", events);
        };
        let Poll::Ready(bound) = binding.poll_unpin(&mut Context::from_waker(&self.waker)) else { return false };
        self.binding = None;
        let mut failure = None;
        for Bound { ip, socket } in bound {
            match socket {
                Ok(socket) => self.sockets.push((ip, socket)),
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    tracing::debug!("this network has no datagrams");
                    self.bind = None;
                    return true;
                }
                Err(error) => {
                    match error.kind() {
                        // The system is still checking whether another host has the address.
                        io::ErrorKind::AddrNotAvailable => tracing::debug!(%ip, %error, "no datagrams there yet"),
                        _ => tracing::warn!(%ip, %error, "no datagrams there"),
                    }
                    failure = Some(error.to_string());
                }
            }
        }
        self.scratch.resize(MAX_DATAGRAM_BYTES + 1, 0);
        self.tell(failure.as_deref().unwrap_or_default(), events);
        if failure.is_some() {
            events.push_back(NetEvent::ListenersMissing);
        }
        true
    }

    /// Tells the engine the port, if it has changed. Returns whether it has.
    fn tell(&mut self, reason: &str, events: &mut VecDeque<NetEvent>) -> bool {
        let port = self.port();
        if port == self.told {
            return false;
        }
        self.told = port;
        events.push_back(match port {
            Some(port) => NetEvent::DatagramsOn { port },
            None => NetEvent::DatagramsOff { reason: reason.to_owned() },
        });
        true
    }

    /// Reads up to [`READS`] datagrams, from the sockets in turn. Returns whether there was any.
    fn read(&mut self, events: &mut VecDeque<NetEvent>) -> bool {
        let (mut reads, mut ignored, mut failure) = (0, 0, None);
        let cx = &mut Context::from_waker(&self.waker);
        self.sockets.retain_mut(|(ip, socket)| {
            while reads < READS {
                let Poll::Ready(read) = socket.poll_recv_from(cx, &mut self.scratch) else { return true };
                reads += 1;
                match read {
                    Ok((len, from)) if is_wanted(&self.scratch[..len], &self.expected) => {
                        let bytes = Bytes::copy_from_slice(&self.scratch[..len]);
                        events.push_back(NetEvent::Datagram { from, bytes });
                    }
                    Ok(_) => ignored += 1,
                    Err(error) if is_of_network(&error) => tracing::trace!(%error, "a datagram was not delivered"),
                    Err(error) => {
                        tracing::warn!(%ip, %error, "a socket of datagrams has failed");
                        failure = Some(error.to_string());
                        return false;
                    }
                }
            }
            true
        });
        if reads == READS {
            // There may be more. Another socket is the first then.
            self.due.set();
            let first = self.sockets.len().min(1);
            self.sockets.rotate_left(first);
        }
        if ignored > 0 {
            events.push_back(NetEvent::DatagramsIgnored { count: ignored });
        }
        if let Some(reason) = failure {
            self.tell(&reason, events);
            events.push_back(NetEvent::ListenersMissing);
        }
        reads > 0
    }
}

fn is_wanted(datagram: &[u8], expected: &BTreeSet<DatagramId>) -> bool {
    datagram.len() <= MAX_DATAGRAM_BYTES && datagram.first_chunk().is_some_and(|id| expected.contains(id))
}

/// Whether an error of a socket is news of a datagram that it has sent, or of the network: it works on.
fn is_of_network(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable,
        PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}

/// The length of the prefix that two addresses of a family have in common.
fn common_bits(one: IpAddr, other: IpAddr) -> u32 {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => 0,
    }
}
