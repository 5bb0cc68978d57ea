//! Which other ways are there from a node to its sockets?

use avi_p2p::{AviP2p, AviP2pConfig, EventReceiver};

use crate::ours::Way;
use crate::run::Outcome;

type Started = Outcome<(AviP2p, EventReceiver)>;

/// A task of the application's runtime.
pub enum OnTokio {}

impl Way for OnTokio {
    async fn start(config: AviP2pConfig) -> Started {
        Ok(AviP2p::start_on_tokio(config).await?)
    }
}
