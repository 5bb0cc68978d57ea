//! Do nodes over real sockets come to the same context?
#![cfg(feature = "context")]

mod common;

use std::path::PathBuf;

use avi_p2p::{AviEvent, AviP2pConfig, AviP2pError, ContextOptions, Identity};
use common::{Node, config};
use serde_json::{Value, json};

fn with_context() -> AviP2pConfig {
    AviP2pConfig { context: Some(ContextOptions::default()), ..config() }
}

/// Waits until a node has this at a path.
async fn wait_for(node: &mut Node, path: &str, expected: &Value) {
    let context = node.handle.context();
    while context.get(path).await.unwrap().as_ref() != Some(expected) {
        node.wait(&format!("ContextChanged to {expected}"), |event| {
            matches!(event, AviEvent::ContextChanged { .. }).then_some(())
        })
        .await;
    }
}

/// A path for a file that no other test uses.
fn file(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("avi-context-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder.join("context")
}

#[tokio::test]
async fn what_one_node_writes_the_other_reads_and_is_told_with_its_author() {
    let mut a = Node::start(with_context()).await;
    let mut b = Node::connected_to(with_context(), &mut [&mut a]).await;
    a.handle.context().set("kitchen.light", json!({ "on": true })).await.unwrap();
    wait_for(&mut b, "kitchen", &json!({ "light": { "on": true } })).await;
    b.handle.context().set("kitchen.light.on", false).await.unwrap();
    let (author, value) = a
        .wait("the change by b", |event| match event {
            AviEvent::ContextChanged { author, path, value } if path == "kitchen.light.on" && *author == b.id => {
                Some((author.clone(), value.clone()))
            }
            _ => None,
        })
        .await;
    assert_eq!((author, value), (b.id.clone(), Some(json!(false))));
    a.handle.context().remove("kitchen").await.unwrap();
    let gone =
        |event: &AviEvent| matches!(event, AviEvent::ContextChanged { path, value: None, .. } if path == "kitchen");
    b.wait("the removal", |event| gone(event).then_some(())).await;
    assert_eq!(b.handle.context().snapshot().await.unwrap(), json!({}));
}

#[tokio::test]
async fn who_comes_later_gets_all_that_was_written_before_by_exchange() {
    let mut a = Node::start(with_context()).await;
    let values: Value = (0..500).map(|n| (format!("k{n}"), json!("x".repeat(100)))).collect();
    a.handle.context().set("many", values.clone()).await.unwrap();
    a.handle.context().set(&format!("caps.{}", a.id), json!({ "mic": true })).await.unwrap();
    let mut b = Node::start(with_context()).await;
    b.handle.context().set("of_b", 1).await.unwrap();
    let mut c = Node::connected_to(with_context(), &mut [&mut a, &mut b]).await;
    let all = json!({ "many": values, "caps": { (a.id.as_str()): { "mic": true } }, "of_b": 1 });
    for node in [&mut a, &mut b, &mut c] {
        wait_for(node, "", &all).await;
    }
    let error = c.handle.context().set(&format!("caps.{}.mic", a.id), false).await.unwrap_err();
    assert!(matches!(error, AviP2pError::ContextOwned { .. }), "{error}");
    let stats = c.handle.stats().await.unwrap();
    assert_eq!((stats.context_entries, stats.context_authors), (502, 2));
}

#[tokio::test]
async fn a_node_without_a_context_says_what_to_write() {
    let node = Node::start(config()).await;
    let error = node.handle.context().get("a").await.unwrap_err();
    assert_eq!(error, AviP2pError::Disabled("context"));
    assert!(error.to_string().contains("context: Some(ContextOptions::default())"), "{error}");
    assert!(node.handle.context().set("a", 1).await.is_err());
    // The topic of the context is no topic of an application's.
    assert!(matches!(node.handle.subscribe("/avi/context/1").await, Err(AviP2pError::InvalidTopic(_))));
    assert!(matches!(node.handle.publish("/avi/context/1", b"x".to_vec()).await, Err(AviP2pError::InvalidTopic(_))));
}

#[tokio::test]
async fn a_file_keeps_the_context_across_restarts_and_a_damaged_one_fails_the_start() {
    let path = file("restart");
    let configured = || {
        let context = ContextOptions { file: Some(path.clone()), ..ContextOptions::default() };
        AviP2pConfig { context: Some(context), identity: Identity::Bytes([7; 32]), ..config() }
    };
    let node = Node::start(configured()).await;
    node.handle.context().set("a.b", json!([1, 2.5, null])).await.unwrap();
    node.node.shutdown().await.unwrap();
    let node = Node::start(configured()).await;
    assert_eq!(node.handle.context().snapshot().await.unwrap(), json!({ "a": { "b": [1, 2.5, null] } }));
    let other = AviP2pConfig { identity: Identity::Generated, ..configured() };
    let error = avi_p2p::AviP2p::start(other).await.unwrap_err();
    assert!(error.to_string().contains("another node uses it"), "{error}");
    node.node.shutdown().await.unwrap();

    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let error = avi_p2p::AviP2p::start(configured()).await.unwrap_err();
    assert!(matches!(&error, AviP2pError::ContextFile { path: named, .. } if *named == path), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), &whole[..whole.len() - 1], "the file stays as it is");
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told() {
    let path = file("unwritable");
    let context = ContextOptions { file: Some(path.clone()), ..ContextOptions::default() };
    let mut node = Node::start(AviP2pConfig { context: Some(context), ..config() }).await;
    // The folder goes while the node runs.
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    node.handle.context().set("a", 1).await.unwrap();
    let named = node
        .wait("ContextNotSaved", |event| match event {
            AviEvent::ContextNotSaved { path, .. } => Some(path.clone()),
            _ => None,
        })
        .await;
    assert_eq!(named, path);
}
