//! How does the network of a node start? Key, swarm, listeners.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures_timer::Delay;
use libp2p_core::transport::ListenerId;
#[cfg(feature = "context")]
use libp2p_identity::Keypair;
use libp2p_swarm::{Config, SwarmEvent};

use crate::config::{AviP2pConfig, Interfaces};
use crate::error::AviP2pError;
use crate::event::DiscoverySource;
use crate::metrics::Metrics;
use crate::net::audio::Audio;
use crate::net::connections::Connections;
#[cfg(feature = "context")]
use crate::net::context::Exchanges;
use crate::net::discovery::{Discovery, Mdns};
use crate::net::listening::{Here, Listening, Watch, bind, probe};
use crate::net::media::Media;
use crate::net::names::Names;
use crate::net::pubsub::PubSub;
use crate::net::reactor::Reactor;
use crate::net::swarm::{Behaviour, Recorder, Swarm, build_transport, keypair};
use crate::net::{Net, translate};
use crate::network::Network;
use crate::wake::Wake;
use avi_p2p_proto::engine::NetEvent;

/// How long to wait for the interface addresses of TCP, which is bound by then.
const TCP_WAIT: Duration = Duration::from_secs(1);
/// How long to wait for another network, which binds meanwhile.
const BIND_WAIT: Duration = Duration::from_secs(10);

impl Net {
    /// Listens on every `listen_ips` × `listen_port`, and resolves when every listener has an address. `spawn` runs the
    /// tasks of connections. `wake` is notified when [`next_event`](Self::next_event) must be called. For
    /// [`Network::Tcp`] it must run on a thread with a tokio reactor.
    ///
    /// # Errors
    /// [`AviP2pError::InvalidConfig`] for `identity`, [`AviP2pError::Identity`],
    /// [`AviP2pError::ListenFailed`], [`AviP2pError::Io`] if the system refuses a thread.
    pub(crate) async fn start(
        config: &AviP2pConfig,
        network: &Network,
        metrics: &Metrics,
        wake: Arc<Wake>,
        spawn: impl Fn(BoxFuture<'static, ()>) + Send + 'static,
    ) -> Result<Self, AviP2pError> {
        let (key, identity_lock) = keypair(&config.identity)?;
        let local = key.public().to_peer_id();
        let reactor = needs_watch(config, network).then(Reactor::start).transpose()?;
        let (watch, early) = match &reactor {
            Some(reactor) => watch(config, reactor, wake.clone())?,
            None => (None, None),
        };
        let mdns = reactor.as_ref().zip(watch.as_ref()).filter(|_| config.enable_mdns);
        let mdns = mdns.map(|(reactor, watch)| Mdns::new(local, watch.addresses.clone(), reactor.handle().clone()));
        let here = watch.as_ref().map(|watch| Here::new(watch.addresses.clone()));
        let connections = Connections::new(translate::peer_id(&local), wake.clone());
        let transport =
            build_transport(config, network, &key, here.clone(), connections.closing(), connections.meters())?;
        let behaviour = Behaviour::new(config, &key, mdns, metrics, connections.closing())?;
        let swarm = libp2p_swarm::Swarm::new(transport, behaviour, local, Config::with_executor(spawn));
        let follows = watch.is_some() && config.interfaces != Interfaces::All;
        let mut net = Self {
            swarm: Swarm::new(swarm, wake.clone()),
            turns: 0,
            connections,
            names: Names::new(network, wake.clone()),
            listening: Listening::new(config, watch, here, follows),
            discovery: Discovery::new(config, local, network, wake.clone()),
            pubsub: PubSub::new(config, local),
            audio: Audio::new(config, wake.clone()),
            media: Media::new(config, network, wake.clone()),
            #[cfg(feature = "context")]
            context: Exchanges::default(),
            #[cfg(feature = "context")]
            secret: config.context.as_ref().and_then(|_| secret(key)),
            recorder: Recorder::new(metrics),
            events: VecDeque::new(),
            local: translate::peer_id(&local),
            wake,
            _identity_lock: identity_lock,
            _reactor: reactor,
        };
        let listeners = net.listen(config, network)?;
        let wait = if matches!(network, Network::Tcp | Network::System(_)) { TCP_WAIT } else { BIND_WAIT };
        net.settle(listeners, wait).await?;
        net.listening.report(&net.swarm.inner, &mut net.events);
        net.events.rotate_right(1);
        net.events.extend(early);
        net.follow_media();
        net.media.poll(&mut net.events);
        Ok(net)
    }

    fn listen(
        &mut self,
        config: &AviP2pConfig,
        network: &Network,
    ) -> Result<Vec<(ListenerId, SocketAddr)>, AviP2pError> {
        let sockets: Vec<_> = self.listening.fixed().map(|ip| SocketAddr::new(ip, config.listen_port)).collect();
        if matches!(network, Network::Tcp) {
            sockets.iter().try_for_each(|&socket| probe(socket).map_err(|error| failed(socket, &error)))?;
        }
        let mut listeners = Vec::new();
        for socket in sockets {
            let listener = bind(&mut self.swarm.inner, socket).map_err(|error| failed(socket, &error))?;
            listeners.push((listener, socket));
        }
        // A new address that the system still checks for duplicates can be bound a moment later.
        let is_final = |error: &io::Error| error.kind() != io::ErrorKind::AddrNotAvailable;
        if let Some((socket, error)) =
            self.listening.follow(&mut self.swarm.inner, &mut self.events).iter().find(|(_, error)| is_final(error))
        {
            return Err(failed(*socket, error));
        }
        listeners.extend(self.listening.first());
        self.swarm.set_due();
        Ok(listeners)
    }

    /// Waits until every listener has an address and the swarm has nothing to do.
    async fn settle(&mut self, mut waiting: Vec<(ListenerId, SocketAddr)>, wait: Duration) -> Result<(), AviP2pError> {
        let mut timeout = Delay::new(wait);
        poll_fn(|cx| {
            self.wake.attend(cx.waker());
            while let Poll::Ready(event) = self.swarm.poll() {
                match &event {
                    SwarmEvent::NewListenAddr { listener_id, .. } => waiting.retain(|(id, _)| id != listener_id),
                    SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } => {
                        if let Some(&(_, socket)) = waiting.iter().find(|(id, _)| id == listener_id) {
                            return Poll::Ready(Err(failed(socket, error)));
                        }
                    }
                    _ => {}
                }
                self.on_swarm_event(event);
            }
            if waiting.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.wake.sum_up(|| self.swarm.is_due());
            if !self.wake.rest(|| false) {
                cx.waker().wake_by_ref();
            }
            timeout.poll_unpin(cx).map(|()| match waiting.first() {
                Some(&(_, socket)) if wait == BIND_WAIT => {
                    Err(failed(socket, &io::Error::other(format!("not bound within {BIND_WAIT:?}"))))
                }
                // Bound to a wildcard on a machine without any interface. One may come later.
                _ => Ok(()),
            })
        })
        .await
    }
}

