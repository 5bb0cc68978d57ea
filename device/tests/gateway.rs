//! Does a gateway serve small devices over real sockets?
#![cfg(feature = "gateway")]

#[allow(dead_code, reason = "its `main` is for those who run it")]
#[path = "../examples/small_device.rs"]
mod small_device;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulated_device_uses_both_modes() {
    small_device::play().await.expect("the play comes to its end");
}
