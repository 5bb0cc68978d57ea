//! How does the network of a node start? Key, swarm, listeners.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures_timer::Delay;
use libp2p_core::transport::ListenerId;
use libp2p_swarm::{Config, SwarmEvent};

use crate::config::{AviP2pConfig, Interfaces};
use crate::engine::NetEvent;
use crate::error::AviP2pError;
use crate::event::DiscoverySource;
use crate::metrics::Metrics;
use crate::net::audio::Audio;
use crate::net::connections::Connections;
use crate::net::discovery::{Discovery, Mdns, MdnsReactor};
use crate::net::listening::{Listening, Watch, bind, probe};
use crate::net::pubsub::PubSub;
use crate::net::swarm::{Behaviour, Recorder, Swarm, build_transport, keypair};
use crate::net::tasks::Tasks;
use crate::net::wake::Task;
use crate::net::{Around, Net, translate};
use crate::transport::Network;

/// TCP has bound when it begins to wait, and only wants to know its interfaces.
const TCP_WAIT: Duration = Duration::from_secs(1);
/// Another network binds while it waits.
const BIND_WAIT: Duration = Duration::from_secs(10);

impl Net {
    /// Listens on every `listen_ips` × `listen_port`, and resolves when every listener has an address. `task` is who
    /// drives it then. Must run, for [`Network::Tcp`], on a thread with a tokio reactor.
    ///
    /// # Errors
    /// [`AviP2pError::InvalidConfig`] for `bootstrap_peers` and `identity`, [`AviP2pError::Identity`],
    /// [`AviP2pError::ListenFailed`], [`AviP2pError::Io`] if the system refuses a thread.
    pub(crate) async fn start(
        config: &AviP2pConfig,
        around: Around,
        metrics: &Metrics,
        task: Arc<Task>,
    ) -> Result<Self, AviP2pError> {
        let Around { network, reactor_outlives_node } = around;
        translate::check_bootstrap_peers(config)?;
        let key = keypair(&config.identity)?;
        let local = key.public().to_peer_id();
        let (watch, early) = watch(config, &network, task.clone())?;
        let mdns = watch.as_ref().filter(|_| config.enable_mdns);
        let reactor = mdns.filter(|_| reactor_outlives_node).map(|_| MdnsReactor::start()).transpose()?;
        let mdns = mdns.map(|watch| Mdns::new(local, watch.addresses.clone(), reactor));
        let connections = Connections::default();
        let transport = build_transport(config, &network, &key, connections.closing())?;
        let behaviour = Behaviour::new(config, &key, mdns, metrics)?;
        let tasks = Tasks::new(task.clone());
        let swarm = libp2p_swarm::Swarm::new(transport, behaviour, local, Config::with_executor(tasks.spawner()));
        let follows = watch.is_some() && config.interfaces != Interfaces::All;
        let mut net = Self {
            swarm: Swarm::new(swarm, task.clone()),
            swarm_first: true,
            tasks,
            connections,
            listening: Listening::new(config, watch, follows),
            discovery: Discovery::new(config, local, &network, task.clone()),
            pubsub: PubSub::new(config, local),
            audio: Audio::new(config, task.clone()),
            recorder: Recorder::new(metrics),
            events: VecDeque::new(),
            local: translate::peer_id(&local),
            task,
        };
        let listeners = net.listen(config, &network)?;
        let wait = if matches!(network, Network::Tcp) { TCP_WAIT } else { BIND_WAIT };
        net.settle(listeners, wait).await?;
        net.listening.report(&net.swarm.inner, &mut net.events);
        net.events.rotate_right(1);
        net.events.extend(early);
        Ok(net)
    }

    fn listen(
        &mut self,
        config: &AviP2pConfig,
        network: &Network,
    ) -> Result<Vec<(ListenerId, SocketAddr)>, AviP2pError> {
        let mut ips = config.listen_ips.clone();
        ips.sort_unstable();
        ips.dedup();
        ips.retain(|ip| !self.listening.follows() || !ip.is_unspecified());
        let sockets: Vec<_> = ips.into_iter().map(|ip| SocketAddr::new(ip, config.listen_port)).collect();
        if matches!(network, Network::Tcp) {
            sockets.iter().try_for_each(|&socket| probe(socket).map_err(|error| failed(socket, &error)))?;
        }
        let mut listeners = Vec::new();
        for socket in sockets {
            let listener = bind(&mut self.swarm.inner, socket).map_err(|error| failed(socket, &error))?;
            listeners.push((listener, socket));
        }
        // An address that has just come, and is still being checked for duplicates, can be bound a moment later.
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
            self.task.register(cx);
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
            timeout.poll_unpin(cx).map(|()| match waiting.first() {
                Some(&(_, socket)) if wait == BIND_WAIT => {
                    Err(failed(socket, &io::Error::other(format!("not bound within {BIND_WAIT:?}"))))
                }
                // Bound to a wildcard on a machine without any interface: there may be one later.
                _ => Ok(()),
            })
        })
        .await
    }
}

/// Follows the interfaces, if anything depends on them. Without them a node that uses all has no mDNS.
fn watch(
    config: &AviP2pConfig,
    network: &Network,
    task: Arc<Task>,
) -> Result<(Option<Watch>, Option<NetEvent>), AviP2pError> {
    let uses_all = config.interfaces == Interfaces::All;
    if !matches!(network, Network::Tcp) || uses_all && !config.enable_mdns {
        return Ok((None, None));
    }
    match Watch::new(config.interfaces.clone(), task) {
        Ok(watch) => {
            watch.addresses.check_listen_ips(config)?;
            watch.addresses.warn_of_unmatched();
            Ok((Some(watch), None))
        }
        Err(error) => {
            let reason = format!("cannot follow the network interfaces: {error}");
            tracing::warn!(reason);
            match uses_all {
                true => Ok((None, Some(NetEvent::DiscoveryUnavailable { source: DiscoverySource::Mdns, reason }))),
                false => Err(AviP2pError::NetworkError(reason)),
            }
        }
    }
}

fn failed(socket: SocketAddr, error: &io::Error) -> AviP2pError {
    AviP2pError::ListenFailed { address: socket.to_string(), reason: translate::root_cause(error) }
}
