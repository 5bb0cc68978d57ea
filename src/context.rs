//! How does an application read and write the context that the nodes of a mesh share?

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::error::AviP2pError;
use crate::runtime::Shared;
use avi_p2p_proto::context::ContextWrite;
use avi_p2p_proto::engine::Command;

/// A map of JSON values that all nodes of a mesh share, from
/// [`AviP2pHandle::context`](crate::AviP2pHandle::context). Cheap to clone.
///
/// A path is segments with dots between them, as `avi.device.caps`; the empty path is the whole. Nodes that can reach each
/// other come to the same values, whatever the order in which they hear of writes: of two writes at a path the later one
/// stays, by a clock that counts what its author has seen. What changes is told as
/// [`AviEvent::ContextChanged`](crate::AviEvent::ContextChanged).
///
/// What is below a peer's own id, as `avi.device.caps.<peer>`, is written by that peer alone, unless
/// [`ContextOptions::ownership`](crate::ContextOptions::ownership) is off.
///
/// ```no_run
/// use avi_p2p::{AviP2p, AviP2pConfig, AviP2pError, ContextOptions};
/// use serde_json::json;
///
/// # async fn example() -> Result<(), AviP2pError> {
/// let config = AviP2pConfig { context: Some(ContextOptions::default()), ..AviP2pConfig::new("kitchen") };
/// let (node, _events) = AviP2p::start(config).await?;
/// let context = node.handle().context();
/// context.set("kitchen.light", json!({ "on": true, "dim": 0.5 })).await?;
/// context.set("kitchen.light.on", false).await?;
/// assert_eq!(context.get("kitchen.light").await?, Some(json!({ "on": false, "dim": 0.5 })));
/// context.remove("kitchen").await?;
/// # Ok(())
/// # }
/// ```
///
/// Every method returns [`Disabled`](AviP2pError::Disabled) without [`AviP2pConfig::context`](crate::AviP2pConfig::context),
/// [`ChannelClosed`](AviP2pError::ChannelClosed) after the node has stopped, and
/// [`InvalidContextPath`](AviP2pError::InvalidContextPath) for a path that is none. A write returns when this node has it:
/// others get it as soon as they can be reached.
#[derive(Clone)]
pub struct Context {
    /// Held so that the node runs for as long as somebody can call it.
    owner: Arc<dyn Calls>,
}

/// What a context needs of a handle.
pub(crate) trait Calls: Send + Sync {
    fn shared(&self) -> &Shared;
}

impl Context {
    pub(crate) fn new(owner: Arc<dyn Calls>) -> Self {
        Self { owner }
    }

    /// What is at a path; `None` if nothing is.
    ///
    /// # Errors
    /// As all methods.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, AviP2pError> {
        self.owner.shared().ask(|engine, _| engine.context_value(path)).await
    }

    /// The whole.
    ///
    /// # Errors
    /// As all methods.
    pub async fn snapshot(&self) -> Result<Value, AviP2pError> {
        Ok(self.get("").await?.unwrap_or_else(|| Value::Object(serde_json::Map::new())))
    }

    /// Puts a value at a path. An object is merged into what is there: keys that it does not have stay. Anything else takes
    /// the place of all that is there. Every key of an object is written by itself; an array is one value, of at most
    /// [`MAX_VALUE_BYTES`](crate::MAX_VALUE_BYTES) as JSON. All of it is written, or nothing.
    ///
    /// # Errors
    /// As all methods; [`InvalidContextValue`](AviP2pError::InvalidContextValue) and
    /// [`PayloadTooLarge`](AviP2pError::PayloadTooLarge) for a value that cannot be there;
    /// [`ContextOwned`](AviP2pError::ContextOwned) below another peer's id; [`LimitReached`](AviP2pError::LimitReached)
    /// beyond the bounds of [`ContextOptions`](crate::ContextOptions);
    /// [`ContextReadOnly`](AviP2pError::ContextReadOnly).
    pub async fn set(&self, path: &str, value: impl Into<Value>) -> Result<(), AviP2pError> {
        self.write(ContextWrite::Set { path: path.to_owned(), value: value.into() }).await
    }

    /// Puts a value at a path, in place of all that is there. Below an id of another peer, what it has written stays.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn replace(&self, path: &str, value: impl Into<Value>) -> Result<(), AviP2pError> {
        self.write(ContextWrite::Replace { path: path.to_owned(), value: value.into() }).await
    }

    /// Removes what is at a path, and below it. Below an id of another peer, what it has written stays. To remove nothing
    /// is no error.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub async fn remove(&self, path: &str) -> Result<(), AviP2pError> {
        self.write(ContextWrite::Remove { path: path.to_owned() }).await
    }

    async fn write(&self, write: ContextWrite) -> Result<(), AviP2pError> {
        self.owner.shared().call(|id| Command::WriteContext { id, write }).await
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}
