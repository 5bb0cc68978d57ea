//! Do streams with a reason reach their handlers, from the request to the end?

mod common;

use std::sync::Arc;

use avi_device::device::AviDevice;
use avi_device::{
    PeerId, StreamCloseReason, StreamContext, StreamHandler, StreamHandlerFactory, StreamId, async_trait,
};
use common::{in_time, next, node};
use tokio::sync::{Semaphore, mpsc};

/// What a handler was told.
#[derive(Debug, PartialEq)]
enum Told {
    Accepted(PeerId, StreamId),
    Rejected(PeerId, StreamId, String),
    Data(Vec<u8>),
    Closed(PeerId, StreamId, StreamCloseReason),
}

/// Says what it is told, and takes data when it may.
struct Teller {
    told: mpsc::UnboundedSender<Told>,
    may: Arc<Semaphore>,
}

#[async_trait]
impl StreamHandler for Teller {
    async fn on_accepted(&mut self, ctx: &StreamContext) {
        let _ = self.told.send(Told::Accepted(ctx.peer_id.clone(), ctx.stream_id));
    }

    async fn on_rejected(&mut self, peer_id: PeerId, stream_id: StreamId, reason: String) {
        let _ = self.told.send(Told::Rejected(peer_id, stream_id, reason));
    }

    async fn on_data(&mut self, _ctx: &StreamContext, data: Vec<u8>) {
        assert_ne!(data, b"bad");
        drop(self.may.acquire().await);
        let _ = self.told.send(Told::Data(data));
    }

    async fn on_closed(&mut self, peer_id: PeerId, stream_id: StreamId, reason: StreamCloseReason) {
        let _ = self.told.send(Told::Closed(peer_id, stream_id, reason));
    }
}

struct Factory {
    told: mpsc::UnboundedSender<Told>,
    may: Arc<Semaphore>,
}

#[async_trait]
impl StreamHandlerFactory for Factory {
    async fn create_handler(&self) -> Box<dyn StreamHandler> {
        Box::new(Teller { told: self.told.clone(), may: self.may.clone() })
    }
}

/// Handles streams with a reason, with as many data as permits allow.
async fn handle(device: &AviDevice, reason: &str, permits: usize) -> mpsc::UnboundedReceiver<Told> {
    let (told, receiver) = mpsc::unbounded_channel();
    let factory = Factory { told, may: Arc::new(Semaphore::new(permits)) };
    device.register_stream_handler(reason.to_owned(), factory).await;
    receiver
}

/// An open stream: its id at each end.
async fn open(
    caller: (&AviDevice, &mut mpsc::UnboundedReceiver<Told>),
    callee: (&AviDevice, &mut mpsc::UnboundedReceiver<Told>),
    reason: &str,
) -> (StreamId, StreamId) {
    let (caller_id, callee_id) = (caller.0.get_id().await, callee.0.get_id().await);
    let near = caller.0.request_stream(callee_id.clone(), reason.to_owned()).await.unwrap();
    assert_eq!(next("answer", caller.1).await, Told::Accepted(callee_id, near));
    let Told::Accepted(peer, far) = next("stream", callee.1).await else { panic!("accepted comes first") };
    assert_eq!(peer, caller_id);
    (near, far)
}

#[tokio::test]
async fn data_flows_both_ways_until_one_end_closes() {
    let core = node("core", &[]).await;
    let satellite = node("satellite", &[&core]).await;
    let (mut here, mut there) = (handle(&satellite, "chat", 9).await, handle(&core, "chat", 9).await);
    let (near, far) = open((&satellite, &mut here), (&core, &mut there), "chat").await;
    satellite.send_stream_data(near, b"ping".to_vec()).await.unwrap();
    assert_eq!(next("data", &mut there).await, Told::Data(b"ping".to_vec()));
    core.send_stream_data(far, b"pong".to_vec()).await.unwrap();
    assert_eq!(next("data", &mut here).await, Told::Data(b"pong".to_vec()));
    satellite.send_stream_data(near, b"last".to_vec()).await.unwrap();
    satellite.close_stream(near).await.unwrap();
    assert_eq!(next("data", &mut there).await, Told::Data(b"last".to_vec()), "what was sent before the close");
    let (here_id, there_id) = (satellite.get_id().await, core.get_id().await);
    assert_eq!(next("end", &mut there).await, Told::Closed(here_id, far, StreamCloseReason::RemoteClose));
    assert_eq!(next("end", &mut here).await, Told::Closed(there_id, near, StreamCloseReason::LocalClose));
    let error = satellite.send_stream_data(near, b"late".to_vec()).await.unwrap_err();
    assert!(error.to_string().contains("has ended"), "{error}");
}

#[tokio::test]
async fn a_reason_that_nobody_handles_is_refused() {
    let core = node("core", &[]).await;
    let satellite = node("satellite", &[&core]).await;
    let mut here = handle(&satellite, "alarm", 1).await;
    let _other = handle(&core, "chat", 1).await;
    let id = core.get_id().await;
    let stream = satellite.request_stream(id.clone(), "alarm".to_owned()).await.unwrap();
    assert_eq!(next("answer", &mut here).await, Told::Rejected(id, stream, "not_handled".to_owned()));
    assert_eq!(core.stats().streams_refused, 1);
}

#[tokio::test]
async fn a_stream_without_a_handler_of_ones_own_is_not_requested() {
    let core = node("core", &[]).await;
    let error: String = core.request_stream(core.get_id().await, "chat".to_owned()).await.unwrap_err().into();
    assert!(error.contains("register_stream_handler"), "{error}");
}

