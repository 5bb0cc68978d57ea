//! Who is there, how far away, and how does audio get there? A node looks, and calls if it is asked to.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use avi_p2p::{Address, AudioPath, AudioStats, AviEvent, AviP2pConfig, AviP2pError, Host, Identity, PeerInfo};

use super::{Report, interfaces, multicast, note, ok, problem, udp};
use crate::args::Doctor;
use crate::commands::call;
use crate::exit::Failure;
use crate::line::Finding;
use crate::session::Session;
use crate::sound::Sound;
use crate::who::{self, Who};

/// How long a call of the doctor lasts: a path of datagrams is found in a second, and lost frames show.
const CALL: Duration = Duration::from_secs(4);
/// Who answers calls by a program does so at once.
const ANSWER: Duration = Duration::from_secs(10);
const TONE_HZ: u32 = 440;
/// What has no event is looked for so often.
const LOOK: Duration = Duration::from_millis(100);
/// A round trip that callers notice (ITU-T G.114 has 150 ms one way).
const FAR: Duration = Duration::from_millis(300);
/// Of a hundred frames, so many may be lost: concealment covers them.
const LOST_PERCENT: u64 = 3;

pub(super) async fn look(args: &Doctor, mut config: AviP2pConfig, report: &mut Report) -> Result<(), Failure> {
    let who = args.peer.as_ref().map(|text| call::reach(text, &mut config)).transpose()?;
    // The port may be that of a node that runs, and so may the files of the context and of the recorder.
    config.listen_port = 0;
    (config.context, config.recorder) = (None, None);
    config.accept_timeout = config.accept_timeout.min(ANSWER);
    // Only an identity that is kept can be copied.
    let can_be_copied = config.enable_mdns && !matches!(config.identity, Identity::Generated);
    let used = config.interfaces.clone();
    let Some(mut session) = start(config, report).await? else { return Ok(()) };
    if can_be_copied {
        let id = session.handle.local_peer_id().to_string();
        let interfaces = interfaces::list().unwrap_or_default();
        let interfaces: Vec<_> = interfaces.into_iter().filter(|interface| used.allows(&interface.name)).collect();
        report.say(smol::unblock(move || multicast::twins(&interfaces, &id)).await.iter().map(twin))?;
    }
    let outcome = with(&mut session, args, who.as_ref(), report).await;
    let ended = session.end().await;
    outcome.and(ended)
}

/// A node; with another identity if a node that runs here has this one. `None` if it cannot start.
async fn start(config: AviP2pConfig, report: &mut Report) -> Result<Option<Session>, Failure> {
    let own = match Session::start(config.clone(), report.out).await {
        Ok(session) => return Ok(Some(session)),
        Err(failure) => failure,
    };
    if !matches!(config.identity, Identity::File(_)) || !matches!(own, Failure::Config(_)) {
        report.say([problem("node", format!("it does not start: {own}"), "see above, and the configuration")])?;
        return Ok(None);
    }
    let what = format!("{own}: the doctor looks with another identity");
    report.say([note("identity", what, "if a node runs here with it, all is well")])?;
    let other = AviP2pConfig { identity: Identity::Generated, ..config };
    Session::start(other, report.out).await.map(Some)
}

async fn with(session: &mut Session, args: &Doctor, who: Option<&Who>, report: &mut Report) -> Result<(), Failure> {
    report.out.progress(&format!("looking for nodes for {} s", args.wait.as_secs_f64()));
    let mut seen = BTreeSet::new();
    let deadline = Instant::now() + args.wait;
    loop {
        let now = Instant::now();
        if now >= deadline {
            break;
        }
        if let Some(event) = session.next(Some(deadline.min(now + LOOK))).await?
            && let Some(finding) = trouble(&event)
            && seen.insert(finding.what.clone())
        {
            report.say([finding])?;
        }
    }
    let peers = session.connected().await?;
    if peers.is_empty() {
        let advice = "start one, or name one with --connect; if one runs: see multicast above, and its network_key";
        report.say([note("peers", format!("no node was found within {} s", args.wait.as_secs_f64()), advice)])?;
    }
    for peer in &peers {
        report.say([distance(peer)])?;
        report.say(datagrams(peer).await)?;
    }
    match who {
        Some(who) => report.say([path(session, who, args.wait).await?]),
        None => Ok(()),
    }
}

/// What an event says is wrong.
fn twin(host: &IpAddr) -> Finding {
    let what = format!("{host} announces a node with this node's identity");
    problem("identity", what, "give each device an identity of its own: remove the file there, and it makes another")
}

