//! Gathers what a multiplexer writes into large messages.
//!
//! yamux flushes after each of its frames, which have 16 KiB or, for a message on a topic, as much as
//! that. Each would become a Noise message and a WebSocket message of its own, and a browser sends and
//! receives half as many bytes per second in messages of that size as in larger ones. So a flush that
//! follows a write is put off until the multiplexer has had another turn: it then writes what else it
//! has, or, if there is nothing, the flush is done.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{
    AsyncRead, AsyncWrite,
    future::{BoxFuture, FutureExt as _, TryFutureExt as _},
};
use libp2p::{
    PeerId,
    core::{
        UpgradeInfo,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    },
};

/// Bytes on their way to an encrypted connection.
pub struct Gathered<T> {
    inner: T,
    /// Something was written since the last flush was asked for.
    written: bool,
}

/// An authentication whose connections are [`Gathered`].
#[derive(Clone)]
pub struct Gather<A>(pub A);

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.written) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<A: UpgradeInfo> UpgradeInfo for Gather<A> {
    type Info = A::Info;
    type InfoIter = A::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<A, C, T> InboundConnectionUpgrade<C> for Gather<A>
where
    A: InboundConnectionUpgrade<C, Output = (PeerId, T)>,
    A::Future: Send + 'static,
    T: 'static,
{
    type Output = (PeerId, Gathered<T>);
    type Error = A::Error;
    type Future = BoxFuture<'static, Result<Self::Output, A::Error>>;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_inbound(socket, info).map_ok(gathered).boxed()
    }
}

impl<A, C, T> OutboundConnectionUpgrade<C> for Gather<A>
where
    A: OutboundConnectionUpgrade<C, Output = (PeerId, T)>,
    A::Future: Send + 'static,
    T: 'static,
{
    type Output = (PeerId, Gathered<T>);
    type Error = A::Error;
    type Future = BoxFuture<'static, Result<Self::Output, A::Error>>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_outbound(socket, info).map_ok(gathered).boxed()
    }
}

fn gathered<T>((peer, inner): (PeerId, T)) -> (PeerId, Gathered<T>) {
    (peer, Gathered { inner, written: false })
}

#[cfg(test)]
mod tests {
    use futures::AsyncWriteExt as _;

    use super::*;

    /// Counts what reaches the connection.
    #[derive(Default)]
    struct Sink {
        writes: usize,
        flushes: usize,
    }

    impl AsyncWrite for Sink {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes += 1;
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn sink() -> Gathered<Sink> {
        Gathered { inner: Sink::default(), written: false }
    }

    #[tokio::test]
    async fn a_flush_that_is_waited_for_is_done() {
        let mut gathered = sink();
        gathered.write_all(b"frame").await.expect("a write");
        gathered.flush().await.expect("a flush");
        assert_eq!((gathered.inner.writes, gathered.inner.flushes), (1, 1));
    }

    #[tokio::test]
    async fn flushes_between_writes_are_one() {
        let mut gathered = sink();
        for _ in 0..8 {
            gathered.write_all(b"frame").await.expect("a write");
            // As yamux does it: asked for, not waited for.
            let _ = futures::poll!(gathered.flush());
        }
        assert_eq!((gathered.inner.writes, gathered.inner.flushes), (8, 0));
        gathered.flush().await.expect("a flush");
        assert_eq!(gathered.inner.flushes, 1);
    }
}
