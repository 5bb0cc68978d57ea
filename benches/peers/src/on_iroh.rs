//! A node of iroh-gossip on an endpoint of iroh that knows no relay and no address but those it is told.

use std::convert::Infallible;
use std::net::SocketAddr;

use futures::StreamExt;
use iroh::address_lookup::memory::MemoryLookup;
use iroh::endpoint::presets;
use iroh::protocol::Router;
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode};
use iroh_gossip::api::{Event, GossipReceiver, GossipSender};
use iroh_gossip::proto::{HyparviewConfig, TopicId};
use iroh_gossip::{ALPN, Gossip};

use crate::ear::{Ear, Kind, One};
use crate::process::{Outcome, attend};
use crate::side::{Side, TOPIC};

const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// By default 5: an author would not be a neighbour of all its subscribers, nor know when they are there.
const NEIGHBOURS: usize = 16;

pub struct OnIroh {
    /// Its end would end the node.
    _router: Router,
    topic: GossipSender,
    address: String,
}

impl OnIroh {
    /// Returns when it has all those as neighbours.
    async fn start(addresses: Vec<String>, ear: Ear) -> Outcome<Self> {
        let known = MemoryLookup::new();
        let mut peers = Vec::new();
        for address in &addresses {
            let (id, ip) = address.split_once('@').ok_or("an address is ID@IP:PORT")?;
            let id: EndpointId = id.parse()?;
            known.add_endpoint_info(EndpointAddr::new(id).with_ip_addr(ip.parse::<SocketAddr>()?));
            peers.push(id);
        }
        let endpoint = Endpoint::builder(presets::Minimal)
            .relay_mode(RelayMode::Disabled)
            .address_lookup(known)
            .clear_ip_transports()
            .bind_addr("127.0.0.1:0")?
            .bind()
            .await?;
        let ip = endpoint.bound_sockets().into_iter().next().ok_or("the endpoint has no socket")?;
        let address = format!("{}@{ip}", endpoint.id());
        let neighbours = HyparviewConfig { active_view_capacity: NEIGHBOURS, ..HyparviewConfig::default() };
        let gossip = Gossip::builder().max_message_size(MAX_MESSAGE_BYTES).membership_config(neighbours);
        let gossip = gossip.spawn(endpoint.clone());
        let router = Router::builder(endpoint).accept(ALPN, gossip.clone()).spawn();
        let mut topic = [0; 32];
        topic[..TOPIC.len()].copy_from_slice(TOPIC.as_bytes());
        let topic = gossip.subscribe(TopicId::from_bytes(topic), peers).await?;
        let (topic, mut events) = topic.split();
        while events.neighbors().count() < addresses.len() {
            events.next().await.ok_or("the topic has ended")??;
        }
        attend(listen(events, ear.one(Kind::Message)));
        Ok(Self { _router: router, topic, address })
    }
}

impl Side for OnIroh {
    type Call = Infallible;

    async fn serve(ear: Ear, _echo: bool) -> Outcome<Self> {
        Self::start(Vec::new(), ear).await
    }

    async fn connect(addresses: Vec<String>) -> Outcome<Self> {
        Self::start(addresses, Ear::default()).await
    }

    async fn greet(address: String, data: Vec<u8>) -> Outcome<Self> {
        let node = Self::connect(vec![address]).await?;
        node.publish(data).await?;
        Ok(node)
    }

    fn address(&self) -> &str {
        &self.address
    }

    async fn call(&mut self) -> Outcome<Infallible> {
        Err("iroh-gossip has no calls".into())
    }

    async fn echo(&mut self, call: &mut Infallible, _frame: Vec<u8>) -> Outcome<Vec<u8>> {
        match *call {}
    }

    async fn publish(&self, data: Vec<u8>) -> Outcome {
        Ok(self.topic.broadcast(data.into()).await?)
    }
}

async fn listen(mut events: GossipReceiver, mut ear: One) -> Outcome {
    let mut has_lagged = false;
    while let Some(event) = events.next().await {
        match event? {
            Event::Received(message) => ear.hear(&message.content),
            Event::Lagged if has_lagged => {}
            Event::Lagged => {
                has_lagged = true;
                eprintln!("iroh-gossip tells the receiving application that it has missed messages");
            }
            Event::NeighborUp(_) | Event::NeighborDown(_) => {}
        }
    }
    Ok(())
}
