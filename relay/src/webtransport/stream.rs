//! One bidirectional WebTransport stream as libp2p wants it: both directions close on their own, and a stream that is
//! dropped before either side was closed is reset.
//!
//! When the remote has finished, dropping finishes our side too, as yamux does: protocols answer and drop, and a reset
//! would overtake the answer, because browsers throw away what was received but not yet read.
//!
//! A stream that was closed but not read to its end is read to its end in the background: Firefox reports an error on
//! the whole session when it is told to stop sending on a stream that ends normally.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use wtransport::quinn::{self, VarInt};
use wtransport::{RecvStream, SendStream};

/// Application error 0 in the range that WebTransport over HTTP/3 reserves (draft-ietf-webtrans-http3, "Resetting Data
/// Streams"); browsers take a code outside of it for an error of the session.
const RESET_CODE: u64 = 0x52e4_a40f_a8db;
/// How long the rest of a closed stream is awaited before the sender is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of it.
const DRAIN_BYTES: usize = 1024 * 1024;
/// Read at a time while draining.
const DRAIN_CHUNK: usize = 16 * 1024;

/// A stream of a [`Connection`](super::Connection).
pub struct Stream {
    send: SendStream,
    /// `None` only while dropping.
    receive: Option<RecvStream>,
    /// Since the last flush.
    written: bool,
    /// Our side was finished.
    closed: bool,
    /// The remote's side was finished and read to its end.
    ended: bool,
    /// The remote's side was reset, or the connection is gone.
    broken: bool,
}

impl Stream {
    pub(super) fn new(send: SendStream, receive: RecvStream) -> Self {
        Self {
            send,
            receive: Some(receive),
            written: false,
            closed: false,
            ended: false,
            broken: false,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(receive) = this.receive.as_mut() else { return Poll::Ready(Ok(0)) };
        let read = receive.quic_stream_mut().poll_read(cx, buffer);
        match read {
            Poll::Ready(Ok(0)) if !buffer.is_empty() => this.ended = true,
            Poll::Ready(Err(_)) => this.broken = true,
            _ => {}
        }
        read.map_err(io::Error::from)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.written = true;
        quinn::SendStream::poll_write(Pin::new(this.send.quic_stream_mut()), cx, bytes)
            .map_err(io::Error::from)
    }

    /// QUIC sends what was written without being asked to.
    ///
    /// The task is woken all the same: libp2p-ping (0.48) answers, begins to await the next ping and does not look at it
    /// before something else wakes the connection. On other transports each packet does; here only streams that are
    /// being awaited are heard.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.get_mut().written) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.closed = true;
            // Fails only when the stream was already finished or the remote stopped it: closed either way.
            let _ = this.send.quic_stream_mut().finish();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(mut receive) = self.receive.take() else { return };
        let ended = self.ended || ends_here(&mut receive);
        if !self.closed {
            let send = self.send.quic_stream_mut();
            // Fails only when the remote does not want more anyway.
            let _ = if ended { send.finish().is_ok() } else { send.reset(reset_code()).is_ok() };
        }
        if ended || self.broken {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if self.closed => drop(runtime.spawn(drain(receive))),
            _ => stop(&mut receive),
        }
    }
}

/// Whether the remote has finished and nothing it sent is left.
fn ends_here(receive: &mut RecvStream) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    matches!(receive.quic_stream_mut().poll_read(&mut context, &mut [0]), Poll::Ready(Ok(0)))
}

/// At most [`MAX_STREAMS`](super::MAX_STREAMS) of these run for one connection, because a stream that is being drained
/// still counts as open.
async fn drain(mut receive: RecvStream) {
    let mut chunk = [0; DRAIN_CHUNK];
    let to_end = async {
        let mut left = DRAIN_BYTES;
        while left > 0 {
            match receive.read(&mut chunk).await {
                Ok(Some(length)) => left = left.saturating_sub(length),
                Ok(None) | Err(_) => return true,
            }
        }
        false
    };
    if !tokio::time::timeout(DRAIN_TIMEOUT, to_end).await.unwrap_or(false) {
        stop(&mut receive);
    }
}

fn stop(receive: &mut RecvStream) {
    // Fails only when the stream has already ended.
    let _ = receive.quic_stream_mut().stop(reset_code());
}

fn reset_code() -> VarInt {
    VarInt::from_u64(RESET_CODE).unwrap_or(VarInt::from_u32(0))
}