#[tokio::test]
async fn a_peer_that_nobody_knows_is_told_and_no_handler_is_called() {
    let core = node("core", &[]).await;
    let mut here = handle(&core, "chat", 1).await;
    for (peer, text) in
        [("nobody", "not a peer id"), ("12D3KooWQBoWyBSuWzdNvy2eGLGaMcFKTZMMuELqR5DAnmPDr7oV", "not known")]
    {
        let error = core.request_stream(PeerId::new(peer), "chat".to_owned()).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    let error = core.request_stream(core.get_id().await, "x".repeat(300)).await.unwrap_err();
    assert!(error.to_string().contains("no handler"), "{error}");
    core.shutdown().await.unwrap();
    drop(core);
    assert_eq!(in_time("end", here.recv()).await, None);
}

#[tokio::test]
async fn an_application_answers_what_no_factory_does() {
    let core = node("core", &[]).await;
    let satellite = node("satellite", &[&core]).await;
    let mut here = handle(&satellite, "call", 9).await;
    let (sender, mut offers) = mpsc::unbounded_channel();
    core.on_stream_requested(move |_, peer, stream, reason| {
        let sender = sender.clone();
        async move {
            let _ = sender.send((peer, stream, reason));
        }
    })
    .await;
    let (here_id, there_id) = (satellite.get_id().await, core.get_id().await);

    let near = satellite.request_stream(there_id.clone(), "call".to_owned()).await.unwrap();
    let (peer, far, reason) = next("offer", &mut offers).await;
    assert_eq!((peer, reason.as_str()), (here_id.clone(), "call"));
    core.refuse_stream(far, "busy").await.unwrap();
    assert_eq!(next("answer", &mut here).await, Told::Rejected(there_id.clone(), near, "busy".to_owned()));
    let error = core.refuse_stream(far, "busy").await.unwrap_err();
    assert!(error.to_string().contains("not offered"), "{error}");

    let near = satellite.request_stream(there_id.clone(), "call".to_owned()).await.unwrap();
    let (_, far, _) = next("offer", &mut offers).await;
    let (told, mut there) = mpsc::unbounded_channel();
    core.accept_stream(far, Teller { told, may: Arc::new(Semaphore::new(9)) }).await.unwrap();
    assert_eq!(next("answer", &mut here).await, Told::Accepted(there_id, near));
    assert_eq!(next("stream", &mut there).await, Told::Accepted(here_id, far));
    satellite.send_stream_data(near, b"hello".to_vec()).await.unwrap();
    assert_eq!(next("data", &mut there).await, Told::Data(b"hello".to_vec()));
}

#[tokio::test]
async fn a_slow_stream_delays_no_other_stream_nor_a_message() {
    let core = node("core", &[]).await;
    let satellite = node("satellite", &[&core]).await;
    let (mut slow_here, mut slow_there) = (handle(&satellite, "slow", 9).await, handle(&core, "slow", 0).await);
    let (mut here, mut there) = (handle(&satellite, "chat", 9).await, handle(&core, "chat", 9).await);
    let (slow, _) = open((&satellite, &mut slow_here), (&core, &mut slow_there), "slow").await;
    let (near, _) = open((&satellite, &mut here), (&core, &mut there), "chat").await;
    let (sender, mut texts) = mpsc::unbounded_channel();
    core.subscribe("kitchen", move |_, _, data| drop(sender.send(data))).await.unwrap();
    for _ in 0..20 {
        satellite.send_stream_data(slow, b"slow".to_vec()).await.unwrap();
    }
    satellite.send_stream_data(near, b"quick".to_vec()).await.unwrap();
    satellite.publish("kitchen", b"message".to_vec()).await.unwrap();
    assert_eq!(next("data", &mut there).await, Told::Data(b"quick".to_vec()));
    assert_eq!(next("message", &mut texts).await, b"message");
    assert!(slow_there.try_recv().is_err(), "the slow one has not gone on");
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_stream_and_no_other() {
    let core = node("core", &[]).await;
    let satellite = node("satellite", &[&core]).await;
    let (mut here, mut there) = (handle(&satellite, "chat", 9).await, handle(&core, "chat", 9).await);
    let (bad, _) = open((&satellite, &mut here), (&core, &mut there), "chat").await;
    let (good, _) = open((&satellite, &mut here), (&core, &mut there), "chat").await;
    satellite.send_stream_data(bad, b"bad".to_vec()).await.unwrap();
    let id = core.get_id().await;
    assert_eq!(next("end", &mut here).await, Told::Closed(id, bad, StreamCloseReason::RemoteClose));
    satellite.send_stream_data(good, b"good".to_vec()).await.unwrap();
    assert_eq!(next("data", &mut there).await, Told::Data(b"good".to_vec()));
    assert_eq!(core.stats().handler_panics, 1);
}

#[tokio::test]
async fn a_stream_ends_when_its_device_leaves() {
    let core = node("core", &[]).await;
    let satellite = node("satellite", &[&core]).await;
    let (mut here, mut there) = (handle(&satellite, "chat", 9).await, handle(&core, "chat", 9).await);
    let (near, far) = open((&satellite, &mut here), (&core, &mut there), "chat").await;
    let (here_id, there_id) = (satellite.get_id().await, core.get_id().await);
    satellite.shutdown().await.unwrap();
    let Told::Closed(peer, stream, _) = next("end", &mut there).await else { panic!("it ends") };
    assert_eq!((peer, stream), (here_id, far));
    let Told::Closed(peer, stream, _) = next("end", &mut here).await else { panic!("it ends") };
    assert_eq!((peer, stream), (there_id, near));
}
