//! What becomes of a message that `publish` has taken?

/// What became of a message, as far as is known when the call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "`publish` is for those who do not ask"]
#[non_exhaustive]
#[cfg_attr(feature = "recorder", derive(serde::Serialize, serde::Deserialize))]
pub enum Published {
    /// It is on its way to subscribers. That is no proof that it arrives.
    Sent,
    /// Nobody subscribes to the topic: it waits for a first subscriber, for up to `publish_hold`.
    Held,
}
