//! Are handlers called for what happens, and does each delay only itself?

mod common;

use std::sync::{Arc, Mutex};

use avi_device::DeviceCapabilities;
use avi_device::device::{AviDevice, AviDeviceType};
use common::{addresses, config, in_time, next, node, options, start_with, subscribed, until};
use tokio::sync::{Notify, mpsc};

type Texts = mpsc::UnboundedReceiver<(String, String)>;

/// Handles a topic, and shows what came: the author, the text.
async fn listen(device: &AviDevice, topic: &str) -> Texts {
    let (sender, texts) = mpsc::unbounded_channel();
    let heard = device.subscribe(topic, move |from, _topic, data| {
        let _ = sender.send((from.to_string(), String::from_utf8(data).expect("a text")));
    });
    heard.await.expect("the topic can be subscribed to");
    texts
}

#[tokio::test]
async fn own_messages_are_delivered() {
    let core = node("core", &[]).await;
    let id = core.get_id().await;
    let topic = format!("speak/{id}/text");
    let mut texts = listen(&core, &topic).await;
    core.publish(&topic, b"good morning".to_vec()).await.unwrap();
    assert_eq!(next("message", &mut texts).await, (id.to_string(), "good morning".to_owned()));
}

#[tokio::test]
async fn every_handler_of_a_topic_gets_each_message_with_its_author() {
    let core = node("core", &[]).await;
    let satellite = node("satellite", &[&core]).await;
    let mut first = listen(&core, "intent/execute/text").await;
    let mut second = listen(&core, "intent/execute/text").await;
    satellite.publish("intent/execute/text", b"lights on".to_vec()).await.unwrap();
    let expected = (satellite.get_id().await.to_string(), "lights on".to_owned());
    assert_eq!(next("message", &mut first).await, expected);
    assert_eq!(next("message", &mut second).await, expected);
    assert!(first.try_recv().is_err() && second.try_recv().is_err(), "each once");
}

#[tokio::test]
async fn a_handler_that_blocks_its_thread_delays_nobody_elses() {
    let core = node("core", &[]).await;
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let (blocked, entered) = (Mutex::new(blocked), Arc::new(Notify::new()));
    let enter = entered.clone();
    let slow = core.subscribe("kitchen", move |_, _, _| {
        enter.notify_one();
        let _ = blocked.lock().expect("no handler panics").recv();
    });
    slow.await.unwrap();
    let mut same_topic = listen(&core, "kitchen").await;
    let mut other_topic = listen(&core, "hall").await;
    for text in ["one", "two", "three"] {
        core.publish("kitchen", text.as_bytes().to_vec()).await.unwrap();
    }
    in_time("call of the slow handler", entered.notified()).await;
    core.publish("hall", b"four".to_vec()).await.unwrap();
    for text in ["one", "two", "three"] {
        assert_eq!(next("message", &mut same_topic).await.1, text);
    }
    assert_eq!(next("message", &mut other_topic).await.1, "four");
    drop(unblock);
}

#[tokio::test]
async fn a_handler_that_never_returns_delays_nobody_elses() {
    let core = node("core", &[]).await;
    core.on_peer_connected(|_, _, _| std::future::pending()).await;
    let slow = core.subscribe_async("kitchen", |_, _, _| std::future::pending());
    slow.await.unwrap();
    let mut texts = listen(&core, "kitchen").await;
    let satellite = node("satellite", &[&core]).await;
    satellite.publish("kitchen", b"hello".to_vec()).await.unwrap();
    assert_eq!(next("message", &mut texts).await.1, "hello");
}

#[tokio::test]
async fn who_subscribes_after_an_unsubscription_is_called() {
    let core = node("core", &[]).await;
    let (sender, mut heard) = mpsc::unbounded_channel();
    core.subscribe("kitchen", |_, _, _| {}).await.unwrap();
    // The first one is under way while the others wait for it, in their order.
    let other = core.subscribe("hall", |_, _, _| {});
    let again = core.subscribe("kitchen", move |_, _, data| drop(sender.send(data)));
    let (other, gone, again) = tokio::join!(other, core.unsubscribe("kitchen"), again);
    other.and(gone).and(again).unwrap();
    core.publish("kitchen", b"x".to_vec()).await.unwrap();
    assert_eq!(next("message", &mut heard).await, b"x");
}

