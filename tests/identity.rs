//! A key in a file: the same peer id across restarts, and nothing but an error from a file that cannot be trusted.
#![cfg(unix)]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use avi_p2p::{AviP2p, AviP2pConfig, AviP2pError, Identity, PeerId};
use common::config;

/// A directory of a test's own, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("avi-p2p-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn key(&self) -> PathBuf {
        self.0.join("key")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn start(path: &Path) -> Result<PeerId, AviP2pError> {
    let identity = Identity::File(path.to_owned());
    let (node, _events) = AviP2p::start(AviP2pConfig { identity, ..config() }).await?;
    let id = node.local_peer_id().clone();
    node.shutdown().await?;
    Ok(id)
}

async fn refusal(path: &Path) -> String {
    let error = start(path).await.expect_err("the file cannot be trusted");
    assert!(matches!(error, AviP2pError::Identity { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    text
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn the_peer_id_is_the_same_at_every_start_and_the_file_is_its_owners_alone() {
    let directory = Directory::new("same");
    let id = start(&directory.key()).await.unwrap();
    assert_eq!(fs::metadata(directory.key()).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(directory.names(), ["key"], "no draft is left");
    assert_eq!(start(&directory.key()).await.unwrap(), id);
    let link = directory.0.join("link");
    std::os::unix::fs::symlink(directory.key(), &link).unwrap();
    assert_eq!(start(&link).await.unwrap(), id);
    fs::remove_file(directory.key()).unwrap();
    assert_ne!(start(&directory.key()).await.unwrap(), id);
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_never_another_peer_id() {
    let directory = Directory::new("damaged");
    let path = directory.key();
    start(&path).await.unwrap();
    let good = fs::read(&path).unwrap();
    for bit in 0..8 * good.len() {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        write(&path, &bad);
        let text = refusal(&path).await;
        assert!(text.contains("is damaged"), "bit {bit}: {text}");
    }
    for bad in [&good[..0], &good[..67], &[good.as_slice(), b"\n"].concat(), &[7; 5000], &good[4..36]] {
        write(&path, bad);
        assert!(refusal(&path).await.contains("is damaged"), "{} bytes", bad.len());
        assert_eq!(fs::read(&path).unwrap(), bad, "nothing is lost");
    }
}

#[tokio::test]
async fn a_file_that_others_can_read_or_that_is_no_file_is_refused() {
    let directory = Directory::new("others");
    let path = directory.key();
    start(&path).await.unwrap();
    for mode in [0o640, 0o604, 0o620, 0o660, 0o644] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let text = refusal(&path).await;
        assert!(text.contains(&format!("mode {mode:04o}")) && text.contains("chmod 600"), "{text}");
    }
    let text = refusal(&directory.0).await;
    assert!(text.contains("is not a regular file"), "{text}");
    let text = refusal(&directory.0.join("missing").join("key")).await;
    assert!(text.contains("cannot be made"), "{text}");
    let empty = start(Path::new("")).await.unwrap_err();
    assert!(matches!(&empty, AviP2pError::InvalidConfig { field, .. } if field == "identity"), "{empty}");
}

#[tokio::test]
async fn a_file_of_another_user_is_refused() {
    let directory = Directory::new("foreign");
    let path = directory.key();
    start(&path).await.unwrap();
    if chown(&path, Some(12345), None).is_err() {
        return eprintln!("skipped: only root can give a file to another user");
    }
    let text = refusal(&path).await;
    assert!(text.contains("belongs to user 12345"), "{text}");
}

#[tokio::test]
async fn nodes_that_start_at_once_have_one_key() {
    let directory = Directory::new("race");
    let starts = (0..16).map(|_| {
        let path = directory.key();
        tokio::spawn(async move { start(&path).await.unwrap() })
    });
    let mut ids = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        ids.push(start.await.unwrap());
    }
    ids.dedup();
    assert_eq!((ids.len(), directory.names()), (1, vec!["key".to_owned()]));
}
