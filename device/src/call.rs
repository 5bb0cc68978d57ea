//! What happens to one stream, from its request to its end?

use avi_p2p::{AudioItem, AudioReader, Playout, StreamCloseReason};
use tokio::sync::mpsc::Receiver;

use crate::stream::{StreamContext, StreamHandler};

/// What the node reports of a stream.
#[derive(Debug)]
pub(crate) enum Change {
    /// The other end has accepted it.
    Accepted,
    /// A frame that came before the stream had its reader.
    Frame(Vec<u8>),
    /// It has ended. This is the last.
    Closed(StreamCloseReason),
}

/// A stream, what the node reports of it, and its data.
pub(crate) struct Call {
    context: StreamContext,
    changes: Receiver<Change>,
    /// `None` if the stream had ended before it could have one.
    reader: Option<AudioReader>,
}

impl Call {
    /// To be called before a frame can come, so that all of them go to the reader: they wait there, bounded, whatever
    /// the handler does.
    pub async fn new(context: StreamContext, changes: Receiver<Change>) -> Self {
        let reader = context.handle.audio_reader(context.stream_id, Playout::Raw).await.ok();
        Self { context, changes, reader }
    }

    /// This end has requested the stream, and waits for the answer.
    pub async fn requested(mut self, mut handler: Box<dyn StreamHandler>) {
        match self.changes.recv().await {
            Some(Change::Accepted) => self.open(handler).await,
            Some(Change::Closed(StreamCloseReason::Rejected(reason))) => {
                let StreamContext { stream_id, peer_id, .. } = self.context;
                handler.on_rejected(peer_id, stream_id, reason).await;
            }
            Some(Change::Closed(reason)) => self.close(handler, reason).await,
            // No frame comes before the answer, and `Streams` tells the end before it goes.
            Some(Change::Frame(_)) | None => {}
        }
    }

    /// The other end has requested the stream, and it is accepted.
    pub async fn offered(self, handler: Box<dyn StreamHandler>) {
        let StreamContext { handle, stream_id, .. } = &self.context;
        match handle.accept_audio_stream(*stream_id).await {
            Ok(()) => self.open(handler).await,
            Err(error) => tracing::debug!(stream = %stream_id, %error, "a stream was withdrawn before it was accepted"),
        }
    }

    async fn open(mut self, mut handler: Box<dyn StreamHandler>) {
        handler.on_accepted(&self.context).await;
        loop {
            tokio::select! {
                // What came before the reader was there comes first.
                biased;
                change = self.changes.recv() => match change {
                    Some(Change::Accepted) => {}
                    Some(Change::Frame(data)) => handler.on_data(&self.context, data).await,
                    Some(Change::Closed(reason)) => {
                        while let Some(data) = next(&mut self.reader).await {
                            handler.on_data(&self.context, data).await;
                        }
                        return self.close(handler, reason).await;
                    }
                    None => return,
                },
                Some(data) = next(&mut self.reader) => handler.on_data(&self.context, data).await,
            }
        }
    }

    async fn close(self, mut handler: Box<dyn StreamHandler>, reason: StreamCloseReason) {
        let StreamContext { stream_id, peer_id, .. } = self.context;
        handler.on_closed(peer_id, stream_id, reason).await;
    }
}

/// The next frame of a stream that has a reader.
async fn next(reader: &mut Option<AudioReader>) -> Option<Vec<u8>> {
    match reader.as_mut()?.recv().await? {
        AudioItem::Frame(frame) => Some(frame.data),
        AudioItem::Conceal => None,
    }
}
