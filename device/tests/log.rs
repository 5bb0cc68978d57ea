//! Does an application that has `log`, and no subscriber of `tracing`, see what goes wrong?

mod common;

use std::sync::Mutex;

use common::{node, until};
use log::{LevelFilter, Log, Metadata, Record};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        LINES.lock().expect("no test panics under it").push(line);
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn a_logger_sees_that_a_handler_has_panicked() {
    log::set_logger(&Lines).expect("it is the only one");
    log::set_max_level(LevelFilter::Warn);
    let core = node("core", &[]).await;
    core.subscribe("kitchen", |_, _, _| panic!("on purpose")).await.expect("subscribed");
    core.publish("kitchen", b"x".to_vec()).await.expect("published");
    let is_seen = |line: &String| line.starts_with("ERROR avi_device") && line.contains("has panicked");
    until("it is logged", async || LINES.lock().expect("unpoisoned").iter().any(is_seen)).await;
}
