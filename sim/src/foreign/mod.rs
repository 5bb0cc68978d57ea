//! A node of another make: a plain libp2p program that takes part in the mesh's pub/sub. It carries out the plan, and
//! reports to the ledger in AVI's terms.

mod swarm;
mod wire;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use avi_p2p::transport::Transport;
use avi_p2p::{AviEvent, PeerId, Stats};
use futures::StreamExt;
use libp2p_core::ConnectedPoint;
use libp2p_gossipsub::{Event as GossipsubEvent, IdentTopic};
use libp2p_identify::Event as IdentifyEvent;
use libp2p_identity::Keypair;
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_swarm::{Swarm, SwarmEvent};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use self::swarm::{Behaviour, BehaviourEvent};
use crate::app::{Order, Setup, topic};
use crate::ledger::Shared;
use crate::platform::Tasks;
use crate::scenario::Lack;

/// How often it dials the nodes that it knows and has no connection to.
const DIAL_EVERY: Duration = Duration::from_secs(2);
/// How long a shutdown may wait for connections to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// How a node is made.
pub struct Make {
    /// Its key.
    pub key: Keypair,
    /// What it lacks.
    pub lacks: BTreeSet<Lack>,
    /// The addresses that it knows at its start.
    pub known: Vec<SocketAddr>,
}

/// Runs the node until [`Order::Leave`], or until its host loses power.
pub async fn run(
    setup: Setup,
    make: Make,
    transport: Arc<dyn Transport>,
    tasks: Tasks,
    orders: UnboundedReceiver<Order>,
    ledger: Shared,
) {
    let host = setup.host;
    let listen = SocketAddr::new(setup.config.listen_ips[0], setup.config.listen_port);
    let mut swarm = match swarm::build(&make, transport, tasks) {
        Ok(swarm) => swarm,
        Err(error) => return ledger.lock().violate("a node of another make starts", host, error),
    };
    if let Err(error) = swarm.listen_on(wire::multiaddr(listen)) {
        return ledger.lock().violate("a node of another make starts", host, error.to_string());
    }
    let local = translated(swarm.local_peer_id());
    ledger.lock().on_start(host, setup.generation, local.clone());
    if let Some(network) = &setup.lan {
        network.announce(setup.machine, local);
    }
    let known = make.known.into_iter().map(|address| Known { address, peer: None }).collect();
    let mut node = Node { setup, swarm, ledger, known, stats: Stats::default() };
    node.subscribe();
    node.serve(orders).await;
}

/// A node that it dials.
struct Known {
    address: SocketAddr,
    /// Who was found there.
    peer: Option<libp2p_identity::PeerId>,
}

struct Node {
    setup: Setup,
    swarm: Swarm<Behaviour>,
    ledger: Shared,
    known: Vec<Known>,
    stats: Stats,
}

impl Node {
    async fn serve(mut self, mut orders: UnboundedReceiver<Order>) {
        let mut dials = interval();
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    None | Some(Order::Leave) => return self.leave().await,
                    Some(order) => self.obey(order),
                },
                event = self.swarm.select_next_some() => self.react(event),
                _ = dials.tick() => self.dial(),
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Publish { topic, message } => self.publish(topic, message),
            Order::Subscribe => self.subscribe(),
            Order::Unsubscribe => self.unsubscribe(),
            Order::Sample => {
                let peers: Vec<_> = self.swarm.connected_peers().map(translated).collect();
                self.stats.peers_connected = peers.len() as u64;
                let Setup { host, generation, .. } = self.setup;
                self.ledger.lock().on_sample(host, generation, &self.stats, peers);
            }
            Order::Call { .. } => self.ledger.lock().on_call_failed(),
            // It has no such thing, or reads its events promptly.
            Order::Discover
            | Order::Wake
            | Order::Write { .. }
            | Order::ReadContext
            | Order::FloodContext { .. }
            | Order::Flood
            | Order::FloodStreams
            | Order::Reseed { .. }
            | Order::Leave => {}
        }
    }

    fn publish(&mut self, number: usize, message: u64) {
        let data = self.ledger.lock().compose(self.setup.host, number, message, self.setup.message_bytes);
        let gossipsub = &mut self.swarm.behaviour_mut().gossipsub;
        if let Err(error) = gossipsub.publish(IdentTopic::new(topic(number)), data) {
            self.ledger.lock().on_refused(message, &error);
        }
    }

    fn subscribe(&mut self) {
        let Setup { host, generation, topics, .. } = self.setup;
        for number in 0..topics {
            if let Err(error) = self.swarm.behaviour_mut().gossipsub.subscribe(&IdentTopic::new(topic(number))) {
                self.ledger.lock().violate("a subscription succeeds", host, error.to_string());
            }
        }
        self.ledger.lock().on_subscribed(host, generation, true);
    }

    fn unsubscribe(&mut self) {
        let Setup { host, generation, topics, .. } = self.setup;
        self.ledger.lock().on_subscribed(host, generation, false);
        for number in 0..topics {
            self.swarm.behaviour_mut().gossipsub.unsubscribe(&IdentTopic::new(topic(number)));
        }
    }

    /// Dials whom it knows, unless it is connected. Who was found at an address is dialled by name.
    fn dial(&mut self) {
        for known in &self.known {
            let address = wire::multiaddr(known.address);
            let dial: DialOpts = match known.peer {
                Some(peer) => DialOpts::peer_id(peer)
                    .condition(PeerCondition::DisconnectedAndNotDialing)
                    .addresses(vec![address])
                    .build(),
                None => address.into(),
            };
            // What fails is dialled again.
            let _ = self.swarm.dial(dial);
        }
    }

    fn react(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, num_established, .. } => {
                self.stats.connections_opened += 1;
                if let ConnectedPoint::Dialer { address, .. } = &endpoint
                    && let Some(at) = wire::socket(address)
                {
                    let found = self.known.iter_mut().filter(|known| known.address == at);
                    found.for_each(|known| known.peer = Some(peer_id));
                }
                if num_established.get() == 1 {
                    let address = endpoint.get_remote_address().to_string();
                    self.tell(&AviEvent::PeerConnected { peer_id: translated(&peer_id), address });
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established, .. } => {
                self.stats.connections_closed += 1;
                if num_established == 0 {
                    self.tell(&AviEvent::PeerDisconnected { peer_id: translated(&peer_id) });
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossipsub(GossipsubEvent::Message { message, .. })) => {
                // StrictSign lets no message without an author through.
                let Some(author) = message.source else { return };
                let (from, topic) = (translated(&author), message.topic.into_string());
                self.tell(&AviEvent::Message { from, topic, data: message.data });
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(IdentifyEvent::Received { peer_id, info, .. })) => {
                if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
                    for address in info.listen_addrs {
                        let _ = kad.add_address(&peer_id, address);
                    }
                }
            }
            _ => {}
        }
    }

    fn tell(&self, event: &AviEvent) {
        self.ledger.lock().on_event(self.setup.host, self.setup.generation, event);
    }

    /// Closes all connections.
    async fn leave(mut self) {
        self.ledger.lock().on_leave(self.setup.host, self.setup.generation);
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // It may have disconnected since.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closing = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        // Who does not close in time is left to find out.
        let _ = tokio::time::timeout(CLOSE_WITHIN, closing).await;
    }
}

fn interval() -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now(), DIAL_EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// A peer id as AVI writes it.
fn translated(peer: &libp2p_identity::PeerId) -> PeerId {
    PeerId::new(&peer.to_base58())
}
