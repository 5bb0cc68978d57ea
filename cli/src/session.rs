//! What runs for as long as a command: its node, and what ends it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use async_signal::{Signal, Signals};
use avi_p2p::{AviEvent, AviP2p, AviP2pConfig, AviP2pError, AviP2pHandle, EventReceiver, PeerId, PeerInfo};
use smol::future::FutureExt;
use smol::stream::StreamExt;

use crate::exit::Failure;
use crate::output::Output;

/// Of those who were heard of, so many are remembered.
const MAX_HEARD_OF: usize = 10_000;
/// How long the end may take: a shutdown takes about 2 s if a peer does not answer.
const END: Duration = Duration::from_secs(5);

/// Runs a command on a node of its own, and ends the node however the command ends.
pub(crate) async fn with_node(
    config: AviP2pConfig,
    out: Output,
    command: impl AsyncFnOnce(&mut Session) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut session = Session::start(config, out).await?;
    let outcome = command(&mut session).await;
    let ended = session.end().await;
    outcome.and(ended)
}

/// Why a node does not start. A configuration is often that of a node that runs already.
fn refused(error: AviP2pError) -> Failure {
    let hint = match error {
        AviP2pError::ListenFailed { .. } => "; if a node runs here with this configuration: --listen 0",
        AviP2pError::Identity { .. } => "; if a node runs here with this identity: --identity with another file",
        AviP2pError::RecorderFile { .. } => "; the configuration may be that of a node that runs here",
        _ => "",
    };
    match Failure::from(error) {
        Failure::Config(text) => Failure::Config(text + hint),
        Failure::Network(text) => Failure::Network(text + hint),
        other => other,
    }
}

/// A node, and what a command waits for.
#[derive(Debug)]
pub(crate) struct Session {
    node: AviP2p,
    pub(crate) handle: AviP2pHandle,
    events: EventReceiver,
    signals: Signals,
    pub(crate) out: Output,
    heard_of: BTreeSet<PeerId>,
}

impl Session {
    pub(crate) async fn start(config: AviP2pConfig, out: Output) -> Result<Self, Failure> {
        let signals = Signals::new([Signal::Int, Signal::Term])
            .map_err(|error| Failure::Network(format!("cannot watch for signals: {error}")))?;
        let (node, events) = AviP2p::start(config).await.map_err(refused)?;
        let handle = node.handle();
        Ok(Self { node, handle, events, signals, out, heard_of: BTreeSet::new() })
    }

    /// The next event; `None` at the deadline.
    pub(crate) async fn next(&mut self, until: Option<Instant>) -> Result<Option<AviEvent>, Failure> {
        let (events, signals) = (&mut self.events, &mut self.signals);
        let interrupted = async {
            let signal = match signals.next().await {
                Some(Ok(Signal::Term)) => 15,
                _ => 2,
            };
            Err(Failure::Interrupted(signal))
        };
        let timer = async {
            match until {
                Some(at) => drop(smol::Timer::at(at).await),
                None => std::future::pending().await,
            }
            Ok(None)
        };
        let event = async {
            let stopped = || Failure::Network("the node has stopped".to_owned());
            events.recv().await.map(Some).ok_or_else(stopped)
        };
        // The first of those that are ready wins: many events delay neither of the others.
        let event = interrupted.or(timer).or(event).await?;
        self.notice(event.as_ref())?;
        Ok(event)
    }

    /// What concerns every command.
    fn notice(&mut self, event: Option<&AviEvent>) -> Result<(), Failure> {
        match event {
            Some(AviEvent::PeerDiscovered { peer_id } | AviEvent::PeerConnected { peer_id, .. })
                if self.heard_of.len() < MAX_HEARD_OF =>
            {
                self.heard_of.insert(peer_id.clone());
            }
            Some(AviEvent::BootstrapFailed { address, reason, retry_in }) => {
                let seconds = retry_in.as_secs_f64();
                self.out.progress(&format!("{address}: {reason}; it is tried again in {seconds:.1} s"));
            }
            Some(AviEvent::DiscoveryUnavailable { source, reason }) => {
                self.out.progress(&format!("{source:?} does not work here: {reason}"));
            }
            Some(AviEvent::DuplicateIdentity { address }) => {
                self.out.progress(&format!("another node, at {address}, has the identity of this one"));
            }
            Some(AviEvent::PeerDuplicated { peer_id, addresses: [one, other] }) => {
                self.out.progress(&format!("two nodes have the identity {peer_id}: at {one} and at {other}"));
            }
            Some(AviEvent::PeerSlow { peer_id, dropped }) => {
                self.out.progress(&format!("{dropped} messages may not have reached {peer_id}"));
            }
            Some(AviEvent::NodeFailed { reason }) => {
                return Err(Failure::Network(format!("the node has panicked: {reason}; please report this")));
            }
            _ => {}
        }
        Ok(())
    }

    /// The peers that are connected.
    pub(crate) async fn connected(&self) -> Result<Vec<PeerInfo>, Failure> {
        let peers = self.handle.connected_peers().await?;
        Ok(self.infos(peers.iter()).await)
    }

    /// The peers that are connected or were heard of.
    pub(crate) async fn known(&self) -> Result<Vec<PeerInfo>, Failure> {
        let mut peers = self.heard_of.clone();
        peers.extend(self.handle.connected_peers().await?);
        Ok(self.infos(peers.iter()).await)
    }

    async fn infos(&self, peers: impl Iterator<Item = &PeerId>) -> Vec<PeerInfo> {
        let mut infos = Vec::new();
        for peer in peers {
            // It may have been forgotten since.
            if let Ok(info) = self.handle.peer_info(peer).await {
                infos.push(info);
            }
        }
        infos
    }

    /// The name of a peer, if it has said one.
    pub(crate) async fn name_of(&self, peer: &PeerId) -> Option<String> {
        self.handle.peer_info(peer).await.ok().and_then(|info| info.name)
    }

    /// Tells the peers, and waits until the node has ended. A second signal ends the waiting.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        let Self { node, handle, mut events, mut signals, out, .. } = self;
        drop(handle);
        let ended = async { node.shutdown().await.map_err(Failure::from) };
        let impatient = async {
            let _ = signals.next().await;
            Ok(())
        };
        let late = async {
            smol::Timer::after(END).await;
            Err(Failure::Network(format!("the node has not ended within {END:?}")))
        };
        let result = ended.or(impatient).or(late).await;
        while let Ok(event) = events.try_recv() {
            if let AviEvent::PeerSlow { peer_id, dropped } = event {
                out.progress(&format!("{dropped} messages may not have reached {peer_id}"));
            }
        }
        result
    }
}