/// The secret half of an Ed25519 key.
#[cfg(feature = "context")]
fn secret(key: Keypair) -> Option<zeroize::Zeroizing<[u8; 32]>> {
    let key = key.try_into_ed25519().ok()?.secret();
    key.as_ref().try_into().ok().map(zeroize::Zeroizing::new)
}

/// Whether anything depends on the addresses of this machine.
fn needs_watch(config: &AviP2pConfig, network: &Network) -> bool {
    let has_wildcard = config.listen_ips.iter().any(IpAddr::is_unspecified);
    let follows = config.enable_mdns || config.interfaces != Interfaces::All;
    match network {
        // libp2p's TCP itself knows the addresses that a wildcard stands for.
        Network::Tcp => follows,
        Network::System(_) => follows || has_wildcard,
        Network::Custom(_) => false,
    }
}

/// Starts to watch the addresses of this machine. If that fails, a node that uses all interfaces runs without mDNS.
fn watch(
    config: &AviP2pConfig,
    reactor: &Reactor,
    wake: Arc<Wake>,
) -> Result<(Option<Watch>, Option<NetEvent>), AviP2pError> {
    match Watch::new(config.interfaces.clone(), reactor.handle().clone(), wake) {
        Ok(watch) => {
            watch.addresses.check_listen_ips(config)?;
            watch.addresses.warn_of_unmatched();
            Ok((Some(watch), None))
        }
        Err(error) => {
            let reason = format!("cannot watch the network interfaces: {error}");
            tracing::warn!(reason);
            match config.interfaces == Interfaces::All {
                true if config.enable_mdns => {
                    Ok((None, Some(NetEvent::DiscoveryUnavailable { source: DiscoverySource::Mdns, reason })))
                }
                true => Ok((None, None)),
                false => Err(AviP2pError::NetworkError(reason)),
            }
        }
    }
}

fn failed(socket: SocketAddr, error: &io::Error) -> AviP2pError {
    AviP2pError::ListenFailed { address: socket.to_string(), reason: translate::root_cause(error) }
}