fn trouble(event: &AviEvent) -> Option<Finding> {
    let new_key = "give each node a key of its own: no copies of an identity file, or of a disk with one";
    Some(match event {
        AviEvent::DuplicateIdentity { address } => {
            problem("identity", format!("another node, at {address}, has this node's identity"), new_key)
        }
        AviEvent::PeerDuplicated { peer_id, addresses: [one, other] } => {
            problem("identity", format!("two nodes, at {one} and at {other}, have the identity {peer_id}"), new_key)
        }
        AviEvent::BootstrapFailed { address, reason, .. } => {
            let advice = "is the node up, its port right, and passed by its firewall (TCP)?";
            problem("bootstrap", format!("{address}: {reason}"), advice)
        }
        AviEvent::DiscoveryUnavailable { source, reason } => {
            problem("discovery", format!("{source:?}: {reason}"), "see multicast above")
        }
        AviEvent::AcceptFailed { reason } => problem("files", reason.clone(), "let the process open more files"),
        _ => return None,
    })
}

fn shown(peer: &PeerInfo) -> String {
    match &peer.name {
        Some(name) => format!("{name} ({})", peer.peer_id),
        None => peer.peer_id.to_string(),
    }
}

fn distance(peer: &PeerInfo) -> Finding {
    let who = shown(peer);
    match peer.rtt {
        None => ok("peers", format!("{who} is connected; its round trip is not measured yet")),
        Some(rtt) if rtt < FAR => ok("peers", format!("{who} is connected, {:.1} ms away", rtt.as_secs_f64() * 1e3)),
        Some(rtt) => {
            let what = format!("{who} is connected, {:.0} ms away", rtt.as_secs_f64() * 1e3);
            note("peers", what, "a busy or weak Wi-Fi, its power save, or a long way: calls have this delay at least")
        }
    }
}

/// Whether this machine sends datagrams to where a peer listens.
async fn datagrams(peer: &PeerInfo) -> Option<Finding> {
    let addresses = peer.addresses.iter().filter_map(|text| text.parse::<Address>().ok());
    let mut sockets = addresses.filter_map(|address| match address.host() {
        Host::Ip(ip) => Some(SocketAddr::new(*ip, address.port())),
        _ => None,
    });
    let at = sockets.next()?;
    let sent = smol::unblock(move || udp::to_peer(at)).await;
    udp::towards(&shown(peer), at, sent)
}

/// The path of audio to a peer, as a call finds it.
async fn path(session: &mut Session, who: &Who, wait: Duration) -> Result<Finding, Failure> {
    let peer = match who::find(session, who, wait).await {
        Ok(peer) => peer,
        Err(Failure::Finding(text)) => return Ok(problem("call", text, "is its node up, and in the same mesh?")),
        Err(failure) => return Err(failure),
    };
    let mut sound = Sound::tone(TONE_HZ);
    let before = session.handle.stats().await?.datagrams_received;
    let stream = call::request(session, &peer.peer_id, &sound).await?;
    match call::accepted(session, stream).await {
        Ok(()) => {}
        Err(Failure::Finding(text)) => {
            let advice = "run `avi answer` there, so that a call is taken";
            return Ok(problem("call", format!("{}: {text}", shown(&peer)), advice));
        }
        Err(failure) => return Err(failure),
    }
    let ended = call::play(session, stream, &mut sound, Some(CALL), call::Show::Nothing).await?;
    let stats = session.handle.audio_stats(stream).await?;
    let heard = session.handle.stats().await?.datagrams_received - before;
    if let Some(reason) = ended {
        return Ok(problem("call", format!("{}: the call ended early: {reason}", shown(&peer)), "try again"));
    }
    match session.handle.close_audio_stream(stream).await {
        Ok(()) | Err(AviP2pError::StreamNotFound(_)) => Ok(judged(&shown(&peer), &stats, heard)),
        Err(error) => Err(error.into()),
    }
}

/// `heard`: the datagrams that came in the call. The other end sends some to find out whether they arrive.
fn judged(who: &str, stats: &AudioStats, heard: u64) -> Finding {
    let (lost, late) = stats.remote.map_or((0, 0), |remote| (remote.lost, remote.late));
    let rtt = stats.path_rtt.map_or("?".to_owned(), |rtt| format!("{:.1}", rtt.as_secs_f64() * 1e3));
    let jitter = stats.remote.map_or(0.0, |remote| remote.jitter.as_secs_f64() * 1e3);
    let sent = stats.frames_given.max(1);
    let figures = format!("{lost} of {sent} frames lost, {late} late, jitter {jitter:.1} ms");
    if stats.path != AudioPath::Datagrams {
        let what = format!("{who}: audio goes over TCP, not by datagrams; {figures}");
        let advice = "let UDP pass at both ends, at the number of the TCP port, and turn enable_datagrams on";
        return problem("call", what, advice);
    }
    if heard == 0 {
        let what =
            format!("{who}: audio goes by datagrams, and none comes back: audio from there comes over TCP; {figures}");
        return problem("call", what, "let UDP in here, at the number of the TCP port");
    }
    let what = format!("{who}: audio goes by datagrams, round trip {rtt} ms; {figures}");
    match (lost + late) * 100 > sent * LOST_PERCENT {
        false => ok("call", what),
        true => note("call", what, "a weak or busy Wi-Fi: go nearer, use a cable, or send less beside a call"),
    }
}
