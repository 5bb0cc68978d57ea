//! A plain program on libp2p, as one would write it without this library: tokio, one task that drives the swarm, a task
//! a stream, length-prefixed frames.

use std::time::Duration;

use futures::io::BufReader;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p_core::upgrade::Version;
use libp2p_core::{Multiaddr, Transport};
use libp2p_gossipsub::{self as gossipsub, IdentTopic, MessageAuthenticity, PublishError, ValidationMode};
use libp2p_identity::{Keypair, PeerId};
use libp2p_noise as noise;
use libp2p_stream as stream;
use libp2p_swarm::{Config, NetworkBehaviour, Stream, StreamProtocol, Swarm, SwarmEvent};
use libp2p_tcp as tcp;
use libp2p_yamux as yamux;
use tokio::sync::mpsc;

use crate::ear::{Ear, Kind, Many, One};
use crate::process::Outcome;
use crate::side::{Call, RETRY, Side, TOPIC, listen_ip};

const AUDIO: StreamProtocol = StreamProtocol::new("/plain/audio/1");
const MAX_MESSAGE_BYTES: usize = 256 * 1024;
const READ_BYTES: usize = 64 * 1024;
const QUEUE: usize = 256;
/// What the called end says first: a stream that finds the other program busy is dropped there.
const TAKEN: &[u8] = b"taken";
const ATTEMPTS: usize = 10;

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
struct Behaviour {
    gossipsub: gossipsub::Behaviour,
    stream: stream::Behaviour,
}

pub struct Plain {
    address: String,
    streams: stream::Control,
    publishes: mpsc::Sender<Vec<u8>>,
    subscribers: mpsc::Receiver<PeerId>,
    first: Option<PeerId>,
}

fn swarm(key: &Keypair) -> Outcome<Swarm<Behaviour>> {
    let transport = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key)?)
        .multiplex(yamux::Config::default())
        .boxed();
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .max_transmit_size(MAX_MESSAGE_BYTES)
        .build()?;
    let behaviour = Behaviour {
        gossipsub: gossipsub::Behaviour::new(MessageAuthenticity::Signed(key.clone()), config)?,
        stream: stream::Behaviour::new(),
    };
    // The same as the swarm's own executor for tokio, which is behind a feature.
    let config = Config::with_executor(|task| drop(tokio::spawn(task)));
    let config = config.with_idle_connection_timeout(Duration::from_secs(3600));
    Ok(Swarm::new(transport, behaviour, key.public().to_peer_id(), config))
}

impl Plain {
    /// `subscribe` for the end that hears.
    async fn start(addresses: Vec<String>, subscribe: Option<Ear>, echo: bool) -> Outcome<Self> {
        let mut swarm = swarm(&Keypair::generate_ed25519())?;
        swarm.listen_on(format!("/ip4/{}/tcp/0", listen_ip()?).parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address.to_string();
            }
        };
        let mut streams = swarm.behaviour().stream.new_control();
        if let Some(ear) = &subscribe {
            swarm.behaviour_mut().gossipsub.subscribe(&IdentTopic::new(TOPIC))?;
            tokio::spawn(accept(streams.accept(AUDIO).map_err(|_| "accepted already")?, ear.clone(), echo));
        }
        for address in addresses {
            swarm.dial(address.parse::<Multiaddr>()?)?;
        }
        let (publishes, to_publish) = mpsc::channel(QUEUE);
        let (subscribed, subscribers) = mpsc::channel(QUEUE);
        tokio::spawn(drive(swarm, to_publish, subscribed, Many::new(subscribe.unwrap_or_default(), Kind::Message)));
        Ok(Self { address, streams, publishes, subscribers, first: None })
    }
}

