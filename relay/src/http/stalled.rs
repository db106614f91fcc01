//! A connection that ends when what is to be sent is not taken: without this a client that stops reading would hold a
//! response, and what it has read ahead, for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// `Inner`, whose writes fail when none of them gets on for a time.
pub struct Stalled<Inner> {
    inner: Inner,
    patience: Duration,
    /// Running while a write waits.
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
}

impl<Inner> Stalled<Inner> {
    pub fn new(inner: Inner, patience: Duration) -> Self {
        let deadline = Box::pin(tokio::time::sleep(patience));
        Self { inner, patience, deadline, waiting: false }
    }

    /// What a write came to: if it waits, no longer than that.
    fn patiently<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.waiting = false;
            return result;
        }
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<Inner: AsyncRead + Unpin> AsyncRead for Stalled<Inner> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<Inner: AsyncWrite + Unpin> AsyncWrite for Stalled<Inner> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.patiently(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.patiently(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.patiently(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.patiently(cx, result)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_given_up() {
        let (here, mut there) = tokio::io::duplex(10);
        let mut here = Stalled::new(here, PATIENCE);
        let started = Instant::now();
        let error = here.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed(), PATIENCE);
        // The other direction is not concerned.
        there.write_all(b"hello").await.unwrap();
        assert_eq!(here.read(&mut [0; 10]).await.unwrap(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_is_served() {
        let (here, mut there) = tokio::io::duplex(10);
        let mut here = Stalled::new(here, PATIENCE);
        let read = tokio::spawn(async move {
            let mut read = 0;
            while read < 100 {
                tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
                read += there.read(&mut [0; 10]).await.unwrap();
            }
        });
        here.write_all(&[0; 100]).await.unwrap();
        read.await.unwrap();
    }
}
