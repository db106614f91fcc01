//! A WebTransport session as a libp2p connection: WebTransport multiplexes by itself.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use wtransport::VarInt;

use super::{Error, Stream};

/// An authenticated session.
pub struct Connection {
    session: wtransport::Connection,
    incoming: Option<BoxFuture<'static, Result<Stream, Error>>>,
    outgoing: Option<BoxFuture<'static, Result<Stream, Error>>>,
}

impl Connection {
    pub(super) fn new(session: wtransport::Connection) -> Self {
        Self { session, incoming: None, outgoing: None }
    }
}

impl StreamMuxer for Connection {
    type Substream = Stream;
    type Error = Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        let Self { session, incoming, .. } = self.get_mut();
        let accepting = incoming.get_or_insert_with(|| {
            let session = session.clone();
            async move {
                let (send, receive) = session.accept_bi().await?;
                Ok(Stream::new(send, receive))
            }
            .boxed()
        });
        let accepted = ready!(accepting.poll_unpin(cx));
        *incoming = None;
        Poll::Ready(accepted)
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Stream, Error>> {
        let Self { session, outgoing, .. } = self.get_mut();
        let opening = outgoing.get_or_insert_with(|| {
            let session = session.clone();
            async move {
                let (send, receive) = session.open_bi().await?.await?;
                Ok(Stream::new(send, receive))
            }
            .boxed()
        });
        let opened = ready!(opening.poll_unpin(cx));
        *outgoing = None;
        Poll::Ready(opened)
    }

    /// Closing is one packet and is not answered: there is nothing to wait for.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.session.close(VarInt::from_u32(0), b"");
        Poll::Ready(Ok(()))
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Error>> {
        Poll::Pending
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Streams hold the QUIC connection too; without this one that is still drained would keep it.
        self.session.close(VarInt::from_u32(0), b"");
    }
}