#[tokio::test]
async fn a_capability_whose_name_cannot_be_a_key_is_an_error() {
    let lamp = DeviceCapabilities {
        extended: [("dim.able".to_owned(), avi_device::capability::ExtendedCapability::Boolean(true))].into(),
        ..DeviceCapabilities::default()
    };
    let options = options(&[]).await;
    let error = AviDevice::with_options(config("lamp", AviDeviceType::NODE, lamp), options).await.unwrap_err();
    assert!(error.to_string().contains("dim.able"), "{error}");
}

#[tokio::test]
async fn what_happens_to_peers_is_told_in_order_one_after_the_other() {
    let core = node("core", &[]).await;
    let (sender, mut told) = mpsc::unbounded_channel();
    let (go, gone) = (Arc::new(Notify::new()), sender.clone());
    let wait = go.clone();
    core.on_peer_connected(move |_, peer, _| {
        let (sender, wait) = (sender.clone(), wait.clone());
        async move {
            sender.send(format!("{peer} comes")).unwrap();
            wait.notified().await;
            sender.send(format!("{peer} is known")).unwrap();
        }
    })
    .await;
    core.on_peer_disconnected(move |_, peer| {
        let gone = gone.clone();
        async move { gone.send(format!("{peer} goes")).unwrap() }
    })
    .await;
    let satellite = node("satellite", &[&core]).await;
    let id = satellite.get_id().await;
    assert_eq!(next("connect", &mut told).await, format!("{id} comes"));
    satellite.shutdown().await.unwrap();
    until("it has gone", async || core.get_peers().await.unwrap().is_empty()).await;
    go.notify_one();
    assert_eq!(next("connect", &mut told).await, format!("{id} is known"));
    assert_eq!(next("disconnect", &mut told).await, format!("{id} goes"));
}

#[tokio::test]
async fn a_slow_handler_loses_its_oldest_messages_and_they_are_counted() {
    let mut options = options(&[]).await;
    (options.p2p.limits.held_messages, options.p2p.limits.event_messages) = (10_000, 10_000);
    let core = start_with(config("core", AviDeviceType::NODE, DeviceCapabilities::default()), options, &[]).await;
    let (go, (sender, mut numbers)) = (Arc::new(Notify::new()), mpsc::unbounded_channel());
    let wait = go.clone();
    let slow = core.subscribe_async("count", move |_, _, data| {
        let (wait, sender) = (wait.clone(), sender.clone());
        async move {
            wait.notified().await;
            wait.notify_one();
            let _ = sender.send(u32::from_be_bytes(data.try_into().expect("four bytes")));
        }
    });
    slow.await.unwrap();
    let mut all = listen(&core, "end").await;
    for number in 0..1_500_u32 {
        core.publish("count", number.to_be_bytes().to_vec()).await.unwrap();
    }
    core.publish("end", b"end".to_vec()).await.unwrap();
    next("end", &mut all).await;
    let dropped = core.stats().messages_dropped;
    // One may have been taken from the queue before it was full.
    assert!((475..=476).contains(&dropped), "{dropped}");
    go.notify_one();
    let mut last = next("number", &mut numbers).await;
    for _ in dropped + 1..1_500 {
        let number = next("number", &mut numbers).await;
        assert!(number > last, "in order");
        last = number;
    }
    assert_eq!(last, 1_499, "the newest is kept");
}

#[tokio::test]
async fn a_handler_that_panics_is_called_again_and_counted() {
    let core = node("core", &[]).await;
    let (sender, mut texts) = mpsc::unbounded_channel();
    let handled = core.subscribe("kitchen", move |_, _, data| {
        assert_ne!(data, b"bad");
        let _ = sender.send(data);
    });
    handled.await.unwrap();
    core.publish("kitchen", b"bad".to_vec()).await.unwrap();
    core.publish("kitchen", b"good".to_vec()).await.unwrap();
    assert_eq!(next("message", &mut texts).await, b"good");
    assert_eq!(core.stats().handler_panics, 1);
}

