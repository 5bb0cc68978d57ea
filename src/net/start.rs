//! How does the network of a node start? Key, swarm, listeners.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::task::waker;
use futures_timer::Delay;
use libp2p_core::transport::ListenerId;
use libp2p_swarm::{Config, Swarm, SwarmEvent};

use crate::config::{AviP2pConfig, Interfaces};
use crate::engine::NetEvent;
use crate::error::AviP2pError;
use crate::event::DiscoverySource;
use crate::metrics::Metrics;
use crate::net::behaviour::{self, Behaviour};
use crate::net::connections::Connections;
use crate::net::interfaces::Watch;
use crate::net::listeners::{Followed, probe};
use crate::net::liveness::Liveness;
use crate::net::mdns::{Mdns, Reactor};
use crate::net::mesh::Mesh;
use crate::net::metrics::Recorder;
use crate::net::neighbours::Neighbours;
use crate::net::substreams::Substreams;
use crate::net::tasks::Tasks;
use crate::net::wake::{Flag, Task};
use crate::net::{Around, Bounds, Net, identity, translate, transport};
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
        let key = identity::keypair(&config.identity)?;
        let local = key.public().to_peer_id();
        let (watch, early) = watch(config, &network, task.clone())?;
        let mdns = watch.as_ref().filter(|_| config.enable_mdns);
        let reactor = mdns.filter(|_| reactor_outlives_node).map(|_| Reactor::start()).transpose()?;
        let mdns = mdns.map(|watch| Mdns::new(local, &config.limits, watch.addresses.clone(), reactor));
        let transport = transport::build(config, &network, &key)?;
        let behaviour = Behaviour::new(config, &key, mdns, metrics)?;
        let tasks = Tasks::new(task.clone());
        let swarm = Swarm::new(transport, behaviour, local, Config::with_executor(tasks.spawner()));
        let mut net = Self::around(swarm, tasks, config, &network, Recorder::new(metrics), watch, task);
        let listeners = net.listen(config, &network)?;
        let wait = if matches!(network, Network::Tcp) { TCP_WAIT } else { BIND_WAIT };
        net.settle(listeners, wait).await?;
        net.report_listening();
        net.events.rotate_right(1);
        net.events.extend(early);
        Ok(net)
    }

    fn around(
        swarm: Swarm<Behaviour>,
        tasks: Arc<Tasks>,
        config: &AviP2pConfig,
        network: &Network,
        recorder: Recorder,
        watch: Option<Watch>,
        task: Arc<Task>,
    ) -> Self {
        let swarm_due = Flag::new(task.clone());
        let follows = watch.is_some() && config.interfaces != Interfaces::All;
        Self {
            local: translate::peer_id(swarm.local_peer_id()),
            swarm,
            swarm_waker: waker(swarm_due.clone()),
            swarm_due,
            swarm_first: true,
            tasks,
            substreams: Substreams::new(task.clone()),
            liveness: Liveness::new(task.clone()),
            mesh: Mesh::default(),
            recorder,
            paired: config.paired_peers.iter().filter_map(translate::libp2p_peer_id).collect(),
            neighbours: Neighbours::new(network, config.enable_mdns, task.clone()),
            watch,
            followed: follows.then(|| Followed::new(config)),
            task,
            connections: Connections::default(),
            dials: BTreeMap::new(),
            opening: BTreeMap::new(),
            walk_found: Default::default(),
            listening: None,
            events: Default::default(),
            bounds: Bounds {
                message_bytes: config.limits.max_message_bytes,
                topics: config.limits.max_topics,
                topic_bytes: config.limits.max_topic_bytes,
                audio_substreams: behaviour::max_audio_substreams(config),
            },
        }
    }

    fn listen(
        &mut self,
        config: &AviP2pConfig,
        network: &Network,
    ) -> Result<Vec<(ListenerId, SocketAddr)>, AviP2pError> {
        let mut ips = config.listen_ips.clone();
        ips.sort_unstable();
        ips.dedup();
        ips.retain(|ip| self.followed.is_none() || !ip.is_unspecified());
        let sockets: Vec<_> = ips.into_iter().map(|ip| SocketAddr::new(ip, config.listen_port)).collect();
        if matches!(network, Network::Tcp) {
            sockets.iter().try_for_each(|&socket| probe(socket).map_err(|error| failed(socket, &error)))?;
        }
        let mut listeners = Vec::new();
        for socket in sockets {
            let listener = self.bind(socket).map_err(|error| failed(socket, &error))?;
            listeners.push((listener, socket));
        }
        // An address that has just come, and is still being checked for duplicates, can be bound a moment later.
        let is_final = |error: &io::Error| error.kind() != io::ErrorKind::AddrNotAvailable;
        if let Some((socket, error)) = self.follow_or_retry().iter().find(|(_, error)| is_final(error)) {
            return Err(failed(*socket, error));
        }
        listeners.extend(self.followed.as_ref().and_then(Followed::first));
        Ok(listeners)
    }

    /// Waits until every listener has an address and the swarm has nothing to do.
    async fn settle(&mut self, mut waiting: Vec<(ListenerId, SocketAddr)>, wait: Duration) -> Result<(), AviP2pError> {
        let mut timeout = Delay::new(wait);
        poll_fn(|cx| {
            self.task.register(cx);
            while let Poll::Ready(event) = self.poll_swarm() {
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

    /// Tells the engine where the node listens, if that is news.
    pub(super) fn report_listening(&mut self) {
        let mut addresses: Vec<_> = self.swarm.listeners().map(translate::text).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if self.listening.as_ref() != Some(&addresses) {
            tracing::info!(?addresses, "listening");
            self.listening = Some(addresses.clone());
            self.events.push_back(NetEvent::Listening { addresses });
        }
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
