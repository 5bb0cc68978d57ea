//! Does the example come to its end?

#[path = "../examples/home.rs"]
#[allow(dead_code, reason = "its `main`")]
mod home;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_with_a_core_and_two_satellites_comes_to_its_end() {
    home::play().await.expect("the play comes to its end");
}
