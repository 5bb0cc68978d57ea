//! How does a frame of the shared context look on a substream? It is all that there is, up to the end.

use std::io;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p_request_response as request_response;
use libp2p_swarm::StreamProtocol;

use avi_p2p_proto::context::MAX_FRAME_BYTES;

/// Carries bytes of at most [`MAX_FRAME_BYTES`]. What they mean, the engine decides.
#[derive(Clone, Copy, Default)]
pub(in crate::net) struct Codec;

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Bytes;
    type Response = Bytes;

    async fn read_request<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Bytes> {
        read(io).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Bytes> {
        read(io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Bytes,
    ) -> io::Result<()> {
        io.write_all(&request).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Bytes,
    ) -> io::Result<()> {
        io.write_all(&response).await
    }
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    io.take(MAX_FRAME_BYTES as u64 + 1).read_to_end(&mut bytes).await?;
    match bytes.len() {
        0..=MAX_FRAME_BYTES => Ok(bytes.into()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of more than {MAX_FRAME_BYTES} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_frame_of_any_length_up_to_the_bound_is_read_and_a_longer_one_refused() {
        for len in [0, 1, MAX_FRAME_BYTES] {
            assert_eq!(block_on(read(&mut &vec![7; len][..])).unwrap().len(), len);
        }
        // It may be endless.
        assert!(block_on(read(&mut futures::io::repeat(7))).is_err());
    }
}
