//! Streams that their opener does not read from.
//!
//! To go-libp2p, closing a QUIC or WebTransport stream means STOP_SENDING as well. So the answers of
//! Kubo's Bitswap, each a stream that is opened, written and closed at once, often arrive together
//! with the refusal of our half of the protocol's negotiation. Writing that half then fails, and the
//! stream would be given up with the answer unread.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

/// The first bytes of a stream that was opened by the other side: more than a negotiation takes.
const NEGOTIATION: usize = 1024;

/// A connection whose inbound streams can be read even if nobody wants what is written first.
pub struct OneWay<M>(pub M);

impl<M: StreamMuxer + Unpin> StreamMuxer for OneWay<M>
where
    M::Substream: Unpin,
{
    type Substream = Stream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, M::Error>> {
        let stream = ready!(Pin::new(&mut self.0).poll_inbound(cx))?;
        Poll::Ready(Ok(Stream { stream, dispensable: NEGOTIATION, refused: false }))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, M::Error>> {
        let stream = ready!(Pin::new(&mut self.0).poll_outbound(cx))?;
        Poll::Ready(Ok(Stream { stream, dispensable: 0, refused: false }))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        Pin::new(&mut self.0).poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

pub struct Stream<S> {
    stream: S,
    /// So many bytes may yet be written to nobody.
    dispensable: usize,
    /// Writing has failed.
    refused: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = if self.refused {
            Err(io::ErrorKind::BrokenPipe.into())
        } else {
            ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))
        };
        let dispensable = std::mem::take(&mut self.dispensable);
        self.refused |= written.is_err();
        Poll::Ready(match written {
            Ok(len) => {
                self.dispensable = dispensable.saturating_sub(len);
                Ok(len)
            }
            Err(_) if bytes.len() <= dispensable => {
                self.dispensable = dispensable - bytes.len();
                Ok(bytes.len())
            }
            Err(error) => Err(error),
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refused {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.refused |= flushed.is_err();
        Poll::Ready(if self.dispensable > 0 { Ok(()) } else { flushed })
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refused {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt as _, AsyncWriteExt as _, executor::block_on};

    use super::*;

    /// Takes so many bytes, and has something to read.
    struct Taking(usize, &'static [u8]);

    impl AsyncRead for Taking {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.1).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Taking {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let len = bytes.len().min(self.0);
            self.0 -= len;
            Poll::Ready(if len > 0 { Ok(len) } else { Err(io::ErrorKind::ConnectionReset.into()) })
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn stream(takes: usize, dispensable: usize) -> Stream<Taking> {
        Stream { stream: Taking(takes, b"an answer"), dispensable, refused: false }
    }

    #[test]
    fn what_nobody_wants_does_not_keep_from_reading() {
        let mut stream = stream(0, NEGOTIATION);
        block_on(async {
            stream.write_all(&[0; 20]).await.unwrap();
            stream.flush().await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"an answer");
            stream.close().await.unwrap();
        });
    }

    #[test]
    fn only_the_first_bytes_are_dispensable() {
        block_on(async {
            stream(0, NEGOTIATION).write_all(&[0; NEGOTIATION + 1]).await.unwrap_err();
            stream(0, 0).write_all(&[0]).await.unwrap_err();
            let mut late = stream(NEGOTIATION, NEGOTIATION);
            late.write_all(&[0; NEGOTIATION]).await.unwrap();
            late.write_all(&[0]).await.unwrap_err();
            let mut early = stream(0, NEGOTIATION);
            early.write_all(&[0; NEGOTIATION]).await.unwrap();
            early.write_all(&[0]).await.unwrap_err();
        });
    }
}