#[tokio::test]
async fn a_handler_of_the_start_is_called_once_however_late_it_comes() {
    let core = node("core", &[]).await;
    let addresses = addresses(&core).await;
    let (sender, mut started) = mpsc::unbounded_channel();
    let mut texts = listen(&core, "handled").await;
    core.publish("handled", b"so the start was, too".to_vec()).await.unwrap();
    next("message", &mut texts).await;
    core.on_started(move |device, id, addresses| {
        let sender = sender.clone();
        async move {
            let _ = sender.send((device.get_id().await.to_string(), id, addresses));
        }
    })
    .await;
    let (own, told, at) = next("start", &mut started).await;
    assert_eq!(own, told);
    assert_eq!(at, addresses);
    core.shutdown().await.unwrap();
    assert_eq!(in_time("end of the handler", started.recv()).await, None, "once");
}

#[tokio::test]
async fn peers_are_told_when_they_come_and_go() {
    let core = node("core", &[]).await;
    let (sender, mut came) = mpsc::unbounded_channel();
    core.on_peer_connected(move |_, peer, address| {
        let sender = sender.clone();
        async move {
            let _ = sender.send((peer, address));
        }
    })
    .await;
    let (sender, mut went) = mpsc::unbounded_channel();
    core.on_peer_disconnected(move |_, peer| {
        let sender = sender.clone();
        async move {
            let _ = sender.send(peer);
        }
    })
    .await;
    let satellite = node("satellite", &[&core]).await;
    let id = satellite.get_id().await.to_string();
    let (peer, address) = next("peer", &mut came).await;
    assert_eq!(peer, id);
    assert!(address.starts_with("/ip4/127.0.0.1/tcp/"), "{address}");
    satellite.shutdown().await.unwrap();
    assert_eq!(next("disconnect", &mut went).await, id);
    assert_eq!(core.get_peers().await.unwrap(), []);
}

#[tokio::test]
async fn a_peer_that_others_know_is_discovered() {
    let curious = async |name, peers: &[&AviDevice]| {
        let mut options = options(peers).await;
        options.p2p.enable_kad = true;
        start_with(config(name, AviDeviceType::NODE, DeviceCapabilities::default()), options, peers).await
    };
    let core = curious("core", &[]).await;
    let first = curious("first", &[&core]).await;
    let (sender, mut discovered) = mpsc::unbounded_channel();
    first
        .on_peer_discovered(move |_, peer| {
            let sender = sender.clone();
            async move {
                let _ = sender.send(peer);
            }
        })
        .await;
    let second = curious("second", &[&core]).await;
    assert_eq!(next("discovery", &mut discovered).await, second.get_id().await.to_string());
}

#[tokio::test]
async fn handlers_end_with_their_topic() {
    let core = node("core", &[]).await;
    let satellite = node("satellite", &[&core]).await;
    let mut texts = listen(&core, "kitchen").await;
    subscribed(&satellite, &core.get_id().await, "kitchen").await;
    core.unsubscribe("kitchen").await.unwrap();
    assert_eq!(in_time("end of the handler", texts.recv()).await, None);
    assert!(core.unsubscribe("kitchen").await.unwrap_err().to_string().contains("not subscribed"));
}

#[tokio::test]
async fn a_topic_that_is_none_has_no_handler() {
    let core = node("core", &[]).await;
    let error = core.subscribe("", |_, _, _| {}).await.unwrap_err();
    assert!(error.to_string().contains("invalid topic"), "{error}");
}

#[tokio::test]
async fn a_topic_has_a_bounded_number_of_handlers() {
    let core = node("core", &[]).await;
    for _ in 0..64 {
        core.subscribe("kitchen", |_, _, _| {}).await.unwrap();
    }
    let error: String = core.subscribe("kitchen", |_, _, _| {}).await.unwrap_err().into();
    assert!(error.contains("64 handlers"), "{error}");
}

#[tokio::test]
async fn a_device_stops_when_it_is_dropped() {
    let core = node("core", &[]).await;
    let satellite = node("satellite", &[&core]).await;
    satellite.on_started(|_, _, _| async {}).await;
    listen(&satellite, "kitchen").await;
    drop(satellite);
    until("the core is alone", async || core.get_peers().await.unwrap().is_empty()).await;
}

#[test]
fn outside_of_tokio_it_says_what_is_missing() {
    let config = config("lost", AviDeviceType::NODE, DeviceCapabilities::default());
    let made = std::pin::pin!(AviDevice::new(config));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = made.poll(&mut context) else { panic!("it needs a runtime") };
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}
