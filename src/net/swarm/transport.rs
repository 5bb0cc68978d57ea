//! How do bytes reach a peer? Over TCP or a pluggable network, with encryption and substreams on top.

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::{self, BoxFuture, Ready};
use futures::io::{AsyncRead, AsyncWrite};
use futures::{FutureExt, TryFutureExt};
use libp2p_core::Multiaddr;
use libp2p_core::muxing::StreamMuxerBox;
use libp2p_core::transport::timeout::TransportTimeoutError;
use libp2p_core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p_core::upgrade::Version;
use libp2p_identity::{Keypair, PeerId};
use libp2p_noise as noise;
use libp2p_pnet::{PnetConfig, PnetError, PreSharedKey};
use libp2p_tcp as tcp;
use libp2p_yamux as yamux;

use crate::config::{AviP2pConfig, NetworkKey};
use crate::error::AviP2pError;
use crate::net::audio::max_substreams;
use crate::net::connections::{Bounded, Closing, HANDSHAKE_TIMEOUT, HandshakeTimeout, Meters};
use crate::net::listening::Here;
use crate::net::swarm::fair::Fair;
use crate::net::translate;
use crate::network::{BoxByteStream, Listener, Network, Transport};

/// The bytes before the network key in the Noise prologue.
const NETWORK_KEY_PROLOGUE: &[u8] = b"/avi/network-key/1\0";

/// Builds the encrypted transport of a node. With a network key it is private.
pub(in crate::net) fn build(
    config: &AviP2pConfig,
    network: &Network,
    key: &Keypair,
    here: Option<Here>,
    closing: Arc<Closing>,
    meters: Arc<Meters>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, AviP2pError> {
    let network_key = config.network_key;
    let noise = handshake(key, network_key)?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(max_substreams(config));
    Ok(match network {
        Network::Tcp => {
            let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
            keep_private(tcp, network_key, noise, yamux, (closing, meters))
        }
        Network::System(transport) => {
            keep_private(Custom::new(transport.clone(), here), network_key, noise, yamux, (closing, meters))
        }
        Network::Custom(transport) => {
            keep_private(Custom::new(transport.clone(), None), network_key, noise, yamux, (closing, meters))
        }
    })
}

/// Noise with the network key in its prologue, so that the handshake also authenticates the network key. pnet below it
/// encrypts, but authenticates nothing: with a recorded connection an attacker could change its bytes, and learn from
/// how a node reacts.
fn handshake(key: &Keypair, network_key: Option<NetworkKey>) -> Result<noise::Config, AviP2pError> {
    let noise = noise::Config::new(key).map_err(|error| AviP2pError::NetworkError(format!("noise: {error}")))?;
    Ok(match network_key {
        None => noise,
        Some(key) => noise.with_prologue([NETWORK_KEY_PROLOGUE, &key.to_bytes()].concat()),
    })
}

/// Encrypts everything with the network key, if there is one, including the beginning of the handshake. A stranger sees
/// only a nonce of 24 random bytes.
fn keep_private<T>(
    transport: T,
    network_key: Option<NetworkKey>,
    noise: noise::Config,
    yamux: yamux::Config,
    (closing, meters): (Arc<Closing>, Arc<Meters>),
) -> Boxed<(PeerId, StreamMuxerBox)>
where
    T: libp2p_core::Transport<Error = io::Error> + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    let transport =
        libp2p_core::Transport::map(transport, move |stream, endpoint| Fair::new(stream, meters.register(endpoint)));
    let Some(key) = network_key else { return secure(transport, noise, yamux, closing) };
    let pnet = PnetConfig::new(PreSharedKey::new(key.to_bytes()));
    let private =
        libp2p_core::Transport::and_then(transport, move |stream, _| pnet.handshake(stream).map_err(socket_error));
    let private = libp2p_core::Transport::map_err(private, |error| error.into_inner());
    secure(private, noise, yamux, closing)
}

/// Unwraps pnet's error, which does not return the socket's error as its source.
fn socket_error(error: PnetError) -> io::Error {
    match error {
        PnetError::HandshakeError(error) | PnetError::IoError(error) => error,
    }
}

fn secure<T>(
    transport: T,
    noise: noise::Config,
    yamux: yamux::Config,
    closing: Arc<Closing>,
) -> Boxed<(PeerId, StreamMuxerBox)>
where
    T: libp2p_core::Transport + Send + Unpin + 'static,
    T::Error: Error + Send + Sync,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    // Lazily: there is only one protocol, so a dialler need not wait for the agreement on it. That saves two round
    // trips.
    let secured = transport.upgrade(Version::V1Lazy).authenticate(noise).multiplex(yamux).timeout(HANDSHAKE_TIMEOUT);
    let bounded = move |(peer, muxer), endpoint| {
        (peer, StreamMuxerBox::new(Bounded::new(muxer, closing.register(peer, endpoint))))
    };
    let bounded = libp2p_core::Transport::map(secured, bounded);
    libp2p_core::Transport::boxed(libp2p_core::Transport::map_err(bounded, |error| match error {
        TransportTimeoutError::Timeout => io::Error::other(HandshakeTimeout),
        TransportTimeoutError::TimerError(error) => error,
        // libp2p's combinators hide the source of an error that has no source itself.
        TransportTimeoutError::Other(error) => {
            error.either(|error| error.either(io::Error::other, io::Error::other), io::Error::other)
        }
    }))
}

