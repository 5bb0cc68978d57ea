//! Who handles the messages of a topic?

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use avi_p2p::PeerId;
use tokio::runtime::Handle;

use crate::error::DeviceError;
use crate::stats::Counters;
use crate::worker::Worker;

/// The most handlers of one topic.
pub(crate) const MAX_HANDLERS: usize = 64;

/// A message on its way to handlers.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub from: PeerId,
    pub topic: String,
    pub data: Vec<u8>,
}

/// The handlers of each topic, in the order of their registration.
type Handlers = BTreeMap<String, Vec<Arc<Worker<Arc<Message>>>>>;

/// A handler that has been added.
pub(crate) type Added = Arc<Worker<Arc<Message>>>;

/// The handlers of all topics.
#[derive(Debug)]
pub(crate) struct Topics {
    runtime: Handle,
    counters: Arc<Counters>,
    handlers: Mutex<Handlers>,
}

impl Topics {
    pub fn new(runtime: Handle, counters: Arc<Counters>) -> Self {
        Self { runtime, counters, handlers: Mutex::default() }
    }

    /// Adds a handler that may block its thread.
    pub fn add_blocking<F>(&self, topic: &str, handler: F) -> Result<Added, DeviceError>
    where
        F: Fn(PeerId, String, Vec<u8>) + Send + Sync + 'static,
    {
        let (runtime, handler) = (self.runtime.clone(), Arc::new(handler));
        let worker = Worker::start(&self.runtime, self.counters.clone(), named(topic), move |message: Arc<Message>| {
            let handler = handler.clone();
            runtime.spawn_blocking(move || {
                let Message { from, topic, data } = Arc::unwrap_or_clone(message);
                handler(from, topic, data);
            })
        });
        self.add(topic, worker)
    }

    /// Adds a handler.
    pub fn add_async<F, Fut>(&self, topic: &str, handler: F) -> Result<Added, DeviceError>
    where
        F: Fn(PeerId, String, Vec<u8>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (runtime, handler) = (self.runtime.clone(), Arc::new(handler));
        let worker = Worker::start(&self.runtime, self.counters.clone(), named(topic), move |message: Arc<Message>| {
            let handler = handler.clone();
            runtime.spawn(async move {
                let Message { from, topic, data } = Arc::unwrap_or_clone(message);
                handler(from, topic, data).await;
            })
        });
        self.add(topic, worker)
    }

    fn add(&self, topic: &str, worker: Worker<Arc<Message>>) -> Result<Added, DeviceError> {
        let mut handlers = self.lock();
        let of_topic = handlers.entry(topic.to_owned()).or_default();
        if of_topic.len() >= MAX_HANDLERS {
            return Err(DeviceError::TooManyHandlers { topic: topic.to_owned(), max: MAX_HANDLERS });
        }
        let worker = Arc::new(worker);
        of_topic.push(worker.clone());
        Ok(worker)
    }

    /// Takes a handler back, because its topic cannot be subscribed to.
    pub fn undo(&self, topic: &str, added: &Added) {
        let mut handlers = self.lock();
        if let Some(of_topic) = handlers.get_mut(topic) {
            of_topic.retain(|worker| !Arc::ptr_eq(worker, added));
            if of_topic.is_empty() {
                handlers.remove(topic);
            }
        }
    }

    /// Whether a topic has a handler.
    #[cfg(feature = "gateway")]
    pub fn has(&self, topic: &str) -> bool {
        self.lock().contains_key(topic)
    }

    /// Ends the handlers of a topic, once they have handled what waits.
    pub fn remove(&self, topic: &str) {
        self.lock().remove(topic);
    }

    /// Ends all handlers, once they have handled what waits.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Gives a message to the handlers of its topic.
    pub fn deliver(&self, message: Message) {
        let message = Arc::new(message);
        let mut dropped = 0;
        for worker in self.lock().get(&message.topic).into_iter().flatten() {
            dropped += worker.push(message.clone(), message.data.len());
        }
        if dropped > 0 {
            self.counters.messages_dropped.add(dropped);
            tracing::warn!(topic = message.topic, dropped, "a handler is slow: its oldest messages are dropped");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Handlers> {
        // No code of the application runs under the lock.
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(topic: &str) -> String {
    format!("topic {topic:?}")
}
