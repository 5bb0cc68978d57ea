//! What must a side be able to do? What an application of a mesh does.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::ear::Ear;
use crate::process::Outcome;

pub const FRAME_BYTES: usize = 1024;
/// The measured one and those in the background.
pub const MAX_CALLS: usize = 21;
pub const TOPIC: &str = "bench";
/// How long a sender waits when there is no room for what it sends.
pub const RETRY: Duration = Duration::from_millis(1);

/// The address that a node listens on, in the environment of its process.
pub const LISTEN_IP: &str = "AVI_BENCH_LISTEN_IP";

/// [`LISTEN_IP`], or loopback.
pub fn listen_ip() -> Outcome<Ipv4Addr> {
    match std::env::var(LISTEN_IP) {
        Ok(ip) => Ok(ip.parse().map_err(|error| format!("{LISTEN_IP}={ip}: {error}"))?),
        Err(_) => Ok(Ipv4Addr::LOCALHOST),
    }
}

/// A node of one side. One without calls answers `call` with an error, and `Infallible` is its call.
pub trait Side: Sized + Send + Sync + 'static {
    type Call: Call;

    /// Subscribes, takes every call, and hears; sends every frame back if it is to `echo`.
    fn serve(ear: Ear, echo: bool) -> impl Future<Output = Outcome<Self>> + Send;

    /// A node that knows that all those subscribe.
    fn connect(addresses: Vec<String>) -> impl Future<Output = Outcome<Self>> + Send;

    /// A node that publishes as soon as it can.
    fn greet(address: String, data: Vec<u8>) -> impl Future<Output = Outcome<Self>> + Send;

    fn address(&self) -> &str;

    /// A call that the first peer has taken.
    fn call(&mut self) -> impl Future<Output = Outcome<Self::Call>> + Send;

    /// Sends a frame, for the one that comes back.
    fn echo(&mut self, call: &mut Self::Call, frame: Vec<u8>) -> impl Future<Output = Outcome<Vec<u8>>> + Send;

    /// Returns when the message is on its way.
    fn publish(&self, data: Vec<u8>) -> impl Future<Output = Outcome> + Send;

    /// Messages that the node says it has dropped on their way out, one for each subscriber. `None`: it does not say.
    fn dropped(&mut self) -> impl Future<Output = Outcome<Option<u64>>> + Send {
        async { Ok(None) }
    }
}

/// The sending half of a call.
pub trait Call: Send + 'static {
    fn send(&mut self, frame: Vec<u8>) -> impl Future<Output = Outcome> + Send;
}