/// Adapts a pluggable network to libp2p.
struct Custom {
    transport: Arc<dyn Transport>,
    /// The addresses that a wildcard stands for; `None` if the wildcard itself is reported.
    here: Option<Here>,
    /// Polled in turn: a listener that had an event moves to the back.
    listeners: Vec<(ListenerId, State)>,
    /// Listeners that were removed, which the swarm must be told.
    removed: VecDeque<ListenerId>,
}

/// Binding → Bound.
enum State {
    Binding(BoxFuture<'static, io::Result<Box<dyn Listener>>>),
    Bound(Bound),
}

/// A listener, and its addresses that have been reported.
struct Bound {
    listener: Box<dyn Listener>,
    told: Vec<IpAddr>,
}

type Event = TransportEvent<Ready<io::Result<BoxByteStream>>, io::Error>;

impl Custom {
    fn new(transport: Arc<dyn Transport>, here: Option<Here>) -> Self {
        Self { transport, here, listeners: Vec::new(), removed: VecDeque::new() }
    }
}

impl Bound {
    /// The next address to report as new or as expired.
    fn news(&mut self, id: ListenerId, here: Option<&Here>) -> Option<Event> {
        let local = self.listener.local_addr();
        let address = |ip| translate::address(SocketAddr::new(ip, local.port()));
        let now = match here.filter(|_| local.ip().is_unspecified()) {
            Some(here) => here.behind(local.ip()),
            None => vec![local.ip()],
        };
        if let Some(gone) = self.told.iter().position(|ip| !now.contains(ip)) {
            let listen_addr = address(self.told.remove(gone));
            return Some(TransportEvent::AddressExpired { listener_id: id, listen_addr });
        }
        let new = now.into_iter().find(|ip| !self.told.contains(ip))?;
        self.told.push(new);
        Some(TransportEvent::NewAddress { listener_id: id, listen_addr: address(new) })
    }

    fn poll(&mut self, id: ListenerId, here: Option<&Here>, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        if let Some(news) = self.news(id, here) {
            return Poll::Ready(Ok(news));
        }
        let (stream, remote) = ready!(self.listener.poll_accept(cx))?;
        Poll::Ready(Ok(TransportEvent::Incoming {
            listener_id: id,
            upgrade: future::ready(Ok(stream)),
            local_addr: translate::address(self.listener.local_addr()),
            send_back_addr: translate::address(remote),
        }))
    }
}

/// Polls a listener. After a [`TransportEvent::ListenerClosed`] it must be dropped.
fn poll_listener(id: ListenerId, state: &mut State, here: Option<&Here>, cx: &mut Context<'_>) -> Poll<Event> {
    let event = loop {
        match state {
            State::Binding(binding) => match ready!(binding.poll_unpin(cx)) {
                Ok(listener) => *state = State::Bound(Bound { listener, told: Vec::new() }),
                Err(error) => break Err(error),
            },
            State::Bound(bound) => break ready!(bound.poll(id, here, cx)),
        }
    };
    Poll::Ready(event.unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::OutOfMemory => TransportEvent::ListenerError { listener_id: id, error },
        _ => TransportEvent::ListenerClosed { listener_id: id, reason: Err(error) },
    }))
}

fn socket(address: Multiaddr) -> Result<SocketAddr, TransportError<io::Error>> {
    match translate::parts(&address) {
        Some((socket, _)) => Ok(socket),
        None => Err(TransportError::MultiaddrNotSupported(address)),
    }
}

impl libp2p_core::Transport for Custom {
    type Output = BoxByteStream;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<BoxByteStream>>;
    type Dial = BoxFuture<'static, io::Result<BoxByteStream>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        let binding = self.transport.listen(socket(address)?);
        self.listeners.push((id, State::Binding(binding)));
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let before = self.listeners.len();
        self.listeners.retain(|(listener, _)| *listener != id);
        let was_there = self.listeners.len() < before;
        self.removed.extend(was_there.then_some(id));
        was_there
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        match translate::dialable(&address) {
            Some(address) => Ok(self.transport.connect(socket(address)?)),
            None => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        let Self { listeners, here, removed, .. } = &mut *self;
        if let Some(listener_id) = removed.pop_front() {
            return Poll::Ready(TransportEvent::ListenerClosed { listener_id, reason: Ok(()) });
        }
        for index in 0..listeners.len() {
            let (id, state) = &mut listeners[index];
            if let Poll::Ready(event) = poll_listener(*id, state, here.as_ref(), cx) {
                let listener = listeners.remove(index);
                if !matches!(event, TransportEvent::ListenerClosed { .. }) {
                    listeners.push(listener);
                }
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }
}

#[cfg(all(test, unix))]
mod tests {
    use futures::future::join;
    use libp2p_core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
    use smol::net::unix::UnixStream;

    use super::*;

    #[test]
    fn noise_alone_asks_for_the_network_key_too() {
        let side = |key: Option<u8>| {
            let key = key.map(|key| NetworkKey::from_bytes([key; 32]));
            handshake(&Keypair::generate_ed25519(), key).unwrap()
        };
        for (one, other) in [(None, None), (Some(1), Some(1)), (Some(1), Some(2)), (Some(1), None), (None, Some(1))] {
            let (near, far) = UnixStream::pair().unwrap();
            let (dialler, listener) = (side(one), side(other));
            let info = dialler.protocol_info().next().unwrap();
            let (dialled, accepted) = smol::block_on(join(
                // An end that fails drops its stream, so the other end fails too.
                dialler.upgrade_outbound(near, info),
                listener.upgrade_inbound(far, info),
            ));
            assert_eq!(dialled.is_ok() && accepted.is_ok(), one == other, "{one:?} to {other:?}");
            assert!(one == other || accepted.is_err(), "{one:?} to {other:?}");
        }
    }
}
