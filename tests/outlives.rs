//! Does a call outlive its connection? Over real sockets, through a path that the test breaks.

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use avi_p2p::{AviEvent, AviP2pConfig, AviP2pHandle, StreamCloseReason, StreamId};
use common::{Node, WITHIN, call, config};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How a path's connections end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Both ends get a reset.
    Reset,
    /// The end that dialled gets a reset; the other one hears nothing any more.
    ResetNear,
    /// Nobody hears anything any more.
    Silence,
}

/// The way to a node. Connections made after an end carry bytes again.
struct Path {
    address: String,
    end: Arc<Mutex<watch::Sender<Option<End>>>>,
}

impl Path {
    async fn to(node: &Node) -> Self {
        let port: u16 = node.address.rsplit('/').next().unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port());
        let end = Arc::new(Mutex::new(watch::channel(None).0));
        let ends = end.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let end = ends.lock().unwrap().subscribe();
                tokio::spawn(carry(near, SocketAddr::from(([127, 0, 0, 1], port)), end));
            }
        });
        Self { address, end }
    }

    /// Ends the connections that there are.
    fn end(&self, how: End) {
        let before = std::mem::replace(&mut *self.end.lock().unwrap(), watch::channel(None).0);
        before.send_replace(Some(how));
    }
}

async fn carry(mut near: TcpStream, to: SocketAddr, mut end: watch::Receiver<Option<End>>) {
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.split(), far.split());
    let there = async {
        let _ = tokio::io::copy(&mut from_near, &mut to_far).await;
        let _ = to_far.shutdown().await;
    };
    let back = async {
        let _ = tokio::io::copy(&mut from_far, &mut to_near).await;
        let _ = to_near.shutdown().await;
    };
    tokio::select! {
        _ = async { tokio::join!(there, back) } => return,
        Ok(()) = end.changed() => {}
    }
    let how = *end.borrow();
    let reset = |stream: &TcpStream| socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    match how {
        None => {}
        Some(End::Reset) => (reset(&near), reset(&far)).1,
        Some(End::ResetNear) => {
            reset(&near);
            drop(near);
            swallow(far).await;
        }
        Some(End::Silence) => drop(tokio::join!(swallow(near), swallow(far))),
    }
}

/// Keeps a connection open, and takes nothing off it.
async fn swallow(stream: TcpStream) {
    let _stream = stream;
    std::future::pending::<()>().await;
}

/// Two nodes in a call over a path.
struct Call {
    path: Path,
    ends: [(Node, StreamId); 2],
}

impl Call {
    async fn start(enable_datagrams: bool) -> Self {
        let config = || AviP2pConfig { enable_datagrams, ..config() };
        let mut callee = Node::start(config()).await;
        let path = Path::to(&callee).await;
        let mut caller = Node::start(AviP2pConfig { bootstrap_peers: vec![path.address.clone()], ..config() }).await;
        caller.wait("PeerConnected", |event| matches!(event, AviEvent::PeerConnected { .. }).then_some(())).await;
        let (near, far) = call(&mut caller, &mut callee).await;
        Self { path, ends: [(caller, near), (callee, far)] }
    }

    /// Both ends talk for a while, and each hears the other until then, with no gap but those that it is told.
    async fn talk_for(&mut self, how_long: Duration, numbers: &mut [Numbers; 2]) {
        let until = Instant::now() + how_long;
        let [(caller, near), (callee, far)] = &mut self.ends;
        let [one, other] = numbers;
        let handles = [caller.handle.clone(), callee.handle.clone()];
        let talking = async {
            tokio::join!(
                talk(&handles[0], *near, until, &mut one.given),
                talk(&handles[1], *far, until, &mut other.given)
            )
        };
        let hearing = async {
            tokio::join!(hear(caller, *near, until, &mut one.heard), hear(callee, *far, until, &mut other.heard))
        };
        tokio::time::timeout(how_long + WITHIN, async { tokio::join!(talking, hearing) })
            .await
            .expect("frames come again");
    }
}

/// The frames that an end has given and heard.
#[derive(Default)]
struct Numbers {
    given: u64,
    heard: Heard,
}

#[derive(Default)]
struct Heard {
    frames: u64,
    missing: u64,
}

async fn talk(handle: &AviP2pHandle, stream: StreamId, until: Instant, given: &mut u64) {
    // It goes on a little longer, so that both ends hear something after the end of the time.
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while Instant::now() < until + Duration::from_secs(1) {
        ticks.tick().await;
        handle.send_audio(stream, given.to_be_bytes().to_vec()).await.expect("the call goes on");
        *given += 1;
    }
}

async fn hear(node: &mut Node, stream: StreamId, until: Instant, heard: &mut Heard) {
    loop {
        match node.events.recv().await.expect("the node is there") {
            AviEvent::AudioData { stream_id, data, .. } => {
                assert_eq!(stream_id, stream);
                let number = u64::from_be_bytes(data.try_into().unwrap());
                assert_eq!(number, heard.frames + heard.missing, "what is missing is told");
                heard.frames += 1;
                if Instant::now() >= until {
                    return;
                }
            }
            AviEvent::AudioGap { missing, .. } => heard.missing += missing,
            AviEvent::AudioStreamClosed { reason, .. } => panic!("the call has ended: {reason:?}"),
            _ => {}
        }
    }
}

/// The datagrams of a call do not take the path that ends.
async fn assert_outlives(end: End, within: Duration, enable_datagrams: bool) {
    let mut call = Call::start(enable_datagrams).await;
    let mut numbers = <[Numbers; 2]>::default();
    // Two connections of which the first is young look like a simultaneous dial.
    call.talk_for(Duration::from_secs(6), &mut numbers).await;
    call.path.end(end);
    call.talk_for(within, &mut numbers).await;
    for (n, (node, stream)) in call.ends.iter().enumerate() {
        let (stats, figures) = (node.handle.stats().await.unwrap(), node.handle.audio_stats(*stream).await.unwrap());
        assert!(stats.streams_resumed >= 1, "end {n}: {stats:?}");
        assert_eq!(stats.protocol_errors, 0);
        assert_eq!(figures.frames_given, numbers[n].given);
    }
    let [(caller, near), (mut callee, far)] = call.ends;
    caller.handle.close_audio_stream(near).await.unwrap();
    assert_eq!(callee.wait_closed(far).await, StreamCloseReason::RemoteClose);
}

#[tokio::test]
async fn promise_10_a_call_goes_on_when_its_connection_is_reset() {
    assert_outlives(End::Reset, Duration::from_secs(3), false).await;
}

#[tokio::test]
async fn a_call_by_datagrams_goes_on_when_its_connection_is_reset() {
    assert_outlives(End::Reset, Duration::from_secs(3), true).await;
}

#[tokio::test]
async fn a_call_goes_on_when_one_end_still_believes_in_the_connection() {
    assert_outlives(End::ResetNear, Duration::from_secs(5), false).await;
}

#[tokio::test]
async fn a_call_goes_on_after_its_connection_has_died_in_silence() {
    assert_outlives(End::Silence, Duration::from_secs(17), false).await;
}