async fn drive(
    mut swarm: Swarm<Behaviour>,
    mut to_publish: mpsc::Receiver<Vec<u8>>,
    subscribed: mpsc::Sender<PeerId>,
    mut authors: Many<Option<PeerId>>,
) -> Outcome {
    let topic = IdentTopic::new(TOPIC);
    let mut waiting: Option<Vec<u8>> = None;
    loop {
        if let Some(data) = waiting.take() {
            match swarm.behaviour_mut().gossipsub.publish(topic.hash(), data.clone()) {
                Err(PublishError::AllQueuesFull(_)) => waiting = Some(data),
                Err(error) => eprintln!("cannot publish: {error}"),
                Ok(_) => {}
            }
        }
        tokio::select! {
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(BehaviourEvent::Gossipsub(gossipsub::Event::Message { message, .. })) => {
                    authors.hear(message.source, &message.data);
                }
                SwarmEvent::Behaviour(BehaviourEvent::Gossipsub(gossipsub::Event::Subscribed { peer_id, .. })) => {
                    let _ = subscribed.try_send(peer_id);
                }
                _ => {}
            },
            data = to_publish.recv(), if waiting.is_none() => match data {
                Some(data) => waiting = Some(data),
                None => return Ok(()),
            },
            () = tokio::time::sleep(RETRY), if waiting.is_some() => {}
        }
    }
}

async fn accept(mut incoming: stream::IncomingStreams, ear: Ear, echo: bool) {
    while let Some((_, stream)) = incoming.next().await {
        tokio::spawn(hear(BufReader::with_capacity(READ_BYTES, stream), ear.one(Kind::Frame), echo));
    }
}

async fn hear(mut stream: BufReader<Stream>, mut ear: One, echo: bool) -> Outcome {
    write(stream.get_mut(), TAKEN).await?;
    loop {
        let frame = read(&mut stream).await?;
        ear.hear(&frame);
        if echo {
            write(stream.get_mut(), &frame).await?;
        }
    }
}

async fn read(stream: &mut BufReader<Stream>) -> Outcome<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await?;
    let mut frame = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

/// As one write: two would be two frames of the multiplexer.
async fn write(stream: &mut Stream, frame: &[u8]) -> Outcome {
    let mut bytes = Vec::with_capacity(4 + frame.len());
    bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
    bytes.extend_from_slice(frame);
    stream.write_all(&bytes).await?;
    Ok(stream.flush().await?)
}

impl Side for Plain {
    type Call = PlainCall;

    async fn serve(ear: Ear, echo: bool) -> Outcome<Self> {
        Self::start(Vec::new(), Some(ear), echo).await
    }

    async fn connect(addresses: Vec<String>) -> Outcome<Self> {
        let wanted = addresses.len();
        let mut node = Self::start(addresses, None, false).await?;
        for _ in 0..wanted {
            let peer = node.subscribers.recv().await.ok_or("the swarm has stopped")?;
            node.first.get_or_insert(peer);
        }
        Ok(node)
    }

    async fn greet(address: String, data: Vec<u8>) -> Outcome<Self> {
        let node = Self::connect(vec![address]).await?;
        node.publish(data).await?;
        Ok(node)
    }

    fn address(&self) -> &str {
        &self.address
    }

    async fn call(&mut self) -> Outcome<PlainCall> {
        let peer = self.first.ok_or("nobody is connected")?;
        for _ in 0..ATTEMPTS {
            let stream = self.streams.open_stream(peer, AUDIO).await?;
            let mut stream = BufReader::with_capacity(READ_BYTES, stream);
            stream.get_mut().flush().await?;
            if read(&mut stream).await.is_ok_and(|said| said == TAKEN) {
                return Ok(PlainCall { stream });
            }
        }
        Err("the other end takes no call".into())
    }

    async fn echo(&mut self, call: &mut PlainCall, frame: Vec<u8>) -> Outcome<Vec<u8>> {
        write(call.stream.get_mut(), &frame).await?;
        read(&mut call.stream).await
    }

    async fn publish(&self, data: Vec<u8>) -> Outcome {
        Ok(self.publishes.send(data).await.map_err(|_| "the swarm has stopped")?)
    }
}

pub struct PlainCall {
    stream: BufReader<Stream>,
}

impl Call for PlainCall {
    async fn send(&mut self, frame: Vec<u8>) -> Outcome {
        write(self.stream.get_mut(), &frame).await
    }
}
