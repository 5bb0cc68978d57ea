//! Where does what the flight recorders of the nodes have recorded go? Into one file for each start of each node.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use avi_p2p::{AviP2pHandle, RecorderOptions};

use crate::ledger::Shared;
use crate::network::Host;

/// The most bytes of a recording. Most runs have less: their recordings begin with the start of the node.
const BYTES: usize = 64 * 1024 * 1024;

/// The nodes that are recorded.
#[derive(Clone)]
pub(crate) struct Recordings {
    folder: PathBuf,
    handles: Arc<Mutex<BTreeMap<(Host, u32), AviP2pHandle>>>,
}

impl Recordings {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, handles: Arc::default() }
    }

    pub(crate) fn options() -> RecorderOptions {
        RecorderOptions { bytes: BYTES, ..RecorderOptions::default() }
    }

    /// A node that has started.
    pub(crate) fn begin(&self, host: Host, generation: u32, handle: AviP2pHandle) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).insert((host, generation), handle);
    }

    /// Writes what a node has recorded, and forgets it.
    pub(crate) async fn save(&self, host: Host, generation: u32, ledger: &Shared) {
        let handle = self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(&(host, generation));
        let Some(handle) = handle else { return };
        let file = self.folder.join(format!("node-{}-{generation}.rec", host.0));
        let saved = match handle.recording().await {
            Ok(recording) => fs::write(&file, recording).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = saved {
            ledger.lock().violate("a recording is written", host, format!("{}: {error}", file.display()));
        }
    }

    /// Writes what all nodes have recorded that still run.
    pub(crate) async fn save_all(&self, ledger: &Shared) {
        let left: Vec<_> = self.handles.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        for (host, generation) in left {
            self.save(host, generation, ledger).await;
        }
    }
}
