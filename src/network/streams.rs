//! Raw streams per protocol, both ways.
//!
//! Why not `libp2p-stream`: its queue of inbound streams has one slot and it drops what does not
//! fit, and it picks a connection by lot, a limited circuit as readily as a direct one.

mod behaviour;
mod handler;
mod registry;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

pub use behaviour::Behaviour;
use registry::Permit;

use super::error::NetworkError;

/// Where the answer to `open_stream` goes.
pub type OpenReply = oneshot::Sender<Result<Stream, NetworkError>>;

/// A stream of one protocol with another peer. Dropping it before [`close`] resets it.
///
/// [`close`]: futures::AsyncWriteExt::close
#[derive(Debug)]
pub struct Stream {
    stream: libp2p::Stream,
    /// What an inbound stream takes of its peer's allowance, until it is dropped.
    _permit: Option<Permit>,
    /// Says that the connection is in use.
    using: Option<Permit>,
}

impl Stream {
    /// Lets the connection be closed as idle, or to make room, although this stream is open.
    pub fn ignore_for_keep_alive(&mut self) {
        self.using = None;
        self.stream.ignore_for_keep_alive();
    }
}

/// The streams that others open for one protocol. Dropping it stops to accept them.
#[derive(Debug)]
pub struct IncomingStreams {
    queue: mpsc::Receiver<(PeerId, Stream)>,
    refused: Arc<AtomicU64>,
}

impl IncomingStreams {
    /// The next one; `None` when the network was closed.
    pub async fn next(&mut self) -> Option<(PeerId, Stream)> {
        self.queue.recv().await
    }

    /// How many were reset, because too many waited here or their peer had too many open.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl futures::Stream for IncomingStreams {
    type Item = (PeerId, Stream);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queue.poll_recv(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_read_vectored(cx, bufs)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
